"""The record of a finished study, read from its parent run in the tracking store alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lab.report.figures.noise_floor import floor_of
from lab.report.tables.patient_table import TRIVIAL, lower_is_better
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run
from lab.tracking.store import experiments, find_experiment

TABLES = ("search", "importances", "spread", "own_patch", "same_voxels", "true_scans", "coverage")
CURVES = ("train/loss", "val/loss", "val/mae_brain")
SLICES = {
    "place_best": "Test patient in whom the stated probability finds the enhancement best (Dice at its threshold)",
    "place_median": "Test patient with the median Dice of the stated probability",
    "place_worst": "Test patient in whom the stated probability finds the enhancement worst",
    "enhancing": "Test patient whose tumour enhances, of the median error among these",
    "not_enhancing": "Test patient whose tumour does not enhance, of the median error among these",
    "best": "Test patient with the lowest error",
    "median": "Test patient with the median error",
    "worst": "Test patient with the highest error",
}


@dataclass(frozen=True, kw_only=True)
class Record:
    """The record of a finished study."""

    parent: Run
    facts: dict[str, Any]
    patients: pd.DataFrame
    trials: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    """The tables of `TABLES`; empty where missing."""
    slices: dict[str, bytes]
    histories: dict[Hashable, pd.DataFrame]

    @property
    def phantom(self) -> bool:
        """Whether the patients are phantoms."""
        return bool(self.facts["phantom"])

    @property
    def names(self) -> dict[str, str]:
        """Value of the column `trial`, as text -> its label."""
        return {str(key): str(label) for key, label in zip(self.patients["trial"], self.patients["label"])}

    @property
    def lower(self) -> bool:
        """Whether lower values of the objective are better."""
        return lower_is_better(self.facts["objective"].rpartition("/")[2])

    @property
    def strongest(self) -> dict[str, Any] | None:
        """The strongest baseline on validation patients; None in studies that ended before it was noted."""
        return self.facts.get("strongest")

    @property
    def references(self) -> list[Any]:
        """References of the tests: the network chosen on validation patients, trivial baselines, the strongest one."""
        there = set(self.patients["trial"])
        strongest = [] if self.strongest is None else [self.strongest["baseline"]]
        return [self.facts["best"], *(name for name in dict.fromkeys([*TRIVIAL, *strongest]) if name in there)]

    @property
    def floor(self) -> float | None:
        """Noise floor: the mean over patients of the error from noise alone."""
        return floor_of(self.patients)


def find_study(name: str) -> Run:
    """The newest finished parent run of a study; a run id selects that run.

    Prints which run was taken where there are several. Raises ValueError where there is none.
    """
    found = finished_runs(name)
    if len(found) > 1:
        print(f"Using {describe_run(found[0])}; the newest of {len(found)} finished runs of study {name!r}", flush=True)
    return found[0]


def chosen_study(name: str, *, newest: bool) -> Run:
    """As `find_study`, but takes the newest of several finished runs only with `newest`.

    Otherwise raises ValueError with a list of the runs. Controls with shuffled labels do not count, unless by their id.
    """
    everything = finished_runs(name)
    found = [run for run in everything if run.id == name or not study_facts(run).get("shuffled")]
    if not found:
        raise ValueError(f"study {name!r} has only controls with shuffled labels: they leave no model")
    if len(found) > 1 and not newest:
        lines = "; ".join(describe_run(run) for run in found)
        raise ValueError(
            f"study {name!r} has {len(found)} finished runs: {lines}. Name one with --run ID, or take the newest with "
            "--newest"
        )
    return found[0]


def study_facts(run: Run) -> dict[str, Any]:
    """Facts of a study's or a classifier experiment's run; empty for another run, and for a deleted one."""
    file = next((file for file in (artifacts.STUDY, artifacts.CLASSIFIER) if run.has_file(file)), None)
    return {} if file is None else dict(run.read_json(file))


def describe_run(run: Run) -> str:
    """A study's run in a line: id, start, data, main figure."""
    facts = study_facts(run)
    cohort = facts.get("cohort") or {"data": facts.get("dataset"), "patients": facts.get("patients")}
    words = f"{run.id} of {run.started:%Y-%m-%d %H:%M}, {cohort['data'] or 'unknown data'}"
    return f"{words}, n = {cohort['patients'] or 'unknown'}, {describe_figure(facts)}"


def describe_figure(facts: Mapping[str, Any]) -> str:
    """The main figure of a study, by which its runs are distinguished."""
    if "auc" in facts:
        return f"AUC {facts['auc']}"
    best = Run.find(facts["runs"][str(facts["best"])][0]) if "runs" in facts else None
    figure = None if best is None else best.metrics.get(facts["objective"])
    return "figure unknown" if figure is None else f"best {facts['objective']} {figure:.4g}"


def finished_runs(name: str) -> list[Run]:
    """The finished parent runs of a study, newest first; a run id gives that run. Raises ValueError without any."""
    run = Run.find(name)
    if run is not None:
        return [run]
    if find_experiment(name) is None:
        known = ", ".join(experiments()) or "none yet"
        raise ValueError(f"there is no study and no run {name!r} in the tracking store; studies: {known}")
    found = Run.search(name, {Tag.ROLE: "study", Tag.STATE: "finished"})
    if not found:
        raise ValueError(f"study {name!r} has no finished run; run studies/{name}.py again to continue it")
    return found


def read_record(parent: Run) -> Record:
    """Read the record from the tracking store. Raises ValueError for a run that is not a finished study."""
    if not parent.has_file(artifacts.STUDY):
        raise ValueError(f"run {parent.id} holds no {artifacts.STUDY}: it is not a finished study")
    facts = parent.read_json(artifacts.STUDY)
    there = {*parent.files("tables"), *parent.files("figures")}

    def table(name: str) -> pd.DataFrame:
        file = artifacts.table(name)
        return numbered(parent.read_table(file)) if file in there else pd.DataFrame()

    slices = {why: artifacts.figure(f"slices_{why}") for why in SLICES}
    histories = {int(trial): Run(ids[0]).history(CURVES) for trial, ids in facts["runs"].items()}
    return Record(
        parent=parent,
        facts=facts,
        patients=table("test_patients"),
        trials=table("trials"),
        tables={name: table(name) for name in TABLES},
        slices={why: parent.read_bytes(file) for why, file in slices.items() if file in there},
        histories={trial: curve.dropna(subset=["train/loss"]) for trial, curve in histories.items()},
    )


def numbered(table: pd.DataFrame) -> pd.DataFrame:
    """The column `trial` as numbers, except for the baselines' names."""
    if "trial" not in table:
        return table
    return table.assign(trial=[int(value) if str(value).isdigit() else value for value in table["trial"]])
