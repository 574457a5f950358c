"""Tables of WORC's results: predictions, workflows and features."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lab.radiomics.baselines import WORC
from lab.radiomics.dataset import Dataset
from lab.radiomics.splits import Split, predictions_table
from lab.stats.auc import auc

THRESHOLD = 0.5  # WORC's decision threshold. Youden's is unavailable, as WORC keeps no posteriors of inner splits
STEPS = {  # WORC's switches of feature selection -> their display names
    "SelectGroups": "feature groups",
    "Featsel_Variance": "variance",
    "StatisticalTestUse": "statistical test",
    "ReliefUse": "Relief",
    "SelectFromModel": "model",
    "RFE": "recursive elimination",
    "UsePCA": "principal components",
}
STEPS_WITH_METHOD = (
    ("resampling", "Resampling_Use", "Resampling_Method"),
    ("imputation", "Imputation", "ImputationMethod"),
)  # column, WORC's switch, WORC's name of the method

Record = dict[str, Any]
"""`posteriors` (case -> posterior of label 1), `used` (feature -> share of the ensemble), `workflows`, `failed` (number
of workflows without a score) and `seconds`."""


@dataclass(frozen=True, kw_only=True)
class WorcResult:
    """Result of a WORC experiment."""

    predictions: pd.DataFrame  # the columns common to all methods; the threshold is WORC's, 0.5
    chosen: pd.DataFrame  # `feature`, `splits` (share of splits that used it), `members` (mean share of the ensemble)
    workflows: pd.DataFrame
    """The ensemble of every split: `repeat, fold, rank, inner_score` (mean weighted F1 on the inner splits),
    `classifier, selection, scaling, resampling, imputation, parameters` (all parameters, as JSON)."""
    seconds: pd.DataFrame  # `repeat, fold, seconds` (images route: equal shares), `failed` (workflows without a score)
    log: Path  # folder of the logs of WORC's processes


def check_record(record: Record, cases: Sequence[str]) -> str:
    """The reason why a split's record is unusable, or ""."""
    posteriors = record.get("posteriors", {})
    missing = [case for case in cases if case not in posteriors]
    if missing:
        return f"gave no posterior for {len(missing)} of {len(cases)} cases"
    values = np.array([posteriors[case] for case in cases], float)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        return f"gave {bad} of {len(cases)} posteriors that are not numbers: workflows of its ensemble have failed"
    if not record.get("workflows"):
        return "gave no workflow that could be fitted"
    if not np.isfinite(record["workflows"][0]["score"]):
        return "could not score any of its workflows"
    return ""


def worc_predictions(dataset: Dataset, splits: Sequence[Split], records: Sequence[Record]) -> pd.DataFrame:
    """The predictions of all splits, by our case ids."""
    tables = []
    for split, record in zip(splits, records):
        scores = np.clip([record["posteriors"][case] for case in split.test], 0, 1)
        tables.append(predictions_table(dataset, split, scores, method=WORC, threshold=THRESHOLD))
    return pd.concat(tables, ignore_index=True)


def chosen_table(records: Sequence[Record]) -> pd.DataFrame:
    """Features by how often the ensembles used them, the most frequent first."""
    shares = pd.DataFrame([record["used"] for record in records]).fillna(0.0)
    table = pd.DataFrame({"splits": (shares > 0).mean(), "members": shares.mean()})
    table = table.rename_axis("feature").reset_index()
    return table.sort_values(["members", "splits", "feature"], ascending=[False, False, True], ignore_index=True)


def workflows_table(splits: Sequence[Split], records: Sequence[Record]) -> pd.DataFrame:
    """Workflows of the ensembles, the best first within a split."""
    rows = []
    for split, record in zip(splits, records):
        for rank, workflow in enumerate(record["workflows"], start=1):
            on = [words for switch, words in STEPS.items() if str(workflow.get(switch)) == "True"]
            row = {"repeat": split.repeat, "fold": split.fold, "rank": rank, "inner_score": workflow["score"]}
            row |= {"classifier": workflow.get("classifiers", ""), "selection": ", ".join(on)}
            row["scaling"] = workflow.get("FeatureScaling", "")
            for name, switch, method in STEPS_WITH_METHOD:
                row[name] = workflow.get(method, "") if workflow.get(switch) == "True" else ""
            rows.append({**row, "parameters": json.dumps(workflow, sort_keys=True)})
    return pd.DataFrame(rows)


def split_auc(dataset: Dataset, split: Split, record: Record) -> float:
    """AUC of one split's test cases."""
    cases = list(split.test)
    return auc(dataset.labels.loc[cases], [record["posteriors"][case] for case in cases])
