"""How a figure is pooled over a group of patients: functions of weights, how often each patient counts.

With weights of one they give the figure itself; with the counts of draws with replacement, a row of weights a draw,
the bootstrap, all draws at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.evaluation.enhancement import SUMS
from lab.stats.agreement import concordance, concordance_of_sums, kappa
from lab.stats.auc import weighted_auc

Values = NDArray[np.float64]
PoolingFunction = Callable[[Values, dict[str, Values]], Values]
"""Weights (draws, scans) and columns (scans,) -> values (draws,)."""
AGREEMENT = 1.96
"""Standard deviations between the mean difference and a limit of agreement (Bland & Altman 1986)."""


@dataclass(frozen=True)
class Pooling:
    """The columns of the per-patient table that a pooled figure is made of, and how."""

    columns: tuple[str, ...]
    """Without `_rule` or `_expert`."""
    function: PoolingFunction
    words: str
    """For people: "mean over patients"."""
    interval: bool = True
    """Whether the bootstrap's interval of it means anything."""


def mean(name: str) -> Pooling:
    """The mean over patients of a column."""
    return Pooling(
        (name,), lambda weights, data: weights @ data[name] / weights.sum(axis=1), "mean over patients who have it"
    )


def share(part: dict[str, float], whole: dict[str, float]) -> Pooling:
    """Sum over patients of some columns, each times a factor, over the sum of others."""

    def pooled_share(weights: Values, data: dict[str, Values]) -> Values:
        above, below = (sum(factor * data[name] for name, factor in side.items()) for side in (part, whole))
        return (weights @ above) / (weights @ below)

    return Pooling(tuple(dict.fromkeys([*part, *whole])), pooled_share, "of sums over patients")


def auc_of(score: str, label: str) -> Pooling:
    """Area under the ROC curve of a column against one of labels; ties count half."""
    return Pooling(
        (score, label),
        lambda weights, data: weighted_auc(data[label] > 0.5, data[score], weights),
        "over pairs of patients",
    )


def concordance_of(first: str, second: str) -> Pooling:
    """Lin's concordance correlation of two columns."""
    return Pooling(
        (first, second), lambda weights, data: concordance(data[first], data[second], weights), "over patients"
    )


def limit_of_agreement(name: str, side: int) -> Pooling:
    """The lower (-1) or upper (1) limit of agreement; the standard deviation has n - 1."""

    def limit(weights: Values, data: dict[str, Values]) -> Values:
        total = weights.sum(axis=1)
        center = weights @ data[name] / total
        squares = weights @ np.square(data[name] - data[name].mean()) if data[name].size else total
        deviation = np.sqrt(np.maximum(squares - total * (center - data[name].mean()) ** 2, 0) / (total - 1))
        return center + side * AGREEMENT * deviation

    return Pooling((name,), limit, "over patients", interval=False)


KAPPA = Pooling(
    ("overlap_ml", "ml_predicted", "ml", "ml_near"),
    lambda weights, data: kappa(*(weights @ data[name] for name in ("overlap_ml", "ml_predicted", "ml", "ml_near"))),
    "of volumes summed over patients",
)
CONTRAST = Pooling(
    SUMS,
    lambda weights, data: concordance_of_sums(*(weights @ data[name] for name in SUMS)),
    "of sums over the voxels of all patients",
)
