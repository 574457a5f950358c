"""Address updates for a local store that was moved or copied, since its database holds absolute addresses.

MLflow stores artifact locations as `file:///folder/...`. A tag of MLflow's first experiment records the names under
which the store's folder was known. Under a new name, `settle` checks whether the known names still lead here (a link, a
second mount) and rewrites, in one transaction, the addresses that begin with a name that does not. A copy thereby uses
its own files and leaves the original alone. Optuna's database holds no path.

Two machines that share a store under different names must give it one name (`LAB_RUNS`).
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

DATABASE = "mlflow.db"
KNOWN = "mlflow.store_folders"
"""Tag of experiment 0: names of the folder, as a JSON list. MLflow's pages show no tag that begins with `mlflow.`."""
KNOWN_KEYS = (KNOWN, "store_folders")
"""The tag, and its name up to 0.4.0."""
ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
    "datasets": ("dataset_source",),
}
"""Columns of MLflow's tables that hold addresses."""


def settle(folder: Path, wait_s: float, database: Path | None = None) -> str | None:
    """Make the addresses in a store's database point to its folder; returns a message where any was changed.

    `database` is that of the folder, or a copy of it. The caller holds the lock under which stores are created. Raises
    OSError where the database cannot be written.
    """
    database = database or folder / DATABASE
    try:
        with closing(sqlite3.connect(database, timeout=wait_s, isolation_level=None)) as store:
            known = remembered(store)
            if known is not None and known == {str(folder)}:
                return None
            store.execute("BEGIN IMMEDIATE")
            known = remembered(store)
            before = known or set()
            left = {name for name in before if not leads_to(name, folder)}
            count = rewrite(store, left, folder) if left else 0
            names = sorted((before - left) | {str(folder)})
            if known != set(names):
                store.execute("DELETE FROM experiment_tags WHERE experiment_id = 0 AND key IN (?, ?)", KNOWN_KEYS)
                values = (KNOWN, json.dumps(names))
                store.execute("INSERT INTO experiment_tags (experiment_id, key, value) VALUES (0, ?, ?)", values)
            store.execute("COMMIT")  # without a commit, closing rolls back
    except sqlite3.Error as error:
        raise OSError(f"{database}: cannot be adapted to the folder where it is now ({error})") from error
    if not count:
        return None
    there = [name for name in sorted(left) if Path(name, DATABASE).exists()]
    came = f"is a copy of that in {there[0]}, which stays as it is" if there else f"was in {sorted(left)[0]} before"
    return f"The store in {folder} {came}: {count} addresses in its database lead here now"


def remembered(store: sqlite3.Connection) -> set[str] | None:
    """Recorded names of the folder; None in a new store."""
    query = "SELECT value FROM experiment_tags WHERE experiment_id = 0 AND key IN (?, ?) ORDER BY key"
    found = store.execute(query, KNOWN_KEYS).fetchone()
    return None if found is None else set(json.loads(found[0]))


def leads_to(name: str, folder: Path) -> bool:
    """Whether a path leads to this folder, perhaps by a link."""
    try:
        return os.path.samefile(name, folder)
    except OSError:
        return False


def rewrite(store: sqlite3.Connection, names: Collection[str], folder: Path) -> int:
    """Rewrite every address in one of these folders to `folder`; returns the number of changes."""
    turned = {form(Path(name)): form(folder) for form in (Path.as_uri, str) for name in names}

    def moved(address: str | None) -> str | None:
        fitting = [old for old in turned if address is not None and (address == old or address.startswith(f"{old}/"))]
        if address is None or not fitting:
            return address
        old = max(fitting, key=len)  # the innermost of nested folders
        return turned[old] + address[len(old) :]

    store.create_function("moved", 1, moved, deterministic=True)
    count = 0
    for table, columns in ADDRESSES.items():
        there = {row[1] for row in store.execute(f"PRAGMA table_info({table})")}
        for column in (one for one in columns if one in there):
            done = store.execute(f"UPDATE {table} SET {column} = moved({column}) WHERE {column} IS NOT moved({column})")
            count += done.rowcount
    return count
