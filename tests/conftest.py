"""What all tests share: a store of their own, never the repository's `mlruns/`, and one tiny phantom cohort."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.config import DataConfig
from lab.data.cohort import Cohort
from lab.data.prepare import prepare
from lab.phantom.cohort import write_cohort

if TYPE_CHECKING:
    from matplotlib.figure import Figure

os.environ["LAB_RUNS"] = tempfile.mkdtemp(prefix="lab-runs-")  # before anything imports lab.tracking.store
for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"):
    os.environ.pop(name, None)

SUBJECTS, SPACING_MM = 12, 8.0
FOLDERS_WITH_A_STORE = ("tracking", "inference", "experiments", "deploy", "registry", "cli")
LONGEST = (
    "test_kill.py", "test_fuzz.py", "test_elsewhere.py", "test_study.py", "test_worc.py", "test_classifier_study.py",
    "test_extending.py", "test_fault_injection.py", "test_calibrate.py", "test_gate.py",
)  # fmt: skip
"""Files that take longest come first, so that pytest-xdist does not begin one of them last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders files by `LONGEST`; all else stays as it is."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(scope="session")
def tiny_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The EGD tree of 12 patients, 20 x 24 x 20 voxels of 8 mm. Read only: tests share it."""
    out = tmp_path_factory.mktemp("phantom") / "tree"
    return write_cohort(out, subjects=SUBJECTS, seed=0, spacing_mm=SPACING_MM, processes=1)


@pytest.fixture(scope="session")
def tiny_cohort(tiny_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """The same patients prepared: 7 enhance, 5 do not. Read only: tests share it."""
    out = tmp_path_factory.mktemp("cohort") / "prepared"
    return prepare(tiny_phantom, out, DataConfig(spacing_mm=SPACING_MM), processes=1)


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="module", autouse=True)
def folder_with_a_store(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests that train and track run on one core, their processes too, so that results are equal bit for bit.

    No faults are injected at the end of a study, which takes longer than a small study; tests of just that undo it.
    """
    if request.path.relative_to(Path(__file__).parent).parts[0] not in FOLDERS_WITH_A_STORE:
        yield
        return
    from watching import on_cores

    request.getfixturevalue("fresh_databases")
    with on_cores(1), pytest.MonkeyPatch.context() as patch:
        patch.setattr("lab.inference.calibrate.FAULT_CASES", 0)
        yield


@pytest.fixture
def runs_folder(fresh_databases: Path, tmp_path: Path) -> Path:
    """An empty store for processes that are started with `LAB_RUNS`."""
    return Path(shutil.copytree(fresh_databases, tmp_path / "runs"))


@pytest.fixture(scope="module")
def no_drawing() -> Iterator[None]:
    """Figures are made but not rendered, which takes most of a small study's time; tests/report looks at them."""
    from matplotlib.figure import Figure

    def blank(figure: Figure, file: Any, **_: Any) -> None:
        """A file that is there."""
        if hasattr(file, "write"):
            file.write(b"blank")
        else:
            Path(file).write_bytes(b"blank")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", blank)
        yield
