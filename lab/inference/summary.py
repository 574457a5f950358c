"""What is made of a new patient's image on the prepared grid: where it enhances, how much, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.evaluation.conformal import Intervals
from lab.evaluation.enhancement import TOLERANCE_MM, enhancement_level, near
from lab.io.case_file import BRAIN, TUMOUR

Image = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


def brain_of(masks: NDArray[np.uint8]) -> Mask:
    """The brain (X, Y, Z) of bit flags."""
    return (masks & BRAIN) > 0


def near_tumour(masks: NDArray[np.uint8], spacing_mm: float) -> Mask:
    """The tumour and what is near to it (X, Y, Z); empty where it is not known."""
    return near((masks & TUMOUR) > 0, brain_of(masks), spacing_mm)


def enhancing(
    image: Image, t1: Image, masks: NDArray[np.uint8], *, spacing_mm: float, threshold: float
) -> tuple[Mask, str]:
    """Where an image (X, Y, Z) enhances by the paper's rule, and in which region was looked, in words."""
    region, where = near_tumour(masks, spacing_mm), f"in the tumour and {TOLERANCE_MM:g} mm round it"
    if not region.any():
        region, where = brain_of(masks), "in the whole brain"
    return (image - t1.astype(np.float32) > threshold) & region, where


def drawn_level(
    image: Image, t1: Image, masks: NDArray[np.uint8], *, spacing_mm: float, enhancing_ml: float
) -> float | None:
    """The level that the least enhancing volume reaches near the tumour; None where that is not known."""
    region = near_tumour(masks, spacing_mm)
    if not region.any():
        return None
    return enhancement_level((image - t1.astype(np.float32))[region], spacing_mm, enhancing_ml)


def half_widths(
    intervals: Intervals, spread: NDArray[np.float32] | None, masks: NDArray[np.uint8], *, spacing_mm: float
) -> NDArray[np.float32]:
    """Half of each voxel's interval (X, Y, Z), 0 outside the brain."""
    return intervals.half_width(spread, near_tumour(masks, spacing_mm)) * brain_of(masks)
