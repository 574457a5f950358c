"""Brain masks: the voxels that skull-stripping left, or those of the MNI152 atlas."""

from functools import lru_cache

import numpy as np
from scipy import ndimage

from lab.io.grid import bounding_box
from lab.io.scan import Scan

LARGEST_BRAIN_ML = 2500.0
LEAST_COVERAGE = 0.8
LEAST_TISSUE = 0.85
DARK = 0.1
NOT_REGISTERED = "it is not registered to MNI152 (register it, or use --brain-mask nonzero for skull-stripped scans)"
CORE_MM, WHOLE_MM = 4.0, 2.0  # depth at which the brain's core begins, and edge of the voxels in which it is measured


def brain_mask(t1: Scan, method: str) -> np.ndarray:
    """(X, Y, Z) bool mask on the T1's grid, from the T1 alone.

    Other sequences must not influence it: a new patient without them would be prepared differently. `nonzero`: voxels
    that are not 0; values may be negative (ringing). `mni152`: the same inside the atlas' brain. Both: holes filled,
    largest piece kept.

    Raises ValueError where `method` does not suit the scan.
    """
    measured = t1.data != t1.background
    if method == "mni152":
        atlas = _atlas_on(t1)
        _check_signal(t1, atlas)
        measured &= atlas
    brain = largest_solid(measured)
    volume = np.count_nonzero(brain) * t1.voxel_ml
    if method == "nonzero" and volume > LARGEST_BRAIN_ML:
        why = "more than any brain holds: the scan is not skull-stripped"
        raise ValueError(f"{volume:.0f} ml are not 0, {why} (scans in MNI152 space can use --brain-mask mni152)")
    return brain


def scanned_part(scan: Scan, brain: np.ndarray, method: str) -> np.ndarray:
    """The part (X, Y, Z) of the brain inside a sequence's field of view; `brain` itself where that is all of it.

    Outside the field of view a file holds 0, which must not count as tissue; holes are filled as in the brain. Raises
    ValueError where the T1 and the sequence overlap too little.
    """
    here = scan.data != scan.background
    part = largest_solid(here) & brain if (brain & ~here).any() else brain
    whole = brain | here if method == "nonzero" else brain
    share = np.count_nonzero(part) / np.count_nonzero(whole)
    if share < LEAST_COVERAGE:
        raise ValueError(f"only {share:.0%} of the brain is seen in it and in the T1 (field of view too small)")
    return part


def brain_core(brain: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """(X, Y, Z) bool: the part of a stripped brain deeper than `CORE_MM` plus a voxel, at any voxel size.

    A voxel at the rim of a resampled file holds an unknown share of brain, but is not 0: the coarser the file, the
    larger its brain and the darker its rim. The extra voxel allows for that; depth in finer files is measured on voxels
    of about `WHOLE_MM`, as if resampled. Raises ValueError where no voxel is deep enough.
    """
    box = bounding_box(brain)
    steps = [max(1, int(WHOLE_MM / size + 0.01)) for size in spacing_mm]
    inner = np.pad(brain[box], [(0, -side % step) for side, step in zip(brain[box].shape, steps)])
    x, y, z = (side // step for side, step in zip(inner.shape, steps))
    blocks = inner.reshape(x, steps[0], y, steps[1], z, steps[2]).any(axis=(1, 3, 5))
    edges = [step * size for step, size in zip(steps, spacing_mm)]
    depth = ndimage.distance_transform_edt(np.pad(blocks, 1), sampling=edges)[1:-1, 1:-1, 1:-1]
    deep = depth > (CORE_MM + max(edges)) * (1 + 1e-6)
    if not deep.any():
        raise ValueError(f"no part of the brain lies deeper than {CORE_MM + max(edges):g} mm: too small to normalise")
    for axis, step in enumerate(steps):
        deep = deep.repeat(step, axis)
    core = np.zeros_like(brain)
    core[box] = deep[tuple(slice(0, side) for side in brain[box].shape)] & brain[box]
    return core


def largest_solid(mask: np.ndarray) -> np.ndarray:
    """The largest piece (connected by faces) of a non-empty mask, with its inner holes filled."""
    box = bounding_box(mask)
    inner = np.pad(np.asfortranarray(mask[box]).T, 1)
    pieces, count = ndimage.label(inner)
    if count > 1:
        inner = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    outside, count = ndimage.label(~inner)
    result = np.zeros_like(mask)
    result[box] = (outside != outside[0, 0, 0] if count > 1 else inner)[1:-1, 1:-1, 1:-1].T
    return result


@lru_cache(maxsize=1)
def _atlas() -> tuple[np.ndarray, np.ndarray]:
    """MNI152 brain mask at 1 mm (197 x 233 x 189, RAS) and its affine, as nilearn ships them."""
    from nilearn.datasets import load_mni152_brain_mask

    mask = load_mni152_brain_mask(resolution=1)
    return np.asarray(mask.dataobj, dtype=bool), mask.affine


def _atlas_on(scan: Scan) -> np.ndarray:
    """The atlas' brain on the scan's grid, by its affine. Raises ValueError where too little lies inside the grid."""
    mask, affine = _atlas()
    result = _nearest(mask, np.linalg.inv(affine) @ scan.affine, scan.data.shape)
    inside = np.count_nonzero(result) * scan.voxel_ml / (np.count_nonzero(mask) / 1000)
    if inside < LEAST_COVERAGE:
        raise ValueError(f"holds only {inside:.0%} of the MNI152 brain at the place its affine says: {NOT_REGISTERED}")
    return result


def _nearest(volume: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`volume` at voxels of another grid, `matrix` mapping that grid's indices to the volume's; 0 outside."""
    if np.abs(matrix[:3, :3] - np.diag(np.diag(matrix[:3, :3]))).max() > 1e-3:
        return ndimage.affine_transform(volume, matrix, output_shape=shape, order=0)
    result = np.zeros(shape, volume.dtype)
    inside, indices = [], []
    for axis in range(3):
        index = np.rint(matrix[axis, axis] * np.arange(shape[axis]) + matrix[axis, 3]).astype(int)
        valid = np.flatnonzero((index >= 0) & (index < volume.shape[axis]))
        inside.append(valid)
        indices.append(index[valid])
    result[np.ix_(*inside)] = volume[np.ix_(*indices)]
    return result


def _check_signal(t1: Scan, atlas: np.ndarray) -> None:
    """Raises ValueError where the affine claims MNI152 space, but part of the atlas' brain lies in air.

    Correlation with the template cannot decide this: it is 0.0 to 0.4 in registered and other tumour patients alike.
    """
    values = t1.data[atlas] - np.float32(t1.background)
    tissue = float(np.mean(values > DARK * np.percentile(values[::50], 98)))
    if tissue < LEAST_TISSUE:
        dark = f"is dark in {1 - tissue:.0%} of the MNI152 brain"
        raise ValueError(f"{dark} at the place its affine says: {NOT_REGISTERED}")
