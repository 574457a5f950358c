"""Permutation importance of features, and summaries over splits of importances and learning curves."""

import numpy as np
import pandas as pd

from lab.radiomics.pipeline.ensemble import Ensemble, selected
from lab.radiomics.pipeline.inner_search import patient_auc
from lab.radiomics.pipeline.steps import pipeline_score
from lab.stats.intervals import corrected_t

REPEATS = 10


def permutation_importance(
    model: Ensemble,
    cases: pd.DataFrame,
    labels: np.ndarray,
    patients: np.ndarray,
    *,
    seed: int,
    repeats: int = REPEATS,
) -> pd.DataFrame:
    """Importance of the features that a fitted model reads: columns feature and importance, the highest first.

    It is the mean drop of the AUC over patients when the feature's values are permuted over the (test) cases (Breiman,
    Machine Learning 2001), in the same way for all averaged pipelines. Correlated features share it. With few test
    patients average it over splits.
    """
    names = model.features
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(len(cases)) for _ in range(len(names) * repeats)])
    orders = orders.reshape(len(names), repeats, len(cases))
    clean = model.clean.transform(cases)
    whole = np.empty((len(model.members), len(cases)))
    logits = np.empty((len(model.members), len(names), repeats, len(cases)))
    for number, (member, line) in enumerate(zip(model.members, model.lines)):
        own = selected(member)
        seen = member[:-1].transform(clean)[own]  # (cases, own)
        last = member[-1:]
        whole[number] = line.logits(pipeline_score(last, seen))
        logits[number] = whole[number]
        places = [names.index(name) for name in own]
        copies = np.tile(seen.to_numpy(np.float64), (len(own), repeats, 1, 1))  # (own, repeats, cases, own)
        for column, place in enumerate(places):
            copies[column, :, :, column] = seen.to_numpy(np.float64)[orders[place], column]
        stacked = pd.DataFrame(copies.reshape(-1, len(own)), columns=own)
        logits[number, places] = line.logits(pipeline_score(last, stacked)).reshape(len(own), repeats, len(cases))
    best = patient_auc(patients, labels, whole.mean(axis=0))
    drops = [best - np.mean([patient_auc(patients, labels, one) for one in group]) for group in logits.mean(axis=0)]
    table = pd.DataFrame({"feature": names, "importance": drops})
    return table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def summarise_importances(importances: pd.DataFrame, *, splits: int, train: float, test: float) -> pd.DataFrame:
    """One row per feature, the highest first: feature, importance, low, high, selected (share of splits), splits.

    `importances` has one row per split and selected feature: repeat, fold, feature, importance. A feature that a split
    did not select counts as 0 there. The interval is the corrected t interval for `train` and `test` (mean) patients
    per split; NaN with one split. Raises ValueError if the table has more splits than `splits`.
    """
    wide = importances.pivot_table(index=["repeat", "fold"], columns="feature", values="importance")
    if len(wide) > splits:
        raise ValueError(f"importances of {len(wide)} splits, but there are {splits}")
    rows = []
    for name in wide.columns:
        values = np.zeros(splits)
        found = wide[name].dropna().to_numpy(float)
        values[: len(found)] = found
        interval = corrected_t(values, train=train, test=test, bounds=(-1.0, 1.0))[1:3] if splits > 1 else (np.nan,) * 2
        rows.append((str(name), float(values.mean()), *interval, len(found) / splits, splits))
    table = pd.DataFrame(rows, columns=["feature", "importance", "low", "high", "selected", "splits"])
    order = ["importance", "selected", "feature"]
    return table.sort_values(order, ascending=[False, False, True], ignore_index=True)


def summarise_learning(curve: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds at each size, with the interval of `corrected_t`: n, mean, low, high, seeds. Raises as that."""
    rows = []
    for size, group in curve.groupby("n"):
        found = corrected_t(group["score"], train=float(size), test=float(group["test"].mean()))
        rows.append((size, *found[:3], len(group)))
    return pd.DataFrame(rows, columns=["n", "mean", "low", "high", "seeds"])
