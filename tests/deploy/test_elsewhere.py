"""A model on another machine predicts the same voxels: over a server, from a moved store, from a copy.

Another machine is another process with another home for runs, another working folder and a copy of the code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from watching import ROOT, quick_path

from lab.data.cohort import Cohort
from lab.data.layouts.find import find_subjects

pytestmark = pytest.mark.slow
VOLUMES = ("synthetic_t1gd.nii.gz", "uncertainty.nii.gz", "enhancement.nii.gz")
NAME = "elsewhere-phantom"
PROMOTE = ("lab", "promote", "--study", "losses", "--name", NAME)
COMMANDS = """
import json, os, runpy, sys
import lab
print("code in", os.path.dirname(lab.__file__))
for words in json.loads(sys.argv.pop()):
    sys.argv[:] = words
    try:
        (runpy.run_path if words[0].endswith(".py") else runpy.run_module)(words[0], run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""
"""Runs scripts and modules as users do, without a start of Python for each."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where commands run: a home with its own store, code, working folder and place for temporary files."""

    home: Path
    code: Path = ROOT
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def scratch(self) -> Path:
        """What is left there was not cleaned up."""
        return self.home / "tmp"

    def call(self, *commands: Sequence[str], fresh: Path | None = None) -> str:
        """Standard output and error of commands, one after the other in one process, that must all succeed.

        A new store begins with the databases in `fresh`.
        """
        for folder in (self.scratch, self.home / "work"):
            folder.mkdir(parents=True, exist_ok=True)
        if fresh is not None:
            shutil.copytree(fresh, self.runs)
        kept = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "LAB_RUNS")}
        own = {"LAB_RUNS": str(self.runs), "TMPDIR": str(self.scratch), "PYTHONPATH": quick_path(self.code)}
        own |= {"OMP_NUM_THREADS": "1", **self.settings}
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS, json.dumps([list(map(str, words)) for words in commands])],
            cwd=self.home / "work",
            env=kept | own,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"code in {self.code / 'lab'}" in done.stdout
        return done.stdout + done.stderr

    def study(self, cohort: Cohort) -> Sequence[str]:
        """A network of two filters for a moment, or what goes on where it ended."""
        script = str(self.code / "studies" / "losses.py")
        small = ("--model.width", "2", "--model.depth", "2", "--train.epochs", "1", "--study.workers", "1")
        return (script, "--losses", "L1_brain", "--data", str(cohort.path), "--train.device", "cpu", *small)

    def synthesize(self, phantom: Path) -> Sequence[str]:
        """The first patient."""
        subject = find_subjects(phantom)[0]
        images = [part for name in ("T1", "T2", "FLAIR") for part in (f"--{name.lower()}", str(subject.images[name]))]
        words = ("--mask", str(subject.mask), "--out", str(self.home / "out"))
        return ("lab", "synthesize", "--model", f"models:/{NAME}@challenger", *images, *words)

    @property
    def synthesized(self) -> dict[str, np.ndarray]:
        """Volumes of the first patient."""
        return {name: np.asarray(nib.load(self.home / "out" / name).dataobj) for name in VOLUMES}


def another(home: Path, **settings: str) -> Machine:
    """A machine with a copy of the code."""
    code = home / "gadfree"
    for part in ("lab", "studies"):
        shutil.copytree(ROOT / part, code / part, ignore=shutil.ignore_patterns("__pycache__"))
    return Machine(home=home, code=code, settings=settings)


def equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    for name in VOLUMES:
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(first[name], second[name])
    assert np.ptp(first[VOLUMES[0]]) > 0


def content(folder: Path) -> dict[str, str]:
    """Hash of every file, but for locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def server(tmp_path_factory, fresh_databases) -> Iterator[str]:
    """Address of an MLflow server that keeps runs and hands artifacts on, with no folder that others can see."""
    home = tmp_path_factory.mktemp("server")
    shutil.copy(fresh_databases / "mlflow.db", home / "store.db")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home / 'store.db'}", "--serve-artifacts"]
    command += ["--artifacts-destination", str(home / "artifacts")]
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment = kept | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONPATH": quick_path()}
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(f"{address}/health", process, home / "log")
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(address, timeout=2).close()
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.5)
        else:
            return
    raise AssertionError(log.read_text())


def test_over_a_server_another_machine_predicts_the_same_voxels(
    server, tiny_cohort, tiny_phantom, fresh_databases, tmp_path
):
    here = Machine(home=tmp_path / "here", settings={"MLFLOW_TRACKING_URI": server})
    told = here.call(here.study(tiny_cohort), PROMOTE, here.synthesize(tiny_phantom), fresh=fresh_databases)
    assert f"{NAME} version 1" in told
    predicted = here.synthesized
    assert not list(here.runs.rglob("*.safetensors"))  # everything lies on the server
    here.home.rename(tmp_path / "gone")
    there = another(tmp_path / "there", MLFLOW_TRACKING_URI=server)
    there.call(there.synthesize(tiny_phantom))
    equal(predicted, there.synthesized)
    assert [path.name for path in there.scratch.glob("lab-model-*")] == []
    assert not list(there.scratch.rglob("*.safetensors"))


def test_a_store_that_was_copied_and_then_moved_goes_on(tiny_cohort, tiny_phantom, fresh_databases, tmp_path):
    here = Machine(home=tmp_path / "here")
    here.call(here.study(tiny_cohort), PROMOTE, here.synthesize(tiny_phantom), fresh=fresh_databases)
    predicted = here.synthesized
    before = content(here.runs)
    there = another(tmp_path / "there")
    shutil.copytree(here.runs, there.runs)
    trained = names(there.runs / "losses"), names(there.runs / "losses" / "models")
    told = there.call(("lab", "report", "losses"), there.synthesize(tiny_phantom), there.study(tiny_cohort))
    assert f"is a copy of that in {here.runs}, which stays as it is" in told
    assert "Study finished" in told
    equal(predicted, there.synthesized)
    assert (names(there.runs / "losses"), names(there.runs / "losses" / "models")) == trained  # nothing anew
    assert content(here.runs) == before
    shutil.rmtree(here.home)
    last = another(tmp_path / "deep" / "er")
    there.runs.rename(last.runs)
    shutil.rmtree(there.home)
    promote = (*PROMOTE[:-1], "third-phantom")
    assert f"was in {there.runs} before" in last.call(promote, last.synthesize(tiny_phantom))
    equal(predicted, last.synthesized)
