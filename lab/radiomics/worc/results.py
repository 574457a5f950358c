"""Tables of WORC's results: predictions, workflows and features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lab.radiomics.baselines import WORC
from lab.radiomics.dataset import Dataset
from lab.radiomics.splits import Split
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

Record = dict[str, Any]
"""`posteriors` (case -> posterior of label 1), `used` (feature -> share of the ensemble), `workflows`, `failed` (number
of drawn workflows without a score) and `seconds`."""


@dataclass(frozen=True, kw_only=True)
class WorcResult:
    """Result of a WORC experiment."""

    predictions: pd.DataFrame  # the columns common to all methods; the threshold is WORC's, 0.5
    chosen: pd.DataFrame
    """`feature`, `splits` (share of splits in which the ensemble used it), `members` (mean share of the ensemble)."""
    workflows: pd.DataFrame
    """The ensemble of every split: `repeat, fold, rank, inner_score` (mean weighted F1 on the inner splits),
    `classifier, selection, scaling, resampling, imputation, parameters` (all parameters, as JSON)."""
    seconds: pd.DataFrame
    """`repeat, fold, seconds, failed` (drawn workflows without a score, for instance because all feature groups were
    off). On the images route, each split gets an equal share of the network's time."""
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


def predictions_table(dataset: Dataset, splits: Sequence[Split], records: Sequence[Record]) -> pd.DataFrame:
    """The predictions of all splits, by our case ids."""
    rows = []
    for split, record in zip(splits, records):
        train, test = (dataset.patients.loc[list(cases)].nunique() for cases in (split.train, split.test))
        for case in split.test:
            rows.append(
                {
                    "method": WORC,
                    "repeat": split.repeat,
                    "fold": split.fold,
                    "case_id": case,
                    "patient_id": dataset.patients[case],
                    "label": int(dataset.labels[case]),
                    "score": float(np.clip(record["posteriors"][case], 0, 1)),
                    "threshold": THRESHOLD,
                    "train": train,
                    "test": test,
                }
            )
    return pd.DataFrame(rows)


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
            resampling = workflow.get("Resampling_Method", "") if workflow.get("Resampling_Use") == "True" else ""
            imputation = workflow.get("ImputationMethod", "") if workflow.get("Imputation") == "True" else ""
            rows.append(
                {
                    "repeat": split.repeat,
                    "fold": split.fold,
                    "rank": rank,
                    "inner_score": workflow["score"],
                    "classifier": workflow.get("classifiers", ""),
                    "selection": ", ".join(on),
                    "scaling": workflow.get("FeatureScaling", ""),
                    "resampling": resampling,
                    "imputation": imputation,
                    "parameters": json.dumps(workflow, sort_keys=True),
                }
            )
    return pd.DataFrame(rows)


def split_auc(dataset: Dataset, split: Split, record: Record) -> float:
    """AUC of one split's test cases."""
    cases = list(split.test)
    return auc(dataset.labels.loc[cases], [record["posteriors"][case] for case in cases])
