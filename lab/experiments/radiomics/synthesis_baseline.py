"""The synthesis arm as a baseline of the classifiers: a network's enhancing volume and stated probability."""

from __future__ import annotations

import pandas as pd

from lab.experiments.synthesis.record import find_study
from lab.radiomics.baselines import stated, synthetic
from lab.radiomics.dataset import Dataset
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run

SCORES = {"ml_predicted": synthetic, "probability_level": stated}
"""Column of a network's test patients -> name of the method that it is the score of."""


def synthetic_scores(name: str, dataset: Dataset) -> pd.DataFrame:
    """Predictions by the network of a synthesis run, or of a study's best, for each test patient.

    Scores are the enhancing ml in the predicted image and, where the network states a probability, what the least
    enhancing volume of the patient reaches of it. `name` is the run id of a study or trial, or a study's name. All
    folds and seeds of the network are used; seeds are averaged. Labels are those of `dataset`; patients that it lacks
    are left out. Raises ValueError if the run has no tested network, or if none of its test patients is in `dataset`.
    """
    tested = [run for run in network_runs(name) if run.has_file(artifacts.TEST_PATIENTS)]
    if not tested:
        raise ValueError(f"--synthesis {name}: no network of it has been scored on test patients")
    tables = []
    for run in tested:
        split = run.read_table(artifacts.SPLIT)
        trained = split.loc[split["split"] == "train", "patient_id"].nunique()
        table = run.read_table(artifacts.TEST_PATIENTS)
        tables.append(table.assign(fold=int(run.tags.get(Tag.FOLD, 1)), train=trained))
    everyone = pd.concat(tables, ignore_index=True)
    columns = [column for column in SCORES if column in everyone and everyone[column].notna().any()]
    found = everyone.groupby(["fold", "case_id"], sort=True)[[*columns, "train"]].mean().reset_index()
    found = found[found["case_id"].isin(dataset.table.index)]
    if found.empty:
        raise ValueError(f"--synthesis {name}: none of its test patients is among the {len(dataset.table)} cases here")
    label = tested[0].tags.get(Tag.LABEL, "network")
    tables = [scored(found.assign(score=found[column]), SCORES[column](label), dataset) for column in columns]
    return pd.concat(tables, ignore_index=True)


def scored(found: pd.DataFrame, method: str, dataset: Dataset) -> pd.DataFrame:
    """Predictions of a method from fold, case_id, score and train (patients), with the labels of `dataset`."""
    known = dataset.table.loc[found["case_id"]]
    return pd.DataFrame(
        {
            "method": method,
            "repeat": 1,
            "fold": found["fold"].to_numpy(),
            "case_id": found["case_id"].to_numpy(),
            "patient_id": known["patient_id"].to_numpy(),
            "label": known["label"].to_numpy(),
            "score": found["score"].to_numpy(),
            "threshold": float("nan"),
            "train": found["train"].astype(int).to_numpy(),
            "test": found.groupby("fold")["case_id"].transform("size").to_numpy(),
        }
    )


def network_runs(name: str) -> list[Run]:
    """The runs of one network, all folds and seeds: of the trial with this run id, or of a study's best."""
    run = Run.find(name) or find_study(name)
    if run.has_file(artifacts.STUDY):
        facts = run.read_json(artifacts.STUDY)
        return [Run(one) for one in facts["runs"][str(facts["best"])]]
    label = run.tags.get(Tag.LABEL)
    if run.parent is None or label is None:
        raise ValueError(f"--synthesis {name}: this run is neither a study of networks nor one of its trials")
    same = [one for one in run.siblings() if one.tags.get(Tag.LABEL) == label]
    return sorted(same, key=lambda one: one.name)
