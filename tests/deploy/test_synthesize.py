"""A new patient from files to files: the T1's own grid, nothing half written, and clear refusals."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import mlflow
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.pyfunc import PythonModel
from patients import AFFINE, KNOWN, SHAPE, SPACING, volumes
from torch import Tensor, nn

from lab.cli.patients import Synthesize
from lab.config import ModelConfig
from lab.data.contract import Contract, create_subject
from lab.data.layouts.find import find_subjects
from lab.deploy import patient_folder as synthesis_folder
from lab.deploy.new_patients import synthesize, synthesize_folder
from lab.deploy.patient_folder import PICTURE, REPORT
from lab.inference.settings import ENHANCEMENT, SYNTHESIS, UNCERTAINTY, How
from lab.registry.promotion import promote
from lab.synthesis.networks.paper import build
from lab.tracking.models import verify as synthesis_models
from lab.tracking.models.network import Package, log_network
from lab.tracking.run import Run

REAL = Path(__file__).parents[3] / "shared" / "cases" / "brats2021-1mm" / "BraTS2021_01481"
FILES = [ENHANCEMENT, REPORT, PICTURE, SYNTHESIS, UNCERTAINTY]
MODEL = {"id": 0, "width": 2, "depth": 2, "norm": "batch", "dropout": 0.5}


class Rule(nn.Module):
    """The T1, and 0.5 more where the FLAIR is bright."""

    def __init__(self, more: float = 0.5) -> None:
        super().__init__()
        self.more = nn.Parameter(torch.tensor(more))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1] + self.more * (x[:, 2:3] > 0.8)


def head(seed: int = 0) -> dict[str, np.ndarray]:
    """T1, T2, FLAIR and MASK in RAS, see `patients.volumes`."""
    made = volumes(seed)
    return {name.replace("mask", "MASK"): volume for name, volume in made.items()}


def stored(folder: Path, axes: str = "RAS", ending: str = ".nii.gz", seed: int = 0) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, data in head(seed).items():
        image = nib.Nifti1Image(data, AFFINE)
        turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(axes))
        paths[name] = folder / f"{name}{ending}"
        nib.save(image.as_reoriented(turn), paths[name])
    return paths


def split(paths: dict[str, Path]) -> tuple[dict[str, Path], Path]:
    return {name: path for name, path in paths.items() if name != "MASK"}, paths["MASK"]


def quiet(_: str) -> None:
    pass


@pytest.fixture
def rule(monkeypatch):
    """Models that are rules: `rule:0.5` draws that much more; what comes after them is the lab's own."""
    known = dict(KNOWN)

    def load(uri: str):
        kind, _, more = uri.partition(":")
        assert kind == "rule"
        record = {"model": MODEL, **known}
        return Package(network=Rule(float(more)), known=record, weights_sha256=uri, package_sha256=uri, calibration={})

    monkeypatch.setattr(synthesis_models, "load_package", load)
    return known


@pytest.fixture
def no_picture(monkeypatch):
    """Drawing takes most of a small patient's time."""
    monkeypatch.setattr(synthesis_folder, "_picture", lambda path, *_: path.write_bytes(b"blank"))


@pytest.mark.parametrize(("axes", "ending"), [("RAS", ".nii.gz"), ("LPS", ".nii.gz"), ("PIR", ".nii")])
def test_the_truth_on_the_t1s_own_grid(axes, ending, rule, tmp_path):
    images, mask = split(stored(tmp_path / "scans", axes, ending))
    told = []
    report = synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=told.append)
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == sorted(FILES)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    t1, made = nib.load(images["T1"]), nib.load(tmp_path / "out" / SYNTHESIS)
    np.testing.assert_array_equal(made.affine, t1.affine)
    assert nib.aff2axcodes(made.affine) == tuple(axes)
    assert made.get_data_dtype() == np.float32
    assert b"SYNTHETIC" in made.header["descrip"].item()
    assert made.header["intent_name"].item() == b"SYNTHETIC"
    ball = nib.load(mask).get_fdata() > 0
    values, true = made.get_fdata(), t1.get_fdata()
    scale = report["t1_span"] / 2
    np.testing.assert_allclose(values - true, 0.5 * scale * ball, atol=scale * 6e-4)
    np.testing.assert_array_equal(values == 0, true == 0)
    drawn = nib.load(tmp_path / "out" / ENHANCEMENT).get_fdata()
    np.testing.assert_array_equal(drawn, ball)
    assert report["enhancement"]["ml"] == pytest.approx(ball.sum() * 0.064)
    assert report["enhancement"]["enhances"] is None  # nobody has measured whether it can tell
    assert "was not calibrated" in report["enhancement"]["enhances_missing"]
    assert np.abs(nib.load(tmp_path / "out" / UNCERTAINTY).get_fdata()).max() == 0  # it draws the same every time
    assert f"{ball.sum() * 0.064:.2f} ml drawn as enhancing (in the tumour and 3 mm round it)" in told[-1]
    assert (tmp_path / "out" / PICTURE).read_bytes()[:4] == b"\x89PNG"


def test_the_report_says_what_it_comes_of(rule, tmp_path):
    images, mask = split(stored(tmp_path / "scans"))
    told = synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=quiet)
    report = json.loads((tmp_path / "out" / REPORT).read_text())
    assert report == told
    assert "SYNTHETIC" in report["what"]
    assert report["synthetic"] is True
    assert report["models"][0]["cohort_digest"] == KNOWN["cohort_digest"]
    assert report["contract"]["spacing_mm"] == SPACING
    assert len(report["inputs"]["T1"]["sha256"]) == 64
    assert set(report["inputs"]) == {"T1", "T2", "FLAIR", "MASK"}
    (warning,) = report["warnings"]
    assert "not calibrated" in warning
    assert set(report["seconds"]) == {"prepare", "network", "rest", "total"}
    assert report["versions"]["numpy"] == np.__version__


def test_how_a_scan_is_stored_changes_nothing(rule, tmp_path, no_picture):
    voxels = []
    for axes, ending in (("RAS", ".nii"), ("LPS", ".nii.gz"), ("SAL", ".nii.gz")):
        images, mask = split(stored(tmp_path / axes, axes, ending))
        synthesize("rule:0.5", images, mask=mask, out=tmp_path / f"{axes}-out", say=quiet)
        voxels.append(
            [nib.as_closest_canonical(nib.load(tmp_path / f"{axes}-out" / name)).get_fdata() for name in FILES[::4]]
        )
    for other in voxels[1:]:
        np.testing.assert_array_equal(voxels[0], other)


def test_without_a_mask_the_brain_is_searched(rule, tmp_path):
    images, _ = split(stored(tmp_path / "scans"))
    report = synthesize("rule:0.5", images, out=tmp_path / "out", how=How(looks=1), say=quiet)
    assert report["enhancement"]["region"] == "in the whole brain"
    assert report["enhancement"]["enhances"] is None
    assert "vessels count too" in report["warnings"][0]
    assert not (tmp_path / "out" / UNCERTAINTY).exists()  # a single look knows nothing of it
    assert UNCERTAINTY not in report["files"]


def test_an_ensemble_is_its_mean_and_tells_where_it_disagrees(rule, tmp_path, no_picture):
    images, mask = split(stored(tmp_path / "scans"))
    report = synthesize(["rule:0.2", "rule:0.6"], images, mask=mask, out=tmp_path / "out", how=How(looks=1), say=quiet)
    ball, t1 = (nib.load(path).get_fdata() for path in (mask, images["T1"]))
    scale = report["t1_span"] / 2
    spread = nib.load(tmp_path / "out" / UNCERTAINTY).get_fdata()
    np.testing.assert_allclose(spread, np.where(ball, np.std([0.2, 0.6], ddof=1) * scale, 0), rtol=1e-3, atol=1e-3)
    made = nib.load(tmp_path / "out" / SYNTHESIS).get_fdata()
    np.testing.assert_allclose((made - t1)[ball > 0], 0.4 * scale, atol=scale * 1e-3)
    assert report["uncertainty"]["networks"] == 2
    assert len(report["models"]) == 2
    assert report["models"][0]["weights_sha256"] != report["models"][1]["weights_sha256"]


def test_phantom_models_are_loud(rule, tmp_path, no_picture):
    rule["phantom"] = True
    images, mask = split(stored(tmp_path / "scans"))
    told = []
    report = synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=told.append)
    assert "PHANTOM" in told[0]
    assert "PHANTOM" in report["warnings"][0]
    assert report["phantom"] is True
    for name in (SYNTHESIS, UNCERTAINTY, ENHANCEMENT):
        assert b"PHANTOM" in nib.load(tmp_path / "out" / name).header["descrip"].item()


REFUSED = {
    "missing sequence": (lambda images: images.pop("T2"), r"T2 missing .found FLAIR, T1"),
    "no T1": (lambda images: images.pop("T1"), "T1 missing"),
    "other channel": (
        lambda images: images.update(ADC=images["T2"]),
        "ADC is given, but the model takes T1, T2, FLAIR",
    ),
    "twice the same": (lambda images: images.update(T2=images["T1"]), "T2 and T1 are the same image"),
    "no file": (lambda images: images.update(T2=Path("nowhere.nii")), "nowhere.nii does not exist"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_does_not_fit_is_refused_and_leaves_nothing(fault, rule, tmp_path):
    spoil, message = REFUSED[fault]
    images, mask = split(stored(tmp_path / "scans"))
    spoil(images)
    with pytest.raises((ValueError, OSError), match=message):
        synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["scans"]


def resaved(path: Path, change) -> None:
    image = nib.load(path)
    data = np.array(image.dataobj)
    nib.save(nib.Nifti1Image(change(data), image.affine), path)


def test_scans_that_do_not_fit_are_refused(rule, tmp_path):
    for number, (name, change, message) in enumerate(
        (
            (("T2",), lambda data: data[:-1], "T2 lies on another grid than T1"),
            (("T2",), lambda data: np.where(np.arange(SHAPE[2]) < 22, 0, data), "field of view too small"),
            (("T1", "T2", "FLAIR"), lambda data: np.where(np.arange(SHAPE[2]) < 22, 0, data), "flat at its bottom"),
            (("FLAIR",), lambda data: data * 0, "the image is empty"),
        )
    ):
        paths = stored(tmp_path / str(number))
        for one in name:
            resaved(paths[one], change)
        images, mask = split(paths)
        with pytest.raises(ValueError, match=message):
            synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=quiet)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (lambda data: data * 0, "the tumour mask is empty; the mask is not used"),
        (lambda data: data[:-1], "tumour mask lies on another grid than T1"),
        (lambda data: data / 2.0, "the mask is not used"),
    ],
)
def test_a_mask_that_cannot_be_used_costs_nothing_but_itself(rule, tmp_path, change, warning):
    images, mask = split(stored(tmp_path / "scans"))
    plain = synthesize("rule:0.5", images, out=tmp_path / "plain", say=quiet)
    resaved(mask, change)
    report = synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=quiet)
    assert any(warning in said for said in report["warnings"])
    assert report["enhancement"] == plain["enhancement"]
    assert report["inputs"].keys() == {*images, "MASK"}
    drawn, expected = (nib.load(tmp_path / name / SYNTHESIS).get_fdata() for name in ("out", "plain"))
    np.testing.assert_array_equal(drawn, expected)


def test_a_table_with_odd_rows_costs_only_those(rule, tmp_path):
    images, mask = split(stored(tmp_path / "scans"))
    paths = [str(path) for path in (*images.values(), mask)]
    rows = [[",".join(["case_id", *images, "MASK", "enhancing_label"])]]
    for case_id, label in (("good", "9"), ("../evil", ""), ("x" * 300, ""), ("odd", "999")):
        rows.append([",".join([case_id, *paths, label])])
    rows.append([",".join(["maskless", *paths[:-1], "nowhere.nii.gz", ""])])
    (tmp_path / "new.csv").write_text("\n".join(row for (row,) in rows))
    done = synthesize_folder("rule:0.5", tmp_path / "new.csv", out=tmp_path / "out", say=quiet)
    assert list(done.reports) == ["good", "maskless"]
    assert "nowhere.nii.gz: file not found; the mask is not used" in done.reports["maskless"]["warnings"][0]
    assert "holds 9; found 1; " in done.reports["good"]["warnings"][0]
    assert set(done.left_out) == {"../evil", "x" * 300, "odd"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "out", "scans"]


def test_another_persons_folder_is_left_alone(rule, tmp_path):
    images, mask = split(stored(tmp_path / "scans"))
    with pytest.raises(ValueError, match="holds other files"):
        synthesize("rule:0.5", images, mask=mask, out=tmp_path / "scans", say=quiet)


def test_a_second_run_replaces_the_first_and_no_file_of_somebody_else(rule, tmp_path, no_picture):
    images, mask = split(stored(tmp_path / "scans"))
    out = tmp_path / "out"
    synthesize("rule:0.5", images, mask=mask, out=out, say=quiet)
    (out / "thesis.docx").write_text("mine")
    synthesize("rule:0.4", images, mask=mask, out=out, say=quiet)
    assert json.loads((out / REPORT).read_text())["models"][0]["model"] == "rule:0.4"
    (out / REPORT).write_text("my notes")
    before = {path.name: path.read_bytes() for path in out.glob("[!.]*")}
    with pytest.raises(ValueError, match=r"report\.json was changed since it was written"):
        synthesize("nowhere", images, mask=mask, out=out, say=quiet)  # told before the model is looked for
    assert {path.name: path.read_bytes() for path in out.glob("[!.]*")} == before
    (tmp_path / "older").mkdir()
    shutil.copy(out / SYNTHESIS, tmp_path / "older" / REPORT)  # as versions before 0.4.0 left it: without a record
    with pytest.raises(ValueError, match="name a new folder"):
        synthesize("rule:0.4", images, mask=mask, out=tmp_path / "older", say=quiet)
    assert [path.name for path in (tmp_path / "older").iterdir()] == [REPORT]


def test_a_patient_whose_folder_is_somebody_elses_is_left_out(rule, tmp_path, no_picture):
    for number in range(2):
        brats(tmp_path / "scans", number)
    taken = tmp_path / "out" / "BraTS-GLI-00000-000"
    taken.mkdir(parents=True)
    (taken / REPORT).write_text("mine")
    done = synthesize_folder("rule:0.5", tmp_path / "scans", out=tmp_path / "out", say=quiet)
    assert list(done.reports) == ["BraTS-GLI-00001-000"]
    assert "holds other files (report.json)" in done.left_out["BraTS-GLI-00000-000"]
    assert [(path.name, path.read_text()) for path in taken.iterdir()] == [(REPORT, "mine")]
    (tmp_path / "out" / "patients.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"patients\.csv was changed"):
        synthesize_folder("rule:0.5", tmp_path / "scans", out=tmp_path / "out", say=quiet)
    with pytest.raises(ValueError, match="holds the scans"):
        synthesize_folder("rule:0.5", tmp_path / "scans", out=tmp_path / "scans", say=quiet)


def test_a_failure_while_writing_leaves_nothing_half(rule, tmp_path, monkeypatch):
    images, mask = split(stored(tmp_path / "scans"))
    synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=quiet)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("[!.]*")}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for place in ("write_like", "_picture"):
        with monkeypatch.context() as patch:
            patch.setattr(synthesis_folder, place, full)
            with pytest.raises(OSError, match="No space left"):
                synthesize("rule:0.2", images, mask=mask, out=tmp_path / "out", say=quiet)
            with pytest.raises(OSError, match="No space left"):
                synthesize("rule:0.2", images, mask=mask, out=tmp_path / "new", say=quiet)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("[!.]*")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "scans"]


def brats(folder: Path, number: int, without: str = "") -> None:
    names = {"T1": "t1n", "T2": "t2w", "FLAIR": "t2f", "MASK": "seg"}
    case = f"BraTS-GLI-{number:05d}-000"
    for name, path in stored(folder / case, seed=number).items():
        path.rename(path.with_name(f"{case}-{names[name]}.nii.gz"))
        if name == without:
            path.with_name(f"{case}-{names[name]}.nii.gz").unlink()


def test_a_folder_of_patients_goes_on_where_it_ended(rule, tmp_path, no_picture):
    for number in range(3):
        brats(tmp_path / "scans", number, without="FLAIR" if number == 1 else "")
    told: list[str] = []
    done = synthesize_folder("rule:0.5", tmp_path / "scans", out=tmp_path / "out", say=told.append)
    cases = [f"BraTS-GLI-{number:05d}-000" for number in range(3)]
    assert list(done.reports) == [cases[0], cases[2]]
    assert "FLAIR missing" in done.left_out[cases[1]]
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == sorted(
        [cases[0], cases[2], "left_out.csv", "patients.csv"]
    )
    table = pd.read_csv(tmp_path / "out" / "patients.csv")
    assert table["case_id"].tolist() == [cases[0], cases[2]]
    assert table["enhancement_ml"].gt(1).all()
    shutil.rmtree(done.folders[cases[2]])
    before = (done.folders[cases[0]] / REPORT).stat().st_mtime_ns
    told.clear()
    synthesize_folder("rule:0.5", tmp_path / "scans", out=tmp_path / "out", say=told.append)
    assert "there already" in told[0]
    assert "there already" not in told[2]
    assert (done.folders[cases[0]] / REPORT).stat().st_mtime_ns == before
    synthesize_folder("rule:0.4", tmp_path / "scans", out=tmp_path / "out", say=quiet)  # another model: made anew
    assert (done.folders[cases[0]] / REPORT).stat().st_mtime_ns != before
    for case in (cases[0], cases[2]):
        shutil.rmtree(tmp_path / "scans" / case)
    with pytest.raises(ValueError, match=r"none of 1 patient could be synthesized .FLAIR missing"):
        synthesize_folder("rule:0.5", tmp_path / "scans", out=tmp_path / "other", say=quiet)
    assert not (tmp_path / "other").exists()


def test_models_that_were_trained_on_other_images_make_no_ensemble(rule, tmp_path, monkeypatch):
    images, mask = split(stored(tmp_path / "scans"))
    load = synthesis_models.load_package

    def other(uri: str):
        package = load(uri)
        return dataclasses.replace(package, known=package.known | ({"spacing_mm": 2.0} if uri.endswith("6") else {}))

    monkeypatch.setattr(synthesis_models, "load_package", other)
    with pytest.raises(ValueError, match=r"spacing_mm: 2.0 and 4.0"):
        synthesize(["rule:0.5", "rule:0.6"], images, mask=mask, out=tmp_path / "out", say=quiet)


# --- logged models


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


def test_exact_tiles_change_no_voxel(model, tmp_path, no_picture):
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
def test_a_phantom_patient_through_the_command(tiny_phantom, tiny_cohort, tmp_path, capsys, no_picture):
    contract = Contract.of(tiny_cohort, ("T1", "T2", "FLAIR"), "T1GD").as_dict()
    uri, _, _ = logged("phantom", **contract)
    subject = find_subjects(tiny_phantom)[0]
    command = Synthesize(
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
    assert "ml drawn as enhancing" in said
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


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real cases are not in {REAL.parent}")
def test_a_real_patient_in_native_orientation(rule, tmp_path):
    """The network is a rule; the scans are real, stored LPS at 1 mm."""
    rule |= {"spacing_mm": 1.0, "shape": [160, 192, 160]}
    name = {"T1": "t1", "T2": "t2", "FLAIR": "flair"}
    images = {key: REAL / f"{REAL.name}_{value}.nii.gz" for key, value in name.items()}
    report = synthesize("rule:0", images, mask=REAL / f"{REAL.name}_seg.nii.gz", out=tmp_path / "out",
                        how=How(looks=1), say=quiet)  # fmt: skip
    t1, made = nib.load(images["T1"]), nib.load(tmp_path / "out" / SYNTHESIS)
    np.testing.assert_array_equal(made.affine, t1.affine)
    true, drawn = t1.get_fdata(), made.get_fdata()
    brain = drawn != 0
    scale = report["t1_span"] / 2
    kept = brain & (np.abs(true - true[brain].mean()) < 0.9 * scale)  # the core's mean is another
    np.testing.assert_allclose(drawn[kept], true[kept], atol=scale * 6e-4)
    assert kept.sum() > 0.99 * np.count_nonzero(true)
    (warning,) = report["warnings"]
    assert "not calibrated" in warning
    assert report["enhancement"]["ml"] == 0
