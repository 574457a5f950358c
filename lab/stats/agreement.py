"""Agreement beyond chance of predicted and true enhancement, or of two sets of values: kappa and concordance.

Kappa and `concordance_of_sums` use sums over voxels, so patients are pooled by adding their sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lab.stats.predictions import Floats

Number = TypeVar("Number", float, NDArray[np.float64])


def kappa(overlap: Number, drawn: Number, true: Number, whole: Number) -> Number:
    """Cohen's kappa (1960) of two regions from their volumes in a whole: voxelwise agreement beyond chance.

    1 is perfect agreement. Chance, marking everything and marking nothing all give 0; Dice rewards marking everything.
    NaN or a division error where both are empty or both are the whole.
    """
    observed = (whole - drawn - true + 2 * overlap) / whole
    chance = (drawn * true + (whole - drawn) * (whole - true)) / whole**2
    return (observed - chance) / (1 - chance)


def concordance_of_sums(
    count: Number, drawn: Number, drawn_squares: Number, true: Number, true_squares: Number, products: Number
) -> Number:
    """Lin's concordance of two sets of values from their sums, sums of squares and of products (Biometrics 1989).

    1 only where both are equal; 0 where either is constant, as for a contrast predicted everywhere or nowhere. NaN or a
    division error where both are the same constant.
    """
    mean_drawn, mean_true = drawn / count, true / count
    covariance = products / count - mean_drawn * mean_true
    variances = drawn_squares / count - mean_drawn**2 + true_squares / count - mean_true**2
    return 2 * covariance / (variances + (mean_drawn - mean_true) ** 2)


def concordance(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Lin's concordance of values (N,) and (N,) under each row of weights (draws, N) -> (draws,).

    As `concordance_of_sums`, but on centred values, so accurate where both means are far from 0. NaN, with NumPy's
    warning, where all values are one constant.
    """
    share = weights / weights.sum(axis=1, keepdims=True)
    centre_x, centre_y = (values.mean() if values.size else 0.0 for values in (x, y))
    x, y = x - centre_x, y - centre_y
    mean_x, mean_y = share @ x, share @ y
    covariance = share @ (x * y) - mean_x * mean_y
    variances = share @ (x * x) - mean_x**2 + share @ (y * y) - mean_y**2
    return 2 * covariance / (variances + (mean_x - mean_y + (centre_x - centre_y)) ** 2)
