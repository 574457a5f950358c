"""All figures of a classifier's page, by name, from its predictions and the tables stored beside them."""

from __future__ import annotations

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
from lab.stats.roc import Roc, precision_recall, roc_of_patients, roc_of_splits

CAPTIONS = {
    "roc": "ROC over patients, each with the mean of its predictions. The cross is the operating point of the first "
    "method, fixed in training.",
    "roc_splits": "ROC of every split (thin) and their mean with its corrected band: how the way of training does, and "
    "how much it varies.",
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
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Figure]:
    """The figures for which there are data, by name and in the order of `CAPTIONS`.

    `importances` is the result of `summarise_importances`, `learning` that of `summarise_learning`. Methods on fewer
    patients than the first appear in the figures of AUC and ROC only.
    """
    how: Any = {"phantom": phantom, "event": event}
    topic = "Will it enhance?" if event == "enhancing" else f"{event[:1].upper()}{event[1:]}?"
    patients = {str(method): part for method, part in assessment.patients.groupby("method", sort=False)}
    drawn = [row["method"] for _, row in assessment.performance.iterrows() if np.isfinite(row["auc"])]
    main = assessment.main
    if main not in drawn:
        return {}
    judged = [name for name in assessment.judged if name in drawn]
    rng = np.random.default_rng([seed, 7])
    rocs = {
        name: roc_of_patients(patients[name]["label"], patients[name]["score"], rng=rng, resamples=resamples)
        for name in drawn
    }
    point = assessment.accuracy[assessment.accuracy["method"] == main]
    cross = None if point.empty else point
    leading = {name: rocs[name] for name in judged}
    figures = {"roc": roc_figure(leading, title=f"{topic} ROC", point=cross, point_name=f"threshold of {main}", **how)}
    over = {name: found for name in judged if (found := _splits(predictions, assessment, name)) is not None}
    if over:
        figures["roc_splits"] = roc_figure(over, title=f"{topic} ROC over splits", **how)
    if len(drawn) > len(judged):
        title = "ROC of all methods"
        figures["roc_rivals"] = roc_figure(
            {_counted(name, rocs, main): rocs[name] for name in drawn}, title=title, **how
        )
    same = [name for name in drawn if set(patients[name]["patient_id"]) == set(patients[main]["patient_id"])]
    figures["precision_recall"] = precision_recall_figure(
        {
            name: precision_recall(patients[name]["label"], patients[name]["score"], rng=rng, resamples=resamples)
            for name in same
        },
        title=f"{topic} Precision-recall",
        **how,
    )
    certain = [name for name in same if np.isfinite(_row(assessment, name)["brier"])]
    if main in certain:
        order = patients[main].sort_values("patient_id")
        figures["calibration"] = calibration_figure(order["label"], order["score"], title=f"{topic} Calibration", **how)
        scores = {name: patients[name].sort_values("patient_id")["score"] for name in certain}
        figures["decision"] = decision_figure(order["label"], scores, title=f"{topic} Decision curve", **how)
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


def _row(assessment: Assessment, method: str) -> pd.Series:
    return assessment.performance.set_index("method").loc[method]


def _splits(predictions: pd.DataFrame, assessment: Assessment, method: str) -> Roc | None:
    """The ROC over splits; None with one split or where a split lacks a class."""
    row = _row(assessment, method)
    if not np.isfinite(row["auc_splits"]):
        return None
    part = predictions[predictions["method"] == method].drop_duplicates(["repeat", "fold"])
    return roc_of_splits(
        split_scores(predictions, method), train=float(part["train"].mean()), patients=int(row["patients"])
    )
