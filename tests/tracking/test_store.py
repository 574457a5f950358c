"""Where runs are kept: plain `mlflow ui` finds them, several processes at once do not break them."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError
from watching import ROOT

from lab.tracking import store
from lab.tracking.store import RUNS, StoreLost, clear_errors, connect, experiment_id, store_trouble

CREATE = "from lab.tracking.store import connect, experiment_id, trial_storage as t; print(experiment_id('x')); t()"


def python(code: str, runs: Path) -> subprocess.Popen[str]:
    """A process with its store in `runs`."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    words = [sys.executable, "-c", code]
    return subprocess.Popen(words, cwd=ROOT, env=environment | {"LAB_RUNS": str(runs)}, **pipes)


def output(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip()


def test_plain_mlflow_ui_at_the_root_reads_the_same_database(monkeypatch):
    """Its default is `sqlite:///mlflow.db`; the committed link leads from there to the database under `mlruns/`."""
    link = ROOT / "mlflow.db"
    assert link.is_symlink()
    assert os.readlink(link) == "mlruns/mlflow.db"
    monkeypatch.delenv("LAB_RUNS")
    found = runpy.run_path(store.__file__)  # as in a process without the variable
    assert os.path.realpath(link) == os.path.realpath(found["RUNS"] / "mlflow.db")
    assert os.path.samefile(found["ROOT"], ROOT)
    tracked = subprocess.run(["git", "ls-files", "-s", "mlflow.db"], cwd=ROOT, capture_output=True, text=True).stdout
    assert tracked.startswith("120000") or not tracked  # a link, where this is a git checkout


def test_several_processes_create_the_store_at_once(tmp_path):
    processes = [python(CREATE, tmp_path / "new") for _ in range(2)]
    assert len({output(process) for process in processes}) == 1
    names = [found.name for found in MlflowClient(f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}").search_experiments()]
    assert sorted(names) == ["Default", "x"]


@pytest.fixture
def same_store():
    """MLflow has the store of these tests again afterwards."""
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


def test_the_environment_says_where(tmp_path, fresh_databases, monkeypatch, same_store):
    elsewhere = f"sqlite:///{fresh_databases / 'mlflow.db'}"
    monkeypatch.setenv("LAB_RUNS", os.path.relpath(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", elsewhere)
    found = runpy.run_path(store.__file__)
    found["connect"]()
    assert found["RUNS"].is_absolute()
    assert os.path.samefile(found["RUNS"], tmp_path)
    assert mlflow.get_tracking_uri() == elsewhere


def test_a_damaged_database_is_told(tmp_path, monkeypatch, same_store):
    (tmp_path / "mlflow.db").write_text("this is no database" * 100)
    monkeypatch.setattr(store, "RUNS", tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ValueError, match="is not a database: it begins with b'this is no"), clear_errors():
        connect.__wrapped__()


def test_artifacts_lie_under_the_store():
    experiment = connect().get_experiment(experiment_id("artifacts"))
    assert experiment.artifact_location == (RUNS / "artifacts").as_uri()
    assert experiment_id("artifacts") == experiment.experiment_id


def test_a_deleted_experiment_is_told():
    connect().delete_experiment(experiment_id("gone"))
    with pytest.raises(ValueError, match="'gone' was deleted; restore it"):
        experiment_id("gone")


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (MlflowException("API request failed with exception: connection refused"), True),
        (MlflowException("database is locked", error_code=TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("a metric needs a name", error_code=INVALID_PARAMETER_VALUE), False),
        (StorageInternalError("locked"), True),
        (OSError(28, "No space left on device"), True),
        (ValueError("wrong settings"), False),
        (RuntimeError("wrong shapes"), False),
    ],
)
def test_trouble_of_the_store_is_told_from_a_trial_s_own(error, trouble):
    assert store_trouble(error) is trouble
    with pytest.raises(StoreLost if trouble else type(error)) as caught, clear_errors():
        raise error
    assert (getattr(error, "strerror", None) or str(error).splitlines()[0]) in str(caught.value)


def test_only_a_study_that_was_begun_promises_to_go_on(tmp_path):
    """A wrong path of a command says just what is wrong, whoever wraps it."""
    with pytest.raises(OSError) as caught, clear_errors():
        (tmp_path / "nowhere").read_text()
    assert str(caught.value) == f"{tmp_path / 'nowhere'}: No such file or directory"
    with pytest.raises(StoreLost) as caught, clear_errors(goes_on="split"), clear_errors():
        raise OSError(28, "No space left on device", "/runs/x")
    told = "the study has stopped; the same command goes on from the last finished split"
    assert str(caught.value) == f"/runs/x: No space left on device; {told}"


def test_optunas_error_is_that_of_its_database():
    inner = OperationalError("INSERT", {}, Exception("database or disk is full"))
    with pytest.raises(StoreLost, match=r"^database: .*database or disk is full$"), clear_errors():
        raise StorageInternalError("typically happens due to invalid data") from inner


def test_a_model_that_is_not_there_is_the_users_mistake():
    with pytest.raises(ValueError, match="nosuch"), clear_errors():
        connect().get_registered_model("nosuch")
