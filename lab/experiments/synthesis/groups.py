"""The trained networks of a study, put together: which runs are the same network with other seeds and folds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd
from mlflow.entities import Run

from lab.experiments.plan import Plan
from lab.tracking import runs

KEYS = ("trial", "label", "model", "loss", "seed", "fold")
ABOUT = ("grade", "age", "sex", "idh", "codeletion", "vendor", "field_strength_t")
"""Columns of a cohort's index that make groups of patients, where they are known."""
KNOWN = (*KEYS, "case_id", "patient_id", "enhancing", *ABOUT)
"""Columns of a table of patients that are not figures."""


@dataclass(frozen=True)
class Group:
    """A network of the report and the runs that trained it, one for each seed and fold."""

    trial: int
    label: str
    model: str
    """What tells networks of one loss apart in figures."""
    loss: str
    phase: str
    runs: tuple[Run, ...]

    def mean(self, metric: str) -> float:
        """Mean of a metric over the runs that have it."""
        values = [run.data.metrics[metric] for run in self.runs if metric in run.data.metrics]
        return statistics.fmean(values) if values else float("nan")


def groups(plan: Plan) -> list[Group]:
    """The finished networks of the grid, in its order, and the winner of the guided search."""
    finished = [run for run in runs.children(plan.study.name, plan.parent) if run.data.tags.get("state") == "finished"]
    found: dict[str, list[Run]] = {}
    for run in sorted(finished, key=lambda run: (int(run.data.params["train.seed"]), fold_of(run))):
        found.setdefault(run.data.tags["label"], []).append(run)
    made: list[Group] = []
    for label in [*plan.study.grid, *plan.winner]:
        if label in found:
            first = found[label][0]
            phase = "search" if label in plan.winner else "grid"
            name = label if phase == "search" else series_name(plan.study.series, first.data.params)
            made.append(Group(len(made), label, name, loss_name(first.data.params), phase, tuple(found[label])))
    return made


def fold_of(run: Run) -> int:
    """The fold that a run tests on, counted from 0."""
    return int(run.data.tags.get("fold", 1)) - 1


def loss_name(params: dict[str, str]) -> str:
    """A loss as the paper writes it, "L1_brain" or "mix(1,1,1)"."""
    if params["loss.name"] != "mix":
        return params["loss.name"]
    weights = (float(weight) for weight in params["loss.mix_weights"].strip("()[]").split(","))
    return f"mix({','.join(f'{weight:.2g}' for weight in weights)})"


def series_name(series: str, params: dict[str, str]) -> str:
    """The setting that tells a study's networks apart, in figures: "0" for a model, "128 mm" or "full" for patches."""
    if series == "train.patch_mm":
        return "full" if params[series] == "None" else f"{float(params[series]):g} mm"
    return params[series]


def all_rows(made: Iterable[Group], read: Callable[[Run], pd.DataFrame | None]) -> pd.DataFrame:
    """The per-patient tables of all runs in one, with the columns `KEYS`; runs that `read` has nothing of are left."""
    tables = []
    for group in made:
        for run in group.runs:
            table = read(run)
            if table is None:
                continue
            known = {"trial": group.trial, "label": group.label, "model": group.model, "loss": group.loss}
            known |= {"seed": int(run.data.params["train.seed"]), "fold": fold_of(run) + 1}
            tables.append(table.assign(**known))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*KNOWN])


def averaged(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each network and case: the mean over seeds. A figure that one seed lacks is that of the others."""
    keys = ["trial", "case_id"]
    how = {name: "first" if name in KNOWN else "mean" for name in rows.columns if name not in (*keys, "seed", "fold")}
    table = rows.groupby(keys, sort=False, as_index=False).agg(how)
    return table[[name for name in rows.columns if name in table]]


def spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over the test patients of every run: columns trial, label, seed, fold, n and the figures."""
    figures = [name for name in rows.columns if name not in KNOWN]
    by = rows.groupby(["trial", "label", "seed", "fold"], sort=False)
    return by[figures].mean().join(by.size().rename("n")).reset_index()


def objective_of(made: Iterable[Group], objective: str, *, lower: bool) -> Group:
    """The network with the best mean objective on validation patients; of equals that with the lower brain MAE."""
    sign = 1 if lower else -1
    return min(made, key=lambda group: (sign * group.mean(objective), group.mean("val/mae_brain")))
