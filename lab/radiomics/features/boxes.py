"""Boxes of voxels in an image: two rows of x, y, z, the first voxel and one past the last."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk


def bounding_box(mask: sitk.Image, label: int) -> np.ndarray:
    """The box (2, 3) round the voxels with the label. Raises ValueError where there is none."""
    labels = sitk.GetArrayViewFromImage(mask).T  # (X, Y, Z)
    inside = labels == label
    if not inside.any():
        raise ValueError("the tumour mask is empty")
    edges = [np.flatnonzero(inside.any(axis=others))[[0, -1]] for others in ((1, 2), (0, 2), (0, 1))]
    return np.array(edges).T + np.array([[0], [1]])


def grow(box: np.ndarray, margin: np.ndarray, size: np.ndarray, *, wraps: bool) -> np.ndarray:
    """The box with a margin (x, y, z), inside an image of `size`.

    For a filter that `wraps` round, an axis on which the margin meets a face is taken whole.
    """
    low, high = box[0] - margin, box[1] + margin
    whole = wraps & ((low < 0) | (high > size))
    return np.array([np.where(whole, 0, low.clip(0)), np.where(whole, size, high.clip(None, size))])


def crop(image: sitk.Image, box: np.ndarray) -> sitk.Image:
    """The image inside the box."""
    x, y, z = (slice(int(low), int(high)) for low, high in box.T)
    return image[x, y, z]
