"""A logged network: loads without unpickling anything, and is the network that was trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from patients import logged
from safetensors.torch import load_file
from small import ran, settings

from lab.io.case_file import file_sha256
from lab.registry import promotion as registry
from lab.synthesis.networks.paper import build
from lab.tracking.models.network import (
    WEIGHTS,
    attach_calibration,
    download_package,
    log_network,
    read_package,
)
from lab.tracking.run import Run
from lab.tracking.store import connect

PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".npy", ".cloudpickle"}


@pytest.fixture(scope="module")
def run(tiny_cohort, no_drawing):
    """A finished trial of a network of each kind of layer, with instance normalisation and deeper than its images."""
    grid = {"one": {"model.id": 4, "model.norm": "instance", "model.depth": 3}}
    plan, _ = ran("package", settings(tiny_cohort, train__epochs=1), grid)
    return plan.parent.children()[0]


@pytest.fixture(scope="module")
def folder(run) -> Path:
    return Path(mlflow.artifacts.download_artifacts(run.tags["model_uri"]))


def test_it_loads_without_pickle_and_gives_the_same_voxels(run, tiny_cohort, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    package = download_package(run.tags["model_uri"])
    network, contract = package.network, package.known
    assert contract["inputs"] == ["T1", "T2", "FLAIR"]
    assert contract["target"] == "T1GD"
    assert contract["cohort_digest"] == tiny_cohort.digest
    assert contract["phantom"] is True
    image, _ = tiny_cohort.load(tiny_cohort.index.index[0])
    inputs = np.stack([image[tiny_cohort.channel(name)] for name in contract["inputs"]]).astype(np.float32)[None]
    with torch.no_grad():
        expected = network(torch.from_numpy(inputs)).numpy()
    loaded = mlflow.pyfunc.load_model(run.tags["model_uri"])
    (answer,) = loaded.predict([{"prepared": inputs[0]}])
    np.testing.assert_array_equal(np.array(answer["volumes"]["synthetic"], np.float32), expected[0, 0])
    (other,) = loaded.predict([{"prepared": inputs[0, :, :13, :12, :11]}])  # any size is taken
    assert np.array(other["volumes"]["synthetic"]).shape == (13, 12, 11)
    assert answer["phantom"] is True
    assert "PHANTOM" in answer["warnings"][0]


def test_there_is_no_pickle_and_the_weights_are_safetensors(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in PICKLES]
    assert not [path for path in files if path.read_bytes()[:1] == b"\x80"]  # how a pickle starts
    weights = load_file(folder / "artifacts" / "weights.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_signature_and_example_are_there(folder):
    info = mlflow.models.get_model_info(str(folder))
    (inputs,), (outputs,) = info.signature.inputs.to_dict(), info.signature.outputs.to_dict()
    assert inputs == outputs == {"type": "map", "values": {"type": "any"}, "required": True}  # patients, answers
    model = mlflow.models.Model.load(folder)
    example = model.load_input_example(str(folder))
    shape = np.asarray(example[0]["prepared"]).shape
    assert shape[0] == 3
    (answer,) = mlflow.pyfunc.load_model(str(folder)).predict(example)
    assert np.asarray(answer["volumes"]["synthetic"]).shape == shape[1:]
    assert (folder / "input_example.json").stat().st_size < 20_000


def test_logging_it_says_nothing(capfd):
    """MLflow tries the example; one that a network cannot take ends in a long warning on the user's screen."""
    network = build(2, width=2, depth=5, norm="instance")
    run = Run.open("package-quiet", "quiet", identity={"slot": "quiet"})
    for _ in range(2):  # as after a kill between the model and the end of the trial
        uri = log_network(run, network, {"inputs": ["T1", "T2", "FLAIR"], "shape": [32, 32, 64]})
    assert capfd.readouterr().err == ""
    left = connect().search_logged_models([run.experiment], f"source_run_id = '{run.id}'")
    assert [f"models:/{kept.model_id}" for kept in left] == [uri]


def test_the_best_of_a_study_has_its_code(folder):
    assert (folder / "code" / "lab" / "tracking" / "models" / "network.py").is_file()
    assert not list((folder / "code").rglob("__pycache__"))


def test_the_code_comes_only_with_a_network_that_leaves_its_study(tmp_path):
    uri = logged("package-code")
    place = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path)))
    assert not (place / "code" / "lab").exists()
    assert sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) < 100_000
    run_id = connect().get_logged_model(uri.removeprefix("models:/")).source_run_id
    connect().set_tag(run_id, "model_uri", uri)
    registry.promote(run_id, "package-code-phantom")
    version = mlflow.artifacts.download_artifacts("models:/package-code-phantom/1", dst_path=str(tmp_path / "version"))
    assert (Path(version) / "code" / "lab" / "__init__.py").is_file()  # tests/deploy/test_serving.py runs it alone


def test_the_run_points_at_its_model(run):
    found = connect().search_logged_models([run.entity.info.experiment_id], f"source_run_id = '{run.id}'")
    assert [f"models:/{model.model_id}" for model in found] == [run.tags["model_uri"]]


def test_weights_that_were_changed_are_refused(folder, tmp_path):
    """One bit of one weight: safetensors alone would load it."""
    kept = shutil.copytree(folder / "artifacts", tmp_path / "artifacts")
    assert read_package(kept).weights_sha256 == file_sha256(kept / WEIGHTS)
    content = bytearray((kept / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (kept / WEIGHTS).write_bytes(content)
    load_file(kept / WEIGHTS)
    with pytest.raises(ValueError, match=r"weights\.safetensors: the weights were changed .* fetch the model again"):
        read_package(kept)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """Files of a network with a calibration."""
    uri = logged("package-edited")
    attach_calibration(uri, {"level": 0.9})
    files = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path_factory.mktemp("edited"))))
    assert read_package(files / "artifacts").calibration == {"level": 0.9}
    return files / "artifacts"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("network.json", '"spacing_mm": 4.0', '"spacing_mm": 2.0'),
        ("network.json", '"T1",\n    "T2"', '"T2",\n    "T1"'),
        ("network.json", '"phantom": false', '"phantom": true'),
        ("calibration.json", '"level": 0.9', '"level": 0.5'),
        ("calibration.json", "{", "[" * 100_000),
    ],
)
def test_settings_that_were_edited_are_refused(name, old, new, measured, tmp_path):
    """Of a model that nobody registered, too: it has no seal in the registry."""
    files = Path(shutil.copytree(measured, tmp_path / "artifacts"))
    text = (files / name).read_text()
    assert old in text
    (files / name).write_text(text.replace(old, new, 1))
    with pytest.raises(
        ValueError, match=rf"{name} is damaged \((it was changed after it was written|JSON that is nested)"
    ):
        read_package(files)


def test_what_was_measured_of_it_comes_with_it():
    uri = logged("package-measured")
    assert download_package(uri).calibration == {}
    for calibration in ({"a": 1}, {"a": 2}):
        attach_calibration(uri, calibration)
        assert download_package(uri).calibration == calibration
    with pytest.raises(ValueError, match="no logged model"):
        attach_calibration("models:/sct1@champion", {})
