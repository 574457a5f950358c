"""Tests of tracking write to a store of their own, never to the repository's `mlruns/`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from watching import on_cores

os.environ["LAB_RUNS"] = tempfile.mkdtemp(prefix="lab-runs-")  # before anything imports lab.tracking.store
for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def one_core() -> Iterator[None]:
    """All on one core, processes too: results are then the same bit for bit, whatever runs side by side."""
    with on_cores(1):
        yield


@pytest.fixture(scope="session", autouse=True)
def fresh_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with empty MLflow and Optuna databases to copy, since making them takes seconds."""
    from lab.tracking.store import RUNS, connect, trial_storage

    connect()
    trial_storage()
    out = tmp_path_factory.mktemp("databases")
    for file in RUNS.glob("*.db"):
        shutil.copy(file, out)
    yield out
    shutil.rmtree(RUNS, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def no_faults_planted() -> Iterator[None]:
    """Planting two dozen faults takes longer than a small study; tests/data and test_calibrate.py do it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lab.inference.calibrate.FAULT_CASES", 0)
        yield


@pytest.fixture
def runs_folder(fresh_databases: Path, tmp_path: Path) -> Path:
    """An empty store for processes that are started with `LAB_RUNS`."""
    return Path(shutil.copytree(fresh_databases, tmp_path / "runs"))


@pytest.fixture(scope="module")
def no_drawing() -> Iterator[None]:
    """Figures are made but not rendered, which takes most of a small study's time; tests/report looks at them."""

    def blank(figure: Figure, file: Any, **_: Any) -> None:
        """A file that is there."""
        if hasattr(file, "write"):
            file.write(b"blank")
        else:
            Path(file).write_bytes(b"blank")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", blank)
        yield
