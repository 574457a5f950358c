"""Voxel grids in MNI152 space (mm, RAS), and smooth random fields, the same ones at every voxel size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]
Index = NDArray[np.intp]

FIELD_OF_VIEW_VOXELS = (197, 233, 189)
FIELD_OF_VIEW_START_MM = (-98.5, -134.5, -72.5)  # of EGD and nilearn's MNI152 maps: the first voxel is at (-98, ...)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Regular voxel grid: edge of a voxel, number of voxels, centre of the first one."""

    spacing_mm: float
    shape: tuple[int, int, int]
    first_mm: tuple[float, float, float]

    def axes_mm(self) -> tuple[Volume, Volume, Volume]:
        """Voxel centres along x, y, z, shaped to broadcast over the grid."""
        x, y, z = (
            (first + self.spacing_mm * np.arange(n)).astype(np.float32) for first, n in zip(self.first_mm, self.shape)
        )
        return x[:, None, None], y[:, None], z

    def crop(self, box: tuple[slice, ...]) -> Grid:
        """The part of the grid inside `box`, a slice per axis."""
        starts = [part.indices(n)[0] for part, n in zip(box, self.shape)]
        x, y, z = (len(range(*part.indices(n))) for part, n in zip(box, self.shape))
        a, b, c = (first + self.spacing_mm * start for first, start in zip(self.first_mm, starts))
        return Grid(spacing_mm=self.spacing_mm, shape=(x, y, z), first_mm=(a, b, c))

    def box_around(self, centre_mm: NDArray[np.floating], radius_mm: float) -> tuple[slice, ...]:
        """Slices of the cube of half-edge `radius_mm` around a point, clipped to the grid."""
        low = [int(np.floor((c - radius_mm - a) / self.spacing_mm)) for c, a in zip(centre_mm, self.first_mm)]
        high = [int(np.ceil((c + radius_mm - a) / self.spacing_mm)) + 1 for c, a in zip(centre_mm, self.first_mm)]
        return tuple(slice(max(i, 0), min(j, n)) for i, j, n in zip(low, high, self.shape))

    def lattice(self, step_mm: float) -> Grid:
        """A coarser grid that covers this one with a margin of two nodes on every side."""
        x, y, z = (int(np.ceil(n * self.spacing_mm / step_mm)) + 5 for n in self.shape)
        a, b, c = (first - 2 * step_mm for first in self.first_mm)
        return Grid(spacing_mm=step_mm, shape=(x, y, z), first_mm=(a, b, c))


def field_of_view(spacing_mm: float) -> Grid:
    """EGD's field of view at a voxel size of 1 mm or more; a last, incomplete voxel is left out."""
    x, y, z = (int(n / spacing_mm + 1e-6) for n in FIELD_OF_VIEW_VOXELS)
    a, b, c = (start + spacing_mm / 2 for start in FIELD_OF_VIEW_START_MM)
    return Grid(spacing_mm=spacing_mm, shape=(x, y, z), first_mm=(a, b, c))


@lru_cache(maxsize=512)
def _spline_weights(nodes: int, step_mm: float, start_mm: float, n: int, spacing_mm: float, first_mm: float) -> Volume:
    """Cubic B-spline basis: voxel centres x lattice nodes."""
    where = (first_mm + spacing_mm * np.arange(n) - start_mm) / step_mm
    t = np.abs(where[:, None] - np.arange(nodes)[None, :])
    near, far = 2 / 3 - t**2 + t**3 / 2, (2 - t) ** 3 / 6
    return np.where(t < 1, near, np.where(t < 2, far, 0.0)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Spline:
    """A smooth function of position: cubic B-splines with these coefficients on a lattice."""

    lattice: Grid
    coefficients: Volume

    def _weights(self, grid: Grid) -> list[Volume]:
        lattice = zip(self.lattice.shape, self.lattice.first_mm)
        axes = zip(lattice, zip(grid.shape, grid.first_mm))
        steps = self.lattice.spacing_mm, grid.spacing_mm
        return [_spline_weights(nodes, steps[0], start, n, steps[1], first) for (nodes, start), (n, first) in axes]

    def on(self, grid: Grid) -> Volume:
        """Values on a whole grid, (X, Y, Z): three matrix products."""
        wx, wy, wz = self._weights(grid)
        return np.matmul(np.matmul(wy, np.tensordot(wx, self.coefficients, axes=1)), wz.T)

    def at(self, grid: Grid, index: Index) -> Volume:
        """Values in the voxels `index` (flat, ascending) of a grid; plane by plane, which stays in cache."""
        wx, wy, wz = self._weights(grid)
        planes = np.tensordot(wx, self.coefficients, axes=1)
        size = grid.shape[1] * grid.shape[2]
        ends = np.searchsorted(index, size * np.arange(grid.shape[0] + 1))
        values = np.empty(index.size, dtype=np.float32)
        for i in range(grid.shape[0]):
            part = slice(ends[i], ends[i + 1])
            if ends[i] < ends[i + 1]:
                values[part] = (wy @ planes[i] @ wz.T).reshape(-1)[index[part] - i * size]
        return values


def random_field(rng: np.random.Generator, length_mm: float) -> Spline:
    """Gaussian random field over the field of view, mean 0, variance 1, that changes over `length_mm`."""
    grid = field_of_view(1.0).lattice(length_mm)
    coefficients = rng.standard_normal(grid.shape, dtype=np.float32) * np.float32((315 / 151) ** 1.5)
    return Spline(lattice=grid, coefficients=coefficients)
