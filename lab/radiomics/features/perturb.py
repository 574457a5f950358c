"""Small changes of a tumour mask, such as another reader or another day would make."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage


def unchanged(mask: np.ndarray) -> np.ndarray:
    """The mask (X, Y, Z) bool itself."""
    return mask


def dilate(mask: np.ndarray) -> np.ndarray:
    """Every voxel that shares a face with the mask is added."""
    return ndimage.binary_dilation(mask)


def erode(mask: np.ndarray) -> np.ndarray:
    """Every voxel that shares a face with what is not the mask is taken away; outside the image all is mask."""
    return ndimage.binary_erosion(mask, border_value=1)


def shift(axis: int) -> Callable[[np.ndarray], np.ndarray]:
    """Move the mask by one voxel along an axis, to the right, to the front or up; what leaves the image is lost."""

    def shifted(mask: np.ndarray) -> np.ndarray:
        moved = np.roll(mask, 1, axis=axis)
        moved[(slice(None),) * axis + (0,)] = False
        return moved

    return shifted


PERTURBATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": unchanged,
    "dilate": dilate,
    "erode": erode,
    "shift x": shift(0),
    "shift y": shift(1),
    "shift z": shift(2),
}
