"""Mapping from the prepared grid back to a scan's own grid and intensities; exact where voxels keep their size."""

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from lab.data.case import PreparedCase
from lab.io import nifti
from lab.io.case_file import BRAIN
from lab.io.grid import axis_weights, bounding_box
from lab.io.scan import write_nifti

GEOMETRY = (
    "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip
"""Header fields of the geometry. No others are copied: some hold names."""
RAS = np.array([[0, 1], [1, 1], [2, 1]])
SCANNER = 1  # NIfTI's code for scanner coordinates


def image_on_scan(case: PreparedCase, values: np.ndarray) -> np.ndarray:
    """An image (X, Y, Z) in [-1, 1] as float32 intensities of the T1 on its RAS grid; background outside the brain."""
    spread, known = _spread(case, values)
    result = np.full(case.t1.data.shape, find_background(case), np.float32)
    result[known] = spread[known] * np.float32(case.scale) + np.float32(case.mean)
    return result


def spread_on_scan(case: PreparedCase, values: np.ndarray) -> np.ndarray:
    """A standard deviation (X, Y, Z) on the prepared grid in intensities of the T1, on its grid; 0 outside."""
    spread, known = _spread(case, values)
    return np.where(known, spread * np.float32(case.scale), np.float32(0))


def probability_on_scan(case: PreparedCase, values: np.ndarray) -> np.ndarray:
    """A probability (X, Y, Z) on the prepared grid as float32 on the T1's grid; 0 outside the brain."""
    drawn, known = _spread(case, values)
    return np.where(known, drawn, np.float32(0))


def mask_on_scan(case: PreparedCase, mask: np.ndarray) -> np.ndarray:
    """A prepared mask (X, Y, Z) on the T1's RAS grid, uint8, in the brain: value at a voxel's centre, or majority."""
    result = mask.astype(np.float32)
    for axis in range(3):
        weights = _weights(case, axis)
        if case.window.ratio[axis] > 1:
            nearest = weights.argmax(axis=1)
            weights = np.eye(weights.shape[1], dtype=np.float32)[nearest] * weights.any(axis=1, keepdims=True)
        result = _apply(weights, result, axis)
    return ((result >= 0.5) & case.brain).astype(np.uint8)


def find_background(case: PreparedCase) -> float:
    """The T1's value outside the head: its background where voxels outside the brain have it, else their lowest."""
    outside, usual = case.t1.data[~case.brain], case.t1.background
    return usual if not outside.size or (outside == usual).any() else float(outside.min())


def _spread(case: PreparedCase, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (X, Y, Z) float32 on the scan's grid, from the brain's voxels alone, and a mask of known voxels.

    At the brain's rim a voxel of the scan may have no neighbour in the prepared brain: it takes the nearest known
    value, within twice the size of a prepared voxel. Voxels outside the prepared grid stay unknown.
    """
    inside = (case.masks & BRAIN) > 0
    spread = np.where(inside, values, 0).astype(np.float32)
    weights = inside.astype(np.float32)
    for axis in range(3):
        matrix = _weights(case, axis)
        spread, weights = _apply(matrix, spread, axis), _apply(matrix, weights, axis)
    known = case.brain & (weights > 1e-6)
    if case.window.is_crop:
        return spread, known
    np.divide(spread, weights, out=spread, where=known)
    if (known == case.brain).all():
        return spread, known
    box = bounding_box(case.brain)
    edges = case.t1.spacing_mm
    distance, nearest = ndimage.distance_transform_edt(~known[box], sampling=edges, return_indices=True)
    reach = 2 * max(ratio * edge for ratio, edge in zip(case.window.ratio, edges))  # above a voxel's diagonal
    filled = case.brain[box] & (distance <= reach)
    spread[box] = np.where(filled, spread[box][tuple(nearest)], spread[box])
    known[box] |= filled
    return spread, known


def _weights(case: PreparedCase, axis: int) -> np.ndarray:
    """(scan, prepared) matrix of an axis from the prepared grid to the scan's."""
    window = case.window
    start, ratio = window.start[axis], window.ratio[axis]
    return axis_weights(window.shape[axis], case.t1.data.shape[axis], -start / ratio, 1 / ratio)


def _apply(matrix: np.ndarray, volume: np.ndarray, axis: int) -> np.ndarray:
    """The matrix times one axis of a volume; exact where the matrix only moves voxels."""
    return np.moveaxis(np.tensordot(matrix, volume, axes=(1, axis)), 0, axis)


def write_like(path: Path, data: np.ndarray, scan: Path, *, purpose: str, note: str) -> None:
    """Write a RAS volume on the grid of a NIfTI file or a DICOM series, in its stored orientation.

    Affine, voxel size and their codes are the file's own to the bit (for DICOM see `read_grid_header`). `purpose`
    becomes the header's intent (15 letters) and `note` its description (79); nothing else is copied. Raises ValueError
    where the shapes differ.
    """
    header = read_grid_header(scan)
    orientation = nib.io_orientation(header.get_best_affine())
    stored = nib.apply_orientation(data, nib.orientations.ornt_transform(RAS, orientation))
    if stored.shape != header.get_data_shape()[:3]:
        raise ValueError(f"{scan}: {stored.shape} voxels were made, {header.get_data_shape()[:3]} are in the file")
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(np.ascontiguousarray(stored), header.get_best_affine(), dtype=data.dtype)
    for name in GEOMETRY:
        image.header[name] = header[name]
    image.header["intent_name"] = purpose[:15]
    image.header["descrip"] = note[:79]
    write_nifti(path, image)


def read_grid_header(path: Path) -> nib.Nifti1Header:
    """The header of a NIfTI-1 or -2 file, compressed or not, whatever its name ends in; without its extensions.

    For a folder with a DICOM series, a header of its geometry alone: voxels in the order of the pixels, as in ITK
    (column, row, slice in ascending order along the normal: LPS for an axial series, where dcm2niix stores LAS).
    """
    if path.is_dir():
        from lab.io.dicom import open_series

        series = open_series(path)
        header = nib.Nifti1Header()
        header.set_data_shape(series.shape)
        header.set_qform(series.affine, code=SCANNER)
        header.set_sform(series.affine, code=SCANNER)
        header.set_xyzt_units("mm")
        return header
    return nifti.read_header(path).raw
