"""Agreement of two measurements: kappa, Lin's concordance and ICC(3,1).

Kappa and `concordance_of_sums` use sums over voxels, so patients are pooled by adding their sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri

if TYPE_CHECKING:
    from lab.stats.predictions import Floats

Number = TypeVar("Number", float, NDArray[np.float64])


def kappa(overlap: Number, predicted: Number, true: Number, whole: Number) -> Number:
    """Cohen's kappa (1960) of two regions from their volumes in a whole: voxelwise agreement beyond chance.

    1 is perfect agreement. Chance, marking everything and marking nothing all give 0; Dice rewards marking everything.
    NaN or a division error where both are empty or both are the whole.
    """
    observed = (whole - predicted - true + 2 * overlap) / whole
    chance = (predicted * true + (whole - predicted) * (whole - true)) / whole**2
    return (observed - chance) / (1 - chance)


def concordance_of_sums(
    count: Number, predicted: Number, predicted_squares: Number, true: Number, true_squares: Number, products: Number
) -> Number:
    """Lin's concordance of two sets of values from their sums, sums of squares and of products (Biometrics 1989).

    1 only where both are equal; 0 where either is constant, as for a contrast predicted everywhere or nowhere. NaN or a
    division error where both are the same constant.
    """
    mean_predicted, mean_true = predicted / count, true / count
    covariance = products / count - mean_predicted * mean_true
    variances = predicted_squares / count - mean_predicted**2 + true_squares / count - mean_true**2
    return 2 * covariance / (variances + (mean_predicted - mean_true) ** 2)


def weighted_concordance(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Lin's concordance of values (N,) and (N,) under each row of weights (draws, N) -> (draws,).

    On centred values, so accurate where both means are far from 0. NaN, with NumPy's warning, where all are equal.
    """
    share = weights / weights.sum(axis=1, keepdims=True)
    centre_x, centre_y = (values.mean() if values.size else 0.0 for values in (x, y))
    x, y = x - centre_x, y - centre_y
    mean_x, mean_y = share @ x, share @ y
    covariance = share @ (x * y) - mean_x * mean_y
    variances = share @ (x * x) - mean_x**2 + share @ (y * y) - mean_y**2
    return 2 * covariance / (variances + (mean_x - mean_y + (centre_x - centre_y)) ** 2)


def icc_3_1(ratings: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ICC(3,1) of ratings (cases, raters, ...) and its confidence interval by the F distribution, each (...).

    Shrout & Fleiss, Psychological Bulletin 1979: two-way mixed effects, single measurement, consistency. NaN where no
    case differs from another; 1 where the raters agree up to a constant.
    """
    n, k = ratings.shape[:2]
    grand = ratings.mean(axis=(0, 1), keepdims=True)
    case_means, rater_means = ratings.mean(axis=1, keepdims=True), ratings.mean(axis=0, keepdims=True)
    between = k * ((case_means - grand) ** 2).sum(axis=(0, 1)) / (n - 1)
    residual = ((ratings - case_means - rater_means + grand) ** 2).sum(axis=(0, 1)) / ((n - 1) * (k - 1))
    floor = (np.finfo(np.float64).eps * np.abs(ratings).max(axis=(0, 1))) ** 2  # rounding error
    constant, exact = between <= 16 * floor, residual <= 16 * floor
    upper, freedom = (1 + level) / 2, (n - 1, (n - 1) * (k - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = between / residual
        bounds = ratio / fdtri(*freedom, upper), ratio, ratio * fdtri(*freedom[::-1], upper)
        low, icc, high = (np.where(constant, np.nan, np.where(exact, 1.0, (one - 1) / (one + k - 1))) for one in bounds)
    return icc, low, high
