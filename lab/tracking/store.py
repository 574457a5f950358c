"""The MLflow and Optuna stores: locations, connections, errors.

MLflow: `mlruns/mlflow.db`, with artifacts in `mlruns/<experiment>/`. The committed link `mlflow.db` lets a plain
`mlflow ui` at the repository's root show the runs. `MLFLOW_TRACKING_URI` overrides it. Optuna: `mlruns/optuna.db`, or
`OPTUNA_STORAGE`; the two cannot share a database.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import mlflow
import optuna
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from optuna.exceptions import StorageInternalError
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from lab.io.files import describe_os_error
from lab.tracking.addresses import check_address, check_server, without_password
from lab.tracking.databases import (
    RUNS_KIND,
    TRIALS_KIND,
    WAIT_S,
    alone,
    beside,
    ensure,
    file_of,
    is_archive,
    print_message,
    state,
)
from lab.tracking.patience import announce_waiting, patient_trials
from lab.tracking.relocate import DATABASE, settle

ROOT = Path(__file__).resolve().parents[2]
RUNS = Path(os.environ.get("LAB_RUNS") or ROOT / "mlruns").expanduser().absolute()


T = TypeVar("T")
ABSENT = "RESOURCE_DOES_NOT_EXIST"
_COPIES: set[str] = set()
GOES_ON = "the study has stopped; the same command goes on from the last finished {unit}"


class StoreLost(OSError):
    """The store can no longer be read or written; everything written so far stays."""

    @classmethod
    def because(cls, error: Exception) -> StoreLost:
        """With the first line of an error; for an Optuna error, of the database error below it."""
        inner = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        lines = str(inner).strip().splitlines() or [type(inner).__name__]
        if isinstance(inner, OSError):
            return cls(describe_os_error(inner))
        where = "tracking store" if isinstance(error, MlflowException) else "database"
        return cls(f"{where}: {lines[0]}")


def store_trouble(error: Exception) -> bool:
    """Whether an error is the machine's (disk full, database locked, server away) and not a trial's own."""
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return status >= 500 or status in (401, 403, 429) or isinstance(error.__cause__, SQLAlchemyError)
    return isinstance(error, OSError | SQLAlchemyError | StorageInternalError)


def server_trouble(error: BaseException) -> bool:
    """Whether an error is MLflow's own; another request to its server would wait all over again."""
    return isinstance(error, MlflowException)


def unless_absent(read: Callable[[], T], *missing: type[Exception]) -> T | None:
    """Result of `read`; None where the store lacks the object, which the errors `missing` mean too.

    Raises the error of `read` where the store itself is in trouble.
    """
    try:
        return read()
    except MlflowException as error:
        if store_trouble(error):
            raise
        return None
    except missing:
        return None


@contextlib.contextmanager
def clear_errors(*, goes_on: str | None = None) -> Iterator[None]:
    """Turn the errors of storage into StoreLost.

    `goes_on` is for a study that has begun and can be continued: it names what is lost at most, for the message.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, MlflowException) and error.error_code == ABSENT:
            raise ValueError(str(error).splitlines()[0]) from error  # names a model or run that does not exist
        if not store_trouble(error):
            raise
        lost = error if isinstance(error, StoreLost) else StoreLost.because(error)
        raise (StoreLost(f"{lost}; {GOES_ON.format(unit=goes_on)}") if goes_on else lost) from error


@functools.cache
def connect() -> MlflowClient:
    """Client of the tracking store, which is created on first use and follows its folder where that was moved."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints a traceback and raises as well
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{RUNS / DATABASE}?timeout={WAIT_S}"
    check_address(uri, RUNS_KIND)
    check_server(uri, RUNS_KIND)
    place = file_of(uri)
    archive = place is not None and is_archive(place)
    if archive and place is not None:
        uri = read_only_copy(place, adapt=is_own(uri))
    else:
        ensure(uri, RUNS_KIND)
    announce_waiting(f"the tracking server {without_password(uri)}")
    mlflow.set_tracking_uri(uri)
    with contextlib.nullcontext() if archive or "://" not in uri or uri.startswith("http") else alone(RUNS):
        try:
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
        except MlflowException as error:
            if store_trouble(error):
                raise
            raise ValueError(f"MLFLOW_TRACKING_URI={without_password(uri)}: {str(error).splitlines()[0]}") from error
        moved = settle(RUNS, WAIT_S) if is_own(uri) and not archive else None
    if moved:
        print_message(moved)
    return client


def read_only_copy(place: Path, *, adapt: bool) -> str:
    """Address of a temporary copy of a read-only database, since even reading it takes locks and a journal.

    With `adapt` the copy follows its folder where that was moved. It refuses changes and is deleted at exit.
    """
    folder = Path(tempfile.mkdtemp(prefix="lab-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for part in (place, *beside(place)):
        if part.exists():
            shutil.copyfile(part, folder / part.name)
    copy = folder / place.name
    if state(copy, RUNS_KIND) != "whole":
        raise ValueError(f"{place} is half made, and its folder cannot be written; name another with LAB_RUNS")
    if adapt:
        settle(RUNS, WAIT_S, copy)

    @sqlalchemy.event.listens_for(Engine, "connect")
    def refuse_changes(connection: object, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            names = connection.execute("PRAGMA database_list").fetchall()
            if any(file and Path(file) == copy.resolve() for _, _, file in names):
                connection.execute("PRAGMA query_only = ON")

    print_message(f"{place} can only be read: nothing new is kept there")
    _COPIES.add(f"sqlite:///{copy}")
    return f"sqlite:///{copy}"


def read_only() -> bool:
    """Whether the tracking store in use is read-only."""
    return mlflow.get_tracking_uri() in _COPIES


def is_own(uri: str) -> bool:
    """Whether a tracking URI is that of the database in `RUNS`."""
    own, place = RUNS / DATABASE, Path(uri.removeprefix("sqlite:///").partition("?")[0])
    return uri.startswith("sqlite:///") and own.exists() and place.exists() and place.samefile(own)


def find_experiment(name: str) -> str | None:
    """Id of a study's experiment, None where there is none."""
    found = connect().get_experiment_by_name(name)
    return None if found is None or found.lifecycle_stage != "active" else str(found.experiment_id)


def experiments() -> list[str]:
    """Names of the studies that have an experiment."""
    return sorted(one.name for one in connect().search_experiments() if one.name != "Default")


def experiment_id(name: str) -> str:
    """Id of a study's experiment, created on first use with its artifacts under `mlruns/`."""
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
    url = os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{RUNS / 'optuna.db'}"
    check_address(url, TRIALS_KIND)
    check_server(url, TRIALS_KIND)
    ensure(url, TRIALS_KIND)
    with alone(RUNS):
        try:
            if url.startswith("sqlite"):
                return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": WAIT_S}})
            return patient_trials(url, f"the database of trials {without_password(url)}")
        except RuntimeError as error:  # tables of another version
            raise ValueError(f"OPTUNA_STORAGE={without_password(url)}: {error}") from error


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
