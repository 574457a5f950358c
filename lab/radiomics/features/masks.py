"""Checks of tumour masks, and small perturbations such as the differences between two readers."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage


def check_mask_extent(tumour: np.ndarray, settings: dict[str, Any]) -> None:
    """Raises ValueError if a mask (X, Y, Z) bool is empty, or smaller or flatter than the settings allow."""
    voxels, fewest = int(np.count_nonzero(tumour)), int(settings.get("minimumROISize") or 1) + 1
    if voxels == 0:
        raise ValueError("no tumour mask: none of its voxels is set")
    if voxels < fewest:
        raise ValueError(f"the tumour mask has {voxels} voxel{'s' * (voxels > 1)}, {fewest} are needed")
    extents = [np.ptp(np.flatnonzero(tumour.any(axis=others))) + 1 for others in ((1, 2), (0, 2), (0, 1))]
    needed = int(settings.get("minimumROIDimensions", 2))
    if sum(extent > 1 for extent in extents) < needed:
        across = " x ".join(str(extent) for extent in extents)
        raise ValueError(f"the tumour mask is flat ({across} voxels), it must extend in {needed} directions")


def unchanged(mask: np.ndarray) -> np.ndarray:
    """The mask (X, Y, Z) bool itself."""
    return mask


def dilate(mask: np.ndarray) -> np.ndarray:
    """The mask plus every voxel that shares a face with it."""
    return ndimage.binary_dilation(mask)


def erode(mask: np.ndarray) -> np.ndarray:
    """The mask without the voxels that share a face with the background; beyond the image's border counts as mask."""
    return ndimage.binary_erosion(mask, border_value=1)


def shift(axis: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function that moves a mask by one voxel in the positive direction of an axis; what leaves the image is lost."""

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
