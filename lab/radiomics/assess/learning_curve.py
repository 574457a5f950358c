"""Would more patients help? A figure over a growing training set, on test patients that stay the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lab.stats.intervals import CONFIDENCE, corrected_t

Indices = NDArray[np.intp]
FitAndScore = Callable[[Indices, Indices], float]
"""Trains on the first patients, returns the figure (an AUC, say) on the second."""


def learning_curve(
    fit_and_score: FitAndScore,
    labels: ArrayLike,
    *,
    sizes: Sequence[int],
    seeds: Sequence[int],
    test_share: float = 0.3,
) -> pd.DataFrame:
    """The figure for every seed and size: columns seed, n, test, score.

    `labels` (N,) are one a *patient*. Each seed draws its test patients once, stratified by class; its training sets
    are nested, so that a step from one size to the next only adds patients. Sizes keep the share of the classes as
    nearly as whole patients can, with at least one of each. Raises ValueError for sizes below 2 or beyond the patients
    that are not for testing, where a class is too small to be on both sides, and whatever `fit_and_score` raises.
    """
    truth = np.asarray(labels)
    ones, zeros = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    if ones.size + zeros.size != truth.size or truth.ndim != 1:
        raise ValueError("labels must be 0 or 1, one a patient")
    if not 0 < test_share < 1:
        raise ValueError(f"the share of test patients lies between 0 and 1; got {test_share}")
    held = [max(1, round(test_share * group.size)) for group in (ones, zeros)]
    if min(ones.size - held[0], zeros.size - held[1]) < 1:
        raise ValueError(f"{ones.size} patients with label 1 and {zeros.size} with 0 are too few to train and test on")
    left = truth.size - sum(held)
    if not sizes or min(sizes) < 2 or max(sizes) > left:
        raise ValueError(f"training sets can have 2 to {left} patients, the others are for testing; got {list(sizes)}")
    rows = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        drawn = [rng.permutation(group) for group in (ones, zeros)]
        test = np.sort(np.concatenate([group[:count] for group, count in zip(drawn, held)]))
        rest = _interleaved(drawn[0][held[0] :], drawn[1][held[1] :])
        for size in sizes:
            score = float(fit_and_score(np.sort(rest[:size]), test))
            rows.append((seed, size, test.size, score))
    return pd.DataFrame(rows, columns=["seed", "n", "test", "score"])


def summarise_learning(
    curve: pd.DataFrame, *, level: float = CONFIDENCE, bounds: tuple[float, float] = (0.0, 1.0)
) -> pd.DataFrame:
    """Mean over seeds at each size, with the corrected t interval (see `corrected_t`): n, mean, low, high, seeds.

    Raises ValueError as `corrected_t`, for instance for fewer than 2 seeds or a score that is missing.
    """
    rows = []
    for size, group in curve.groupby("n"):
        train, test = float(group["n"].iloc[0]), float(group["test"].mean())
        found = corrected_t(group["score"], train=train, test=test, level=level, bounds=bounds)
        rows.append((size, found.value, found.low, found.high, len(group)))
    return pd.DataFrame(rows, columns=["n", "mean", "low", "high", "seeds"])


def _interleaved(ones: Indices, zeros: Indices) -> Indices:
    """Both classes in one line, whose every beginning of two or more has both, in about their shares."""
    places = [(np.arange(group.size) + 0.5) / group.size for group in (ones, zeros)]
    places[0][0] = places[1][0] = 0.0
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.concatenate([ones, zeros])[order]
