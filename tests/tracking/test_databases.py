"""Databases are whole or not there: killed at any statement, on a full disk, found half made, or something else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from watching import ROOT

from lab.tracking import databases
from lab.tracking.databases import RUNS_KIND, TRIALS_KIND, DatabaseKind, beside, ensure, state

KINDS = {"mlflow.db": RUNS_KIND, "optuna.db": TRIALS_KIND}
KILLED = """
import json, logging, os, shutil, signal, sys
from pathlib import Path
import mlflow, optuna
from sqlalchemy import event
from sqlalchemy.engine import Engine
from lab.tracking.databases import RUNS_KIND, TRIALS_KIND, ensure
from lab.tracking.databases import beside

logging.disable(logging.CRITICAL)
folder, name, kills, every = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
kind = {"mlflow.db": RUNS_KIND, "optuna.db": TRIALS_KIND}[name]


def counted(do):
    seen = [0]

    @event.listens_for(Engine, "before_cursor_execute")
    def count(*_):
        seen[0] += 1
        do(seen[0])


def kill(last):
    counted(lambda n: n > last and os.kill(os.getpid(), signal.SIGKILL))
    ensure(f"sqlite:///{folder / 'killed' / str(last) / name}", kind)
    os._exit(0)


for last in kills:  # a start that is killed behind a statement
    child = os.fork() or kill(last)
    os.waitpid(child, 0)


def snapshot(n):
    if n % every == 0:
        into = folder / "left" / str(n)
        into.mkdir(parents=True)
        for part in (place, *beside(place)):
            if part.exists():
                shutil.copy(part, into)


place = folder / name
counted(snapshot)  # what a kill would leave of one that is made in its place, as version 0.3.0 did
kind.make(f"sqlite:///{place}")
"""


@pytest.fixture(autouse=True)
def nobody_is_at_work(monkeypatch):
    """The half-made databases of these tests are new, and nobody goes on with them."""
    monkeypatch.setattr(databases, "QUIET_S", 0.0)


def from_copy(fresh: Path, name: str) -> DatabaseKind:
    """Making the tables takes seconds: copy them."""
    return replace(KINDS[name], make=lambda url: shutil.copy(fresh / name, url.removeprefix("sqlite:///")))


def execute(place: Path, *statements: str) -> None:
    with closing(sqlite3.connect(place)) as database, database:
        for statement in statements:
            database.execute(statement)


def digest(place: Path) -> str:
    return hashlib.sha256(place.read_bytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kills", "every"), [("mlflow.db", [1, 300], 150), ("optuna.db", [9, 30], 5)])
def test_killed_behind_any_statement(name, kills, every, tmp_path, fresh_databases, capsys):
    words = [str(tmp_path), name, json.dumps(kills), str(every)]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kind = from_copy(fresh_databases, name)
    for last in kills:
        place = tmp_path / "killed" / str(last) / name
        assert not place.exists()
        assert place.with_name(f"{name}.making").exists()
        ensure(f"sqlite:///{place}", kind)
        assert sorted(part.name for part in place.parent.iterdir()) == ["create.lock", name]
        assert state(place, kind) == "whole"
    assert capsys.readouterr().err == ""
    left = sorted((tmp_path / "left").iterdir())
    assert len(left) > 8
    for folder in left:
        place = folder / name
        was = state(place, kind)
        if was == "whole":  # all tables are there: MLflow itself goes on
            KINDS[name].make(f"sqlite:///{place}")
            continue
        ensure(f"sqlite:///{place}", kind)
        if was == "half made":  # else SQLite itself took back all of it, and an empty file was left
            (aside,) = folder.glob(f"{name}.half-made-*[0-9]")
            assert f"it is now {aside}" in capsys.readouterr().err
        assert state(place, kind) == "whole"
        assert not any(part.exists() for part in beside(place))


HOLDS = {
    "mlflow.db": "INSERT INTO experiments (experiment_id, name) VALUES (3, 'mine')",
    "optuna.db": "INSERT INTO studies VALUES (1, 'mine')",
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DELETE FROM alembic_version", "in tables of an older"),
        ("UPDATE alembic_version SET version_num = '9f9f9f'", "was made by a newer"),
    ],
)
def test_a_database_that_holds_something_is_never_touched(name, change, told, tmp_path, fresh_databases):
    place = Path(shutil.copy(fresh_databases / name, tmp_path))
    execute(place, HOLDS[name], change)
    before = digest(place)
    with pytest.raises(ValueError, match=told) as error:
        ensure(f"sqlite:///{place}", KINDS[name])
    assert f"{place} " in str(error.value)
    assert "nothing was changed" in str(error.value)
    assert digest(place) == before
    assert sorted(os.listdir(tmp_path)) == ["create.lock", name] or os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"these are my notes", "begins with b'these are my not'"),
        (b"SQLite format 3" + bytes(100), "not a database|cannot be read"),
        (None, "is a folder"),
        ("optuna.db", "is Optuna's database; MLflow needs one of its own"),
        ("CREATE TABLE recipes (title)", r"another program's database \(tables recipes\)"),
        ("CREATE TABLE alembic_version (version_num)", None),
    ],
)
def test_what_else_lies_there(content, told, tmp_path, fresh_databases):
    """Only what MLflow's own first steps leave is taken for a half-made database."""
    place = tmp_path / "mlflow.db"
    if content is None:
        place.mkdir()
    elif isinstance(content, bytes):
        place.write_bytes(content)
    elif content.endswith(".db"):
        shutil.copy(fresh_databases / content, place)
    else:
        execute(place, content)
    before = place.is_file() and digest(place)
    if told is None:
        ensure(f"sqlite:///{place}", from_copy(fresh_databases, "mlflow.db"))
        (aside,) = tmp_path.glob("mlflow.db.half-made-*")
        assert digest(aside) == before
        return
    with pytest.raises((ValueError, OSError), match=told):
        ensure(f"sqlite:///{place}", RUNS_KIND)
    assert (place.is_file() and digest(place)) == before
    assert not list(tmp_path.glob("*half-made*"))


def test_runs_database_as_that_of_trials(tmp_path, fresh_databases):
    place = Path(shutil.copy(fresh_databases / "mlflow.db", tmp_path))
    before = digest(place)
    with pytest.raises(ValueError, match=r"is MLflow.s database; Optuna needs one of its own: .* OPTUNA_STORAGE"):
        ensure(f"sqlite:///{place}", TRIALS_KIND)
    assert digest(place) == before


def test_an_empty_file_and_old_journals_beside_it(tmp_path, fresh_databases):
    """A journal of another database would be applied to the new one."""
    place = tmp_path / "runs" / "mlflow.db"
    place.parent.mkdir()
    place.touch()
    for part in beside(place):
        part.write_bytes(b"of another time")
    link = tmp_path / "mlflow.db"
    link.symlink_to("runs/mlflow.db")
    kind = from_copy(fresh_databases, "mlflow.db")
    ensure(f"sqlite:///{link}", kind)
    assert link.is_symlink()
    assert digest(place) == digest(fresh_databases / "mlflow.db")
    assert len(list(place.parent.glob("mlflow.db.half-made-*"))) >= 1
    assert state(place, kind) == "whole"
    place.unlink()
    beside(place)[0].write_bytes(b"the database was taken away, this was not")
    ensure(f"sqlite:///{link}", kind)
    assert state(place, kind) == "whole"
    assert not beside(place)[0].exists()


def test_a_full_disk_leaves_nothing_in_the_way(tmp_path):
    code = (
        "import resource, sys; from lab.tracking.databases import TRIALS_KIND, ensure\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); ensure(sys.argv[1], TRIALS_KIND)"
    )
    place = tmp_path / "optuna.db"
    done = subprocess.run([sys.executable, "-c", code, f"sqlite:///{place}"], cwd=ROOT, capture_output=True, text=True)
    assert "full" in done.stderr or "disk I/O" in done.stderr
    assert os.listdir(tmp_path) == ["create.lock"]
    ensure(f"sqlite:///{place}", TRIALS_KIND)
    assert state(place, TRIALS_KIND) == "whole"


def test_a_half_made_database_that_is_worked_on_is_waited_for(tmp_path, fresh_databases, monkeypatch, capsys):
    """Plain `mlflow ui` makes it without our lock, step by step."""
    monkeypatch.setattr(databases, "QUIET_S", 3600.0)
    place = tmp_path / "mlflow.db"
    execute(place, "CREATE TABLE experiments (experiment_id, name)")
    monkeypatch.setattr(databases.time, "sleep", lambda _: shutil.copy(fresh_databases / "mlflow.db", place))
    ensure(f"sqlite:///{place}", RUNS_KIND)
    assert "waiting for who makes it" in capsys.readouterr().err
    assert digest(place) == digest(fresh_databases / "mlflow.db")
    assert sorted(os.listdir(tmp_path)) == ["create.lock", "mlflow.db"]


def test_who_only_asks_for_a_database_does_not_hinder_its_making(tmp_path, fresh_databases):
    """SQLite makes an empty file for a question, and a watcher asks again and again."""
    place, makes = tmp_path / "mlflow.db", []

    def asked_meanwhile(url: str) -> None:
        makes.append(url)
        shutil.copy(fresh_databases / "mlflow.db", url.removeprefix("sqlite:///"))
        sqlite3.connect(place).execute("SELECT 1 FROM sqlite_master").connection.close()

    ensure(f"sqlite:///{place}", replace(RUNS_KIND, make=asked_meanwhile))
    assert len(makes) == 1
    assert digest(place) == digest(fresh_databases / "mlflow.db")
    assert sorted(os.listdir(tmp_path)) == ["create.lock", "mlflow.db"]
