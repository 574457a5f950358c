"""Checks of labels and scores, and the mean prediction per patient over splits."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]


def checked(labels: ArrayLike, scores: ArrayLike, *, both: bool = True) -> tuple[Labels, Floats]:
    """Labels (N,) as booleans and scores (N,) as numbers, higher for label 1.

    Raises ValueError where lengths differ, a label is neither 0 nor 1, a score is not finite, there are no predictions,
    or, with `both`, a class is missing.
    """
    truth, values = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if truth.ndim != 1 or values.ndim != 1 or truth.size != values.size:
        raise ValueError(f"labels and scores must be two lists of one length; got {truth.shape}, {values.shape}")
    if not truth.size:
        raise ValueError("there are no predictions to judge")
    for found in truth[~np.isin(truth, (0, 1))]:
        raise ValueError(f"labels must be 0 or 1; found {found:g} (leave out patients without a label)")
    for position in np.flatnonzero(~np.isfinite(values)):
        raise ValueError(f"score {position} is {values[position]:g}: leave out patients without a prediction")
    positive = truth > 0.5
    if both and positive.all() | (~positive).all():
        raise ValueError(f"all {truth.size} labels are {int(truth[0])}: both classes are needed")
    return positive, values


def checked_probabilities(labels: ArrayLike, probabilities: ArrayLike, *, both: bool = True) -> tuple[Labels, Floats]:
    """As `checked`; also raises ValueError for probabilities outside [0, 1]."""
    positive, values = checked(labels, probabilities, both=both)
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"probabilities must lie in [0, 1]; they span {values.min():g} to {values.max():g}")
    return positive, values


def one_per_patient(patients: ArrayLike, labels: ArrayLike, scores: ArrayLike) -> pd.DataFrame:
    """One row per patient, sorted by name: patient_id, label, score (mean over splits) and splits (their number).

    Repeated cross-validation tests a patient several times, and those predictions are not independent: DeLong's
    variance and the bootstrap over patients need their mean. It mixes the scores of several models, so pass
    probabilities, not raw decision values. Raises ValueError where a patient has two labels.
    """
    names = np.asarray(patients).astype(str)
    positive, values = checked(labels, scores, both=False)
    if names.shape != positive.shape:
        raise ValueError(f"there are {names.size} patients for {positive.size} predictions")
    table = pd.DataFrame({"patient_id": names, "label": positive.astype(int), "score": values})
    grouped = table.groupby("patient_id")
    mixed = grouped["label"].nunique() > 1
    if mixed.any():
        raise ValueError(f"patient {mixed.index[mixed][0]} has the label 0 in some rows and 1 in others")
    found = grouped.agg(label=("label", "first"), score=("score", "mean"), splits=("score", "size"))
    return found.reset_index()
