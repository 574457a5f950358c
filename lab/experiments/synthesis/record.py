"""What a finished study left on its parent run, read back from the tracking store alone."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from lab.report.figures.noise_floor import floor_of
from lab.report.tables.patient_table import is_rival, lower_is_better
from lab.tracking import runs
from lab.tracking.store import connect, find_experiment

FACTS, CLASSIFIER_FACTS = "study.json", "classifier.json"
CURVES = ("train/loss", "val/loss", "val/mae_brain")
SLICES = {
    "enhancing": "Test patient whose tumour enhances, of the median error among these",
    "not_enhancing": "Test patient whose tumour does not enhance, of the median error among these",
    "best": "Test patient with the lowest error",
    "median": "Test patient with the median error",
    "worst": "Test patient with the highest error",
}


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a finished study left on its parent run."""

    parent: str
    facts: dict[str, Any]
    patients: pd.DataFrame
    trials: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    """`search`, `importances`, `spread`, `own_patch`, `same_voxels`, `true_scans`, `coverage`; empty for none."""
    slices: dict[str, bytes]
    histories: dict[Hashable, pd.DataFrame]

    @property
    def phantom(self) -> bool:
        """Whether the patients are simulated."""
        return bool(self.facts["phantom"])

    @property
    def names(self) -> dict[str, str]:
        """Value of the column `trial`, as text, and its label."""
        return {str(key): str(label) for key, label in zip(self.patients["trial"], self.patients["label"])}

    @property
    def lower(self) -> bool:
        """Whether a low objective is a good one."""
        return lower_is_better(self.facts["objective"].rpartition("/")[2])

    @property
    def references(self) -> list[Any]:
        """What networks are tested against: the one that was chosen on validation patients, and the rivals."""
        trials = list(dict.fromkeys(self.patients["trial"]))
        return [self.facts["best"], *(trial for trial in trials if is_rival(trial))]

    @property
    def floor(self) -> float | None:
        """The mean over patients of the error that noise alone makes."""
        return floor_of(self.patients)


def find_study(name: str) -> str:
    """Run id of the newest finished parent run of a study; a run id is taken as it is.

    Where there are several, which one was taken is said. Raises ValueError where there is none.
    """
    found = finished_runs(name)
    if len(found) > 1:
        print(f"Taken: {told(found[0])}; the newest of {len(found)} finished runs of study {name!r}", flush=True)
    return str(found[0].info.run_id)


def chosen_study(name: str, *, newest: bool) -> str:
    """As `find_study`, but of several finished runs of a study the newest only where that was asked for.

    Raises ValueError that tells the runs apart where it was not.
    """
    found = finished_runs(name)
    if len(found) > 1 and not newest:
        lines = "; ".join(told(run) for run in found)
        raise ValueError(
            f"study {name!r} has {len(found)} finished runs: {lines}. Name one with --run ID, or take the newest with "
            "--newest"
        )
    return str(found[0].info.run_id)


def told(run: Run) -> str:
    """A study's run in a line: id, when it began, what it learned from, and its figure."""
    when = datetime.fromtimestamp(run.info.start_time / 1000).strftime("%Y-%m-%d %H:%M")
    file = FACTS if runs.has_file(run.info.run_id, FACTS) else CLASSIFIER_FACTS
    facts = json.loads(runs.read_text(run.info.run_id, file)) if runs.has_file(run.info.run_id, file) else {}
    cohort = facts.get("cohort") or {"data": facts.get("dataset"), "patients": facts.get("patients")}
    words = f"{run.info.run_id} of {when}, {cohort['data'] or 'unknown data'}, n = {cohort['patients'] or 'unknown'}"
    return f"{words}, {figure(facts)}"


def figure(facts: Mapping[str, Any]) -> str:
    """The figure of a study by which its runs are told apart."""
    if "auc" in facts:
        return f"AUC {facts['auc']}"
    try:
        metrics = connect().get_run(facts["runs"][str(facts["best"])][0]).data.metrics
        return f"best {facts['objective']} {metrics[facts['objective']]:.4g}"
    except (KeyError, MlflowException):
        return "figure unknown"


def finished_runs(name: str) -> list[Run]:
    """The finished parent runs of a study, the newest first; a run id gives that run. Raises ValueError without any."""
    client = connect()
    try:
        return [client.get_run(name)]
    except MlflowException:
        experiment = find_experiment(name)
    if experiment is None:
        known = ", ".join(sorted(e.name for e in client.search_experiments() if e.name != "Default")) or "none yet"
        raise ValueError(f"there is no study and no run {name!r} in the tracking store; studies: {known}")
    found = client.search_runs([experiment], "tags.role = 'study' and tags.state = 'finished'")
    if not found:
        raise ValueError(f"no study {name!r} has come to its end yet; run studies/{name}.py again, it goes on")
    return list(found)


def read_record(parent: str) -> Record:
    """All that the report needs from the tracking store. Raises ValueError for a run that is no finished study."""
    if not runs.has_file(parent, FACTS):
        raise ValueError(f"run {parent} holds no {FACTS}: it is not a study that has come to its end")
    facts = json.loads(runs.read_text(parent, FACTS))
    there = set(runs.files(parent, "tables"))

    def table(name: str) -> pd.DataFrame:
        return runs.read_table(parent, f"tables/{name}.csv") if f"tables/{name}.csv" in there else pd.DataFrame()

    patients, trials = numbered(table("test_patients")), numbered(table("trials"))
    drawn = set(runs.files(parent, "figures"))
    slices = {why: runs.read_bytes(parent, name) for why in SLICES if (name := f"figures/slices_{why}.png") in drawn}
    histories = {int(trial): runs.history(ids[0], CURVES) for trial, ids in facts["runs"].items()}
    names = ("search", "importances", "spread", "own_patch", "same_voxels", "true_scans", "coverage")
    return Record(
        parent=parent,
        facts=facts,
        patients=patients,
        trials=trials,
        tables={name: numbered(table(name)) for name in names},
        slices=slices,
        histories={trial: curve.dropna(subset=["train/loss"]) for trial, curve in histories.items()},
    )


def numbered(table: pd.DataFrame) -> pd.DataFrame:
    """The column `trial` as numbers again, but for the rivals' names."""
    if "trial" not in table:
        return table
    return table.assign(trial=[int(value) if str(value).isdigit() else value for value in table["trial"]])
