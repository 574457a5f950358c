"""What all tests share: a store of their own, never the repository's `mlruns/`, and one tiny phantom cohort."""

from __future__ import annotations

import functools
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # its processes fill the cores; read by NumPy and PyTorch when imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import importlib_metadata
import pytest
from filelock import FileLock

from lab.config import DataConfig
from lab.data.cohort import Cohort, open_cohort
from lab.data.prepare import prepare
from lab.phantom.cohort import write_cohort

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUNS = tempfile.TemporaryDirectory(prefix="lab-runs-")  # goes when the tests end
os.environ["LAB_RUNS"] = RUNS.name  # before anything imports lab.tracking.store
for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"):
    os.environ.pop(name, None)

SUBJECTS, SPACING_MM = 12, 8.0
FOLDERS_WITH_A_STORE = ("tracking", "inference", "experiments", "deploy", "registry", "cli")
LONGEST = (
    "test_elsewhere.py", "test_workers.py", "test_classifier_study.py", "test_study.py", "test_kill.py",
    "test_repeats.py", "test_moments.py", "test_extending.py", "test_worc_study.py", "test_study_report.py",
    "test_serving_process.py", "test_place_and_draw.py", "test_calibrate.py", "test_registry.py", "test_cases.py",
    "test_fault_injection.py", "test_adversarial.py", "test_fuzz.py", "test_gate.py",
)  # fmt: skip
"""Files that take longest come first, so that pytest-xdist does not begin one of them last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders files by `LONGEST`; all else stays as it is."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """What `make` writes to the path that it gets: the first process of pytest-xdist makes it for all."""
    base = factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{place}.lock"):
        if not place.with_name(f"{name}.made").exists():
            make(place)
            place.with_name(f"{name}.made").touch()
    return place


@pytest.fixture(scope="session")
def tiny_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The EGD tree of 12 patients, 20 x 24 x 20 voxels of 8 mm. Read only: tests share it."""
    make = functools.partial(write_cohort, subjects=SUBJECTS, seed=0, spacing_mm=SPACING_MM, processes=1)
    return made_once(tmp_path_factory, "phantom", make)


@pytest.fixture(scope="session")
def tiny_cohort(tiny_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """The same patients prepared: 7 enhance, 5 do not. Read only: tests share it."""

    def make(out: Path) -> None:
        prepare(tiny_phantom, out, DataConfig(spacing_mm=SPACING_MM), processes=1)

    return open_cohort(made_once(tmp_path_factory, "cohort", make))


def make_databases(out: Path) -> None:
    """Empty databases of MLflow and Optuna."""
    from lab.tracking.databases import RUNS_KIND, TRIALS_KIND, ensure

    out.mkdir()
    ensure(f"sqlite:///{out / 'mlflow.db'}", RUNS_KIND)
    ensure(f"sqlite:///{out / 'optuna.db'}", TRIALS_KIND)


@pytest.fixture(scope="session")
def fresh_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with empty MLflow and Optuna databases to copy, since making them takes seconds.

    The store of these tests begins with them. No test stops the machine, so SQLite need not wait for its disk.
    """
    importlib_metadata.version = functools.cache(importlib_metadata.version)  # MLflow reads them for every model
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from lab.tracking.store import RUNS

    @event.listens_for(Engine, "connect")
    def write_without_waiting(connection: object, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    out = made_once(tmp_path_factory, "databases", make_databases)
    RUNS.mkdir(parents=True, exist_ok=True)
    for file in out.glob("*.db"):
        shutil.copy(file, RUNS)
    yield out
    shutil.rmtree(RUNS, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def folder_with_a_store(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests that train and track run on one core, their processes too, so that results are equal bit for bit.

    At the end of a study, which takes longer than a small study, no faults are injected (tests of just that undo it),
    intervals are of few bootstrap draws and boosting is of few trees. MLflow does not compare a model's requirements
    with all packages that are installed.
    """
    if request.path.relative_to(Path(__file__).parent).parts[0] not in FOLDERS_WITH_A_STORE:
        yield
        return
    from watching import on_cores

    from lab.synthesis.boosting import TREES

    request.getfixturevalue("fresh_databases")
    with on_cores(1), pytest.MonkeyPatch.context() as patch:
        patch.setattr("lab.evaluation.fault_injection.FAULT_CASES", 0)
        patch.setattr("lab.evaluation.conformal.RESAMPLES", 50)
        patch.setattr("lab.synthesis.boosting.TREES", {**TREES, "max_iter": 5})
        patch.setattr("mlflow.utils.requirements_utils._check_requirement_satisfied", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Weights that a test draws without a seed are the same wherever it runs, and in whatever order."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def runs_folder(fresh_databases: Path, tmp_path: Path) -> Path:
    """An empty store for processes that are started with `LAB_RUNS`."""
    return Path(shutil.copytree(fresh_databases, tmp_path / "runs"))


@pytest.fixture(scope="module")
def no_drawing() -> Iterator[None]:
    """Figures are made but not rendered, those of a study not even made, which takes most of a small study's time.

    tests/report looks at them.
    """
    from matplotlib.figure import Figure

    def blank(figure: Figure, file: Any, **_: Any) -> None:
        """A file that is there."""
        if hasattr(file, "write"):
            file.write(b"blank")
        else:
            Path(file).write_bytes(b"blank")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", blank)
        for plot in ("box_plots", "forest", "front_figure", "learning_curves", "reliability_figure"):
            patch.setattr(f"lab.experiments.synthesis.report.{plot}", lambda *_, **__: Figure())
        patch.setattr("lab.report.figures.sheets.trial_slices", lambda *_, **__: Figure())
        patch.setattr("lab.experiments.synthesis.slices.slice_figure", lambda *_, **__: Figure())
        yield


@pytest.fixture(scope="module")
def no_calibration() -> Iterator[None]:
    """A study calibrates no network, and MLflow does not try those that it logs: tests/inference, tests/tracking do."""
    import pandas as pd

    from lab.evaluation.conformal import COLUMNS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lab.experiments.synthesis.finish.calibrate_best", lambda *_: pd.DataFrame(columns=COLUMNS))
        patch.setattr("mlflow.models.utils._validate_serving_input", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module")
def few_refits() -> Iterator[None]:
    """The final classifier's interval comes from few refits: they take most of the time to fit, save and open it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lab.radiomics.pipeline.final.REFITS", 4)
        yield


@pytest.fixture
def no_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study trains, logs its models and does not come to scores and report, where a test does not look at them."""
    monkeypatch.setattr("lab.experiments.synthesis.finish.finish", lambda plan, _: plan.parent.end("finished"))


@pytest.fixture
def no_report(no_finish: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that does not come to its end logs no models either."""
    monkeypatch.setattr("lab.tracking.models.network.log_network", lambda *_: "models:/left-out")
    monkeypatch.setattr("lab.report.figures.sheets.trial_slices", lambda *_, **__: None)
    monkeypatch.setattr("lab.report.figures.style.save", lambda _, path: path.touch())
