"""The SQLite databases of runs (MLflow) and of trials (Optuna): creation, repair, and checks of their contents.

MLflow creates its tables in some fifty steps. A start that is killed in between leaves a database that MLflow can
neither use nor repair, so a new database is created under another name and renamed when it is complete. A half-made
database without runs or trials is set aside, never deleted. One that holds some is left alone, and the error says what
to do.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from filelock import FileLock, Timeout

WAIT_S = 60  # to wait for another process's write to SQLite
QUIET_S = 10.0
"""Seconds without a write after which a half-made database counts as abandoned."""
BESIDE = ("-journal", "-wal", "-shm")
"""Suffixes of the files that SQLite keeps beside a database; a leftover one would be applied to the next database."""


@dataclass(frozen=True, kw_only=True)
class DatabaseKind:
    """Purpose of a database."""

    program: str
    holds: str
    """Contents that a user would lose with it."""
    setting: str
    """Environment variable that names another database."""
    first_tables: frozenset[str]
    """Tables of which at least one exists in a database of this kind."""
    rows_of_a_new_one: Mapping[str, str]
    """Table -> SQL condition for the rows that every new database has."""
    make: Callable[[str], None]
    """Creates all tables in the database of a URL, and closes it."""
    revisions: Callable[[], tuple[str, set[str]]]
    """Table version that the installed program uses, and all versions that it knows."""
    upgrade: str
    """Command that upgrades older tables; `{url}` stands for the database."""


def make_runs(url: str) -> None:
    """Create MLflow's tables and its experiment `Default`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(url, "./mlruns").engine.dispose()


def make_trials(url: str) -> None:
    """Create Optuna's tables."""
    import optuna

    optuna.storages.RDBStorage(url).engine.dispose()


@functools.cache
def runs_revisions() -> tuple[str, set[str]]:
    """MLflow: table version of the installed program, and all versions that it knows."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config, _get_latest_schema_revision

    known = ScriptDirectory.from_config(_get_alembic_config("")).walk_revisions()
    return str(_get_latest_schema_revision()), {script.revision for script in known}


@functools.cache
def trials_revisions() -> tuple[str, set[str]]:
    """Optuna: table version of the installed program, and all versions that it knows."""
    import optuna

    storage = optuna.storages.RDBStorage("sqlite://")
    return storage.get_head_version(), set(storage.get_all_versions())


RUNS_KIND = DatabaseKind(
    program="MLflow",
    holds="runs",
    setting="MLFLOW_TRACKING_URI",
    first_tables=frozenset({"experiments"}),
    rows_of_a_new_one={
        "alembic_version": "1",
        "workspaces": "name = 'default'",
        "experiments": "experiment_id = 0",
        "experiment_tags": "experiment_id = 0",
    },
    make=make_runs,
    revisions=runs_revisions,
    upgrade="mlflow db upgrade {url}",
)
TRIALS_KIND = DatabaseKind(
    program="Optuna",
    holds="trials",
    setting="OPTUNA_STORAGE",
    first_tables=frozenset({"studies", "version_info"}),
    rows_of_a_new_one={"alembic_version": "1", "version_info": "1"},
    make=make_trials,
    revisions=trials_revisions,
    upgrade="optuna storage upgrade --storage {url}",
)
KINDS = (RUNS_KIND, TRIALS_KIND)


def file_of(url: str) -> Path | None:
    """File of an SQLite URL, links followed; None for a server or a database in memory."""
    scheme, _, rest = url.partition(":///")
    path = rest.partition("?")[0]
    if scheme.partition("+")[0] != "sqlite" or not path or path == ":memory:" or path.startswith("file:"):
        return None
    return Path(path).resolve()


def ensure(url: str, kind: DatabaseKind) -> None:
    """Create the SQLite database of a URL where it is missing; repair a half-made one.

    Raises ValueError for a file of another kind or version, OSError where it cannot be read or created.
    """
    place = file_of(url)
    if place is None or state(place, kind) == "whole":
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with alone(place.parent):
        announced = False
        while (found := state(place, kind)) != "whole":
            if found == "half made" and written_just_now(place):
                if not announced:
                    print_message(f"{place} is half made and was written to just now; waiting for who makes it")
                announced = True
                time.sleep(0.5)
                continue
            if found == "half made":
                aside = set_aside(place)
                what = f"{place} was left half made by a start that was killed; no {kind.holds} in it"
                print_message(f"{what}; it is now {aside}")
            make(place, kind)


def state(place: Path, kind: DatabaseKind) -> Literal["absent", "half made", "whole"]:
    """State of a database file. Raises ValueError and OSError as `ensure`."""
    if not place.exists() or (place.is_file() and place.stat().st_size == 0):
        return "absent"  # SQLite creates an empty file on a mere query
    if place.is_dir():
        raise ValueError(f"{place} is a folder; {kind.program}'s database was expected there: move it away")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(place))}?mode=rw", uri=True, timeout=WAIT_S)) as database:
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            query = "SELECT version_num FROM alembic_version"
            row = database.execute(query).fetchone() if "alembic_version" in names else None
            revision = row[0] if row else None
            if revision == kind.revisions()[0]:
                return "whole"
            refuse_another(names, revision, kind, str(place))
            holds = any(has_rows(database, name, kind) for name in names)
    except sqlite3.Error as error:
        if "not a database" in str(error):
            with place.open("rb") as file:
                start = file.read(16)
            found = f"{place} is not a database: it begins with {start!r}"
            raise ValueError(f"{found}; {kind.program}'s was expected there: move it away") from None
        raise OSError(f"{place}: {kind.program}'s database cannot be read ({error})") from error
    if revision is not None and revision not in kind.revisions()[1]:
        found, advice = f"was made by a newer {kind.program}", f"use that {kind.program}"
    elif holds:
        found = f"holds {kind.holds} in tables of an older {kind.program}, or its upgrade was cut off"
        advice = f"copy it, then run `{kind.upgrade.format(url=f'sqlite:///{place}')}`"
    else:
        return "half made"
    raise ValueError(
        f"{place} {found} (its tables are of version {revision}, this {kind.program} uses {kind.revisions()[0]}); "
        f"nothing was changed: {advice}, or name another folder with LAB_RUNS"
    )


def refuse_another(tables: set[str], revision: str | None, kind: DatabaseKind, name: str) -> None:
    """Raises ValueError where these tables or this version belong to another program."""
    own = sorted(tables - {"alembic_version"})
    by_revision = (one for one in KINDS if revision in one.revisions()[1])
    by_tables = (one for one in KINDS if not one.first_tables.isdisjoint(own))
    owner = next(by_revision, None) or next(by_tables, None)
    if own and (owner is None or owner.program != kind.program):
        whose = f"{owner.program}'s database" if owner else f"another program's database (tables {', '.join(own[:3])})"
        raise ValueError(f"{name} is {whose}; {kind.program} needs one of its own: name another with {kind.setting}")


def has_rows(database: sqlite3.Connection, table: str, kind: DatabaseKind) -> bool:
    """Whether a table holds more rows than in a new database."""
    nobodys = kind.rows_of_a_new_one.get(table, "0")
    return database.execute(f'SELECT 1 FROM "{table}" WHERE NOT ({nobodys}) LIMIT 1').fetchone() is not None


def make(place: Path, kind: DatabaseKind) -> None:
    """Create a complete database under a draft name, then rename it. The caller holds `alone`."""
    draft = place.with_name(f"{place.name}.making")
    parts = [draft, *beside(draft)]
    try:
        for part in parts:
            part.unlink(missing_ok=True)  # left by a start that was killed
        kind.make(f"sqlite:///{draft}")
        with closing(sqlite3.connect(draft)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        if any(part.exists() for part in beside(place)):
            set_aside(place)
        try:
            os.link(draft, place)  # unlike a rename, never replaces a file that appeared meanwhile
        except FileExistsError:
            if place.stat().st_size == 0:
                draft.rename(place)
        except OSError:  # file system without links
            draft.rename(place)
    finally:
        for part in parts:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def set_aside(place: Path) -> Path:
    """Rename a database and its side files so that nothing finds them; returns the database's new path."""
    stamp, number = datetime.now().strftime("%Y%m%d-%H%M%S"), 0
    aside = place.with_name(f"{place.name}.half-made-{stamp}")
    while any(part.exists() for part in (aside, *beside(aside))):
        number += 1
        aside = place.with_name(f"{place.name}.half-made-{stamp}-{number}")
    for part, new in zip((*beside(place), place), (*beside(aside), aside)):  # last: it must not lose its files
        if part.exists():
            part.rename(new)
    return aside


def beside(place: Path) -> list[Path]:
    """Files in which SQLite keeps changes not yet written into a database."""
    return [place.with_name(place.name + ending) for ending in BESIDE]


def is_archive(place: Path) -> bool:
    """Whether a database is read-only: a read-only mount, or files without write permission.

    The mode is checked as well, since root passes every access check.
    """
    if not place.is_file():
        return False
    writable = os.access(place, os.W_OK) and os.access(place.parent, os.W_OK)
    return not (writable and place.stat().st_mode & 0o222)


def written_just_now(place: Path) -> bool:
    """Whether a process may still be writing a database."""
    times = [part.stat().st_mtime for part in (place, *beside(place)) if part.exists()]
    return 0 <= time.time() - max(times, default=0.0) < QUIET_S


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock under which a store is created or changed; prints a line while waiting for another process."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "create.lock")
    try:
        lock.acquire(timeout=5)
    except Timeout:
        print_message(f"waiting for another process that holds {lock.lock_file}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def print_message(line: str) -> None:
    """Print a message for the user to stderr."""
    print(line, file=sys.stderr, flush=True)
