"""A network's test patients, pooled over folds, and the patients on whom two networks may be compared.

A run of a cross-validated study tests only its own fold. The network is judged on all folds: each patient is scored by
a network of the same settings that was not trained on that patient, averaged over seeds. The version holds one of these
networks, that of its own run. The study chooses between networks on validation patients, who are test patients of other
folds; this slightly favours a network chosen among many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lab.experiments.synthesis.configurations import averaged
from lab.io.files import plural
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run

LEARNED = ("train", "val")
"""Parts of the split that a network has seen: one for training, one for early stopping and selection."""
TRUTH = ("near_voxels", "true_gain_sum", "true_gain_squares", "ml_rule")
"""Columns of the true scan: equal for one scan prepared in one way, whatever network is judged."""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A network's test patients and the patients that it has seen."""

    name: str
    """For messages: "the candidate", "version 3"."""
    patients: pd.DataFrame
    """Columns of `lab.evaluation.evaluate.evaluate`, a row per case."""
    split: pd.DataFrame
    """Columns patient_id and split; pooled over folds, everybody with a row in `patients` is a test patient."""
    digest: str
    """Digest of the cohort."""
    notes: tuple[str, ...] = ()
    """Notes for readers of the tables."""

    @property
    def learned(self) -> set[str]:
        """Patients used for training, early stopping or selection."""
        return set(self.split.loc[self.split["split"].isin(LEARNED), "patient_id"].astype(str))


def read_tested(run: Run, name: str) -> Tested:
    """A network's test patients and the patients that it has seen. Raises ValueError where it was never tested."""
    if not run.has_file(artifacts.TEST_PATIENTS):
        raise ValueError(
            f"{name} (run {run.id}) was never scored on test patients (no {artifacts.TEST_PATIENTS}); run its study to "
            "the end"
        )
    digest = run.tags.get(Tag.COHORT, "unknown")
    together = of_all_folds(run)
    if len(together) < 2:
        patients, split = (run.read_table(file) for file in (artifacts.TEST_PATIENTS, artifacts.SPLIT))
        return Tested(name=name, patients=patients, split=split, digest=digest)
    patients, split = pooled_folds(together)
    note = describe_folds(run, together, patients, name)
    return Tested(name=name, patients=patients, split=split, digest=digest, notes=(note,))


def of_all_folds(run: Run) -> list[Run]:
    """Tested runs of a network on all folds with all seeds, this run first; this run alone without folds."""
    label = run.tags.get(Tag.LABEL)
    if Tag.FOLD not in run.tags or run.parent is None or label is None:
        return [run]
    wanted = {Tag.LABEL: label, Tag.STATE: "finished"}.items()
    same = [one for one in run.siblings() if wanted <= one.tags.items() and Tag.FOLD in one.tags and one != run]
    return [run, *sorted((one for one in same if one.has_file(artifacts.TEST_PATIENTS)), key=fold_and_seed)]


def fold_and_seed(run: Run) -> tuple[int, int]:
    """Fold, counted from 1, and seed."""
    return int(run.tags[Tag.FOLD]), int(run.params.get("train.seed", run.tags.get(Tag.SEED, 0)))


def pooled_folds(together: list[Run]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per case, scored by networks that were not trained on the patient, and the equivalent split.

    In this split everybody with a row is a test patient; patients not tested by any of these runs keep another part.
    """
    tables, splits = [], []
    for run in together:
        split, table = run.read_table(artifacts.SPLIT), run.read_table(artifacts.TEST_PATIENTS)
        unseen = set(split.loc[split["split"] == "test", "case_id"])
        tables.append(table[table["case_id"].isin(unseen)])
        splits.append(split)
    rows = pd.concat(tables, ignore_index=True)
    patients = averaged(rows.assign(trial=0)).drop(columns="trial").sort_values("case_id", ignore_index=True)
    split = pd.concat(splits, ignore_index=True)
    whole = split[split["split"] != "test"].drop_duplicates("case_id").set_index("case_id", drop=False)
    whole.loc[whole["case_id"].isin(set(patients["case_id"])), "split"] = "test"
    return patients, whole.reset_index(drop=True)


def describe_folds(run: Run, together: list[Run], patients: pd.DataFrame, name: str) -> str:
    """Number of folds and seeds that a network is judged over, for the verdict."""
    folds, seeds = (len({fold_and_seed(one)[place] for one in together}) for place in (0, 1))
    split = run.parent.read_table(artifacts.SPLIT) if run.parent and run.parent.has_file(artifacts.SPLIT) else None
    of_study = max(folds, int(split["fold"].max()) if split is not None and "fold" in split else 0)
    share = f"{folds}" if folds == of_study else f"{folds} of {of_study}"
    mean = f", the mean of {seeds} seeds" if seeds > 1 else ""
    people = plural(patients["patient_id"].nunique(), "patient")
    return (
        f"{name[0].upper()}{name[1:]} is judged over {share} folds ({people}, each scored by a network that had not "
        f"learned from them{mean}); the version holds the network of fold {fold_and_seed(run)[0]}."
    )


def common_patients(candidate: Tested, other: Tested, *, least: int) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Both tables on the comparable cases, in one order, and notes on the cases left out.

    Raises ValueError where fewer than `least` patients are left, and where the tables judge different scans.
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
