"""Order, geometry checks and affine of a stack of DICOM slices."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

SAME_MM, EVEN, TURNED = 0.01, 0.05, 1e-3
"""Tolerances: distance of slices at one position (mm), relative difference of distances, and of direction cosines."""
VOLUMES = (
    "EchoTime", "EffectiveEchoTime", "EchoNumbers", "InversionTime", "TemporalPositionIdentifier",
    "TemporalPositionIndex", "DiffusionBValue", "TriggerTime", "ComplexImageComponent", "ContrastBolusAgent",
    "ImageType", "FrameType", "AcquisitionNumber", "AcquisitionTime", "StackID",
)  # fmt: skip
"""Attributes that distinguish the volumes of one series."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One image plane of a series."""

    path: Path
    frame: int | None  # index in a multi-frame file
    header: Dataset  # header of the file, without pixels
    plane: Dataset  # attributes of this plane: the file's header, or the frame's part of it
    position: np.ndarray  # (3,) centre of the first voxel in millimetres, LPS
    orientation: np.ndarray  # (2, 3) unit vectors along a row and down a column, LPS
    spacing_mm: tuple[float, float]  # between rows, and between columns
    size: tuple[int, int]  # rows and columns
    slope: float
    intercept: float

    @property
    def place(self) -> str:
        """File, and frame if there are several."""
        return self.path.name if self.frame is None else f"{self.path.name}, frame {self.frame + 1}"


def order_slices(folder: Path, slices: Sequence[Slice]) -> list[Slice]:
    """Slices in ascending order along the normal. Raises ValueError unless they are one complete, upright stack."""
    _check_alike(folder, slices)
    if len(slices) < 2:
        raise ValueError(f"{folder}: a single slice is not a volume; a series with all its slices is needed")
    normal = np.cross(*slices[0].orientation)
    ordered = sorted(slices, key=lambda part: (float(part.position @ normal), part.path.name, part.frame or 0))
    steps = np.diff([float(part.position @ normal) for part in ordered])
    _check_distances(folder, ordered, steps)
    _check_upright(folder, ordered, normal)
    return ordered


def stack_affine(slices: Sequence[Slice]) -> np.ndarray:
    """(4, 4) from (column, row, slice) to RAS millimetres, with the precision of a NIfTI header (float32)."""
    first, last = slices[0], slices[-1]
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[0] * first.spacing_mm[1]
    affine[:3, 1] = first.orientation[1] * first.spacing_mm[0]
    affine[:3, 2] = (last.position - first.position) / (len(slices) - 1)
    affine[:3, 3] = first.position
    return (np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine).astype(np.float32).astype(float)


def _check_alike(folder: Path, slices: Sequence[Slice]) -> None:
    """Raises ValueError unless all slices have one size, voxel size and orientation."""
    first = slices[0]
    for part in slices:
        row, column = part.orientation
        odd = max(abs(row @ row - 1), abs(column @ column - 1), abs(row @ column))
        if not np.isfinite([*part.position, odd]).all() or odd > 2 * TURNED or min(part.spacing_mm) <= 0:
            said = f"ImagePositionPatient {_list(part.position)}, PixelSpacing {_list(part.spacing_mm)}"
            said = f"ImageOrientationPatient {_list(part.orientation.ravel())}, {said}"
            raise ValueError(f"{part.path}: the geometry makes no sense ({said})")
    turned = [part for part in slices if np.abs(part.orientation - first.orientation).max() > TURNED]
    if turned:
        said = "; ".join(f"{part.place}: {_list(part.orientation.ravel())}" for part in (first, turned[0]))
        how = "as in a localiser or several stacks; keep the slices of one orientation"
        raise ValueError(f"{folder}: slices of different orientation ({said}), {how}")
    for what, values in (
        ("rows x columns", [f"{part.size[0]} x {part.size[1]}" for part in slices]),
        ("mm between voxels", [f"{part.spacing_mm[0]:.5g} x {part.spacing_mm[1]:.5g}" for part in slices]),
    ):
        counts = Counter(values)
        if len(counts) > 1:
            listed = ", ".join(f"{value} in {count}" for value, count in counts.most_common(4))
            raise ValueError(f"{folder}: slices of different size ({what}: {listed}); keep those of one volume")


def _check_distances(folder: Path, ordered: Sequence[Slice], steps: np.ndarray) -> None:
    """Raises ValueError for gaps and for two slices at one position."""
    doubled = int((steps < SAME_MM).sum())
    if doubled:
        at = int(np.argmax(steps < SAME_MM))
        one, other = ordered[at : at + 2]
        differ = _differing(one, other)
        why = f"they differ in {differ}: several echoes or volumes; keep one" if differ else "keep one of the two"
        where = f"{len(ordered) - doubled} positions ({one.place} and {other.place} at the same one)"
        raise ValueError(f"{folder}: {len(ordered)} slices lie at {where}; {why}")
    usual = float(np.median(steps))
    uneven = np.flatnonzero(np.abs(steps - usual) > EVEN * usual + SAME_MM)
    if uneven.size:
        at = int(uneven[0])
        missing = round(float(steps[at]) / usual) - 1
        what = f"{missing} slice{'s' * (missing > 1)} missing" if missing > 0 else "unevenly spaced slices"
        where = (
            f"between {ordered[at].place} and {ordered[at + 1].place} ({steps[at]:.4g} mm apart, others {usual:.4g} mm)"
        )
        raise ValueError(f"{folder}: {what} {where}; export the whole series again")


def _check_upright(folder: Path, ordered: Sequence[Slice], normal: np.ndarray) -> None:
    """Raises ValueError for slices that are shifted sideways."""
    positions = np.array([part.position for part in ordered])
    shifts = positions - positions[0]
    aside = np.linalg.norm(shifts - np.outer(shifts @ normal, normal), axis=1)
    allowed = 0.1 * min(ordered[0].spacing_mm)
    if aside.max() > allowed:
        worst = ordered[int(aside.argmax())]
        shift = f"{worst.place} by {aside.max():.3g} mm ({allowed:.2g} mm at most)"
        raise ValueError(f"{folder}: slices are shifted sideways, {shift}; an upright stack is needed")


def _differing(one: Slice, other: Slice) -> str:
    """Attributes of `VOLUMES` in which two slices differ, with their values."""
    found = []
    for name in VOLUMES:
        values = [part.plane.get(name, part.header.get(name)) for part in (one, other)]
        texts = ["none" if value in (None, "") else str(value) for value in values]
        if texts[0] != texts[1]:
            found.append(f"{name} ({texts[0]} and {texts[1]})")
    return ", ".join(found[:3])


def _list(values: Any) -> str:
    return "\\".join(f"{float(value):.5g}" for value in values)
