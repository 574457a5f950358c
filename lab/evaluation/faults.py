"""Faults planted on prepared patients: what the preparation would have given, had the scan been faulty.

Prepared values are taken as intensities above a floor that stands for air (-1, the lower cut); after a fault each
sequence is normalised anew within the new brain mask, as `lab.data.case` does it. The window is not moved to the new
brain: no measure depends on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lab.data.brain_mask import largest_solid
from lab.data.case import REFERENCE
from lab.io.case_file import BRAIN
from lab.io.files import canonical
from lab.io.grid import bounding_box


@dataclass(frozen=True, kw_only=True)
class Case:
    """A prepared patient as a model for new patients gets it."""

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

    def place(self, sequence: str) -> int:
        """Position of a sequence along the first axis; -1 where it is not there."""
        names = list(map(canonical, self.channels))
        return names.index(sequence) if sequence in names else -1


def renormalised(case: Case, signal: np.ndarray, brain: np.ndarray) -> Case:
    """A case of other intensities (C, X, Y, Z) and another brain (X, Y, Z), normalised within that brain.

    To the mean and spread that the case had in its own: these need not be 0 and 1 / clip_sigma (see `brain_core`).
    """
    image = np.full(signal.shape, -1, np.float16)
    for channel, known, values in zip(image, case.image, signal):
        usual, inside = known[known > -1].astype(np.float64), values[brain].astype(np.float64)
        spread = float(usual.std()) or 1 / case.clip_sigma
        scaled = (inside - inside.mean()) / max(float(inside.std()), 1e-9)
        channel[brain] = np.clip(scaled * spread + usual.mean(), -1, 1)
    masks = np.where(brain, case.masks | np.uint8(BRAIN), 0).astype(np.uint8)
    return dataclasses.replace(case, image=image, masks=masks)


def _signal(case: Case) -> np.ndarray:
    """(C, X, Y, Z) float32 intensities above air, 0 outside the brain."""
    return np.where(case.brain, case.image.astype(np.float32) + 1, 0).astype(np.float32)


def swapped(first: str, second: str, case: Case, rng: np.random.Generator) -> Case | None:
    """Two sequences given for each other."""
    one, other = case.place(first), case.place(second)
    if min(one, other) < 0:
        return None
    image = np.array(case.image)
    image[[one, other]] = image[[other, one]]
    return dataclasses.replace(case, image=image)


def contrast_agent(case: Case, rng: np.random.Generator) -> Case | None:
    """The true target given as T1."""
    place = case.place(REFERENCE)
    if case.contrast is None or place < 0:
        return None
    image = np.array(case.image)
    image[place] = case.contrast
    return dataclasses.replace(case, image=image)


def inverted(sequence: str, case: Case, rng: np.random.Generator) -> Case | None:
    """A sequence of reversed contrast."""
    place = case.place(sequence)
    if place < 0:
        return None
    image = np.array(case.image)
    image[place] = np.where(case.brain, -image[place], image[place])
    return dataclasses.replace(case, image=image)


def copied(case: Case, rng: np.random.Generator) -> Case | None:
    """FLAIR for T2, exported twice: the same but for rounding."""
    flair, t2 = case.place("FLAIR"), case.place("T2")
    if min(flair, t2) < 0:
        return None
    signal = _signal(case)
    signal[t2] = signal[flair] * (1 + 0.01 * rng.standard_normal(signal[flair].shape, dtype=np.float32))
    return renormalised(case, signal, case.brain)


SCALP = {"T1": 1.7, "T2": 1.2, "FLAIR": 1.4}
"""Signal of the scalp's fat over the brain's median; of other sequences 1.3."""


def skull(partly: bool, case: Case, rng: np.random.Generator) -> Case:
    """Fluid, skull and scalp round the brain; or only on one side of a plane, as after a stripping that failed."""
    brain, signal = case.brain, _signal(case)
    distance = ndimage.distance_transform_edt(~brain, sampling=case.spacing_mm)
    fluid, bone, scalp = 1.5, rng.uniform(4, 7), rng.uniform(4, 7)
    head = distance <= fluid + bone + scalp
    if partly:
        direction = _direction(rng)
        head &= (_along(brain, direction) > 0.25) | brain
    texture = _smooth(brain.shape, 8 / case.spacing_mm, rng)
    for place, name in enumerate(case.channels):
        median = float(np.median(signal[place][brain]))
        shell = (
            np.where(distance <= fluid + bone, 0.12, SCALP.get(canonical(name), 1.3) * (1 + 0.15 * texture)) * median
        )
        shell = np.where(distance <= fluid, median * (1.6 if canonical(name) == "T2" else 0.5), shell)
        soft = ndimage.gaussian_filter(np.where(brain, signal[place], shell), 0.5)
        signal[place] = np.where(brain, signal[place], soft)
    return renormalised(case, signal, head)


LOBES = {
    "frontal": ((0.0, 0.5), (0.62, 1.0), (0.25, 1.0)),
    "occipital": ((0.0, 0.5), (0.0, 0.3), (0.2, 0.9)),
    "temporal": ((0.0, 0.35), (0.3, 0.75), (0.0, 0.45)),
    "parietal": ((0.0, 0.5), (0.15, 0.55), (0.6, 1.0)),
}
"""Shares of the brain's box: left to right (or mirrored), back to front, bottom to top."""


def _lobe(case: Case, rng: np.random.Generator) -> np.ndarray:
    """(X, Y, Z) bool: a lobe of the left or right half."""
    (left, right), *others = LOBES[str(rng.choice(list(LOBES)))]
    shares = ((1 - right, 1 - left) if rng.random() < 0.5 else (left, right), *others)
    return _part_of(case.brain, shares)


def _part_of(brain: np.ndarray, shares: Sequence[tuple[float, float]]) -> np.ndarray:
    """The brain between shares of its box along each axis."""
    part = np.zeros_like(brain)
    box = tuple(
        slice(round(side.start + low * (side.stop - side.start)), round(side.start + high * (side.stop - side.start)))
        for side, (low, high) in zip(bounding_box(brain), shares)
    )
    part[box] = True
    return part & brain


def _without(case: Case, part: np.ndarray) -> Case:
    return renormalised(case, _signal(case), largest_solid(case.brain & ~part))


def missing_lobe(case: Case, rng: np.random.Generator) -> Case:
    """A lobe outside the brain mask."""
    return _without(case, _lobe(case, rng))


def dark_lobe(case: Case, rng: np.random.Generator) -> Case:
    """A lobe in which no sequence has signal, while the brain mask (an atlas', say) still covers it."""
    signal, lobe = _signal(case), _lobe(case, rng)
    signal[:, lobe] = np.abs(rng.normal(0, 0.02, (len(signal), int(lobe.sum()))))
    return renormalised(case, signal, case.brain)


def missing_slab(case: Case, rng: np.random.Generator) -> Case:
    """Slices that were not scanned, at the bottom or top: a quarter of the brain's height."""
    ends = (0.0, 0.25) if rng.random() < 0.5 else (0.75, 1.0)
    return _without(case, _part_of(case.brain, ((0, 1), (0, 1), ends)))


def missing_half(case: Case, rng: np.random.Generator) -> Case:
    """The left or right half not scanned."""
    ends = (0.0, 0.5) if rng.random() < 0.5 else (0.5, 1.0)
    return _without(case, _part_of(case.brain, (ends, (0, 1), (0, 1))))


def noisy(ratio: float, case: Case, rng: np.random.Generator) -> Case:
    """Rician noise (Gudbjartsson & Patz 1995) of a signal-to-noise ratio, told by each sequence's median."""
    brain, signal = case.brain, _signal(case)
    for values in signal:
        sigma = np.float32(np.median(values[brain]) / ratio)
        real, imaginary = sigma * rng.standard_normal((2, *values.shape), dtype=np.float32)
        values[:] = np.hypot(values + real, imaginary)
    return renormalised(case, signal, brain)


def scaled(factor: float, case: Case, rng: np.random.Generator) -> Case:
    """A brain of another size, scanned with the same voxels."""
    brain, signal = case.brain, _signal(case)
    centre = (np.array(brain.shape) - 1) / 2
    grid = {"matrix": np.full(3, 1 / factor), "offset": centre - centre / factor}
    covered = ndimage.affine_transform(brain.astype(np.float32), order=1, **grid)
    inside = largest_solid(covered >= 0.5)
    resampled = np.stack([ndimage.affine_transform(_filled(values, brain), order=3, **grid) for values in signal])
    masks = ndimage.affine_transform(np.asarray(case.masks), order=0, **grid)
    return renormalised(dataclasses.replace(case, masks=masks), resampled, inside)


def _filled(values: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Outside the brain the nearest voxel's value: an edge would ring and leak."""
    nearest = ndimage.distance_transform_edt(~brain, return_distances=False, return_indices=True)
    return values[tuple(nearest)]


def blurred(case: Case, rng: np.random.Generator) -> Case:
    """Smoothed by 1.2 voxels (a full width at half maximum of nearly three)."""
    filled = [_filled(values, case.brain) for values in _signal(case)]
    return renormalised(case, np.stack([ndimage.gaussian_filter(values, 1.2) for values in filled]), case.brain)


def thick(case: Case, rng: np.random.Generator) -> Case:
    """Axial slices of three voxels and 6 mm at least, interpolated in between."""
    count = max(3, round(6 / case.spacing_mm))
    signal = np.stack([_filled(values, case.brain) for values in _signal(case)])
    averaged = ndimage.uniform_filter1d(signal, count, axis=-1)[..., count // 2 :: count]
    slices = (np.arange(signal.shape[-1]) - count // 2) / count
    low = np.clip(np.floor(slices).astype(int), 0, averaged.shape[-1] - 2)
    share = np.clip(slices - low, 0, 1).astype(np.float32)
    return renormalised(case, averaged[..., low] * (1 - share) + averaged[..., low + 1] * share, case.brain)


def shaded(case: Case, rng: np.random.Generator) -> Case:
    """A bias field that doubles every sequence's signal, and more, from one side of the brain to the other."""
    field = np.exp(0.5 * _along(case.brain, _direction(rng))).astype(np.float32)
    return renormalised(case, _signal(case) * field, case.brain)


def empty(case: Case, rng: np.random.Generator) -> Case:
    """A sequence that holds nothing but the scanner's noise."""
    signal = _signal(case)
    place = int(rng.integers(len(signal)))
    signal[place] = rng.rayleigh(1.0, signal[place].shape)
    return renormalised(case, signal, case.brain)


def upside_down(case: Case, rng: np.random.Generator) -> Case:
    """A header that says which way is up, and errs."""
    contrast = None if case.contrast is None else case.contrast[..., ::-1]
    return dataclasses.replace(case, image=case.image[..., ::-1], masks=case.masks[..., ::-1], contrast=contrast)


def _direction(rng: np.random.Generator) -> np.ndarray:
    direction = rng.standard_normal(3)
    return direction / np.linalg.norm(direction)


def _along(brain: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(X, Y, Z) position along a direction, about -1 to 1 from one side of the brain's box to the other."""
    axes = []
    for side, size, share in zip(bounding_box(brain), brain.shape, direction):
        axes.append(share * (2 * (np.arange(size) - side.start) / max(1, side.stop - side.start - 1) - 1))
    return axes[0][:, None, None] + axes[1][:, None] + axes[2]


def _smooth(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """A random field (X, Y, Z) of variance 1."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    return field / field.std()
