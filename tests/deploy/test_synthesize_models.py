"""A new patient by a logged network: its name and version, its tiles and patches, and models that are none of ours."""

from __future__ import annotations

import dataclasses

import mlflow
import nibabel as nib
import numpy as np
import pytest
import torch
from mlflow.pyfunc import PythonModel
from patients import KNOWN
from ruled import MODEL, quiet, split, stored
from torch import nn

from lab.cli.patients import SynthesizeNewPatients
from lab.config import ModelConfig
from lab.data.contract import Contract, create_subject
from lab.data.layouts.find import find_subjects
from lab.deploy.new_patients import synthesize
from lab.inference.settings import SYNTHESIS, How
from lab.registry.promotion import promote
from lab.synthesis.networks.paper import build
from lab.tracking.models import verify as synthesis_models
from lab.tracking.models.network import log_network
from lab.tracking.run import Run


def logged(name: str, **changes) -> tuple[str, str, nn.Module]:
    """URI and run of a small network with drawn weights."""
    settings = ModelConfig(**{**MODEL, **changes.pop("model", {})})
    number = int(settings.id[-1])
    network = build(number, width=settings.width, depth=settings.depth, norm=settings.norm, seed=1).eval()
    run = Run.open("synthesize", name, identity={"slot": name})
    uri = log_network(run, network, KNOWN | changes)
    run.set_tags({"model_uri": uri})
    return uri, run.id, network


@pytest.fixture(scope="module")
def model():
    return logged("plain")


def test_a_registered_model_is_known_by_name_version_and_run(model, tmp_path):
    uri, run_id, network = model
    done = promote(run_id, "synthesize-sct1", "champion")
    images, mask = split(stored(tmp_path / "scans"))
    report = synthesize(done.uri, images, mask=mask, out=tmp_path / "out", say=quiet)
    (about,) = report["models"]
    assert (about["name"], about["version"], about["run_id"]) == ("synthesize-sct1", "1", run_id)
    assert b"synthesize-sct1 v1" in nib.load(tmp_path / "out" / SYNTHESIS).header["descrip"].item()
    direct = synthesize(uri, images, mask=mask, out=tmp_path / "direct", say=quiet)
    assert direct["models"][0]["run_id"] == run_id
    assert direct["models"][0]["weights_sha256"] == about["weights_sha256"]
    voxels = [nib.load(tmp_path / name / SYNTHESIS).get_fdata() for name in ("out", "direct")]
    np.testing.assert_array_equal(*voxels)
    contract = Contract.read(KNOWN)
    case = contract.open(create_subject("one", images, mask, like=contract))
    with torch.no_grad():
        image = network(torch.from_numpy(case.image[:3].astype(np.float32))[None])[0, 0].numpy()
    drawn = case.mean + case.scale * image[(case.masks & 1) > 0]
    np.testing.assert_allclose(np.sort(voxels[0][voxels[0] != 0]), np.sort(drawn), rtol=1e-4)


def test_exact_tiles_change_no_voxel(model, tmp_path):
    images, mask = split(stored(tmp_path / "scans"))
    for name, tile in (("whole", None), ("tiled", 24)):
        report = synthesize(model[0], images, mask=mask, out=tmp_path / name, how=How(looks=1, tile=tile), say=quiet)
        assert report["ways"][0]["kind"] == {"whole": "whole", "tiled": "exact"}[name]
    voxels = [nib.load(tmp_path / name / SYNTHESIS).get_fdata() for name in ("whole", "tiled")]
    np.testing.assert_allclose(*voxels, atol=1e-3)


def test_blended_tiles_are_told_with_their_difference(tmp_path):
    uri, _, _ = logged("instance", model={"norm": "instance"})
    images, mask = split(stored(tmp_path / "scans"))
    report = synthesize(uri, images, mask=mask, out=tmp_path / "out", how=How(looks=1, tile=24), say=quiet)
    assert report["ways"][0]["kind"] == "blended"
    assert "instance normalisation" in report["warnings"][0]
    assert report["largest_sd_of_tiles"] > 0


def test_a_network_of_patches_is_used_in_patches(tmp_path):
    uri, _, _ = logged("patches", patch_mm=64.0)
    images, mask = split(stored(tmp_path / "scans"))
    report = synthesize(uri, images, mask=mask, out=tmp_path / "out", how=How(looks=1), say=quiet)
    assert report["ways"] == [{"kind": "blended", "tile": 16, "reason": "the network was trained on patches"}]


def test_models_that_are_none_of_ours_are_refused(tmp_path):
    images, mask = split(stored(tmp_path / "scans"))

    class Foreign(PythonModel):
        """Somebody's model."""

        def predict(self, context, model_input, params=None):
            return model_input

    run_id = Run.open("synthesize", "foreign", identity={"slot": "foreign"}).id
    with mlflow.start_run(run_id=run_id):
        foreign = mlflow.pyfunc.log_model(name="network", python_model=Foreign()).model_uri
    for uri, message in (
        (foreign, "is no network of this lab"),
        ("models:/nobody@champion", "there is no such model"),
        ("models:/m-00000000000000000000000000000000", "there is no such model"),
        ("somewhere/else", "somewhere/else"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            synthesize(uri, images, mask=mask, out=tmp_path / "out", say=quiet)
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_phantom_patient_through_the_command(tiny_phantom, tiny_cohort, tmp_path, capsys):
    contract = Contract.of(tiny_cohort, ("T1", "T2", "FLAIR"), "T1GD").as_dict()
    uri, _, _ = logged("phantom", **contract)
    subject = find_subjects(tiny_phantom)[0]
    command = SynthesizeNewPatients(
        model=(uri,),
        out=tmp_path / "out",
        t1=subject.images["T1"],
        t2=subject.images["T2"],
        flair=subject.images["FLAIR"],
        mask=subject.mask,
        looks=2,
    )
    command.run()
    said = capsys.readouterr().out
    assert "PHANTOM" in said
    assert "ml predicted as enhancing" in said
    assert "not for diagnosis" in said
    made, t1 = nib.load(tmp_path / "out" / SYNTHESIS), nib.load(subject.images["T1"])
    np.testing.assert_array_equal(made.affine, t1.affine)
    assert made.shape == t1.shape
    for wrong in ({"data": tiny_phantom}, {"t1": None, "t2": None, "flair": None}):
        with pytest.raises(ValueError, match="name either --data, or"):
            dataclasses.replace(command, **wrong).run()
    dataclasses.replace(command, t1=None, t2=None, flair=None, mask=None, data=tiny_phantom, looks=1).run()
    said = capsys.readouterr().out
    assert "12 patients synthesized" in said
    assert said.count("PHANTOM:") == 1


def test_models_that_were_trained_on_other_images_make_no_ensemble(rule, tmp_path, monkeypatch):
    images, mask = split(stored(tmp_path / "scans"))
    load = synthesis_models.load_package

    def other(uri: str):
        package = load(uri)
        return dataclasses.replace(package, known=package.known | ({"spacing_mm": 2.0} if uri.endswith("6") else {}))

    monkeypatch.setattr(synthesis_models, "load_package", other)
    with pytest.raises(ValueError, match=r"spacing_mm: 2.0 and 4.0"):
        synthesize(["rule:0.5", "rule:0.6"], images, mask=mask, out=tmp_path / "out", say=quiet)
