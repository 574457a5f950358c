"""`lab.tracking.run.Run` by id: for callers that are not moved over yet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import mlflow.entities
import pandas as pd

from lab.data.cohort import Cohort
from lab.tracking.artifacts import Tag
from lab.tracking.run import TEXTS, Run
from lab.tracking.store import connect, experiment_id

__all__ = ["TEXTS"]
PARENT, NOTE = Tag.PARENT.value, Tag.NOTE.value


def find_or_create(
    experiment: str, name: str, *, identity: Mapping[str, str], parent: str | None = None, source: str | None = None
) -> str:
    """Id of `Run.open`."""
    above = Run(parent) if parent else None
    return Run.open(experiment, name, identity=identity, parent=above, source=source).id


def children(experiment: str, parent: str) -> list[mlflow.entities.Run]:
    """All trials of a parent run."""
    return list(connect().search_runs([experiment_id(experiment)], f"tags.`{PARENT}` = '{parent}'", max_results=5000))


def log_settings(run_id: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
    """As `Run.describe`."""
    Run(run_id).describe(params, tags)


def log_cohort(run_id: str, cohort: Cohort, phantom: bool) -> None:
    """As `Run.log_cohort`."""
    Run(run_id).log_cohort(cohort)


def log_metrics(run_id: str, figures: Mapping[str, float], step: int = 0) -> None:
    """As `Run.log_metrics`."""
    Run(run_id).log_metrics(figures, step)


def logged_steps(run_id: str, metric: str) -> set[int]:
    """As `Run.logged_steps`."""
    return Run(run_id).logged_steps(metric)


def log_table(run_id: str, table: pd.DataFrame, name: str) -> None:
    """As `Run.log_table`."""
    Run(run_id).log_table(table, name)


def log_text(run_id: str, text: str, name: str) -> None:
    """As `Run.log_text`."""
    Run(run_id).log_text(text, name)


def log_file(run_id: str, name: str, write: Callable[[Path], Any]) -> None:
    """As `Run.log_file`."""
    Run(run_id).log_file(name, write)


def read_bytes(run_id: str, name: str) -> bytes:
    """As `Run.read_bytes`."""
    return Run(run_id).read_bytes(name)


def read_text(run_id: str, name: str) -> str:
    """As `Run.read_text`."""
    return Run(run_id).read_text(name)


def read_table(run_id: str, name: str) -> pd.DataFrame:
    """As `Run.read_table`."""
    return Run(run_id).read_table(name)


def files(run_id: str, folder: str | None = None) -> list[str]:
    """As `Run.files`."""
    return Run(run_id).files(folder)


def has_file(run_id: str, name: str) -> bool:
    """As `Run.has_file`."""
    return Run(run_id).has_file(name)


def history(run_id: str, names: Iterable[str]) -> pd.DataFrame:
    """As `Run.history`."""
    return Run(run_id).history(names)


def end(run_id: str, status: str, *, state: str, **tags: str) -> None:
    """As `Run.end`."""
    Run(run_id).end(state, **tags)


def ending(parent: str) -> contextlib.AbstractContextManager[None]:
    """As `Run.ending`."""
    return Run(parent).ending()
