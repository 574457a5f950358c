"""SSIM of two volumes over an 11 x 11 x 11 Gaussian window (Wang et al. 2004).

The definition is that of MONAI's `SSIMLoss` and of scikit-image's `structural_similarity(gaussian_weights=True,
sigma=1.5, use_sample_covariance=False)`, K1 = 0.01, K2 = 0.03. Two changes make it fast and exact:

* The Gaussian window is separable, and each axis is filtered by a product with a banded n x n matrix, which runs in
  BLAS, unlike a convolution with an (11, 1, 1) kernel. The symmetric border is folded into the matrix.
* With s = x + y and d = x - y the usual formula reads

      SSIM = (1 - 2 mean(d)^2 / (mean(s)^2 + mean(d)^2 + 2 C1)) * (1 - 2 var(d) / (var(s) + var(d) + 2 C2)),

  four filtered maps instead of five, exactly 1 for equal volumes and without cancellation where they nearly agree.

SSIM compares luminances, which are not negative. Prepared images lie in [-1, 1] with the brain's mean at 0, where the
luminance term would treat +0.05 and -0.05 as opposites. Losses and metrics therefore count from black, `floor=BLACK`,
which equals the libraries' definition on images moved to [0, 2].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

WINDOW = 11
SIGMA = 1.5
DATA_RANGE = 2.0
BLACK = -1.0  # of a prepared image
K1, K2 = 0.01, 0.03


def ssim_map(
    x: Tensor,
    y: Tensor,
    *,
    window: int = WINDOW,
    sigma: float = SIGMA,
    data_range: float = DATA_RANGE,
    floor: float = 0.0,
) -> Tensor:
    """SSIM at every voxel of (B, C, X, Y, Z) volumes, symmetric at the border; same shape, float32 at least.

    `floor` is the value of no luminance. Equals scikit-image's `full=True` map. Raises ValueError for unequal shapes
    and for an edge below `window`.
    """
    return _similarity(x, y, window=window, sigma=sigma, data_range=data_range, floor=floor, border=True)


def ssim(
    x: Tensor,
    y: Tensor,
    *,
    window: int = WINDOW,
    sigma: float = SIGMA,
    data_range: float = DATA_RANGE,
    floor: float = 0.0,
) -> Tensor:
    """Mean SSIM per volume, (B, C, X, Y, Z) -> (B,), over the voxels whose whole window lies inside the volume.

    `floor` is the value of no luminance. Equals MONAI's `SSIMMetric` and scikit-image's scalar. Raises ValueError for
    unequal shapes and for an edge below `window`.
    """
    inside = _similarity(x, y, window=window, sigma=sigma, data_range=data_range, floor=floor, border=False)
    return inside.flatten(1).mean(dim=1)


def interior_mean(similarity: Tensor, *, window: int = WINDOW) -> Tensor:
    """The value of `ssim` from a whole `ssim_map`: (B, C, X, Y, Z) -> (B,)."""
    inside = slice(window // 2, -(window // 2))
    return similarity[..., inside, inside, inside].flatten(1).mean(dim=1)


def _similarity(
    x: Tensor, y: Tensor, *, window: int, sigma: float, data_range: float, floor: float, border: bool
) -> Tensor:
    _check(x, y, window)
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    with _full_precision(x.device):
        x, y = x.to(dtype), y.to(dtype)
        bands = [_band(n, window, sigma, border, dtype, x.device) for n in x.shape[2:]]
        total, difference = x + y - 2 * floor, x - y
        mean_s, mean_d = _smooth(total, bands), _smooth(difference, bands)
        mean_s2, mean_d2 = mean_s * mean_s, mean_d * mean_d
        var_s = _smooth(total * total, bands) - mean_s2
        var_d = _smooth(difference * difference, bands) - mean_d2
        luminance = 1 - 2 * mean_d2 / (mean_s2 + mean_d2 + 2 * c1)
        structure = 1 - 2 * var_d / (var_s + var_d + 2 * c2)
        return luminance * structure


def _smooth(volume: Tensor, bands: list[Tensor]) -> Tensor:
    """Filter (B, C, X, Y, Z) along X, Y and Z, one matrix product per axis, without moving data."""
    band_x, band_y, band_z = bands
    batch, channels, x, y, _ = volume.shape
    along_z = volume.reshape(batch * channels * x, y, -1) @ band_z.T  # (BCX, Y, Z')
    along_y = torch.bmm(band_y.expand(len(along_z), -1, -1), along_z)  # (BCX, Y', Z')
    planes = along_y.view(batch * channels, x, -1)
    along_x = torch.bmm(band_x.expand(len(planes), -1, -1), planes)  # (BC, X', Y'Z')
    return along_x.view(batch, channels, len(band_x), len(band_y), len(band_z))


@lru_cache(maxsize=64)
def _band(n: int, window: int, sigma: float, border: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Gaussian filter of n samples as a matrix: (n, n) with the symmetric border, else (n - window + 1, n)."""
    radius = window // 2
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    row = np.arange(n)[:, None]
    source = row + np.arange(-radius, radius + 1)
    source = np.where(source < 0, -1 - source, source)
    source = np.where(source >= n, 2 * n - 1 - source, source)
    matrix = np.zeros((n, n))
    np.add.at(matrix, (np.broadcast_to(row, source.shape), source), weights)
    if not border:
        matrix = matrix[radius : n - radius]
    with torch.inference_mode(False):  # a matrix cached during an evaluation is reused by the next training step
        return torch.tensor(matrix, dtype=dtype, device=device)


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """No autocast and, on a GPU, no TF32 products: a variance is a small difference of large numbers."""
    products = torch.backends.cuda.matmul
    rounded = device.type == "cuda" and products.fp32_precision == "tf32"
    if rounded:
        products.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if rounded:
            products.fp32_precision = "tf32"


def _check(x: Tensor, y: Tensor, window: int) -> None:
    if x.shape != y.shape or x.ndim != 5:
        raise ValueError(
            f"SSIM compares two volumes of one shape (B, C, X, Y, Z), found {tuple(x.shape)} and {tuple(y.shape)}."
        )
    if window % 2 == 0 or window < 3:
        raise ValueError(f"SSIM needs a window of an odd number of voxels of at least 3, found {window}.")
    if min(x.shape[2:]) < window:
        size = " x ".join(str(n) for n in x.shape[2:])
        raise ValueError(
            f"SSIM looks through a window of {window} voxels along every axis, the volume has {size}. "
            "Take larger patches (train.patch_mm) or smaller voxels (data.spacing_mm)."
        )
