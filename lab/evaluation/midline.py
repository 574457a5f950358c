"""Enhancement in the fissure between the hemispheres, which networks learn from its vessels and dura and hallucinate.

The published study saw it enhance in most patients, and also in synthetic images of patients where it did not. It is
scored separately from the tumour, in a slab around the brain's plane of symmetry.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lab.evaluation.enhancement import TOLERANCE_MM, Image, Mask, millilitres, near, padded, widened
from lab.io.case_file import BRAIN, TUMOUR
from lab.io.grid import bounding_box

SLAB_MM = 4.0
"""Half the thickness of the slab."""
ROUNDS = 5


def midline_plane(brain: Mask) -> NDArray[np.float64]:
    """The plane x = a + b y + c z between the hemispheres, in voxels: (a, b, c).

    The plane is fitted to the midpoints of the brain along every left-right line, weighted by the line's length. Lines
    whose midpoint is off by more than 2.5 robust standard deviations are left out and the fit is repeated. NaN without
    a brain.
    """
    seen = brain.any(axis=0)
    if not seen.any():
        return np.full(3, np.nan)
    y, z = np.nonzero(seen)
    columns = brain[:, y, z]
    first, last = columns.argmax(axis=0), len(brain) - 1 - columns[::-1].argmax(axis=0)
    middle, weight = (first + last) / 2, np.sqrt(last - first + 1.0)
    design = np.stack([np.ones(len(y)), y, z], axis=1)
    kept = np.ones(len(y), bool)
    for _ in range(ROUNDS):
        scale = weight[kept]
        plane = np.linalg.lstsq(design[kept] * scale[:, None], middle[kept] * scale, rcond=None)[0]
        off = np.abs(middle - design @ plane)
        kept = off <= max(2.5 * 1.4826 * float(np.median(off)), 0.5)
    return plane


def midline_slab(brain: Mask, spacing_mm: float) -> Mask:
    """The brain up to `SLAB_MM` from the midline plane, (X, Y, Z)."""
    a, b, c = midline_plane(brain)
    if np.isnan(a):
        return np.zeros_like(brain)
    x, y, z = np.ogrid[tuple(slice(0, size) for size in brain.shape)]
    off = np.abs(x - (a + b * y + c * z)) * (spacing_mm / np.sqrt(1 + b**2 + c**2))
    return (off <= SLAB_MM + 1e-6) & brain


def midline_figures(
    synthesis: Image,
    t1: Image,
    truth: Image,
    flags: NDArray[np.uint8],
    slab: Mask,
    *,
    spacing_mm: float,
    threshold: float,
) -> dict[str, float]:
    """Enhancement by the rule in the slab away from the tumour: `midline_ml_true`, `_predicted`, `_false`.

    False is predicted enhancement more than `TOLERANCE_MM` from any true enhancement of the brain. Arrays (X, Y, Z),
    `slab` from `midline_slab`; volumes in millilitres.
    """
    names = ("midline_ml_true", "midline_ml_predicted", "midline_ml_false")
    if not slab.any():
        return dict.fromkeys(names, 0.0)
    box = padded(bounding_box(slab), int(max(TOLERANCE_MM / spacing_mm, 1)), slab.shape)
    brain, tumour = (flags & BRAIN) != 0, (flags & TUMOUR) != 0
    fissure = (slab & ~near(tumour, brain, spacing_mm))[box]
    true = (truth[box] - t1[box] > threshold) & brain[box]
    predicted = (synthesis[box] - t1[box] > threshold) & fissure
    parts = (true & fissure, predicted, predicted & ~widened(true, spacing_mm))
    return {name: millilitres(part, spacing_mm) for name, part in zip(names, parts)}
