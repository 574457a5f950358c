"""Youden's threshold, accuracy at a threshold (positive at or above it), and decision curves (net benefit)."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lab.stats.intervals import wilson
from lab.stats.predictions import checked, checked_probabilities

THRESHOLDS = np.round(np.linspace(0.01, 0.99, 99), 2)


def youden_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """The threshold with the highest sensitivity + specificity - 1 (Youden 1950), midway between two scores.

    Choose it on validation patients and pass it to `at_threshold` with others: on the same patients it is optimistic.
    Ties go to the lowest threshold, since a missed tumour weighs more. Where no threshold beats calling everybody
    positive (constant or reversed scores) it is the lowest score. Raises ValueError as `checked`.
    """
    positive, values = checked(labels, scores)
    levels = np.unique(values)
    called = np.searchsorted(np.sort(values[positive]), levels), np.searchsorted(np.sort(values[~positive]), levels)
    missed, right = called[0] / positive.sum(), called[1] / (~positive).sum()
    index = right - missed  # (levels,) at a threshold equal to each level, which are in rising order
    best = int(np.flatnonzero(index >= index.max() - 1e-12)[0])
    return float(levels[0] if best == 0 else (levels[best - 1] + levels[best]) / 2)


def at_threshold(labels: ArrayLike, scores: ArrayLike, threshold: float) -> pd.DataFrame:
    """Sensitivity, specificity, PPV, NPV and accuracy with Wilson intervals: figure, value, low, high, hits, n.

    PPV and NPV hold at this prevalence only. A figure without patients is NaN with n = 0. Raises ValueError as
    `checked`, but one class is enough.
    """
    positive, values = checked(labels, scores, both=False)
    if np.isnan(threshold):
        raise ValueError("the threshold is NaN: choose it on validation patients first")
    called = values >= threshold
    shares = {
        "sensitivity": (called & positive, positive),
        "specificity": (~called & ~positive, ~positive),
        "ppv": (called & positive, called),
        "npv": (~called & ~positive, ~called),
        "accuracy": (called == positive, np.ones_like(called)),
    }
    rows = []
    for figure, (right, among) in shares.items():
        hits, total = int(right.sum()), int(among.sum())
        share = wilson(hits, total)
        rows.append((figure, share.value, share.low, share.high, hits, total))
    return pd.DataFrame(rows, columns=["figure", "value", "low", "high", "hits", "n"])


def decision_curve(labels: ArrayLike, probabilities: ArrayLike, thresholds: ArrayLike = THRESHOLDS) -> pd.DataFrame:
    """Net benefit against treating all or none: columns threshold, model, all, none (Vickers & Elkin 2006).

    At threshold probability t, net benefit is TP / N - FP / N * t / (1 - t): true positives per patient minus false
    positives weighted by the odds of t. It is at most the prevalence, and 0 for treating none. Raises ValueError as
    `checked_probabilities`, and for thresholds outside (0, 1).
    """
    positive, values = checked_probabilities(labels, probabilities)
    cuts = np.atleast_1d(np.asarray(thresholds, np.float64))
    if not ((cuts > 0) & (cuts < 1)).all():
        raise ValueError(f"threshold probabilities lie between 0 and 1, without the ends; got {cuts}")
    called = values >= cuts[:, None]  # (thresholds, N)
    odds = cuts / (1 - cuts)
    prevalence = positive.mean()
    model = (called & positive).mean(axis=1) - (called & ~positive).mean(axis=1) * odds
    return pd.DataFrame({"threshold": cuts, "model": model, "all": prevalence - (1 - prevalence) * odds, "none": 0.0})
