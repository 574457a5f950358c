"""Scan faults, injected into prepared patients as if the scan had been faulty before preparation.

Prepared values are treated as intensities above a floor that stands for air (-1, the lower cut). After a fault each
sequence is normalised again within the new brain mask, as in `lab.data.case`. The window is not moved to the new brain:
no metric depends on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from lab.data.brain_mask import largest_solid
from lab.data.case import REFERENCE
from lab.io.case_file import BRAIN
from lab.io.files import canonical
from lab.io.grid import bounding_box

SCALP = {"T1": 1.7, "T2": 1.2, "FLAIR": 1.4}
"""Signal of the scalp's fat over the brain's median; 1.3 for other sequences."""
LOBES = {
    "frontal": ((0.0, 0.5), (0.62, 1.0), (0.25, 1.0)),
    "occipital": ((0.0, 0.5), (0.0, 0.3), (0.2, 0.9)),
    "temporal": ((0.0, 0.35), (0.3, 0.75), (0.0, 0.45)),
    "parietal": ((0.0, 0.5), (0.15, 0.55), (0.6, 1.0)),
}
"""Shares of the brain's box: left to right (or mirrored), back to front, bottom to top."""


@dataclass(frozen=True, kw_only=True)
class ScanCase:
    """A prepared patient, as a model gets it for a new patient."""

    image: np.ndarray
    """(C, X, Y, Z) in [-1, 1], RAS."""
    masks: np.ndarray
    """(X, Y, Z) bit flags."""
    channels: tuple[str, ...]
    spacing_mm: float
    clip_sigma: float = 4.0
    contrast: np.ndarray | None = None
    """(X, Y, Z) the true target, where it is known."""

    @property
    def brain(self) -> np.ndarray:
        """(X, Y, Z) bool."""
        return (self.masks & BRAIN) > 0

    @property
    def signal(self) -> np.ndarray:
        """(C, X, Y, Z) float32 intensities above air, 0 outside the brain."""
        return np.where(self.brain, self.image.astype(np.float32) + 1, 0).astype(np.float32)

    def place(self, sequence: str) -> int | None:
        """Index of a sequence along the first axis; None where it is missing."""
        names = list(map(canonical, self.channels))
        return names.index(sequence) if sequence in names else None


def renormalise(case: ScanCase, signal: np.ndarray, brain: np.ndarray) -> ScanCase:
    """A case with new intensities (C, X, Y, Z) and a new brain (X, Y, Z), normalised within that brain.

    Mean and spread are those of the original case in its own brain; these need not be 0 and 1 / clip_sigma (see
    `brain_core`).
    """
    image = np.full(signal.shape, -1, np.float16)
    for channel, known, values in zip(image, case.image, signal):
        usual, inside = known[known > -1].astype(np.float64), values[brain].astype(np.float64)
        spread = float(usual.std()) or 1 / case.clip_sigma
        scaled = (inside - inside.mean()) / max(float(inside.std()), 1e-9)
        channel[brain] = np.clip(scaled * spread + usual.mean(), -1, 1)
    masks = np.where(brain, case.masks | np.uint8(BRAIN), 0).astype(np.uint8)
    return dataclasses.replace(case, image=image, masks=masks)


def swapped(first: str, second: str, case: ScanCase, rng: np.random.Generator) -> ScanCase | None:
    """Two sequences swapped."""
    one, other = case.place(first), case.place(second)
    if one is None or other is None:
        return None
    image = np.array(case.image)
    image[[one, other]] = image[[other, one]]
    return dataclasses.replace(case, image=image)


def contrast_agent(case: ScanCase, rng: np.random.Generator) -> ScanCase | None:
    """The true target in place of T1."""
    place = case.place(REFERENCE)
    if case.contrast is None or place is None:
        return None
    image = np.array(case.image)
    image[place] = case.contrast
    return dataclasses.replace(case, image=image)


def empty(case: ScanCase, rng: np.random.Generator) -> ScanCase:
    """A sequence with nothing but the scanner's noise."""
    signal = case.signal
    signal[int(rng.integers(len(signal)))] = rng.rayleigh(1.0, signal[0].shape)
    return renormalise(case, signal, case.brain)


def skull(case: ScanCase, rng: np.random.Generator) -> ScanCase:
    """Fluid, skull and scalp around the brain, inside the brain mask."""
    brain, signal = case.brain, case.signal
    distance = ndimage.distance_transform_edt(~brain, sampling=case.spacing_mm)
    fluid, bone, scalp = 1.5, rng.uniform(4, 7), rng.uniform(4, 7)
    texture = ndimage.gaussian_filter(rng.standard_normal(brain.shape, dtype=np.float32), 8 / case.spacing_mm)
    for values, name in zip(signal, map(canonical, case.channels)):
        median = float(np.median(values[brain]))
        fat = SCALP.get(name, 1.3) * (1 + 0.15 * texture / texture.std())
        shell = np.where(distance <= fluid + bone, 0.12, fat) * median
        shell = np.where(distance <= fluid, median * (1.6 if name == "T2" else 0.5), shell)
        values[:] = np.where(brain, values, ndimage.gaussian_filter(np.where(brain, values, shell), 0.5))
    return renormalise(case, signal, distance <= fluid + bone + scalp)


def without(shares: tuple[tuple[float, float], ...], case: ScanCase, rng: np.random.Generator) -> ScanCase:
    """A part of the brain not scanned: shares of its box (left-right or mirrored, back to front, bottom to top)."""
    first, *others = shares
    sides = ((1 - first[1], 1 - first[0]) if rng.random() < 0.5 else first, *others)
    box = bounding_box(case.brain)
    sizes = [side.stop - side.start for side in box]
    brain = case.brain
    brain[tuple(slice(b.start + round(x * n), b.start + round(y * n)) for b, n, (x, y) in zip(box, sizes, sides))] = (
        False
    )
    return renormalise(case, case.signal, largest_solid(brain))


def missing_lobe(case: ScanCase, rng: np.random.Generator) -> ScanCase:
    """A lobe missing from the brain mask."""
    return without(LOBES[str(rng.choice(list(LOBES)))], case, rng)


def upside_down(case: ScanCase, rng: np.random.Generator) -> ScanCase:
    """A header with bottom and top exchanged."""
    contrast = None if case.contrast is None else case.contrast[..., ::-1]
    return dataclasses.replace(case, image=case.image[..., ::-1], masks=case.masks[..., ::-1], contrast=contrast)


def scaled(factor: float, case: ScanCase, rng: np.random.Generator) -> ScanCase:
    """A brain of another size, scanned with the same voxels."""
    centre = (np.array(case.brain.shape) - 1) / 2
    grid = {"matrix": np.full(3, 1 / factor), "offset": centre - centre / factor}
    brain = largest_solid(ndimage.affine_transform(case.brain.astype(np.float32), order=1, **grid) >= 0.5)
    signal = np.stack([ndimage.affine_transform(values, order=3, **grid) for values in _filled(case)])
    masks = ndimage.affine_transform(np.asarray(case.masks), order=0, **grid)
    return renormalise(dataclasses.replace(case, masks=masks), signal, brain)


def noisy(ratio: float, case: ScanCase, rng: np.random.Generator) -> ScanCase:
    """Rician noise (Gudbjartsson & Patz 1995) with a signal-to-noise ratio relative to each sequence's median."""
    signal = case.signal
    for values in signal:
        sigma = np.float32(np.median(values[case.brain]) / ratio)
        real, imaginary = sigma * rng.standard_normal((2, *values.shape), dtype=np.float32)
        values[:] = np.hypot(values + real, imaginary)
    return renormalise(case, signal, case.brain)


def blurred(case: ScanCase, rng: np.random.Generator) -> ScanCase:
    """Smoothing by 1.2 voxels (a full width at half maximum of nearly three)."""
    return renormalise(case, ndimage.gaussian_filter(_filled(case), (0, 1.2, 1.2, 1.2)), case.brain)


def thick(case: ScanCase, rng: np.random.Generator) -> ScanCase:
    """Axial slices of at least three voxels and 6 mm, interpolated in between."""
    count = max(3, round(6 / case.spacing_mm))
    slices = ndimage.uniform_filter1d(_filled(case), count, axis=-1)[..., count // 2 :: count]
    grid = {"matrix": [1, 1, 1, 1 / count], "offset": [0, 0, 0, -(count // 2) / count], "order": 1, "mode": "nearest"}
    return renormalise(case, ndimage.affine_transform(slices, output_shape=case.image.shape, **grid), case.brain)


def shaded(case: ScanCase, rng: np.random.Generator) -> ScanCase:
    """A bias field that at least doubles every sequence's signal from one side of the brain to the other."""
    direction = rng.standard_normal(3)
    steps = [
        side * np.interp(np.arange(size), (box.start, box.stop - 1), (-1, 1))
        for size, side, box in zip(case.brain.shape, direction / np.linalg.norm(direction), bounding_box(case.brain))
    ]
    field = np.exp(0.5 * (steps[0][:, None, None] + steps[1][:, None] + steps[2])).astype(np.float32)
    return renormalise(case, case.signal * field, case.brain)


def _filled(case: ScanCase) -> np.ndarray:
    """(C, X, Y, Z) intensities, outside the brain those of the nearest brain voxel: an edge would ring and leak."""
    nearest = ndimage.distance_transform_edt(~case.brain, return_distances=False, return_indices=True)
    return case.signal[:, *nearest]


class Fault(NamedTuple):
    """A fault of a scan."""

    text: str
    inject: Callable[[ScanCase, np.random.Generator], ScanCase | None]
    """The case with the fault; None where the case lacks what the fault needs."""
    suspects: tuple[str, ...]
    """Findings that name this fault, any of these keys of `lab.qc.findings.SUSPECTS`."""


FAULTS: dict[str, Fault] = {
    "T1 and T2 swapped": Fault("T1 given as T2 and T2 as T1", partial(swapped, "T1", "T2"), ("swapped",)),
    "T2 and FLAIR swapped": Fault("T2 given as FLAIR and FLAIR as T2", partial(swapped, "T2", "FLAIR"), ("swapped",)),
    "T1 and FLAIR swapped": Fault("T1 given as FLAIR and FLAIR as T1", partial(swapped, "T1", "FLAIR"), ("swapped",)),
    "T1 with contrast agent": Fault("T1GD given as T1", contrast_agent, ("contrast agent", "other contrast")),
    "one sequence empty": Fault("nothing but noise in one sequence", empty, ("nothing but noise", "unmeasurable")),
    "skull left": Fault("skull and scalp in the brain mask", skull, ("no brain", "large brain")),
    "lobe missing": Fault("a lobe outside the brain mask", missing_lobe, ("part missing",)),
    "half missing": Fault(
        "the left or right half not scanned",
        partial(without, ((0, 0.5), (0, 1), (0, 1))),
        ("no brain", "part missing", "small brain"),
    ),
    "upside down": Fault("bottom and top exchanged", upside_down, ("turned",)),
    "brain of 0.8": Fault(
        "a small child's brain, 0.8 of the size along each axis", partial(scaled, 0.8), ("small brain",)
    ),
    "SNR 10": Fault("Rician noise of a tenth of the median", partial(noisy, 10.0), ("noise",)),
    "blurred": Fault("smoothed by a Gaussian of 1.2 voxels", blurred, ("blurred",)),
    "thick slices": Fault("axial slices of 6 mm and three voxels at least", thick, ("blurred",)),
    "bias field": Fault("a shading that doubles the signal across the brain", shaded, ("shading", "other contrast")),
}
"""Name -> fault. The reference of the training patients is fitted without them."""
