"""A served network: the voxels of `lab.synthesize`, paths under one folder alone, and a reason for each refusal."""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import nibabel as nib
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from patients import AFFINE, SEQUENCES, SHAPE, logged, named, stored, volumes

from lab.deploy.new_patients import synthesize
from lab.deploy.serve import service as serve
from lab.deploy.serve.request import PATIENTS, ROOT, VOXELS
from lab.deploy.serve.service import Service
from lab.inference.settings import ENHANCEMENT, SYNTHESIS, UNCERTAINTY, How
from lab.tracking.models.network import REQUIREMENTS, attach_code

ALL = (*SEQUENCES, "mask")


@pytest.fixture(scope="module")
def uri() -> str:
    network = logged("served")
    attach_code(network)  # as `promote` does
    return named(network, "sct1-served")


@pytest.fixture(scope="module")
def service(uri) -> Service:
    return Service(Path(mlflow.artifacts.download_artifacts(uri)) / "artifacts")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The allowed folder, with a patient and ways out of it; what must not be read lies beside it."""
    root = tmp_path_factory.mktemp("scans") / "root"
    stored(root / "one")
    (root.parent / "outside").mkdir()
    shutil.copy(root / "one" / "T1.nii.gz", root.parent / "outside" / "T1.nii.gz")
    (root / "link.nii.gz").symlink_to(root.parent / "outside" / "T1.nii.gz")
    (root / "dangling.nii.gz").symlink_to(root.parent / "outside" / "nothing.nii.gz")
    (root / "circle").symlink_to(root / "circle")
    (root / "linked").symlink_to(root.parent / "outside")
    (root / "within.nii.gz").symlink_to(root / "one" / "T1.nii.gz")
    (root / "text.nii.gz").write_text("hello")
    return root


@pytest.fixture(scope="module")
def drawn(uri, folder, tmp_path_factory) -> Path:
    """What `lab.synthesize` writes for the same patient."""
    out = tmp_path_factory.mktemp("drawn") / "one"
    images = {name: folder / "one" / f"{name}.nii.gz" for name in SEQUENCES}
    synthesize(uri, images, mask=folder / "one" / "mask.nii.gz", out=out, how=How(looks=2), say=lambda _: None)
    return out


@pytest.fixture
def allowed(folder, monkeypatch) -> Path:
    monkeypatch.setenv(ROOT, str(folder))
    return folder


def by_path(**changes: Any) -> dict[str, Any]:
    return {name: f"one/{name}.nii.gz" for name in ALL} | changes


def decoded(volume: dict[str, str]) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(volume["nifti"]))).dataobj)


def voxels(file: Path) -> np.ndarray:
    return np.asarray(nib.load(file).dataobj)


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


OUTSIDE = "does not lie in the folder that this server reads from"
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


CUBE = np.random.default_rng(1).uniform(1, 2, (3, 6, 6, 6))
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
    "one look": ({"volumes": ["uncertainty"], "looks": 1}, "a single look has no uncertainty"),
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
    assert said == "volumes: there is no interval of 1 looks by this model"


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

    monkeypatch.setattr("lab.inference.patient.predict_with_tta", fails)
    with pytest.raises(MlflowException) as caught:
        service.answer([by_path()])
    assert caught.value.get_http_status_code() == 503


class Server:
    """`mlflow models serve` as a process."""

    def __init__(self, uri: str, place: Path, root: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = place / "log.txt"
        known = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
        known |= {ROOT: str(root), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        environment = {name: value for name, value in os.environ.items() if name != "LAB_RUNS"} | known
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local"]
        (place / "cwd").mkdir()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)], cwd=place / "cwd", env=environment, stdout=log, stderr=log
            )

    def wait(self) -> None:
        """Until it answers."""
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5)
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text()[-3000:])

    def post(self, body: Any, content_type: str = "application/json") -> tuple[int, str]:
        """Status and answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        where = f"http://127.0.0.1:{self.port}/invocations"
        request = urllib.request.Request(where, data=data, headers={"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def server(uri, folder, tmp_path_factory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("server")
    running = Server(uri, place, folder)
    try:
        running.wait()
        yield running
    finally:
        running.process.terminate()  # it ends the server that it started, too
        running.process.wait(timeout=30)


@pytest.mark.slow
def test_mlflow_serves_it(server, folder, drawn):
    status, text = server.post({"inputs": [by_path(looks=2)]})
    assert status == 200, text
    (answer,) = json.loads(text)["predictions"]
    np.testing.assert_array_equal(decoded(answer["volumes"]["synthetic"]), voxels(drawn / SYNTHESIS))
    arrays = {name: data.tolist() for name, data in volumes().items()} | {"affine": AFFINE.tolist(), "looks": 1}
    status, text = server.post({"inputs": [arrays]})
    assert status == 200, text
    (answer,) = json.loads(text)["predictions"]
    image = np.array(answer["volumes"]["synthetic"], np.float32)
    assert image.shape == SHAPE
    np.testing.assert_array_equal(image, voxels(drawn / SYNTHESIS))
    empty = {"T1": np.full((6, 6, 6), np.nan).tolist(), "T2": CUBE[1].tolist(), "FLAIR": CUBE[2].tolist()}
    wrong = {
        "FLAIR missing": {"inputs": [{name: f"one/{name}.nii.gz" for name in ("T1", "T2")}]},
        "T1 has the shape 2 x 1": {"inputs": [by_path(T1=[[1], [2]])]},
        OUTSIDE: {"inputs": [by_path(T1="../outside/T1.nii.gz")]},
        "'adc' is not known": {"inputs": [by_path(adc="one/T1.nii.gz")]},
        "not a NIfTI file": {"inputs": [by_path(T1="text.nii.gz")]},
        "every voxel is NaN": {"inputs": [empty]},
        "valid JSON": b"{not json",
        "Expected list": {"inputs": by_path()},
        "Expected dict": {"inputs": ["one"]},
        "'inputs' key": {"dataframe_records": [by_path()]},
        "names no patient": {"inputs": []},
    }
    for said, body in wrong.items():
        status, text = server.post(body)
        assert status == 400, (said, text)
        assert said in text
        assert len(text) < 1000
    assert server.post(b"a", "text/plain")[0] == 415


@pytest.mark.slow
def test_a_server_leaves_nothing_behind(server):
    assert list((server.log.parent / "cwd").iterdir()) == []


ALONE = """
import ast, json, sys
from importlib.metadata import packages_distributions
from pathlib import Path
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
(answer,) = model.predict([json.loads(sys.argv[2])])
used = set()
for name, module in list(sys.modules.items()):
    if name.split(".")[0] == "lab" and module.__file__:
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            used |= {name.split(".")[0] for name in names}
known = packages_distributions()
used = {name: known.get(name, [name]) for name in sorted(used - set(sys.stdlib_module_names) - {"lab"})}
version = answer["report"]["versions"]["gadfree"]
print(json.dumps({"lab": sys.modules["lab"].__file__, "used": used, "version": version}))
"""


@pytest.mark.slow
def test_the_package_brings_its_own_code_and_names_what_it_needs(uri, folder, tmp_path):
    """In an empty folder, with a tracking store that is not there: nothing of it is asked."""
    model = mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path / "model"))
    left = {name: value for name, value in os.environ.items() if name not in ("LAB_RUNS", "PYTHONPATH")}
    (tmp_path / "cwd").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ALONE, model, json.dumps(by_path(looks=1))],
        env=left | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", ROOT: str(folder)},
        cwd=tmp_path / "cwd",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["lab"]).is_relative_to(model)
    for name, distributions in found["used"].items():
        assert {known.lower() for known in distributions} & {known.lower() for known in REQUIREMENTS}, name
    assert list((tmp_path / "cwd").iterdir()) == []
    pins = (Path(model) / "requirements.txt").read_text().splitlines()
    assert {pin.partition("==")[0] for pin in pins} == set(REQUIREMENTS)
    assert (Path(model) / "code" / f"gadfree-{found['version']}.dist-info" / "METADATA").is_file()
