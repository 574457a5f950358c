"""Artefact figures: checkerboards of transposed convolutions, and blur."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lab.io.grid import bounding_box

Image = NDArray[Any]
Mask = NDArray[np.bool_]

LOW = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
HIGH = (1 / 16, -4 / 16, 6 / 16, -4 / 16, 1 / 16)
"""Filters that pass the mean and the pattern + - + - unchanged and stop the other; HIGH also stops cubics."""
LAG = 3
"""Cells of two voxels. At this distance two amplitudes share no voxel, so noise does not add to their product."""
CENTRAL_NOISE = 1.5
"""Gradient energy of white noise of variance 1: three central differences of variance 1/2."""


def checkerboard(image: Image, brain: Mask) -> float:
    """RMS amplitude of patterns with a period of 2 voxels that are fixed to the grid, in the image's units.

    A stride-2 transposed convolution gives each of the eight voxels of a cell its own weights (Odena et al., Distill
    2016). The result is a pattern with the same phase over centimetres. There are seven such patterns, alternating
    along x, y, z or several axes. The local amplitude of each is measured in 5 x 5 x 5 voxels that all lie in the
    brain. The mean product of two amplitudes 6 voxels apart along an axis in which the pattern alternates (averaged
    over these axes) is summed over the seven patterns. Noise and anatomy have no lasting phase and average out
    (even the falx, a plane of the grid, has no neighbour along x); a pattern with smoothly varying strength remains.
    Arrays (X, Y, Z). NaN where the brain is too small.
    """
    if not brain.any():
        return float("nan")
    box = bounding_box(brain)
    inside = brain[box]
    for axis in range(3):
        inside = np.logical_and.reduce(_taps(inside, axis))
    pairs = [_lagged(inside, axis) for axis in range(3)]
    both = [first & second for first, second in pairs]
    counts = [int(np.count_nonzero(mask)) for mask in both]
    if not all(counts):
        return float("nan")
    energy = 0.0
    for axes, amplitude in _patterns(np.asarray(image[box], np.float32)):
        for axis in axes:
            first, second = _lagged(amplitude, axis)
            energy += float(np.vdot(first[both[axis]], second[both[axis]])) / counts[axis] / len(axes)
    return sqrt(max(energy, 0.0))


def sharpness(synthesis: Image, truth: Image, brain: Mask, noise_sd: float) -> float:
    """Root of the gradient energy of the synthetic image over that of the noise-free truth; 1 is as sharp as the scan.

    Central differences over brain voxels whose six neighbours are brain. They do not see patterns of period 2, so a
    checkerboard does not raise the figure. The truth's noise (`noise_sd`) is subtracted from its energy; noise in the
    synthetic image counts. Arrays (X, Y, Z) in equal units. NaN where the truth has no gradient beyond its noise.
    """
    if not brain.any():
        return float("nan")
    box = bounding_box(brain)
    inner = ndimage.binary_erosion(brain[box])
    if not inner.any():
        return float("nan")
    energy = gradient_energy(np.asarray(truth[box], np.float32), inner) - CENTRAL_NOISE * noise_sd**2
    shown = gradient_energy(np.asarray(synthesis[box], np.float32), inner)
    return sqrt(shown / energy) if energy > 0 else float("nan")


def gradient_energy(image: Image, inner: Mask) -> float:
    """Mean squared gradient (central differences, per voxel) over a mask that does not touch the volume's faces."""
    core = (slice(1, -1),) * 3
    energy = np.zeros(tuple(size - 2 for size in image.shape), np.float32)
    for axis in range(3):
        before, after = list(core), list(core)
        before[axis], after[axis] = slice(None, -2), slice(2, None)
        energy += np.square((image[tuple(after)] - image[tuple(before)]) / 2)
    return float(energy[inner[core]].mean(dtype=np.float64))


def _patterns(image: Image) -> Iterator[tuple[list[int], Image]]:
    """Axes in which each of the seven patterns alternates, and its amplitude at every second voxel of each axis."""
    bands: list[tuple[list[int], Image]] = [([], image)]
    for axis in range(3):
        bands = [
            ([*axes, axis] if kernel is HIGH else axes, _filtered(band, axis, kernel))
            for axes, band in bands
            for kernel in (LOW, HIGH)
        ]
    yield from bands[1:]  # the first is low-pass in all three axes: the image itself


def _filtered(values: Image, axis: int, kernel: tuple[float, ...]) -> Image:
    taps = _taps(values, axis)
    result = taps[2] * np.float32(kernel[2])
    for weight, tap in zip(kernel, taps):
        if tap is not taps[2]:
            result += np.float32(weight) * tap
    return result


def _taps(values: NDArray[Any], axis: int) -> list[NDArray[Any]]:
    """Five views: the samples that a 5-tap filter reads along an axis at every second position."""
    length = max(0, (values.shape[axis] - 5) // 2 + 1) if values.shape[axis] >= 5 else 0
    views = []
    for offset in range(5):
        part = [slice(None)] * 3
        part[axis] = slice(offset, offset + 2 * length - 1, 2) if length else slice(0, 0)
        views.append(values[tuple(part)])
    return views


def _lagged(values: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two views of an array whose samples lie `LAG` apart along an axis."""
    before, after = [slice(None)] * 3, [slice(None)] * 3
    before[axis], after[axis] = slice(None, -LAG), slice(LAG, None)
    return values[tuple(before)], values[tuple(after)]
