"""A served network: the voxels of `lab.synthesize`, paths under one folder alone, and a reason for each refusal."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import mlflow
import nibabel as nib
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from patients import AFFINE, SEQUENCES, volumes
from served import ALL, CUBE, OUTSIDE, by_path, decoded, voxels

from lab.deploy.serve import service as serve
from lab.deploy.serve.request import PATIENTS, ROOT, VOXELS
from lab.deploy.serve.service import Service
from lab.inference.settings import ENHANCEMENT, SYNTHESIS, UNCERTAINTY


@pytest.fixture(scope="module")
def service(uri) -> Service:
    return Service(Path(mlflow.artifacts.download_artifacts(uri)) / "artifacts")


@pytest.fixture
def allowed(folder, monkeypatch) -> Path:
    monkeypatch.setenv(ROOT, str(folder))
    return folder


def refused(service: Service, *patients: Any) -> str:
    with pytest.raises(MlflowException) as caught:
        service.answer(list(patients))
    assert caught.value.get_http_status_code() == 400
    return json.loads(caught.value.serialize_as_json())["message"]


def test_paths_give_the_files_of_synthesize(service, allowed, drawn):
    (answer,) = service.answer([by_path(looks=2, volumes=["synthetic", "enhancement", "uncertainty"])])
    sent = {name: base64.b64decode(volume["nifti"]) for name, volume in answer["volumes"].items()}
    files = {"synthetic": SYNTHESIS, "enhancement": ENHANCEMENT, "uncertainty": UNCERTAINTY}
    for name, file in files.items():
        assert gzip.decompress(sent[name]) == gzip.decompress((drawn / file).read_bytes()), name
    report = json.loads((drawn / "report.json").read_text())
    assert answer["enhancement_ml"] == report["enhancement"]["ml"]
    assert "SYNTHETIC" in answer["what"]
    assert "not for diagnosis" in answer["what"]
    assert answer["model"]["name"] == "sct1-served"
    assert answer["model"]["version"] == "1"
    assert len(answer["model"]["run_id"]) == 32
    for same in ("enhancement", "measured", "contract"):
        assert answer["report"][same] == report[same]
    hashes = {name: entry["sha256"] for name, entry in report["inputs"].items()}
    assert {name: entry["sha256"] for name, entry in answer["report"]["inputs"].items()} == hashes
    assert str(allowed) not in json.dumps(answer)
    assert "lab-serve-" not in json.dumps(answer)


def test_arrays_come_back_as_arrays_and_files_as_files(service, allowed, drawn):
    true = voxels(drawn / SYNTHESIS)
    arrays = {name.lower(): data.tolist() for name, data in volumes().items()}  # names in small letters, too
    encoded = {
        name: {"nifti": base64.b64encode((allowed / "one" / f"{name}.nii.gz").read_bytes()).decode()} for name in ALL
    }
    first, second = service.answer([arrays | {"affine": AFFINE.tolist(), "looks": 1}, encoded | {"looks": 1}])
    np.testing.assert_array_equal(np.array(first["volumes"]["synthetic"], np.float32), true)
    np.testing.assert_array_equal(decoded(second["volumes"]["synthetic"]), true)
    (plain,) = service.answer([{name: arrays[name.lower()] for name in SEQUENCES} | {"looks": 1, "mask": None}])
    np.testing.assert_array_equal(np.array(plain["volumes"]["synthetic"], np.float32), true)  # voxels of the model's
    assert any("without a tumour mask" in warning for warning in plain["warnings"])


def test_an_array_is_answered_in_the_order_in_which_it_was_sent(service):
    turned = {name: data[::-1, ::-1].transpose(2, 0, 1) for name, data in volumes().items()}  # S, L, P
    affine = [[0, -4, 0, 82], [0, 0, -4, 78], [4, 0, 0, -72], [0, 0, 0, 1]]
    (plain,) = service.answer([{**volumes(), "affine": AFFINE, "looks": 1}])
    (other,) = service.answer([{**turned, "affine": affine, "looks": 1}])
    image = np.array(plain["volumes"]["synthetic"])
    np.testing.assert_array_equal(other["volumes"]["synthetic"], image[::-1, ::-1].transpose(2, 0, 1))


def test_a_prepared_array_goes_through_the_network_alone(service):
    values = np.random.default_rng(0).uniform(-1, 1, (3, 9, 8, 7)).astype(np.float32)
    (answer,) = service.answer([{"prepared": values}])
    assert np.array(answer["volumes"]["synthetic"]).shape == (9, 8, 7)
    assert "2 channels" in refused(service, {"prepared": values[:2]})
    assert "outside of -1 to 1" in refused(service, {"prepared": values * 2})
    assert "leave T1 out" in refused(service, {"prepared": values, "T1": "a"})


PATHS = {
    "../outside/T1.nii.gz": OUTSIDE,
    "../outside/nothing.nii.gz": OUTSIDE,
    "one/../../outside/T1.nii.gz": OUTSIDE,
    "link.nii.gz": OUTSIDE,
    "dangling.nii.gz": OUTSIDE,
    "linked/T1.nii.gz": OUTSIDE,
    "circle": OUTSIDE,
    "/etc/hostname": OUTSIDE,
    "/no/such/file": OUTSIDE,
    "a\0b": OUTSIDE,
    "one": "there is no file one",
    "one/nothing.nii.gz": "there is no file one/nothing.nii.gz",
    "a" * 300: "cannot be read (File name too long)",
    "text.nii.gz": "T1: not a NIfTI file",
}


@pytest.mark.parametrize("path", PATHS)
def test_paths_lead_nowhere_else(path, service, allowed):
    said = refused(service, by_path(T1=path))
    assert PATHS[path] in said
    assert str(allowed) not in said


def test_what_lies_outside_is_refused_in_the_same_words_whether_it_is_there_or_not(service, allowed):
    outside = allowed.parent / "outside"
    said = {refused(service, by_path(T1=str(outside / name))) for name in ("T1.nii.gz", "nothing.nii.gz", "")}
    assert len(said) == 1


def test_whole_paths_and_links_within_the_folder_are_read(service, allowed):
    sent = by_path(T1=str(allowed / "one" / "T1.nii.gz"), looks=1)
    (whole,), (linked,) = service.answer([sent]), service.answer([sent | {"T1": "within.nii.gz"}])
    assert whole["volumes"] == linked["volumes"]


def test_without_a_folder_paths_are_refused(service, monkeypatch):
    monkeypatch.delenv(ROOT, raising=False)
    assert "start the server with the folder in LAB_SERVE_ROOT" in refused(service, by_path())


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a sequence is missing": ({"FLAIR": ...}, "FLAIR missing: a patient has T1, T2, FLAIR"),
    "null": ({"T1": None}, "T1 is null; send a nested list"),
    "a number": ({"T1": 3}, "T1 is a int; send a nested list"),
    "an object": ({"T1": {"path": "a"}}, "T1 is an object with 'path'"),
    "flat": ({"T1": [[1, 2], [3, 4]]}, "T1 has the shape 2 x 2; a 3D array (X, Y, Z) is needed"),
    "nothing": ({"T1": []}, "T1 has the shape 0"),
    "ragged": ({"T1": [[[1, 2], [3]]]}, "T1 is no array of numbers with rows of one length"),
    "text": ({"T1": [[["a"]]]}, "T1 is no array of numbers"),
    "another grid": ({"T1": CUBE[0, :5].tolist()}, "T2 lies on another grid than T1"),
    "NaN": ({"T1": np.full((6, 6, 6), np.nan).tolist()}, "T1: every voxel is NaN or infinite"),
    "numbers as text": ({"T1": CUBE[0].astype(str).tolist()}, "T1 is no array of numbers"),
    "null in it": ({"T1": [[[None, 1.0]]]}, "T1 is no array of numbers"),
    "truth": ({"T1": [[[True, False]]]}, "T1 is no array of numbers"),
    "deep": ({"T1": np.zeros((1,) * 30).tolist()}, "T1 has the shape 1 x 1"),
    "no end": ({"T1": [[[10**400]]]}, "T1 is no array of numbers"),
    "too large": ({"T1": (CUBE[0] * 1e300).tolist()}, "T1: every voxel is NaN or infinite"),
    "empty": ({"T1": np.zeros((6, 6, 6)).tolist()}, "T1: every voxel is 0; the image is empty"),
    "twice the same": ({"T2": CUBE[0].tolist()}, "T2 and T1 are the same image"),
    "no brain": ({"affine": np.diag([40, 40, 40, 1]).tolist()}, "more than any brain holds"),
    "unknown": ({"T1GD": CUBE[0].tolist()}, "'T1GD' is not known: a patient has T1, T2, FLAIR and may have mask"),
    "twice": ({"t1n": CUBE[0].tolist()}, "T1 is given twice, the second time as 't1n'"),
    "no base64": ({"T1": {"nifti": "&"}}, "T1: what 'nifti' holds is no base64"),
    "no NIfTI": ({"T1": {"nifti": "aGVsbG8="}}, "T1: not a NIfTI file"),
    "no look": ({"looks": 0}, "looks is 0; a whole number from 1 to 8 is needed"),
    "looks as text": ({"looks": "4"}, "looks is '4'"),
    "looks as truth": ({"looks": True}, "looks is True"),
    "large voxels": ({"affine": np.diag([1000, 1000, 1000, 1]).tolist()}, "affine makes no volume of a voxel"),
    "small affine": ({"affine": np.eye(3).tolist()}, "affine is no 4 x 4 matrix"),
    "flat affine": ({"affine": np.diag([1, 1, 0, 1]).tolist()}, "affine makes no volume of a voxel"),
    "brain mask": ({"brain_mask": "a"}, "brain_mask is 'a'; known are nonzero, mni152"),
    "strangers": ({"strangers": "a"}, "strangers is 'a'; known are refuse, warn"),
    "volumes": ({"volumes": ["t1"]}, "it is a list of some of synthetic, enhancement, uncertainty, interval"),
    "clinical": ({"clinical": {"age": 61}}, "clinical: this model takes no clinical covariates; leave it out"),
    "one look": ({"volumes": ["uncertainty"], "looks": 1}, "looks = 1 has no uncertainty"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_with_the_reason(name, service):
    changes, said = WRONG[name]
    patient = dict(zip(SEQUENCES, CUBE.tolist())) | changes
    patient = {key: value for key, value in patient.items() if value is not ...}
    assert said in refused(service, patient)


def test_one_wrong_patient_is_named_and_no_patient_is_wrong(service, allowed):
    said = refused(service, by_path(looks=1), by_path(T1=None))
    assert said.startswith("patient 2 of 2: T1 is null")
    assert refused(service) == "the request names no patient"


def test_what_a_model_was_not_calibrated_for_cannot_be_asked_of_it(service, allowed):
    said = refused(service, by_path(volumes=["synthetic", "interval"], looks=1))
    assert said == "volumes: this model has no interval with looks = 1"


def test_more_than_the_server_takes_is_refused_before_it_takes_memory(service, allowed, monkeypatch):
    monkeypatch.setenv(VOXELS, "1000")
    said = "T1 has 44 x 52 x 46 voxels; this server takes at most 1000 of a scan"
    assert said in refused(service, by_path())
    assert said in refused(service, {"T1": volumes()["T1"], "T2": volumes()["T2"], "FLAIR": volumes()["FLAIR"]})
    bomb = bytearray(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)).to_bytes())
    bomb[42:48] = np.array([512, 512, 512], "<i2").tobytes()
    sent = {"nifti": base64.b64encode(gzip.compress(bytes(bomb))).decode()}
    assert "512 x 512 x 512 voxels" in refused(service, by_path(T1=sent))
    monkeypatch.setenv(VOXELS, "many")
    assert "LAB_SERVE_VOXELS must be a whole number" in refused(service, by_path())
    monkeypatch.setenv(PATIENTS, "2")
    assert "has 3 patients; at most 2" in refused(service, *[by_path()] * 3)


@pytest.mark.parametrize("shape", [(41, 48, 40), (1, 1, 20_000), (200, 20, 20)])
def test_a_prepared_array_is_no_larger_than_the_models_own_grid(shape, service):
    """The network fills up to whole steps: a thin array may take far more than it holds."""
    said = refused(service, {"prepared": np.zeros((3, *shape), np.float32)})
    assert "larger than the 40 x 48 x 40 voxels that this model was made for" in said


def test_an_affine_is_for_arrays(service, allowed):
    assert "affine is for scans sent as arrays" in refused(service, by_path(affine=np.eye(4).tolist()))


@pytest.mark.parametrize(("fault", "status"), [(KeyError("secret"), 500), (MemoryError(), 503)])
def test_our_own_faults_are_not_the_clients(fault, status, service, allowed, monkeypatch):
    def fails(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(serve, "write_patient", fails)
    with pytest.raises(MlflowException) as caught:
        service.answer([by_path()])
    assert caught.value.get_http_status_code() == status
    assert "secret" not in caught.value.serialize_as_json()


def test_too_little_memory_for_a_network_is_not_the_clients_fault(service, allowed, monkeypatch):
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("lab.inference.tta.predict_with_tta", fails)
    with pytest.raises(MlflowException) as caught:
        service.answer([by_path()])
    assert caught.value.get_http_status_code() == 503
