"""WORC's outputs as tables: predictions, workflows, features, and its own statistics with intervals that make sense."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lab.radiomics.dataset import Dataset
from lab.radiomics.method_names import WORC
from lab.radiomics.splits import Split
from lab.stats.auc import auc
from lab.stats.intervals import corrected_t

THRESHOLD = 0.5
"""WORC decides here; posteriors of its inner splits, from which Youden's threshold could come, it does not keep."""
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+|nan|inf)", re.IGNORECASE)
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
    performance: pd.DataFrame
    """WORC's own statistics, a row a figure: `figure, value, low, high` (95 %, corrected resampled t over the splits,
    cut to [0, 1]; NaN with one split) and `raw`, WORC's own text, whose interval can leave [0, 1]."""
    roc: pd.DataFrame
    """`fpr, tpr` and the ends of their intervals over the splits, in [0, 1]: `fpr_low, fpr_high, tpr_low, tpr_high`."""
    seconds: pd.DataFrame
    """`repeat, fold, seconds, failed` (workflows drawn that could not be scored, as where all feature groups were off).
    The network does not tell the seconds of its splits apart, each gets an equal share."""
    log: Path
    """The logs of WORC's processes, in a folder."""
    outputs: Path
    """Folder with WORC's own files, as it wrote them."""


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


def read_performance(path: Path) -> pd.DataFrame:
    """WORC's statistics, see `WorcResult.performance`. Raises ValueError where the file is not what WORC writes."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        statistics = content["Statistics"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no statistics by WORC ({error})") from None
    splits = len(content.get("All_performances", {}).get("AUC", ()))
    rows = []
    for name, raw in statistics.items():
        numbers = [float(text) for text in NUMBER.findall(str(raw).replace("np.float64", ""))]
        value, low, high = (numbers + [np.nan] * 3)[:3]
        if splits < 2 or not np.isfinite([low, high]).all():
            low = high = np.nan
        value, low, high = np.clip([value, low, high], 0, 1)
        figure = name.replace("95%:", "").replace(":", "").strip()
        rows.append({"figure": figure, "value": value, "low": low, "high": high, "raw": str(raw)})
    if not rows or not np.isfinite(next((row["value"] for row in rows if row["figure"] == "AUC"), np.nan)):
        raise ValueError(f"{path}: WORC gives no AUC (statistics: {', '.join(statistics) or 'none'})")
    return pd.DataFrame(rows)


def read_roc(path: Path) -> pd.DataFrame:
    """WORC's ROC curve: its cells are intervals `[low high]`, the curve their midpoints. Raises ValueError."""
    try:
        table = pd.read_csv(path)
        cells = {name: [_pair(cell) for cell in table[name]] for name in ("FPR", "TPR")}
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: no ROC curve by WORC ({error})") from None
    columns: dict[str, np.ndarray] = {}
    for name, pairs in cells.items():
        ends = np.clip(np.array(pairs, float).reshape(-1, 2), 0, 1)
        middle = np.clip(np.array(pairs, float).reshape(-1, 2).mean(axis=1), 0, 1)
        key = name.lower()
        columns |= {key: middle, f"{key}_low": ends[:, 0], f"{key}_high": ends[:, 1]}
    curve = pd.DataFrame(columns)
    if curve.empty or curve[["fpr", "tpr"]].isna().any(axis=None):
        raise ValueError(f"{path}: WORC's ROC curve has {len(curve)} points, not all of them numbers")
    return curve.sort_values(["fpr", "tpr"], ignore_index=True)


def read_posteriors(path: Path) -> pd.DataFrame:
    """`case` (WORC's id), `label` and `score`, the mean posterior over the splits that tested it. Raises ValueError."""
    try:
        table = pd.read_csv(path, dtype={"PatientID": str})
        found = pd.DataFrame(
            {"case": table["PatientID"], "label": table["TrueLabel"].astype(float), "score": table["Probability"]}
        )
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: no posteriors by WORC ({error})") from None
    bad = int((~np.isfinite(found["score"].astype(float))).sum())
    if bad or found.empty:
        raise ValueError(f"{path}: {bad} of {len(found)} mean posteriors are not numbers")
    return found


def disagreement(posteriors: pd.DataFrame, predictions: pd.DataFrame, codes: Mapping[str, str]) -> float:
    """Largest difference between WORC's mean posteriors and those of the predictions; infinite where a case lacks."""
    means = predictions.groupby("case_id")["score"].mean()
    means.index = pd.Index([codes[str(case)] for case in means.index])
    theirs = posteriors.set_index("case")["score"].astype(float).clip(0, 1)
    if set(theirs.index) != set(means.index):
        return float("inf")
    return float((theirs - means).abs().max())


def split_auc(dataset: Dataset, split: Split, record: Record) -> float:
    """AUC of one split's tested cases."""
    cases = list(split.test)
    return auc(dataset.labels.loc[cases], [record["posteriors"][case] for case in cases])


def auc_over_splits(predictions: pd.DataFrame) -> Any:
    """Mean AUC with the corrected resampled t interval, from the predictions: what WORC's own text is checked by."""
    by_split = predictions.groupby(["repeat", "fold"])
    aucs = [auc(part["label"], part["score"]) for _, part in by_split]
    return corrected_t(aucs, train=predictions["train"].mean(), test=predictions["test"].mean())


def _pair(cell: Any) -> tuple[float, float]:
    numbers = [float(text) for text in NUMBER.findall(str(cell).replace("np.float64", ""))]
    if not numbers:
        raise ValueError(f"no number in {cell!r}")
    return numbers[0], numbers[-1]
