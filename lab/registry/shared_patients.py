"""On which patients may two networks be compared? Those whom both were tested on and neither has learned from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from lab.report.tables.patient_table import plural
from lab.tracking import runs
from lab.tracking.store import store_trouble

TESTED, RIVALS_TESTED = "test_patients.csv", "rivals/test_patients.csv"
"""Tables of a trial's and of a study's run."""
LEARNED = ("train", "val")
"""Parts of the split that a network has seen: it was trained on the one, stopped and chosen on the other."""
TRUTH = ("near_voxels", "true_gain_sum", "true_gain_squares", "ml_rule")
"""Columns that are the true scan's own: equal for one scan prepared in one way, whatever network is judged."""


def holds(run_id: str, file: str) -> bool:
    """Whether a run is there and has this artifact."""
    try:
        return runs.has_file(run_id, file)
    except MlflowException as error:
        if store_trouble(error):
            raise
        return False


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A network's test patients and whom it has learned from."""

    name: str
    """How it is spoken of: "the candidate", "version 3"."""
    patients: pd.DataFrame
    """Columns of `lab.evaluation.evaluate.evaluate`, a row a case."""
    split: pd.DataFrame
    """Columns patient_id and split; of several folds together everybody with a row in `patients` is a test patient."""
    digest: str
    """Of the cohort."""
    notes: tuple[str, ...] = ()
    """What a reader must know of the tables."""

    @property
    def learned(self) -> set[str]:
        """Patients whom it was trained, stopped or chosen on."""
        return set(self.split.loc[self.split["split"].isin(LEARNED), "patient_id"].astype(str))


def common_patients(candidate: Tested, other: Tested, *, least: int) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The two tables on the cases that may be compared, in one order, and what must be said of who was left out.

    Raises ValueError where fewer than `least` patients are left, and where the tables do not judge the same scans.
    """
    notes = [*candidate.notes, *other.notes]
    for one, beside in ((candidate, other), (other, candidate)):
        seen = set(one.patients["patient_id"].astype(str)) & beside.learned
        if seen:
            tested, verb = one.patients["patient_id"].nunique(), "does" if len(seen) == 1 else "do"
            notes.append(
                f"{len(seen)} of the {plural(tested, 'test patient')} of {one.name} {verb} not count: {beside.name} "
                "was trained or chosen on them and would be flattered."
            )
    flattered = candidate.learned | other.learned
    tables = [
        one.patients[~one.patients["patient_id"].astype(str).isin(flattered)].set_index("case_id", drop=False)
        for one in (candidate, other)
    ]
    cases = [case for case in tables[0].index if case in tables[1].index]
    first, second = (table.loc[cases].reset_index(drop=True) for table in tables)
    count = first["patient_id"].nunique()
    if count < least:
        raise ValueError(
            f"{candidate.name} and {other.name} have {count or 'no'} test patients in common that neither has learned "
            f"from, and at least {least} are needed. {' '.join(notes)} Train and test both on one split (equal "
            "--data.split and --data.split-seed)".replace(".  ", ". ")
        )
    differ = [case for case, same in zip(cases, same_scans(first, second)) if not same]
    if differ:
        raise ValueError(
            f"{candidate.name} and {other.name} were not tested on the same scans prepared in the same way: "
            f"{len(differ)} of {len(cases)} differ, such as {differ[0]} (cohorts {candidate.digest[:12]} and "
            f"{other.digest[:12]}). Score both on one cohort"
        )
    notes.append(f"Compared on {plural(count, 'test patient')} of both ({plural(len(cases), 'scan')}).")
    return first, second, notes


def same_scans(first: pd.DataFrame, second: pd.DataFrame) -> np.ndarray:
    """Whether each row of both tables, in one order, is of the same true scan: `TRUTH` equal to 1 in 1,000."""
    one, other = (table[list(TRUTH)].to_numpy(np.float64) for table in (first, second))
    close: np.ndarray = np.isclose(one, other, rtol=1e-3, atol=1e-3, equal_nan=True)
    return close.all(axis=1)
