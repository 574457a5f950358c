"""A local store that was moved or copied: its database holds absolute addresses, which must follow it.

MLflow writes where artifacts are as `file:///folder/...`. The store remembers, as a tag of MLflow's own first
experiment, by which names its folder was known. Found under another one, it is asked whether the known ones still lead
here (a link, a second mount); addresses that begin with one that does not are rewritten, in one transaction. A copy
thereby uses its own files and never those of the original, which is not touched. Optuna's database holds no path.

A store that two machines see under different names at the same time must be given one name (`LAB_RUNS`) by both.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

DATABASE = "mlflow.db"
KNOWN = "store_folders"
"""Tag of experiment 0: names of the folder, as a JSON list."""
ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
    "datasets": ("dataset_source",),
}
"""Columns of MLflow's tables that hold addresses."""


def settle(folder: Path, wait_s: float, database: Path | None = None) -> str | None:
    """Make the addresses in a store's database those of its folder; one line for the user where any was changed.

    `database` is that of the folder, or a copy of it. To be called under the lock with which stores are created.
    Raises OSError where the database cannot be written.
    """
    database = database or folder / DATABASE
    try:
        with closing(sqlite3.connect(database, timeout=wait_s, isolation_level=None)) as store:
            known = remembered(store)
            if known is not None and known == {str(folder)}:
                return None
            store.execute("BEGIN IMMEDIATE")
            known = remembered(store)
            before = named_by_experiments(store, folder) if known is None else known
            left = {name for name in before if not leads_to(name, folder)}
            count = rewrite(store, left, folder) if left else 0
            names = sorted((before - left) | {str(folder)})
            if known != set(names):
                store.execute("DELETE FROM experiment_tags WHERE experiment_id = 0 AND key = ?", (KNOWN,))
                values = (KNOWN, json.dumps(names))
                store.execute("INSERT INTO experiment_tags (experiment_id, key, value) VALUES (0, ?, ?)", values)
            store.execute("COMMIT")  # without which closing takes everything back
    except sqlite3.Error as error:
        raise OSError(f"{database}: cannot be adapted to the folder where it is now ({error})") from error
    if not count:
        return None
    there = [name for name in sorted(left) if Path(name, DATABASE).exists()]
    came = f"is a copy of that in {there[0]}, which stays as it is" if there else f"was in {sorted(left)[0]} before"
    return f"The store in {folder} {came}: {count} addresses in its database lead here now"


def remembered(store: sqlite3.Connection) -> set[str] | None:
    """Names by which the folder is known; None in a store that was made before they were kept."""
    query = "SELECT value FROM experiment_tags WHERE experiment_id = 0 AND key = ?"
    found = store.execute(query, (KNOWN,)).fetchone()
    return None if found is None else set(json.loads(found[0]))


def named_by_experiments(store: sqlite3.Connection, folder: Path) -> set[str]:
    """The folder that all experiments with files here name as theirs, in a store that remembers none."""
    parents = set()
    for name, location in store.execute("SELECT name, artifact_location FROM experiments"):
        ending = "/" + quote(name)
        if location and location.startswith("file://") and location.endswith(ending) and (folder / name).is_dir():
            parents.add(location.removesuffix(ending))
    if len(parents) != 1:
        return set()
    from mlflow.utils.file_utils import local_file_uri_to_path

    return {local_file_uri_to_path(parents.pop())}


def leads_to(name: str, folder: Path) -> bool:
    """Whether a path is this very folder, perhaps by a link."""
    try:
        return os.path.samefile(name, folder)
    except OSError:
        return False


def rewrite(store: sqlite3.Connection, names: Collection[str], folder: Path) -> int:
    """Turn every address in one of these folders into one in `folder`; returns how many were changed."""
    turned = {form(Path(name)): form(folder) for form in (Path.as_uri, str) for name in names}

    def moved(address: str | None) -> str | None:
        fitting = [old for old in turned if address is not None and (address == old or address.startswith(f"{old}/"))]
        if address is None or not fitting:
            return address
        old = max(fitting, key=len)  # of folders in one another the inner
        return turned[old] + address[len(old) :]

    store.create_function("moved", 1, moved, deterministic=True)
    count = 0
    for table, columns in ADDRESSES.items():
        there = {row[1] for row in store.execute(f"PRAGMA table_info({table})")}
        for column in (one for one in columns if one in there):
            done = store.execute(f"UPDATE {table} SET {column} = moved({column}) WHERE {column} IS NOT moved({column})")
            count += done.rowcount
    return count
