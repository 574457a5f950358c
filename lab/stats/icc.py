"""ICC(3,1): agreement of several measurements of the same cases, with its interval.

Shrout & Fleiss, Psychological Bulletin 1979: two-way mixed effects, single measurement, consistency.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from lab.stats.intervals import CONFIDENCE


def icc_3_1(ratings: np.ndarray, level: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ICC(3,1) of ratings (cases, raters, ...) and its confidence interval by the F distribution, each (...).

    NaN where no case differs from another; 1 where the raters agree up to a constant.
    """
    n, k = ratings.shape[:2]
    grand = ratings.mean(axis=(0, 1), keepdims=True)
    case_means, rater_means = ratings.mean(axis=1, keepdims=True), ratings.mean(axis=0, keepdims=True)
    between = k * ((case_means - grand) ** 2).sum(axis=(0, 1)) / (n - 1)
    residual = ((ratings - case_means - rater_means + grand) ** 2).sum(axis=(0, 1)) / ((n - 1) * (k - 1))
    floor = (np.finfo(np.float64).eps * np.abs(ratings).max(axis=(0, 1))) ** 2  # rounding error
    constant, exact = between <= 16 * floor, residual <= 16 * floor
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = between / residual
    freedom = (n - 1, (n - 1) * (k - 1))
    upper = (1 + level) / 2
    bounds = ratio / stats.f.ppf(upper, *freedom), ratio, ratio * stats.f.ppf(upper, *freedom[::-1])
    with np.errstate(invalid="ignore"):
        low, icc, high = (np.where(constant, np.nan, np.where(exact, 1.0, (one - 1) / (one + k - 1))) for one in bounds)
    return icc, low, high
