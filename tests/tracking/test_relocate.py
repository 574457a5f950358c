"""Addresses in a local store's database follow the folder that they lie in, and nothing else changes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock
from watching import ROOT

from lab.tracking.relocate import KNOWN, settle

ELSEWHERE = "file:///somewhere/else/study/r2/artifacts"


@pytest.fixture
def store(fresh_databases, tmp_path) -> Path:
    """A store as it is made: one study, one run and one logged model with a version, one run with files elsewhere."""
    folder = tmp_path / "a folder"
    shutil.copytree(fresh_databases, folder)
    (folder / "study").mkdir()
    uri = (folder / "study").as_uri()
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("DELETE FROM experiment_tags")
        names = "experiment_id, name, artifact_location, lifecycle_stage"
        database.execute(f"INSERT INTO experiments ({names}) VALUES (7, 'study', ?, 'active')", (uri,))
        for run, place in (("r1", f"{uri}/r1/artifacts"), ("r2", ELSEWHERE), ("r3", f"{uri}2/r3/artifacts")):
            row = (run, run, "FINISHED", "active", place, 7)
            names = "run_uuid, name, status, lifecycle_stage, artifact_uri, experiment_id"
            database.execute(f"INSERT INTO runs ({names}) VALUES (?, ?, ?, ?, ?, ?)", row)
        row = ("d", 7, "cohort", "x", "local", f"{folder}/cohorts/one")
        names = "dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source"
        database.execute(f"INSERT INTO datasets ({names}) VALUES (?, ?, ?, ?, ?, ?)", row)
        database.execute("INSERT INTO params (key, value, run_uuid) VALUES ('data.path', ?, 'r1')", (f"{folder}/x",))
    assert settle(folder, 5) is None
    return folder


def addresses(folder: Path) -> dict[str, str]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        found = dict(database.execute("SELECT run_uuid, artifact_uri FROM runs"))
        found |= dict(database.execute("SELECT name, artifact_location FROM experiments WHERE experiment_id = 7"))
        found |= dict(database.execute("SELECT name, dataset_source FROM datasets"))
        found |= dict(database.execute("SELECT key, value FROM params"))
        names = database.execute("SELECT value FROM experiment_tags WHERE key = ?", (KNOWN,)).fetchone()
    return found | {"names": names[0]}


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lies_in(found: dict[str, str], folder: Path, first: Path) -> None:
    uri = (folder / "study").as_uri()
    assert found == {
        "r1": f"{uri}/r1/artifacts",
        "r2": ELSEWHERE,
        "r3": f"{uri}2/r3/artifacts",
        "study": uri,
        "cohort": f"{folder}/cohorts/one",
        "data.path": f"{first}/x",  # what was asked for stays on record
        "names": json.dumps([str(folder)]),
    }


def test_a_store_where_it_was_made_is_left_alone(store):
    before = content(store)
    assert settle(store, 5) is None
    assert content(store) == before
    lies_in(addresses(store), store, store)


def test_a_moved_store_follows_once(store, tmp_path):
    new = tmp_path / "deeper" / "b%20ü"
    new.parent.mkdir()
    store.rename(new)
    said = settle(new, 5)
    assert said == f"The store in {new} was in {store} before: 4 addresses in its database lead here now"
    lies_in(addresses(new), new, store)
    before = content(new)
    assert settle(new, 5) is None
    assert content(new) == before
    new.rename(store)
    assert "was in" in settle(store, 5)
    lies_in(addresses(store), store, store)


def test_a_copy_uses_its_own_files_and_the_original_is_not_touched(store, tmp_path):
    before = content(store)
    copy = Path(shutil.copytree(store, tmp_path / "copy"))
    assert f"is a copy of that in {store}, which stays as it is" in settle(copy, 5)
    lies_in(addresses(copy), copy, store)
    assert settle(store, 5) is None
    assert content(store) == before


def test_a_copy_within_the_original_and_one_round_it(store, tmp_path):
    """The new name begins with the old one: no address is turned twice."""
    inner = Path(shutil.copytree(store, tmp_path / "inner")).rename(store / "study2")
    assert "4 addresses" in settle(inner, 5)
    lies_in(addresses(inner), inner, store)
    assert settle(inner, 5) is None
    outer = inner.rename(tmp_path / "outer")
    settle(outer, 5)
    lies_in(addresses(outer), outer, store)


def test_another_name_of_the_same_folder_changes_no_address(store, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(store)
    assert settle(link, 5) is None
    found = addresses(store)
    assert found["r1"].startswith(store.as_uri() + "/")
    assert set(json.loads(found["names"])) == {str(store), str(link)}
    new = store.rename(tmp_path / "new")
    link.unlink()
    link.symlink_to(new)
    assert "lead here now" in settle(link, 5)  # the old name leads nowhere, that of the link still does
    assert addresses(new)["r1"].startswith(link.as_uri() + "/")


def test_a_store_of_0_4_0_follows_its_record_by_the_old_name(store, tmp_path):
    with closing(sqlite3.connect(store / "mlflow.db")) as database, database:
        database.execute("UPDATE experiment_tags SET key = 'store_folders' WHERE key = ?", (KNOWN,))
    new = store.rename(tmp_path / "new")
    assert "4 addresses" in settle(new, 5)
    lies_in(addresses(new), new, store)


def test_a_kill_in_between_leaves_all_or_nothing(store, tmp_path, monkeypatch):
    new = store.rename(tmp_path / "new")
    before = addresses(new)
    monkeypatch.setattr("lab.tracking.relocate.json.dumps", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        settle(new, 5)
    monkeypatch.undo()
    assert addresses(new) == before
    assert "4 addresses" in settle(new, 5)


def test_several_at_once_turn_it_once(store, tmp_path):
    new = store.rename(tmp_path / "new")

    def one(_: int) -> str | None:
        with FileLock(new / "create.lock"):
            return settle(new, 30)

    with ThreadPoolExecutor(4) as pool:
        said = [line for line in pool.map(one, range(4)) if line]
    assert len(said) == 1
    lies_in(addresses(new), new, store)


def test_a_database_that_cannot_be_written_is_told(store, tmp_path):
    new = store.rename(tmp_path / "new")
    with closing(sqlite3.connect(new / "mlflow.db", isolation_level=None)) as busy:
        busy.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OSError, match=r"mlflow\.db: cannot be adapted to the folder where it is now .*locked"):
            settle(new, 0.1)


@pytest.mark.slow
def test_only_the_local_database_is_adapted(store, tmp_path):
    """A user's own tracking URI is left alone, unless it leads to that database."""
    new = store.rename(tmp_path / "new")
    other = tmp_path / "other.db"
    shutil.copy(new / "mlflow.db", other)
    code = """
import os, sys
from lab.tracking.store import connect
for uri in sys.argv[1:]:
    os.environ["MLFLOW_TRACKING_URI"] = uri
    connect.__wrapped__()
    print("--", file=sys.stderr)
"""
    uris = [f"sqlite:///{other}", f"sqlite:///{new / 'mlflow.db'}", ""]
    environment = os.environ | {"LAB_RUNS": str(new)}
    words = [sys.executable, "-c", code, *uris]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = ["4 addresses in its database lead here now" in part for part in done.stderr.split("--\n")]
    assert told == [False, True, False, False]
    lies_in(addresses(new), new, store)
