"""All figures of a classifier's page, by name, from its predictions and the tables stored beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lab.io.files import plural
from lab.radiomics.assess.assess import Assessment, split_scores
from lab.report.figures.classifier.auc import auc_figure
from lab.report.figures.classifier.calibration import calibration_figure, decision_figure
from lab.report.figures.classifier.importance import importance_figure, learning_figure
from lab.report.figures.classifier.roc import precision_recall_figure, roc_figure
from lab.stats.bootstrap import RESAMPLES
from lab.stats.intervals import Estimate
from lab.stats.roc import Roc, precision_recall, roc_of_patients, roc_of_splits

CAPTIONS = {
    "roc": "ROC over patients, each with the mean of its predictions. The cross is the operating point of the first "
    "method, fixed in training.",
    "roc_splits": "ROC of every split (thin) and their mean with its corrected band: how training does, and how much "
    "it varies.",
    "roc_rivals": "The same with all baselines, which are thin; only the first method has its band.",
    "precision_recall": "Precision and recall: how many of those who are called positive are so.",
    "calibration": "Calibration of the first method: predicted probabilities against what was observed.",
    "decision": "Decision curves: what acting on the probability would gain, against treating all or none.",
    "auc": "AUC of all methods on one axis.",
    "learning": "The test AUC over the number of patients in training: does it still rise?",
    "importances": "Drop of the test AUC when a feature is permuted among the test patients. Features that say the "
    "same share their importance, so that each looks small.",
    "features": "The first features in three patients each. A map shows where in the tumour a texture lies; its mean "
    "is not the feature of the whole tumour.",
}
"""Figure name -> caption, in reading order."""


def classifier_figures(
    predictions: pd.DataFrame,
    assessment: Assessment,
    *,
    phantom: bool,
    event: str = "enhancing",
    importances: pd.DataFrame | None = None,
    learning: pd.DataFrame | None = None,
    external: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Figure]:
    """The figures for which there are data, by name and in the order of `CAPTIONS`.

    Intervals of AUC and average precision are those of the assessment: the bootstrap here only draws the bands.
    `importances` is the result of `summarise_importances`, `learning` that of `summarise_learning`. Methods on fewer
    patients than the first appear in the figures of AUC and ROC only. The titles say that a test is `external`.
    """
    how: Any = {"phantom": phantom, "event": event}
    topic = "Will it enhance?" if event == "enhancing" else f"{event[:1].upper()}{event[1:]}?"
    topic += " External test:" * external
    patients = {str(method): part for method, part in assessment.patients.groupby("method", sort=False)}
    performance, main = assessment.performance.set_index("method"), assessment.main
    shown = [name for name in performance.index if np.isfinite(performance.loc[name, "auc"])]
    if main not in shown:
        return {}
    judged = [name for name in assessment.judged if name in shown]
    rng, own = np.random.default_rng([seed, 7]), {"resamples": resamples}
    scored = {name: (patients[name]["label"], patients[name]["score"]) for name in shown}
    rocs = {
        name: _with_intervals(roc_of_patients(*scored[name], rng=rng, **own), performance.loc[name]) for name in shown
    }
    point = assessment.accuracy[assessment.accuracy["method"] == main]
    whose = "training" if external else main
    cross: Any = {"point": None if point.empty else point, "point_name": f"threshold of {whose}"}
    figures = {"roc": roc_figure({name: rocs[name] for name in judged}, title=f"{topic} ROC", **cross, **how)}
    over = {name: found for name in judged if (found := _splits(predictions, performance, name)) is not None}
    if over:
        figures["roc_splits"] = roc_figure(over, title=f"{topic} ROC over splits", **how)
    if len(shown) > len(judged):
        everybody = {_counted(name, rocs, main): rocs[name] for name in shown}
        figures["roc_rivals"] = roc_figure(everybody, title="ROC of all methods", **how)
    same = [name for name in shown if set(patients[name]["patient_id"]) == set(patients[main]["patient_id"])]
    curves = {}
    for name in same:
        average = _estimate(performance.loc[name], "ap", "bootstrap")
        curves[name] = replace(precision_recall(*scored[name], rng=rng, **own), average=average)
    figures["precision_recall"] = precision_recall_figure(curves, title=f"{topic} Precision-recall", **how)
    certain = [name for name in same if np.isfinite(performance.loc[name, "brier"])]
    if main in certain:
        sorted_scores = {name: patients[name].sort_values("patient_id") for name in certain}
        labels, scores = sorted_scores[main]["label"], {name: part["score"] for name, part in sorted_scores.items()}
        figures["calibration"] = calibration_figure(labels, scores[main], title=f"{topic} Calibration", **how)
        figures["decision"] = decision_figure(labels, scores, title=f"{topic} Decision curve", **how)
    figures["auc"] = auc_figure(assessment.performance, judged=len(judged), **how)
    if learning is not None and len(learning):
        figures["learning"] = learning_figure(learning, phantom=phantom, name=main)
    if importances is not None and len(importances):
        figures["importances"] = importance_figure(importances, phantom=phantom)
    return figures


def _counted(name: str, rocs: dict[str, Roc], main: str) -> str:
    """The method's name, with its number of patients where that differs from the first method's."""
    count = rocs[name].patients
    return name if count is None or count == rocs[main].patients else f"{name}, {plural(count, 'patient')}"


def _with_intervals(roc: Roc, row: pd.Series) -> Roc:
    """The ROC over patients with the intervals of its row of `Assessment.performance`."""
    exact = _estimate(row, "auc", str(row["auc_interval"]))
    boot = exact._replace(low=float(row["boot_low"]), high=float(row["boot_high"]), method="bootstrap")
    return replace(roc, intervals=(exact, boot))


def _estimate(row: pd.Series, name: str, method: str) -> Estimate:
    """A figure and its interval in a row of `Assessment.performance`."""
    value, low, high = (float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return Estimate(value, low, high, method=method)


def _splits(predictions: pd.DataFrame, performance: pd.DataFrame, method: str) -> Roc | None:
    """The ROC over splits; None with one split or where a split lacks a class."""
    if not np.isfinite(performance.loc[method, "auc_splits"]):
        return None
    part = predictions[predictions["method"] == method].drop_duplicates(["repeat", "fold"])
    train, patients = float(part["train"].mean()), int(performance.loc[method, "patients"])
    return roc_of_splits(split_scores(predictions, method), train=train, patients=patients)
