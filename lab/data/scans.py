"""Reading, checking and writing one scan: a NIfTI file, or, to read, a folder with one DICOM series.

A file is read and inflated in one go, so that its checksum is verified to the last byte (a stream stops before it);
nibabel understands the header. Arrays come back in RAS order as views, without a copy.
"""

from __future__ import annotations

import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from lab.data.storage import file_sha256, write_atomically


@dataclass(frozen=True)
class Scan:
    """A volume in the orientation closest to RAS: axis 0 right, axis 1 anterior, axis 2 superior."""

    data: np.ndarray
    """(X, Y, Z); float32 for an image, uint8 for labels."""
    affine: np.ndarray
    """(4, 4), voxel indices to millimetres."""

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
    """Intensities of a NIfTI file, or of the DICOM series in a folder, as float32.

    Raises ValueError where the file is missing, truncated or no NIfTI, not one 3D volume, not finite or constant, and
    where a folder is no single, whole MR series (see `lab.data.dicom`).
    """
    if Path(path).is_dir():
        from lab.data.dicom import read_volume  # pydicom takes a moment, and most patients come as NIfTI

        data, affine = read_volume(path)
    else:
        volume, affine, slope, intercept = _read(path)
        with np.errstate(over="ignore"):
            data = volume.astype(np.float32, copy=False)
            if (slope, intercept) != (1, 0):
                data = data * np.float32(slope) + np.float32(intercept)
    if not np.isfinite(data.sum(dtype=np.float64)):
        raise ValueError(f"{path}: {np.count_nonzero(~np.isfinite(data))} voxels are NaN or infinite")
    low, high = float(data.min()), float(data.max())
    if low == high:
        raise ValueError(f"{path}: every voxel is {low:g}; the image is empty")
    return _to_ras(path, data, affine)


def read_labels(path: Path) -> Scan:
    """A segmentation as uint8. Raises ValueError as `read_image`, and where a value is no whole number in 0-255."""
    volume, affine, slope, intercept = _read(path)
    if (slope, intercept) != (1, 0):
        volume = volume * np.float32(slope) + np.float32(intercept)
    with np.errstate(invalid="ignore"):
        data = volume.astype(np.uint8, copy=False)
    if data is not volume and not np.array_equal(data, volume):
        wrong = volume[data != volume][0]
        raise ValueError(f"{path}: holds the value {wrong:g}; a mask holds whole numbers from 0 to 255")
    return _to_ras(path, data, affine)


def read_spacing(path: Path) -> tuple[float, float, float]:
    """Voxel size in millimetres from the header alone. Raises ValueError where the header cannot be read."""
    if Path(path).is_dir():
        from lab.data.dicom import open_series

        x, y, z = nib.affines.voxel_sizes(open_series(path).affine)
        return float(x), float(y), float(z)
    try:
        image: Any = nib.load(path)
    except (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, ValueError) as error:
        raise ValueError(f"{path}: no readable NIfTI header ({error})") from None
    x, y, z = nib.affines.voxel_sizes(image.affine)
    if not (np.isfinite([x, y, z]).all() and min(x, y, z) > 0):
        raise ValueError(f"{path}: voxels of {x:g} x {y:g} x {z:g} mm")
    return float(x), float(y), float(z)


def write_scan(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write a volume, compressed when the name ends in .gz; a kill leaves the old file or the new, never half."""
    content = nib.Nifti1Image(data, affine).to_bytes()
    write_atomically(path, gzip.compress(content, compresslevel=1, mtime=0) if path.suffix == ".gz" else content)


def same_grid(a: Scan, b: Scan, tolerance: float = 0.1) -> bool:
    """Whether two scans have one shape and no corner lies further apart than a tenth of a voxel."""
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


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Unscaled 3D volume, affine, slope and intercept, after the checks of file and header."""
    try:
        content = Path(path).read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except FileNotFoundError:
        raise ValueError(f"{path}: file not found") from None
    except EOFError:
        raise ValueError(f"{path}: truncated, the compressed data ends too early; copy or download it again") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged, cannot be decompressed ({error}); copy or download it again") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    kind = nib.Nifti2Image if content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nib.Nifti1Image
    try:
        image = kind.from_bytes(content)
        _check_header(path, image)
        needed = int(np.prod(image.shape)) * image.get_data_dtype().itemsize
        if len(content) < needed:
            raise ValueError(f"{path}: truncated, {len(content)} bytes where {needed} are needed; download it again")
        proxy: Any = image.dataobj
        volume = np.asarray(proxy.get_unscaled())
    except (OSError, EOFError) as error:
        raise ValueError(f"{path}: truncated, {len(content)} bytes of image are too few ({error})") from None
    except (ImageFileError, HeaderDataError, WrapStructError) as error:
        raise ValueError(f"{path}: not a NIfTI file ({error})") from None
    return volume.reshape(volume.shape[:3]), image.affine, proxy.slope, proxy.inter


def _check_header(path: Path, image: nib.Nifti1Image) -> None:
    shape = image.shape
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise ValueError(f"{path}: {' x '.join(map(str, shape))} voxels is not a volume; a 3D image is needed")
    if len(shape) > 3 and max(shape[3:]) > 1:
        raise ValueError(f"{path}: {len(shape)}D with {' x '.join(map(str, shape))} voxels; one 3D volume is needed")
    if image.get_data_dtype().kind not in "iuf":
        raise ValueError(f"{path}: voxels of type {image.get_data_dtype()} are not plain numbers")
    if not (int(image.header["sform_code"]) or int(image.header["qform_code"])):
        raise ValueError(
            f"{path}: the header gives no orientation (sform and qform codes are 0), so left and right are unknown"
        )
    matrix = image.affine[:3, :3]
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(matrix)) < 1e-9:
        raise ValueError(f"{path}: the affine is not invertible; voxel size and orientation are unknown")


def _to_ras(path: Path, data: np.ndarray, affine: np.ndarray) -> Scan:
    orientation = nib.io_orientation(affine)
    if np.isnan(orientation).any():
        raise ValueError(f"{path}: the affine has no closest orientation")
    reoriented = nib.apply_orientation(data, orientation)
    return Scan(reoriented, affine @ nib.orientations.inv_ornt_aff(orientation, data.shape))


def scan_sha256(path: Path) -> str:
    """Digest of a file, or of the DICOM series in a folder, whatever its files' names and order. Raises OSError,
    ValueError."""
    if not Path(path).is_dir():
        return file_sha256(path)
    from lab.data.dicom import series_sha256

    return series_sha256(path)


def source_state(path: Path) -> list[int] | None:
    """Size and time of change, to notice that a source is another one; `None` where it is missing.

    For a folder with a DICOM series, those of its files together.
    """
    try:
        files = [file for file in Path(path).rglob("*") if file.is_file()] if Path(path).is_dir() else [path]
        states = [os.stat(file) for file in files]
    except OSError:
        return None
    return [sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)]
