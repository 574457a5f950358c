"""WORC's results as tables: predictions, workflows and features."""

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

THRESHOLD = 0.5
"""WORC decides here; posteriors of its inner splits, from which Youden's threshold could come, it does not keep."""
STEPS = {
    "SelectGroups": "feature groups",
    "Featsel_Variance": "variance",
    "StatisticalTestUse": "statistical test",
    "ReliefUse": "Relief",
    "SelectFromModel": "model",
    "RFE": "recursive elimination",
    "UsePCA": "principal components",
}
"""WORC's switches of feature selection, in words."""

Record = dict[str, Any]
"""`posteriors` (case -> posterior of label 1), `used` (feature -> share of the ensemble), `workflows`, `failed`
(how many of those drawn have no score) and `seconds`."""


@dataclass(frozen=True, kw_only=True)
class WorcResult:
    """What a WORC experiment found."""

    predictions: pd.DataFrame
    """The columns that every method gives; the threshold is 0.5, at which WORC decides."""
    chosen: pd.DataFrame
    """`feature`, `splits` (share in which a workflow of the ensemble used it), `members` (mean share of it)."""
    workflows: pd.DataFrame
    """The ensemble of every split: `repeat, fold, rank, inner_score` (mean weighted F1 on the inner splits),
    `classifier, selection, scaling, resampling, imputation, parameters` (the rest, as JSON)."""
    seconds: pd.DataFrame
    """`repeat, fold, seconds, failed` (workflows drawn that could not be scored, as where all feature groups were off).
    The network does not tell the seconds of its splits apart, each gets an equal share."""
    log: Path
    """The logs of WORC's processes, in a folder."""


def check_record(record: Record, cases: Sequence[str]) -> str:
    """Why a split's record cannot be used; an empty text where it can."""
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
    """Features by how often the winning workflows used them, most often first."""
    shares = pd.DataFrame([record["used"] for record in records]).fillna(0.0)
    table = pd.DataFrame({"splits": (shares > 0).mean(), "members": shares.mean()})
    table = table.rename_axis("feature").reset_index()
    return table.sort_values(["members", "splits", "feature"], ascending=[False, False, True], ignore_index=True)


def workflows_table(splits: Sequence[Split], records: Sequence[Record]) -> pd.DataFrame:
    """The ensembles' workflows, best first within a split."""
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
    """AUC of one split's tested cases."""
    cases = list(split.test)
    return auc(dataset.labels.loc[cases], [record["posteriors"][case] for case in cases])
