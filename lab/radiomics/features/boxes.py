"""Boxes of voxels, and a Laplacian of Gaussian on a box instead of the whole image.

A box is an array (2, 3) of x, y, z: the first voxel, and one past the last.
"""

import math
from functools import lru_cache

import numpy as np
import SimpleITK as sitk

from lab.io import grid

NEGLIGIBLE = 1e-9
"""Weights of the filter below this share of its largest are left out: the recursive Gaussian has an infinite tail,
which falls to this share 12 sigma away. float32 tells sixty times as much."""


def label_box(mask: sitk.Image, label: int) -> np.ndarray:
    """The box (2, 3) around the voxels with the label. Raises ValueError if there are none."""
    inside = np.equal(sitk.GetArrayViewFromImage(mask).T, label)  # (X, Y, Z)
    if not inside.any():
        raise ValueError("the tumour mask is empty")
    edges = grid.bounding_box(inside)
    return np.array([[edge.start for edge in edges], [edge.stop for edge in edges]])


def grow(box: np.ndarray, margin: np.ndarray, size: np.ndarray, *, wraps: bool) -> np.ndarray:
    """The box with a margin (x, y, z), cut to an image of `size`; with `wraps` a cut axis is taken whole."""
    low, high = box[0] - margin, box[1] + margin
    whole = wraps & ((low < 0) | (high > size))
    return np.array([np.where(whole, 0, low.clip(0)), np.where(whole, size, high.clip(None, size))])


def crop(image: sitk.Image, box: np.ndarray) -> sitk.Image:
    """The part of the image inside the box."""
    x, y, z = (slice(int(low), int(high)) for low, high in box.T)
    return image[x, y, z]


def laplacian_of_gaussian(image: sitk.Image, sigma_mm: float, box: np.ndarray) -> sitk.Image:
    """The scale-normalised Laplacian of Gaussian of a 3D image inside `box`, as float32.

    It equals ITK's LaplacianRecursiveGaussian of the whole image within rounding, at a fraction of the cost: along a
    line, ITK's recursive filter is linear, so it is a matrix of which only the rows inside the box are needed.
    """
    values = sitk.GetArrayViewFromImage(image)  # (Z, Y, X)
    filters: list[np.ndarray] = []
    needed: list[slice] = []
    for size, spacing_mm, (first, end) in zip(values.shape, image.GetSpacing()[::-1], box.T[::-1]):
        pair = line_filters(size, spacing_mm, sigma_mm)[:, first:end]
        used = np.flatnonzero((np.abs(pair) > NEGLIGIBLE * np.abs(pair).max((1, 2), keepdims=True)).any((0, 1)))
        needed.append(slice(used[0], used[-1] + 1))
        filters.append(pair[..., needed[-1]])
    (smooth_z, second_z), (smooth_y, second_y), (smooth_x, second_x) = filters
    region = values[tuple(needed)].astype(np.float64)
    smooth, second = region @ smooth_x.T, region @ second_x.T
    smooth, second = smooth_y @ smooth, smooth_y @ second + second_y @ smooth
    total = np.tensordot(smooth_z, second, 1) + np.tensordot(second_z, smooth, 1)
    found = sitk.GetImageFromArray(total.astype(np.float32))
    found.CopyInformation(crop(image, box))
    return found


@lru_cache(maxsize=64)
def line_filters(size: int, spacing_mm: float, sigma_mm: float) -> np.ndarray:
    """ITK's recursive Gaussian along a line as matrices (2, to voxel, from voxel): smoothing, second derivative."""
    impulses = sitk.GetImageFromArray(np.eye(size))
    impulses.SetSpacing((spacing_mm, spacing_mm))
    smooth, second = (sitk.RecursiveGaussian(impulses, sigma_mm, True, order, 0) for order in (0, 2))
    found = np.stack([sitk.GetArrayFromImage(smooth).T, sitk.GetArrayFromImage(second).T / spacing_mm**2])
    return found.astype(np.float64)


def fits(image: sitk.Image, sigma_mm: float) -> bool:
    """Whether pyradiomics would filter the image: at least four voxels per axis, and more than one sigma."""
    return all(
        size >= max(4, math.ceil(sigma_mm / spacing) + 1) for size, spacing in zip(image.GetSize(), image.GetSpacing())
    )
