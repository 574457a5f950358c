"""Configurations of a study: trained networks that differ in more than seed and fold, with their runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lab.evaluation.place.voxel_counts import COUNTS, join_counts
from lab.experiments.plan import Plan
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run

KEYS = ("trial", "label", "model", "loss", "seed", "fold")
ABOUT = ("grade", "age", "sex", "idh", "codeletion", "vendor", "field_strength_t")
"""Columns of a cohort's index that define groups of patients, where present."""
KNOWN = (*KEYS, "case_id", "patient_id", "enhancing", *ABOUT)
"""Columns of a table of patients that are not figures."""


@dataclass(frozen=True)
class Configuration:
    """A network of the report and its runs, one for each seed and fold."""

    trial: int
    label: str
    model: str
    """Name that distinguishes networks of one loss in figures."""
    loss: str
    phase: str
    runs: tuple[Run, ...]

    def mean(self, metric: str) -> float:
        """Mean of a metric over the runs that have it."""
        values = [run.metrics[metric] for run in self.runs if metric in run.metrics]
        return statistics.fmean(values) if values else float("nan")


def finished_configurations(plan: Plan) -> list[Configuration]:
    """The finished networks of the grid, in its order, and the winner of the guided search."""
    finished = [run for run in plan.parent.children() if run.tags.get(Tag.STATE) == "finished"]
    by_label: dict[str, list[Run]] = {}
    for run in sorted(finished, key=lambda run: (int(run.params["train.seed"]), fold_of(run))):
        by_label.setdefault(run.tags[Tag.LABEL], []).append(run)
    found: list[Configuration] = []
    for label in [*plan.study.grid, *plan.winner]:
        if label in by_label:
            params = by_label[label][0].params
            phase, series = "search" if label in plan.winner else "grid", plan.study.series
            name = label if phase == "search" or series == "label" else series_name(series, params)
            found.append(Configuration(len(found), label, name, loss_name(params), phase, tuple(by_label[label])))
    return found


def fold_of(run: Run) -> int:
    """Test fold of a run, counted from 0."""
    return int(run.tags.get(Tag.FOLD, 1)) - 1


def loss_name(params: dict[str, str]) -> str:
    """A loss as the paper writes it, "L1_brain" or "mix(1,1,1)"."""
    if params["loss.name"] != "mix":
        return params["loss.name"]
    weights = (float(weight) for weight in params["loss.mix_weights"].strip("()[]").split(","))
    return f"mix({','.join(f'{weight:.2g}' for weight in weights)})"


def series_name(series: str, params: dict[str, str]) -> str:
    """Value of the setting `series` for figures: "0" for a model, "128 mm" or "full" for patches."""
    if series == "train.patch_mm":
        return "full" if params[series] == "None" else f"{float(params[series]):g} mm"
    if series == "clinical.use":
        return params[series].strip("(),").replace("'", "") or "images alone"
    return network_number(params[series]) if series == "model.id" else params[series]


def network_number(name: str) -> str:
    """A network's number in tables: "3" for model-3, the name in the paper and in versions up to 0.4.0."""
    return name.removeprefix("model-")


def all_rows(configurations: Iterable[Configuration], read: Callable[[Run], pd.DataFrame | None]) -> pd.DataFrame:
    """Per-patient tables of all runs in one, with the columns `KEYS`; runs without a table are left out."""
    tables = []
    for one in configurations:
        for run in one.runs:
            table = read(run)
            if table is not None:
                known = {"trial": one.trial, "label": one.label, "model": one.model, "loss": one.loss}
                tables.append(table.assign(**known, seed=int(run.params["train.seed"]), fold=fold_of(run) + 1))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*KNOWN])


def averaged(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per network and case: the mean over seeds, without the seeds that lack a figure; counts are summed."""
    keys = ["trial", "case_id"]
    how: dict[str, Any] = {name: "first" if name in KNOWN else "mean" for name in rows.columns}
    how |= {name: join_counts for name in COUNTS if name in rows}
    how = {name: way for name, way in how.items() if name not in (*keys, "seed", "fold")}
    table = rows.groupby(keys, sort=False, as_index=False).agg(how)
    return table[[name for name in rows.columns if name in table]]


def spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over the test patients of every run: columns trial, label, seed, fold, n and the figures."""
    figures = [name for name in rows.columns if name not in (*KNOWN, *COUNTS)]
    by = rows.groupby(["trial", "label", "seed", "fold"], sort=False)
    return by[figures].mean().join(by.size().rename("n")).reset_index()


def best_configuration(configurations: Iterable[Configuration], objective: str, *, lower: bool) -> Configuration:
    """Network with the best mean objective on validation patients; ties go to the lower brain MAE."""
    sign = 1 if lower else -1
    return min(configurations, key=lambda one: (sign * one.mean(objective), one.mean("val/mae_brain")))
