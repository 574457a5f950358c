"""What a network left of its test: its own table, or in a cross-validated study those of all its folds together.

A run of such a study has tested the few patients of its own fold. The network is judged by all of them, each scored by
a network of the same settings that had not learned from that patient, the mean over seeds where there are several. The
version holds one of these networks, that of its own run. A choice between several networks of the study was made on
validation patients, who are test patients of other folds: what is chosen among many is flattered a little by that.
"""

from __future__ import annotations

import pandas as pd
from mlflow.entities import Run

from lab.experiments.synthesis.groups import averaged
from lab.registry.shared_patients import TESTED, Tested, holds
from lab.report.tables.patient_table import plural
from lab.tracking import runs
from lab.tracking.store import connect

SPLIT = "split.csv"


def read_tested(run: Run, name: str) -> Tested:
    """The test patients of a network and whom it has learned from. Raises ValueError where it was never tested."""
    if not holds(run.info.run_id, TESTED):
        raise ValueError(f"{name} (run {run.info.run_id}) was never scored on test patients")
    digest = run.data.tags.get("cohort_digest", "unknown")
    together = of_all_folds(run)
    if len(together) < 2:
        patients, split = (runs.read_table(run.info.run_id, file) for file in (TESTED, SPLIT))
        return Tested(name=name, patients=patients, split=split, digest=digest)
    patients, split = pooled(together)
    return Tested(
        name=name, patients=patients, split=split, digest=digest, notes=(told(run, together, patients, name),)
    )


def of_all_folds(run: Run) -> list[Run]:
    """The tested runs of a network on all folds, with all seeds, this one first; without folds this one alone."""
    parent, label = run.data.tags.get(runs.PARENT), run.data.tags.get("label")
    if "fold" not in run.data.tags or parent is None or label is None:
        return [run]
    query = f"tags.`{runs.PARENT}` = '{parent}'"
    found = connect().search_runs([run.info.experiment_id], query, max_results=5000)
    same = [
        one
        for one in found
        if one.data.tags.get("label") == label
        and one.data.tags.get("state") == "finished"
        and "fold" in one.data.tags
        and one.info.run_id != run.info.run_id
        and holds(one.info.run_id, TESTED)
    ]
    return [run, *sorted(same, key=fold_and_seed)]


def fold_and_seed(run: Run) -> tuple[int, int]:
    """Fold, counted from 1, and seed."""
    return int(run.data.tags["fold"]), int(run.data.params.get("train.seed", run.data.tags.get("seed", 0)))


def pooled(together: list[Run]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row a case, scored by networks that had not learned from the patient, and the split that amounts to.

    In that everybody with a row is a test patient; who was not tested by any of these runs keeps another part.
    """
    tables, splits = [], []
    for run in together:
        split = runs.read_table(run.info.run_id, SPLIT)
        table = runs.read_table(run.info.run_id, TESTED)
        unseen = set(split.loc[split["split"] == "test", "case_id"])
        tables.append(table[table["case_id"].isin(unseen)])
        splits.append(split)
    rows = pd.concat(tables, ignore_index=True)
    patients = averaged(rows.assign(trial=0)).drop(columns="trial").sort_values("case_id", ignore_index=True)
    split = pd.concat(splits, ignore_index=True)
    whole = split[split["split"] != "test"].drop_duplicates("case_id").set_index("case_id", drop=False)
    whole.loc[whole["case_id"].isin(set(patients["case_id"])), "split"] = "test"
    return patients, whole.reset_index(drop=True)


def told(run: Run, together: list[Run], patients: pd.DataFrame, name: str) -> str:
    """What a reader of the verdict must know."""
    tested_folds = {fold_and_seed(one)[0] for one in together}
    seeds = len({fold_and_seed(one)[1] for one in together})
    all_folds = max(folds_of_study(str(run.data.tags[runs.PARENT])), len(tested_folds))
    share = f"{all_folds}" if len(tested_folds) == all_folds else f"{len(tested_folds)} of {all_folds}"
    mean = f", the mean of {seeds} seeds" if seeds > 1 else ""
    people = plural(patients["patient_id"].nunique(), "patient")
    return (
        f"{name[0].upper()}{name[1:]} is judged over {share} folds ({people}, "
        f"each scored by a network that had not learned from them{mean}); the version holds the network of fold "
        f"{fold_and_seed(run)[0]}."
    )


def folds_of_study(parent: str) -> int:
    """Number of folds of a study; 0 where it does not say."""
    if not holds(parent, SPLIT):
        return 0
    split = runs.read_table(parent, SPLIT)
    return int(split["fold"].max()) if "fold" in split else 0
