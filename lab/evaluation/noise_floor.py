"""Noise floor: the noise of the true scan, and the least error that any model can reach because of it.

A perfect model predicts the noise-free scan; against the noisy one it still errs by the noise, Gaussian where the
signal is far above it: E|n| = sqrt(2/pi) sd, E n^2 = sd^2.

Bias of the estimate on phantoms with known noise (estimate / truth, T1GD, median and range):

    voxels of 1 mm 1.00 (0.96-1.02, 3 subjects), 2 mm 1.06 (1.03-1.12, 6), 4 mm 1.32 (1.22-1.71, 8)

Coarse voxels hold several tissues, which looks like noise: too high. A resampled scan, as every registered one is, has
noise correlated between neighbours, and the diagonal coefficients see only the finest scale: too low. A shift of half a
voxel along all axes with linear interpolation leaves 0.35 of the estimate (1 mm; cubic 0.64), a quarter of a voxel 0.59
(cubic 0.83). On real scans the estimated floor is therefore a lower bound of the true floor.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.io.grid import bounding_box

MAD_TO_SD = 1 / 0.6744897501960817
"""A Gaussian's standard deviation over its median absolute deviation."""
SMOOTH_SHARE = 0.5
"""Share of the brain's blocks, those of the least gradient, that count as homogeneous."""


def noise_sd(image: NDArray[Any], brain: NDArray[np.bool_]) -> float:
    """Standard deviation of the noise of an image (X, Y, Z) in homogeneous brain, in the image's units.

    The median absolute deviation of the diagonal (HHH) coefficients of a Haar wavelet over 0.6745 (Donoho & Johnstone,
    Biometrika 1994), over the part of the object where the gradient of the low-pass (LLL) image is below its median
    (Coupe et al., Med Image Anal 2010). Their object is found by clustering, here it is the brain; their Rician
    correction is 1 at a brain's signal. A coefficient is taken at every voxel, not every second one, where all eight
    voxels are brain. NaN where there is no such block.
    """
    if not brain.any():
        return float("nan")
    box = bounding_box(brain)
    values = np.asarray(image[box], np.float32)
    low, high, inside = values, values, brain[box]
    for axis in range(3):
        low, high = (_pairs(low, axis, np.add), _pairs(high, axis, np.subtract))
        inside = _pairs(inside, axis, np.logical_and)
    if not inside.any():
        return float("nan")
    slope = np.zeros(low.shape, np.float32)
    for axis in range(3):
        slope += _slope(low, inside, axis) ** 2
    slopes = slope[inside]
    coefficients = np.abs(high[inside][slopes <= np.quantile(slopes, SMOOTH_SHARE)])
    return float(np.median(coefficients)) * MAD_TO_SD / sqrt(8)


def floor(sd: float) -> dict[str, float]:
    """`floor_mae` and `floor_mse`: the errors of a perfect model under Gaussian noise of this standard deviation."""
    return {"floor_mae": sqrt(2 / pi) * sd, "floor_mse": sd**2}


def _pairs(values: NDArray[Any], axis: int, combine: np.ufunc) -> NDArray[Any]:
    """Neighbours along an axis combined; one sample less."""
    first, second = _shifted(values, axis, 1)
    return combine(second, first)


def _slope(low: NDArray[Any], inside: NDArray[np.bool_], axis: int) -> NDArray[Any]:
    """The largest difference of a block to its neighbours along an axis, 0 where these leave the brain."""
    slope = np.zeros(low.shape, np.float32)
    if low.shape[axis] <= 2:
        return slope
    (before, after), (brain_before, brain_after) = _shifted(low, axis, 2), _shifted(inside, axis, 2)
    step = np.where(brain_before & brain_after, np.abs(after - before), 0)
    left, right = _shifted(slope, axis, 2)
    np.maximum(left, step, out=left)
    np.maximum(right, step, out=right)
    return slope


def _shifted(values: NDArray[Any], axis: int, by: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Views of an array without its last and without its first `by` samples along an axis."""
    before = [slice(None)] * 3
    after = list(before)
    before[axis], after[axis] = slice(None, -by), slice(by, None)
    return values[tuple(before)], values[tuple(after)]
