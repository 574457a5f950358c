"""A network served by MLflow, and loaded where this lab is not: in processes of their own."""

from __future__ import annotations

import json
import os
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
import numpy as np
import pytest
from patients import AFFINE, SHAPE, volumes
from served import CUBE, OUTSIDE, by_path, decoded, voxels

from lab.deploy.serve.request import ROOT
from lab.inference.settings import SYNTHESIS
from lab.tracking.models.network import REQUIREMENTS


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
