"""Where runs and trials are kept, such that a plain `mlflow ui` at the repository's root shows them.

MLflow: `mlruns/mlflow.db`, reached by the committed link `mlflow.db`, artifacts in `mlruns/<experiment>/`; a user's own
`MLFLOW_TRACKING_URI` is honoured. Optuna: `mlruns/optuna.db`, or `OPTUNA_STORAGE`; the two cannot share a database.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import optuna
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from lab.track.relocate import DATABASE, settle

ROOT = Path(__file__).resolve().parents[2]
RUNS = Path(os.environ.get("LAB_RUNS") or ROOT / "mlruns").expanduser().absolute()
WAIT_S = 60  # for another process's write to SQLite


class StoreLost(OSError):
    """What is tracked cannot be written any more; all that was written stays."""

    @classmethod
    def because(cls, error: Exception) -> StoreLost:
        """With the first line of the reason and what to do."""
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return cls(f"{lines[0]}. The study has stopped; the same command goes on from the last finished epoch")


def store_trouble(error: Exception) -> bool:
    """Whether an error is the machine's (disk full, database locked, server away) and not a trial's own."""
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return status >= 500 or status in (401, 403, 429) or isinstance(error.__cause__, SQLAlchemyError)
    return isinstance(error, OSError | SQLAlchemyError | StorageInternalError)


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn the many ways in which storage fails into StoreLost."""
    try:
        yield
    except StoreLost:
        raise
    except Exception as error:
        if not store_trouble(error):
            raise
        raise StoreLost.because(error) from error


@functools.cache
def connect() -> MlflowClient:
    """A client of the tracking store, which is created on first use, and follows its folder where that was moved.

    A fresh SQLite database does not survive several processes creating its tables at once, hence the lock.
    """
    RUNS.mkdir(parents=True, exist_ok=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # prints a traceback and raises as well
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{RUNS / DATABASE}?timeout={WAIT_S}"
    mlflow.set_tracking_uri(uri)
    with FileLock(RUNS / "create.lock"):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
        moved = settle(RUNS, WAIT_S) if is_own(uri) else None
    if moved:
        print(moved, file=sys.stderr, flush=True)
    return client


def is_own(uri: str) -> bool:
    """Whether a tracking URI is that of the database in `RUNS`, whoever has set it."""
    own, place = RUNS / DATABASE, Path(uri.removeprefix("sqlite:///").partition("?")[0])
    return uri.startswith("sqlite:///") and own.exists() and place.exists() and place.samefile(own)


def find_experiment(name: str) -> str | None:
    """The experiment of a study, None where it has none yet."""
    found = connect().get_experiment_by_name(name)
    return None if found is None or found.lifecycle_stage != "active" else str(found.experiment_id)


def experiment_id(name: str) -> str:
    """The experiment of a study, created on first use with its artifacts under `mlruns/`."""
    client = connect()
    found = client.get_experiment_by_name(name)
    if found is None:
        local = mlflow.get_tracking_uri().startswith("sqlite:")
        location = (RUNS / name).as_uri() if local else None
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise ValueError(
            f"the MLflow experiment {name!r} was deleted; restore it (mlflow experiments restore) or purge it"
        )
    return found.experiment_id


@functools.cache
def trial_storage() -> optuna.storages.RDBStorage:
    """Optuna's storage, created on first use."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    RUNS.mkdir(parents=True, exist_ok=True)
    url = os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{RUNS / 'optuna.db'}"
    engine = {"connect_args": {"timeout": WAIT_S}} if url.startswith("sqlite") else {}
    with FileLock(RUNS / "create.lock"):
        return optuna.storages.RDBStorage(url, engine_kwargs=engine)


@functools.cache
def git_state() -> dict[str, str]:
    """Commit of the code and whether it has uncommitted changes, as tags; empty outside a git checkout."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        dirty = bool(git("status", "--porcelain"))
        return {"mlflow.source.git.commit": git("rev-parse", "HEAD"), "git_dirty": str(dirty)}
    except (OSError, subprocess.CalledProcessError):
        return {}
