"""Reading, checking and writing of one scan: a NIfTI file, or (read only) a folder with one DICOM series.

Rounding and conventions (labels of 1.9999999, a background of NaN or -9) are corrected and noted, other errors refused.
"""

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from lab.io.case_file import write_atomically
from lab.io.files import regular_sha256
from lab.io.nifti import check_grey, read_header, read_voxels

WHOLE = 0.01  # largest distance of a label from a whole number, as scaling to 8 bit leaves it
FLAT = 1e-4  # background differences below this share of a scan's intensities come from rounding or resampling
LEAST_BORDER = 0.5  # minimum share of the volume's faces that is background; the head may touch them


@dataclass(frozen=True)
class Scan:
    """A volume in the orientation closest to RAS: axis 0 right, axis 1 anterior, axis 2 superior."""

    data: np.ndarray  # (X, Y, Z); float32 for an image, uint8 for labels
    affine: np.ndarray  # (4, 4), voxel indices to millimetres
    background: float = 0.0  # value of voxels that were not measured or were removed by skull-stripping
    notes: tuple[str, ...] = ()  # corrections on reading, in words

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along the three axes."""
        x, y, z = nib.affines.voxel_sizes(self.affine)
        return float(x), float(y), float(z)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000


def read_image(path: Path) -> Scan:
    """Intensities of a NIfTI file, or of the DICOM series in a folder, as float32; a background of NaN becomes 0.

    Raises ValueError for a file or series that is missing, damaged or too large, or not one finite 3D volume.
    """
    if os.path.isdir(path):
        from lab.io.dicom import read_series  # pydicom takes a moment, and most patients come as NIfTI

        data, affine = read_series(path)
        notes: list[str] = []
    else:
        volume, header = read_voxels(path)
        check_grey(path, header)
        affine, notes = header.affine, header.notes
        with np.errstate(over="ignore", invalid="ignore"):
            data = volume.astype(np.float32, copy=False)
            if (header.slope, header.intercept) != (1, 0):
                data = data * np.float32(header.slope) + np.float32(header.intercept)
    if not np.isfinite(data.sum(dtype=np.float64)):
        data = _without_nan(path, data, notes)
    low, high = float(data.min()), float(data.max())
    if low == high:
        raise ValueError(f"{path}: every voxel is {low:g}; the image is empty")
    data, background = _flat_background(data, notes)
    return _to_ras(path, data, affine, background, notes)


def read_mask(path: Path) -> Scan:
    """A segmentation as uint8. Raises ValueError as `read_image`, and where a value is no whole number in 0-255."""
    volume, header = read_voxels(path)
    notes = header.notes
    if (header.slope, header.intercept) != (1, 0):
        volume = volume * np.float32(header.slope) + np.float32(header.intercept)
    if volume.dtype.kind == "f" and np.isnan(volume).any():
        volume = _without_nan(path, volume, notes)
    whole = np.rint(volume) if volume.dtype.kind == "f" else volume
    with np.errstate(invalid="ignore"):
        data = whole.astype(np.uint8, copy=False)
        gaps = np.abs(volume - whole) if whole is not volume else np.zeros(1)
        wrong = (gaps > WHOLE) | (data != whole)
    if wrong.any():
        value = volume[wrong][0]
        why = "" if value == np.rint(value) else "; was it interpolated? Masks are resampled to the nearest neighbour"
        raise ValueError(f"{path}: holds the value {value:g}; a mask holds whole numbers from 0 to 255{why}")
    if gaps.max() > 0:
        notes.append(f"labels up to {gaps.max():.2g} from a whole number were rounded")
    return _to_ras(path, data, header.affine, 0.0, notes)


def read_spacing(path: Path) -> tuple[float, float, float]:
    """Voxel size in millimetres from the header alone. Raises ValueError where the header cannot be read."""
    if os.path.isdir(path):
        from lab.io.dicom import open_series

        affine = open_series(path).affine
    else:
        affine = read_header(path).affine
    x, y, z = nib.affines.voxel_sizes(affine)
    return float(x), float(y), float(z)


def write_scan(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write a volume as NIfTI, see `write_nifti`."""
    write_nifti(path, nib.Nifti1Image(data, affine))


def write_nifti(path: Path, image: nib.Nifti1Image) -> None:
    """Write an image atomically, compressed when the name ends in .gz."""
    content = image.to_bytes()
    write_atomically(path, gzip.compress(content, compresslevel=1, mtime=0) if path.suffix == ".gz" else content)


def same_grid(a: Scan, b: Scan, tolerance: float = 0.1) -> bool:
    """Whether two scans have one shape and all corners agree within `tolerance` voxels."""
    if a.data.shape != b.data.shape:
        return False
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in a.data.shape])).reshape(3, -1)
    shift = (a.affine - b.affine)[:3, :3] @ corners + (a.affine - b.affine)[:3, 3:]
    return bool(np.sqrt((shift**2).sum(axis=0)).max() <= tolerance * min(a.spacing_mm))


def describe_grid(scan: Scan) -> str:
    """Shape, voxel size and origin in one line, for messages."""
    shape = " x ".join(str(size) for size in scan.data.shape)
    spacing = " x ".join(f"{size:.3g}" for size in scan.spacing_mm)
    origin = ", ".join(f"{value:.1f}" for value in scan.affine[:3, 3])
    return f"{shape} voxels of {spacing} mm from ({origin})"


def _without_nan(path: Path, data: np.ndarray, notes: list[str]) -> np.ndarray:
    """The volume with a background of NaN set to 0. Raises ValueError where other voxels are NaN."""
    bad = ~np.isfinite(data)
    if bad.all():
        raise ValueError(f"{path}: every voxel is NaN or infinite; there is no image in it")
    pieces, _ = ndimage.label(np.isnan(data))
    corners = pieces[np.ix_(*[(0, -1)] * 3)]
    outside = np.isin(pieces, corners) if corners.all() else np.zeros_like(bad)
    inside = np.count_nonzero(bad & ~outside)
    if inside:
        what = "" if inside == np.count_nonzero(bad) else " inside the head"
        which = "1 voxel{} is" if inside == 1 else f"{inside} voxels{{}} are"
        raise ValueError(f"{path}: {which.format(what)} NaN or infinite")
    notes.append(f"a background of NaN ({np.count_nonzero(bad)} voxels) was read as 0")
    return np.where(bad, data.dtype.type(0), data)


def _flat_background(data: np.ndarray, notes: list[str]) -> tuple[np.ndarray, float]:
    """The volume, its background made flat, and its value: 0, unless all corners and most of the faces have another."""
    faces = np.concatenate([np.moveaxis(data, axis, 0)[end].ravel() for axis in range(3) for end in (0, -1)])
    if np.mean(faces == 0) >= LEAST_BORDER:
        return data, 0.0
    corners = data[np.ix_(*[(0, -1)] * 3)]
    level = float(np.median(corners))
    sample = data.ravel(order="K")[:: max(1, data.size // 100_000)]
    tolerance = FLAT * float(np.quantile(np.abs(sample - np.float32(level)), 0.99))
    if np.abs(corners - level).max() > tolerance or np.mean(np.abs(faces - level) <= tolerance) < LEAST_BORDER:
        return data, 0.0  # a head with its surroundings, or a part of one
    flat = np.abs(data - np.float32(level)) <= tolerance
    if (faces[np.abs(faces - level) <= tolerance] != level).any():
        level = 0.0 if abs(level) <= tolerance else level
        data = np.where(flat, np.float32(level), data)
        notes.append(f"a background that differs from {level:g} by less than {tolerance:.2g} was made flat")
    if level != 0:
        notes.append(f"the background is {level:g}, not 0")
    return data, level


def _to_ras(path: Path, data: np.ndarray, affine: np.ndarray, background: float, notes: list[str]) -> Scan:
    orientation = nib.io_orientation(affine)
    if np.isnan(orientation).any():
        raise ValueError(f"{path}: the affine has no closest orientation")
    reoriented = nib.apply_orientation(data, orientation)
    turned = affine @ nib.orientations.inv_ornt_aff(orientation, data.shape)
    return Scan(reoriented, turned, background, tuple(notes))


def count_values(labels: np.ndarray) -> np.ndarray:
    """Voxels of a mask (X, Y, Z) uint8 by value, (256,)."""
    flat = labels.ravel(order="K")
    counts = np.bincount(flat[flat > 0], minlength=256)
    counts[0] = labels.size - counts.sum()
    return counts


def scan_sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder's DICOM series whatever its files' names and order. Raises ValueError."""
    if not os.path.isdir(path):
        return regular_sha256(path)
    from lab.io.dicom import series_sha256

    return series_sha256(path)


def source_state(path: Path) -> list[int] | None:
    """Size and modification time of a file or a DICOM folder, to detect changes; `None` where it is missing."""
    try:
        files = [file for file in Path(path).rglob("*") if file.is_file()] if os.path.isdir(path) else [path]
        states = [os.stat(file) for file in files]
    except (OSError, ValueError):  # a name that no file can have
        return None
    return [sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)]
