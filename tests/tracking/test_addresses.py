"""Addresses of stores that cannot work are one line that says what to write; servers that restart are waited for."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from sqlalchemy.exc import OperationalError

from lab.tracking import patience, store
from lab.tracking.addresses import check_address, without_password
from lab.tracking.databases import RUNS_KIND, TRIALS_KIND
from lab.tracking.patience import announce_waiting, retried, retry_while_away

WRONG = [
    (RUNS_KIND, "./mlruns", "is a folder"),
    (RUNS_KIND, "file:///data/mlruns", "is a folder"),
    (RUNS_KIND, "/data/mlflow.db", "write sqlite:////"),
    (RUNS_KIND, "localhost:5000", r"has no scheme: write http://localhost:5000$"),
    (RUNS_KIND, "http://", "names no host"),
    (RUNS_KIND, "http://host:port", "is no address"),
    (RUNS_KIND, "http://no-such-host.invalid:5000", "there is no host 'no-such-host.invalid'"),
    (RUNS_KIND, "postgres://me@host/runs", "write postgresql"),
    (RUNS_KIND, "mssql+nodriver://me:secret@host/runs", "is no address of a database"),
    (RUNS_KIND, "sqlite://runs.db", "write sqlite:////"),
    (TRIALS_KIND, "optuna.db", "is no database"),
    (TRIALS_KIND, "http://localhost:5000", "is no database"),
    (TRIALS_KIND, "redis://localhost", "is no address of a database"),
]


@pytest.mark.parametrize(("kind", "address", "told"), WRONG)
def test_a_wrong_address_is_told(kind, address, told):
    with pytest.raises(ValueError, match=told) as error:
        check_address(address, kind)
    assert str(error.value).startswith(f"{kind.setting}=")
    assert "secret" not in str(error.value)


def test_a_driver_that_is_not_there(monkeypatch):
    def missing(cls: type) -> None:
        raise ModuleNotFoundError("No module named 'psycopg2'")

    monkeypatch.setattr("sqlalchemy.dialects.postgresql.psycopg2.PGDialect_psycopg2.import_dbapi", classmethod(missing))
    with pytest.raises(ValueError, match=r"no driver for it here; pip install 'gadfree\[postgres\]'"):
        check_address("postgresql+psycopg2://me@host/trials", TRIALS_KIND)


@pytest.mark.parametrize("address", ["sqlite:////data/x.db", "sqlite:///x.db?timeout=60", "http://127.0.0.1:5000"])
def test_a_right_address_is_taken(address):
    check_address(address, RUNS_KIND)


def test_no_password_is_shown():
    assert without_password("postgresql+psycopg://me:secret@host:1/x") == "postgresql+psycopg://me:***@host:1/x"
    assert without_password("http://host:5000") == "http://host:5000"


def away(times: int, said: str = "connection refused"):
    """A call that fails so often, as one of a database's driver, and then answers."""
    left = [times]

    def ask() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise OperationalError("SELECT", {}, sqlite3.OperationalError(said), connection_invalidated=True)
        return "answer"

    return ask


def test_a_server_that_comes_back_is_waited_for(monkeypatch, capsys):
    monkeypatch.setattr(patience.time, "sleep", lambda _: None)
    assert retry_while_away(away(3), "the database", 60) == "answer"
    assert "waiting for the database, 60 s more at most (connection refused)" in capsys.readouterr().err
    with pytest.raises(OSError, match=r"the database has not answered for 0 s \(connection refused\)"):
        retry_while_away(away(10**9), "the database", 0)


@pytest.mark.parametrize("said", ['password authentication failed for user "me"', 'database "x" does not exist'])
def test_what_waiting_cannot_change_is_told_at_once(said, capsys):
    with pytest.raises(OperationalError, match="FATAL"):
        retry_while_away(away(1, f"FATAL: {said}"), "the database", 3600)
    with pytest.raises(KeyError):  # nobody's server
        retry_while_away(lambda: {}["x"], "the database", 3600)
    assert capsys.readouterr().err == ""


def test_what_a_restart_cut_off_is_done_again(capsys):
    def stored(ask):
        def method() -> str:
            try:
                return ask()
            except OperationalError as error:
                raise StorageInternalError("during the commit") from error

        return method

    assert retried(stored(away(2)), "the database")() == "answer"
    assert capsys.readouterr().err.count("broke; trying again") == 2
    with pytest.raises(StorageInternalError):
        retried(stored(away(10**9)), "the database")()


def test_what_arrived_before_the_connection_broke_is_not_told_twice():
    calls = []

    def told() -> bool:
        calls.append(1)
        if len(calls) == 1:
            raise OperationalError("COMMIT", {}, sqlite3.OperationalError("closed"), connection_invalidated=True)
        raise UpdateFinishedTrialError("has already finished")

    assert retried(told, "the database")() is True
    with pytest.raises(UpdateFinishedTrialError):
        retried(told, "the database")()


def test_the_users_own_patience_with_a_tracking_server_stands(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    announce_waiting("the server")
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"


def test_a_server_that_is_down_is_told_while_it_is_waited_for(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    before = store.mlflow.get_tracking_uri()
    try:
        with pytest.raises(store.StoreLost, match=r"^tracking store: .*Connection refused"), store.clear_errors():
            store.connect.__wrapped__()
    finally:
        store.mlflow.set_tracking_uri(before)
    assert "waiting for the tracking server http://127.0.0.1:9" in capsys.readouterr().err


@pytest.fixture
def archive(tmp_path, fresh_databases) -> Path:
    """A store without the permission to write, of another folder, as an archive is unpacked."""
    place = Path(shutil.copy(fresh_databases / "mlflow.db", tmp_path))
    place.chmod(0o444)
    return tmp_path


def test_a_store_that_can_only_be_read_is_read(archive, monkeypatch, capsys):
    before, content = store.mlflow.get_tracking_uri(), (archive / "mlflow.db").read_bytes()
    monkeypatch.setattr(store, "RUNS", archive)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    try:
        client = store.connect.__wrapped__()
        assert store.read_only()
        assert [one.name for one in client.search_experiments()] == ["Default"]
        with pytest.raises(store.StoreLost, match="readonly database"), store.clear_errors():
            client.create_experiment("new")
    finally:
        store.mlflow.set_tracking_uri(before)
    assert not store.read_only()
    assert "can only be read" in capsys.readouterr().err
    assert os.listdir(archive) == ["mlflow.db"]
    assert (archive / "mlflow.db").read_bytes() == content


def test_a_database_of_trials_that_is_runs(tmp_path, fresh_databases, monkeypatch):
    shutil.copy(fresh_databases / "mlflow.db", tmp_path)
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(ValueError, match="is MLflow's database"):
        store.trial_storage.__wrapped__()
    names = sqlalchemy.inspect(sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'mlflow.db'}")).get_table_names()
    assert "studies" not in names
