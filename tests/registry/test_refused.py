"""Models that must not draw: changed after they were registered, somebody else's, or made for images we cannot make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from gated import classifier_run, contract, finished_run, known, network_files, network_run, package, patients
from sklearn.linear_model import LogisticRegression

from lab.inference.load import Networks, open_networks
from lab.registry.promotion import promote
from lab.synthesis.device import choose
from lab.tracking.artifacts import VersionTag
from lab.tracking.models.network import attach_calibration
from lab.tracking.models.registered import described
from lab.tracking.models.verify import load_package, seal_versions
from lab.tracking.store import connect


def opened(*uris: str) -> Networks:
    return open_networks(uris, choose("cpu", "float32"))


def made(name: str, files: dict[str, Any]) -> tuple[str, str]:
    """Run and model of a package."""
    run = finished_run(name, {"label": name, "state": "finished"}, {})
    return run, package(run, files)


def network(name: str, **changes: Any) -> tuple[str, str]:
    """Run and model of a network with another contract."""
    return made(name, network_files(contract("d" * 32, False) | changes))


def place_of(model: str) -> Path:
    """Folder of a logged model in the local store."""
    location = connect().get_logged_model(model.removeprefix("models:/")).artifact_location
    return Path(location.removeprefix("file://")) / "artifacts"


def spoil(file: Path) -> None:
    """Turn the last bit."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("address", ["models:/sealed@challenger", "models:/sealed/1", "models:/sealed/latest"])
def test_a_registered_network_carries_a_seal_and_opens(address):
    run, model = network("sealed") if "sealed" not in known() else (None, None)
    if run is not None:
        promote(run, "sealed")
        assert connect().get_model_version("sealed", "1").tags[VersionTag.PACKAGE] == load_package(model).package_sha256
    (about,) = opened(address).about
    assert (about["name"], about["version"]) == ("sealed", "1")
    assert about["package_sha256"] == connect().get_model_version("sealed", "1").tags[VersionTag.PACKAGE]
    assert described(address)["version"] == "1"


def test_weights_that_were_changed_are_refused_by_both():
    run, model = network("weights")
    promote(run, "weights")
    spoil(place_of(model) / "weights.safetensors")
    for uri in (model, "models:/weights@challenger"):
        with pytest.raises(ValueError, match="weights were changed after the network was logged"):
            opened(uri)
    for name in ("weights", "weights-again"):
        with pytest.raises(ValueError, match="weights were changed after the network was logged"):
            promote(run, name, "champion")
    assert "weights-again" not in known()


def test_a_contract_that_was_changed_after_registering_is_refused_by_both():
    run, model = network("contract")
    promote(run, "contract")
    file = place_of(model) / "network.json"
    settings = json.loads(file.read_text())
    settings["preparation"]["clip_sigma"] = 3.0  # a network that draws something, but nothing true
    file.write_text(json.dumps(settings))
    message = r"version 1 of 'contract' was changed after it was registered \(SHA-256 .* asks for"
    with pytest.raises(ValueError, match=message):
        opened("models:/contract@challenger")
    with pytest.raises(ValueError, match=message):
        promote(run, "contract", "champion")
    assert "champion" not in connect().get_registered_model("contract").aliases


def test_a_calibration_is_sealed_too_and_one_that_comes_later_needs_a_new_seal():
    run, model = network("calibrated")
    attach_calibration(model, {"intervals": 1})
    promote(run, "calibrated")
    promote(run, "calibrated-too")
    assert opened("models:/calibrated@challenger").calibrations == ({"intervals": 1},)
    attach_calibration(model, {"intervals": 2})
    with pytest.raises(ValueError, match="version 1 of 'calibrated' was changed"):
        opened("models:/calibrated@challenger")
    with pytest.raises(ValueError, match="version 1 of 'calibrated-too' was changed"):
        opened("models:/calibrated-too@challenger")
    seal_versions(model)
    for name in ("calibrated", "calibrated-too"):
        assert opened(f"models:/{name}@challenger").calibrations == ({"intervals": 2},)
    assert promote(run, "calibrated", "champion").version == "1"


def test_a_version_without_a_seal_gets_one_when_it_is_promoted():
    run, model = network("bare")
    client = connect()
    client.create_registered_model("bare")
    place = client.get_logged_model(model.removeprefix("models:/")).artifact_location
    client.create_model_version("bare", source=place, run_id=run)
    assert opened("models:/bare/1").about[0]["version"] == "1"
    promote(run, "bare")
    assert client.get_model_version("bare", "1").tags[VersionTag.PACKAGE] == load_package(model).package_sha256


def without(name: str) -> dict[str, Any]:
    whole = contract("d" * 32, False)["preparation"]
    return {"preparation": {key: value for key, value in whole.items() if key != name}}


def prepared(**changes: Any) -> dict[str, Any]:
    return {"preparation": contract("d" * 32, False)["preparation"] | changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": None}, "does not say how its images were prepared"),
        ({"cohort_digest": None, "shape": [80, 96]}, "does not say how its images were prepared"),
        (without("clip_sigma"), "does not say how its images were prepared: no clip_sigma"),
        (without("brain_mask"), "does not say how its images were prepared: no brain_mask"),
        (prepared(bias_field="n4"), "prepared with bias_field, which this version does not know"),
        (prepared(brain_mask="hd-bet"), "brain mask is 'hd-bet'; known are auto, nonzero, mni152"),
        (prepared(clip_sigma=0), "clip_sigma is 0: it must be above 0"),
        (prepared(clip_sigma="four"), "clip_sigma is 'four': it must be above 0"),
        (prepared(enhancement_threshold=None), "enhancement_threshold is None: no number"),
        ({"spacing_mm": -1.0}, "spacing_mm is -1.0: it must be above 0"),
        ({"shape": [80, 0, 80]}, "shape 0 is 0: it must be above 0"),
        ({"inputs": ["T1", "T2", "T2"]}, "makes T1GD of T1, T2, T2: impossible"),
        ({"inputs": ["T1", "T2", "T1GD"]}, "makes T1GD of T1, T2, T1GD: impossible"),
        ({"inputs": ["T1", "T2"]}, "is no network of this lab"),  # the weights are those of three channels
    ],
)
def test_a_contract_that_cannot_be_kept_is_refused_by_both(changes, message):
    run, model = network("unkept", **changes)
    with pytest.raises(ValueError, match=message):
        opened(model)
    with pytest.raises(ValueError, match=message):
        promote(run, "unkept")
    assert "unkept" not in known()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"inputs": ["T2", "T1", "FLAIR"]}, r"inputs: \['T2', 'T1', 'FLAIR'\] and \['T1', 'T2', 'FLAIR'\]"),
        ({"spacing_mm": 1.0}, "spacing_mm: 1.0 and 2.0"),
        (prepared(brain_mask="mni152"), "preparation: "),
    ],
)
def test_networks_of_unlike_contracts_make_no_ensemble(changes, told):
    first, other = network("one")[1], network("other", **changes)[1]
    with pytest.raises(ValueError, match=f"expects other images than {first} .*{told}"):
        opened(first, other)
    assert len(opened(first, network("another", cohort_digest="e" * 32)[1]).networks) == 2


def test_a_classifier_draws_no_image():
    run = classifier_run("no image", 20, 1.0)
    promote(run, "no-image")
    with pytest.raises(ValueError, match=r"no-image/1 is a classifier, which draws no image; `python -m lab classify`"):
        opened("models:/no-image@challenger")
    network_of, _ = network("image")
    with pytest.raises(ValueError, match="'no-image' serves classifiers"):
        promote(network_of, "no-image")


def test_somebody_elses_model_is_refused_by_both():
    """Registered under a name by plain MLflow; its pickle is never opened."""
    client = connect()
    run = finished_run("somebody's", {}, {})
    model = LogisticRegression().fit(np.eye(2), [0, 1])
    with mlflow.start_run(run_id=run):
        uri = mlflow.sklearn.log_model(
            model, name="model", pip_requirements=[], registered_model_name="theirs"
        ).model_uri
    for address in ("models:/theirs/1", uri):
        with pytest.raises(ValueError, match=r"is no network of this lab \(.*network.json"):
            opened(address)
    with pytest.raises(ValueError, match="has no model of this lab"):
        promote(run, "theirs")
    client.set_tag(run, "model_uri", uri)
    with pytest.raises(ValueError, match="is none of this lab, or its files are gone"):
        promote(run, "theirs")
    assert client.get_registered_model("theirs").aliases == {}


def test_a_model_whose_weights_are_missing_or_no_weights_is_refused_by_both():
    files = network_files(contract("d" * 32, False))
    run, model = made("no weights", {"artifacts/network.json": files["artifacts/network.json"]})
    for use in (lambda: opened(model), lambda: promote(run, "no-weights")):
        with pytest.raises(ValueError, match="is no network of this lab"):
            use()
    assert "no-weights" not in known()


def test_a_download_that_was_killed_is_never_used(tmp_path, monkeypatch):
    """Half the weights were there when it was killed; the next call begins anew."""
    _, model = network("half")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    whole = mlflow.artifacts.download_artifacts

    def killed(**asked: Any) -> str:
        folder = Path(whole(**asked))
        weights = folder / "artifacts" / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.artifacts, "download_artifacts", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(model)
        patch.setattr("tempfile.TemporaryDirectory.cleanup", lambda *_: None)  # kill -9 cleans nothing
        with pytest.raises(KeyboardInterrupt):
            opened(model)
    assert opened(model).networks


def test_nothing_of_a_model_stays_behind(tmp_path, monkeypatch):
    run, model = network("tidy")
    promote(run, "tidy")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened("models:/tidy@challenger", model)
    promote(network_run("tidy too", patients(range(12), 0.5)), "tidy-too")
    assert list(tmp_path.iterdir()) == []
    assert not (place_of(model).parent / "registered_model_meta").exists()  # MLflow's, in the store itself
