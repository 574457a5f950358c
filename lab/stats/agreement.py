"""How far do predicted and true enhancement, or two sets of values, agree beyond what chance gives?

Kappa and the concordance of sums are made of sums over voxels, so that patients can be pooled by adding theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lab.stats.predictions import Floats

Number = TypeVar("Number", float, NDArray[np.float64])


def kappa(overlap: Number, drawn: Number, true: Number, whole: Number) -> Number:
    """Cohen's kappa of two regions from their volumes in a whole: agreement voxel by voxel beyond chance (1960).

    1 is equal, 0 is what chance gives, and so do drawing everything and drawing nothing, where Dice rewards the former.
    NaN or a division error where both are empty or both are the whole.
    """
    observed = (whole - drawn - true + 2 * overlap) / whole
    chance = (drawn * true + (whole - drawn) * (whole - true)) / whole**2
    return (observed - chance) / (1 - chance)


def concordance_of_sums(
    count: Number, drawn: Number, drawn_squares: Number, true: Number, true_squares: Number, products: Number
) -> Number:
    """Lin's concordance of two sets of values from their sums, sums of squares and of products (Biometrics 1989).

    1 only where both are equal; 0 where either is constant, so for a contrast that is drawn everywhere or nowhere. NaN
    or a division error where both are the same constant.
    """
    mean_drawn, mean_true = drawn / count, true / count
    covariance = products / count - mean_drawn * mean_true
    variances = drawn_squares / count - mean_drawn**2 + true_squares / count - mean_true**2
    return 2 * covariance / (variances + (mean_drawn - mean_true) ** 2)


def concordance(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Lin's concordance of values (N,) and (N,) under each row of weights (draws, N) -> (draws,), by centred values.

    As `concordance_of_sums`, but accurate where both means are far from 0. NaN, with NumPy's warning, where all values
    are one constant.
    """
    share = weights / weights.sum(axis=1, keepdims=True)
    centre_x, centre_y = (values.mean() if values.size else 0.0 for values in (x, y))
    x, y = x - centre_x, y - centre_y
    mean_x, mean_y = share @ x, share @ y
    covariance = share @ (x * y) - mean_x * mean_y
    variances = share @ (x * x) - mean_x**2 + share @ (y * y) - mean_y**2
    return 2 * covariance / (variances + (mean_x - mean_y + (centre_x - centre_y)) ** 2)
