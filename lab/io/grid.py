"""Resampling from a scan's own grid to the prepared grid (window, averaging, interpolation), and shapes of masks."""

from dataclasses import dataclass

import numpy as np

Box = tuple[slice, slice, slice]
CLOSED_MM = 4.0
"""Gaps in the enhancing part up to this wide belong to the core."""


def bounding_box(mask: np.ndarray) -> Box:
    """Smallest box around the set voxels of a non-empty (X, Y, Z) mask."""
    edges = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        edges.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return edges[0], edges[1], edges[2]


def core_mask(enhancing: np.ndarray, tumour: np.ndarray, spacing_mm: float) -> np.ndarray:
    """The tumour's core (X, Y, Z) where no expert labelled it: what enhances, and what it encloses."""
    from scipy import ndimage

    if not enhancing.any():
        return enhancing
    reach = max(1, round(CLOSED_MM / 2 / spacing_mm))
    box = bounding_box(enhancing)
    padded = np.pad(enhancing[box], reach)
    closed = ndimage.binary_fill_holes(ndimage.binary_closing(padded, iterations=reach))
    core = enhancing.copy()
    core[box] |= closed[reach:-reach, reach:-reach, reach:-reach] & tumour[box]
    return core


@dataclass(frozen=True)
class Window:
    """The prepared grid in a scan: a box of `shape` new voxels that starts at voxel edge `start` of the scan.

    The start is whole, so the window is an exact crop at equal voxel size, and a block mean at an integer ratio.
    """

    start: tuple[int, int, int]
    shape: tuple[int, int, int]
    ratio: tuple[float, float, float]  # edge of a new voxel in voxels of the scan

    @property
    def is_crop(self) -> bool:
        """Whether voxels keep their size."""
        return self.ratio == (1.0, 1.0, 1.0)

    def apply(self, volume: np.ndarray) -> np.ndarray:
        """The window's content, 0 outside the scan: averaged where voxels grow, interpolated where they shrink."""
        if self.is_crop:
            return self._crop(volume)
        box = self._source(volume.shape)
        result = volume[box].astype(np.float32)
        for axis, part in enumerate(box):
            weights = axis_weights(volume.shape[axis], self.shape[axis], self.start[axis], self.ratio[axis])[:, part]
            result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis)), 0, axis)
        return result

    def _source(self, shape: tuple[int, ...]) -> Box:
        """The part of a scan of `shape` that the window needs, with a margin of one voxel for interpolation."""
        first, second, third = (
            slice(min(max(start - 1, 0), available), max(0, min(int(np.ceil(start + size * ratio)) + 1, available)))
            for start, size, ratio, available in zip(self.start, self.shape, self.ratio, shape)
        )
        return first, second, third

    def _crop(self, volume: np.ndarray) -> np.ndarray:
        result = np.zeros(self.shape, volume.dtype)
        source, target = [], []
        for start, size, available in zip(self.start, self.shape, volume.shape):
            first, last = max(start, 0), min(start + size, available)
            source.append(slice(first, max(first, last)))
            target.append(slice(first - start, max(first, last) - start))
        result[tuple(target)] = volume[tuple(source)]
        return result


def window_round(
    box: Box, scan_mm: tuple[float, float, float], shape: tuple[int, int, int], spacing_mm: float
) -> Window:
    """The window of `shape` voxels centred on a box of the scan; voxel sizes within 1 % count as equal."""
    ratios = [_whole(spacing_mm / size) for size in scan_mm]
    starts = [
        int(np.floor((side.start + side.stop - size * ratio) / 2 + 0.5))
        for side, size, ratio in zip(box, shape, ratios)
    ]
    return Window((starts[0], starts[1], starts[2]), shape, (ratios[0], ratios[1], ratios[2]))


def _whole(ratio: float) -> float:
    near = float(round(ratio))
    return near if near and abs(ratio - near) < 0.01 * ratio else ratio


def axis_weights(size: int, new_size: int, start: float, ratio: float) -> np.ndarray:
    """(new_size, size) float32 matrix from old voxels to new ones of `ratio` times their edge.

    Ratio 1 or more: mean over the new voxel's extent, which prevents aliasing. Below 1: linear interpolation between
    voxel centres. Rows outside the old grid are 0.
    """
    left = start + ratio * np.arange(new_size)[:, None]
    voxel = np.arange(size)[None, :]
    if ratio >= 1:
        overlap = np.minimum(left + ratio, voxel + 1) - np.maximum(left, voxel)
        return (np.clip(overlap, 0, None) / ratio).astype(np.float32)
    centre = left + ratio / 2
    inside = (centre >= 0) & (centre <= size)
    nearest = np.clip(centre - 0.5, 0, size - 1)
    return (np.clip(1 - np.abs(nearest - voxel), 0, None) * inside).astype(np.float32)
