"""ROC and precision-recall curves with confidence bands.

A ROC curve is over patients, each with one prediction (`roc_of_patients`), or over the splits of a repeated
cross-validation, each with its own model (`roc_of_splits`). Bands are pointwise: 95 % at each specificity, less for the
whole curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from lab.stats.auc import auc, bootstrap_auc, delong_interval
from lab.stats.bootstrap import RESAMPLES, bootstrap, stratified_draws
from lab.stats.intervals import TAILS, Estimate, corrected_se, corrected_t, t_of
from lab.stats.predictions import Floats, Labels, checked

GRID = np.linspace(0, 1, 501)  # 1 - specificity at which curves are averaged


@dataclass(frozen=True, kw_only=True)
class Roc:
    """A ROC curve, or the mean of several, with its band and the intervals of its AUC."""

    grid: Floats  # 1 - specificity, (G,)
    sensitivity: Floats
    low: Floats
    high: Floats
    curves: tuple[tuple[Floats, Floats], ...]  # exact (1 - specificity, sensitivity): one per split, or a single one
    intervals: tuple[Estimate, ...]  # of the AUC: DeLong and bootstrap over patients, Nadeau-Bengio over splits
    aucs: tuple[float, ...]  # AUC of each curve
    patients: int | None = None  # none where only splits are known
    events: int | None = None


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall:
    """A precision-recall curve as steps from recall 0 to 1, and its average precision."""

    recall: Floats
    precision: Floats
    average: Estimate
    prevalence: float  # precision of calling everybody positive
    patients: int
    events: int


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """1 - specificity and sensitivity, both (K,) rising from 0 to 1, at each distinct score; ties are one slope."""
    positive, values = checked(labels, scores)
    return _curves(positive, values, np.ones((1, values.size)))[0]


def on_grid(curve: tuple[Floats, Floats], grid: Floats = GRID) -> Floats:
    """Sensitivity of a ROC curve at each 1 - specificity of a grid; the midpoint of a vertical step.

    The midpoint keeps the mean of many curves unbiased; at 0 and 1 the upper end is taken, so every curve ends at 1.
    """
    x, y = curve
    before = np.clip(np.searchsorted(x, grid, side="left"), 1, x.size - 1)  # first point at or beyond the grid's
    after = np.clip(np.searchsorted(x, grid, side="right"), 1, x.size - 1)
    left, right = (_between(x, y, upper, grid) for upper in (before, after))
    return np.where(grid >= 1, 1.0, np.where(grid <= 0, right, (left + right) / 2))


def roc_of_patients(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Roc:
    """The ROC over patients, one prediction each, with DeLong's and the bootstrap's interval and a bootstrap band.

    For a repeated cross-validation take `one_per_patient`'s predictions: they rank patients across models, so models on
    different scales lower the AUC. Raises ValueError as `delong_interval`.
    """
    positive, values = checked(labels, scores)
    intervals = (
        delong_interval(labels, scores),
        bootstrap_auc(labels, scores, rng=rng, resamples=resamples),
    )
    exact = _curves(positive, values, np.ones((1, values.size)))[0]
    draws = np.stack([on_grid(c) for c in _curves(positive, values, stratified_draws(positive, resamples, rng))])
    low, high = np.quantile(draws, TAILS, axis=0)
    return Roc(
        grid=GRID,
        sensitivity=on_grid(exact),
        low=low,
        high=high,
        curves=(exact,),
        intervals=intervals,
        aucs=(intervals[0].value,),
        patients=values.size,
        events=int(positive.sum()),
    )


def roc_of_splits(
    splits: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    train: float,
    patients: int | None = None,
) -> Roc:
    """The mean ROC of a repeated cross-validation: (labels, scores) of each split's test patients.

    Averaged vertically: mean sensitivity at each specificity (Fawcett 2006). `train` is the (mean) number of training
    patients of a split, `patients` the total number. Interval and band are Nadeau & Bengio's (see `corrected_t`),
    clipped to [0, 1]. Raises ValueError for fewer than 2 splits, and for a split with one class only: stratify.
    """
    curves, areas, sizes = [], [], []
    for number, (labels, scores) in enumerate(splits):
        try:
            curves.append(roc_curve(labels, scores))
        except ValueError as error:
            raise ValueError(f"split {number}: {error}") from error
        areas.append(auc(labels, scores))
        sizes.append(np.size(labels))
    test = float(np.mean(sizes)) if sizes else 0.0
    interval = corrected_t(areas, train=train, test=test)
    heights = np.stack([on_grid(curve) for curve in curves])  # (J, G)
    mean = heights.mean(axis=0)
    reach = t_of(len(curves)) * corrected_se(heights, train=train, test=test)
    return Roc(
        grid=GRID,
        sensitivity=mean,
        low=np.maximum(mean - reach, 0),
        high=np.minimum(mean + reach, 1),
        curves=tuple(curves),
        intervals=(interval,),
        aucs=tuple(areas),
        patients=patients,
    )


def precision_recall(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> PrecisionRecall:
    """The precision-recall curve and its average precision, with the interval of a bootstrap stratified by class.

    Average precision is the sum of precision times the step in recall, without interpolation, which is optimistic
    (Davis & Goadrich 2006). It depends on prevalence, which every draw keeps. With few patients the interval is too
    narrow. Raises ValueError as `checked`.
    """
    positive, values = checked(labels, scores)
    hits, false = (counts[0] for counts in _counts(positive, values, np.ones((1, values.size))))
    recall, precision = hits / hits[-1], hits / (hits + false)
    figure = partial(weighted_average_precision, positive, values)
    average = bootstrap(figure, positive, rng=rng, resamples=resamples)
    return PrecisionRecall(
        recall=np.append(0.0, recall),
        precision=np.append(precision[0], precision),
        average=average,
        prevalence=float(positive.mean()),
        patients=values.size,
        events=int(positive.sum()),
    )


def weighted_average_precision(positive: Labels, scores: Floats, weights: Floats) -> Floats:
    """Average precision of each draw, (draws, N) weights -> (draws,), in (0, 1]."""
    hits, false = _counts(positive, scores, weights)
    precision = hits / np.maximum(hits + false, 1)  # 0 / 1 before the first patient that a draw holds
    return (np.diff(hits, axis=1, prepend=0) * precision).sum(axis=1) / hits[:, -1]


def _counts(positive: Labels, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """True and false positives (draws, K) at each of the K distinct scores as threshold."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    ones = np.cumsum(weights[:, order] * positive[order], axis=1)[:, last]
    return ones, np.cumsum(weights[:, order] * ~positive[order], axis=1)[:, last]


def _curves(positive: Labels, scores: Floats, weights: Floats) -> list[tuple[Floats, Floats]]:
    """The ROC curve of each draw, weights (draws, N)."""
    hits, false = (np.pad(counts, ((0, 0), (1, 0))) for counts in _counts(positive, scores, weights))
    return list(zip(false / false[:, -1:], hits / hits[:, -1:]))


def _between(x: Floats, y: Floats, upper: np.ndarray, grid: Floats) -> Floats:
    """Linear interpolation from point `upper - 1` to point `upper`; their midpoint on a vertical step."""
    lower = upper - 1
    width = x[upper] - x[lower]
    share = np.where(width > 0, (grid - x[lower]) / np.where(width > 0, width, 1), 0.5)
    return y[lower] + np.clip(share, 0, 1) * (y[upper] - y[lower])
