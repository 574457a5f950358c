"""A MONAI bundle: MONAI runs it without this lab, and draws the voxels of `python -m lab synthesize`."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow, verify_net_in_out
from patients import KNOWN, SEQUENCES, logged, named, stored

from lab.__main__ import main
from lab.deploy.export.bundle import MARK, export_bundle
from lab.deploy.export.bundle_run import PreparePatient
from lab.deploy.new_patients import synthesize
from lab.inference.settings import How
from lab.tracking.models.network import attach_calibration
from lab.tracking.models.verify import load_package

REQUIRED = (
    "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task", "description",
    "authors", "copyright", "network_data_format", "schema",
)  # fmt: skip
"""By MONAI's specification, which calls required_packages_version by its older name."""
TENSOR = {
    "type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data",
    "channel_def",
}  # fmt: skip
OURS = ("gadfree", "__editable__", "mlflow", "optuna")
"""What the environment of a bundle's user need not have."""


@pytest.fixture(scope="module")
def uri() -> str:
    return named(logged("bundled"), "sct1-bundle")


@pytest.fixture(scope="module")
def bundle(uri, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("bundles") / "one"
    export_bundle(uri, place)
    return place


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    stored(folder, "LPS")
    return folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> dict[str, str]:
    """An environment in which neither this lab nor MLflow can be imported."""
    pytest.importorskip("fire", reason="MONAI's command line needs it")
    site = tmp_path_factory.mktemp("site")
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith(OURS):
            (site / entry.name).symlink_to(entry)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "OMP_NUM_THREADS")}
    return {**kept, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}


def workflow(bundle: Path, **settings: str | int) -> ConfigWorkflow:
    """The bundle opened by MONAI in this process."""
    configs = bundle / "configs"
    opened = ConfigWorkflow(
        str(configs / "inference.json"), logging_file=False, workflow_type="infer", bundle_root=str(bundle), **settings
    )
    opened.initialize()
    return opened


def drawn(uri: str, scans: Path, out: Path, looks: int = 1) -> Path:
    images = {name: scans / f"{name}.nii.gz" for name in SEQUENCES}
    synthesize(uri, images, mask=scans / "mask.nii.gz", out=out, how=How(looks=looks), say=lambda _: None)
    return out


def content(file: Path) -> bytes:
    return gzip.decompress(file.read_bytes())


def test_it_is_whole(bundle):
    found = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    own = {path for path in found if not path.startswith(("lab/", ".gadfree/"))}
    assert own == {
        "configs/metadata.json", "configs/inference.json", "models/weights.safetensors", "models/network.json",
        "docs/README.md", "docs/license.txt",
    }  # fmt: skip
    assert not [path for path in found if path.endswith((".pyc", ".pt", ".pkl"))]
    assert "Apache License" in (bundle / "docs" / "license.txt").read_text()
    page = (bundle / "docs" / "README.md").read_text()
    assert "Not for diagnosis" in page
    assert "--t1 T1.nii.gz --t2 T2.nii.gz --flair FLAIR.nii.gz --output_dir out" in page
    assert str(Path.cwd()) not in page


def test_its_metadata_hold_what_monai_asks_for(bundle):
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert not set(REQUIRED) - set(metadata)
    formats = metadata["network_data_format"]
    for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert not TENSOR - set(tensor)
        assert tensor["spatial_shape"] == KNOWN["shape"]
        assert len(tensor["channel_def"]) == tensor["num_channels"]
    assert formats["inputs"]["image"]["channel_def"] == {"0": "T1", "1": "T2", "2": "FLAIR"}
    assert metadata["phantom"] is False
    assert metadata["model"]["name"] == "sct1-bundle"
    assert metadata["contract"]["cohort_digest"] == KNOWN["cohort_digest"]


def test_monais_properties_are_there(bundle):
    assert workflow(bundle).check_properties() == []


def test_phantoms_are_told_of_wherever_it_goes(tmp_path, capsys):
    uri = logged("bundled-phantom", phantom=True, patch_mm=80.0)
    assert main(["export", "--model", uri, "--bundle", str(tmp_path / "one")]) == 0
    assert "PHANTOM" in capsys.readouterr().out
    metadata = json.loads((tmp_path / "one" / "configs" / "metadata.json").read_text())
    assert metadata["phantom"] is True
    assert "PHANTOM" in metadata["warnings"][0]
    assert "PHANTOM" in (tmp_path / "one" / "docs" / "README.md").read_text()


def test_other_peoples_folders_stay(uri, bundle, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    assert main(["export", "--model", uri, "--bundle", str(tmp_path / "other")]) == 2
    assert "holds other files (thesis.txt)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    (bundle / "eval").mkdir()
    (bundle / "eval" / "result.txt").write_text("mine")
    export_bundle(uri, bundle)
    assert (bundle / "eval" / "result.txt").read_text() == "mine"
    settings = (bundle / MARK).read_text()
    (bundle / MARK).write_text("mine")
    with pytest.raises(ValueError, match="was changed since it was written"):
        export_bundle(uri, bundle)
    assert (bundle / MARK).read_text() == "mine"
    (bundle / MARK).write_text(settings)
    assert main(["export", "--model", "models:/nobody@champion", "--bundle", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_monai_runs_it_and_draws_the_same(uri, bundle, scans, elsewhere, tmp_path):
    given = [word for name in (*SEQUENCES, "mask") for word in (f"--{name.lower()}", str(scans / f"{name}.nii.gz"))]
    command = [sys.executable, "-S", "-m", "monai.bundle", "run", "--config_file", "configs/inference.json", *given]
    done = subprocess.run(
        [*command, "--output_dir", str(tmp_path / "out"), "--looks", "2"],
        cwd=bundle,
        env=elsewhere,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "not for diagnosis" in done.stdout
    expected = drawn(uri, scans, tmp_path / "ours", looks=2)
    for name in ("synthetic_t1gd", "enhancement", "uncertainty"):
        assert content(tmp_path / "out" / f"{name}.nii.gz") == content(expected / f"{name}.nii.gz"), name
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    ours = json.loads((expected / "report.json").read_text())
    assert report["enhancement_ml"] == ours["enhancement"]["ml"]
    assert [warning for warning in report["warnings"] if "not calibrated" not in warning] == [
        warning for warning in ours["warnings"] if "not calibrated" not in warning
    ]
    assert not list(bundle.rglob("__pycache__"))


def test_monai_runs_patches_as_synthesize_does(scans, tmp_path):
    uri = logged("bundled-patches", patch_mm=80.0)
    place = tmp_path / "one"
    export_bundle(uri, place)
    assert "SlidingWindowInferer" in (place / "configs" / "inference.json").read_text()
    images = {name.lower(): str(scans / f"{name}.nii.gz") for name in SEQUENCES}
    workflow(place, **images, output_dir=str(tmp_path / "out")).run()
    made = nib.load(tmp_path / "out" / "synthetic_t1gd.nii.gz")
    ours = nib.load(drawn(uri, scans, tmp_path / "ours") / "synthetic_t1gd.nii.gz")
    np.testing.assert_array_equal(np.asarray(made.dataobj), np.asarray(ours.dataobj))
    np.testing.assert_array_equal(made.affine, ours.affine)


def test_its_calibration_goes_with_it(scans, tmp_path):
    """Intervals and the probability are those of `python -m lab synthesize`."""
    uri = logged("bundled-calibrated")
    factors = {"brain": {"0.9": 2.0}, "tumour": {"0.9": 3.0}}
    record = {
        "weights_sha256": [load_package(uri).weights_sha256],
        "intervals": {"2": {"floor": 0.02, "factors": factors, "patients": 12}},
        "coverage": [],
        "probability": {"slope": 2.0, "intercept": -0.5, "patients": 12, "events": 6, "by": "expert label"},
        "likeness": None,
    }
    attach_calibration(uri, record)
    export_bundle(uri, tmp_path / "one")
    images = {name.lower(): str(scans / f"{name}.nii.gz") for name in (*SEQUENCES, "mask")}
    workflow(tmp_path / "one", **images, output_dir=str(tmp_path / "out"), looks=2).run()
    expected = drawn(uri, scans, tmp_path / "ours", looks=2)
    made, ours = (nib.load(place / "interval_90.nii.gz") for place in (tmp_path / "out", expected))
    np.testing.assert_array_equal(np.asarray(made.dataobj), np.asarray(ours.dataobj))
    assert np.asarray(made.dataobj).max() > 0
    report, own = (json.loads((place / "report.json").read_text()) for place in (tmp_path / "out", expected))
    assert report["probability"] == own["enhancement"]["probability"]
    assert 0 < report["probability"] < 1
    assert report["enhances"] is own["enhancement"]["enhances"] is None
    assert report["enhances_missing"] == own["enhancement"]["enhances_missing"] in report["warnings"]
    assert report["interval"]["held"] == own["uncertainty"]["held"]
    assert "not measured" in report["interval"]["held"]
    page = (tmp_path / "one" / "docs" / "README.md").read_text()
    assert "with 2 looks, 90% intervals: coverage was not measured" in page


def test_monai_finds_the_network_as_described(bundle):
    configs = bundle / "configs"
    verify_net_in_out(
        net_id="network_def", meta_file=configs / "metadata.json", config_file=configs / "inference.json", device="cpu"
    )


def test_what_does_not_fit_is_refused_there_too(uri, scans, tmp_path):
    place, out = tmp_path / "one", tmp_path / "out"
    export_bundle(uri, place)
    prepare = PreparePatient(str(place / "models"))
    images = {name.lower(): str(scans / f"{name}.nii.gz") for name in SEQUENCES}
    with pytest.raises(ValueError, match="--flair missing: the network takes T1, T2, FLAIR"):
        prepare(images | {"flair": ""})
    with pytest.raises(ValueError, match="T2 and T1 are the same image"):
        prepare(images | {"t2": images["t1"]})
    weights = place / "models" / "weights.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(RuntimeError) as caught:
        workflow(place, **images, output_dir=str(out)).run()
    assert "the weights were changed after the network was logged" in str(caught.value.__cause__)
    assert not out.exists()


def test_scans_unlike_those_of_training_are_refused_there_too(uri, scans, tmp_path, monkeypatch):
    """By the reference of the training patients that came with the model."""
    place = tmp_path / "one"
    export_bundle(uri, place)

    strict = SimpleNamespace(assess=lambda _: SimpleNamespace(level="refused", reasons=("T1 and T2 are swapped",)))
    images = {name.lower(): str(scans / f"{name}.nii.gz") for name in SEQUENCES}
    for strangers in ("refuse", "warn"):
        prepare = PreparePatient(str(place / "models"), strangers=strangers)
        monkeypatch.setattr(prepare, "reference", strict)
        if strangers == "warn":
            assert "T1 and T2 are swapped" in prepare(images).warnings
            continue
        with pytest.raises(ValueError, match="T1 and T2 are swapped"):
            prepare(images)
