"""Image errors of a synthetic image: MAE, MSE and SSIM over the image, the brain and the tumour, as in the paper.

Each metric takes prediction and target (B, 1, X, Y, Z) in [-1, 1] and `masks`, bool tensors of the same shape under
`brain`, `tumour` and `enhancement`, and gives one value per patient, (B,), in float32 whatever the inputs' precision.

`mae_balanced` is new here: the mean of the errors over the enhancing and over the other voxels of the tumour, so that
neither a network that never enhances nor one that always does scores well. Where only one part exists, it is that one.

`ssim_image` averages over the voxels whose whole window lies in the volume (as MONAI and scikit-image do on images
moved to [0, 2]); `ssim_brain` and `ssim_tumour` average the map, symmetric at the border, over the mask. Over an empty
mask the errors are 0 and SSIM is 1: leave such patients out of a mean (`masks` shows which).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lab.evaluation.ssim import BLACK, interior_mean, ssim, ssim_map

Masks = Mapping[str, Tensor]
Metric = Callable[[Tensor, Tensor, Masks], Tensor]


def over(values: Tensor, mask: Tensor | None, *, empty: float) -> Tensor:
    """Mean of (B, 1, X, Y, Z) values over each patient's mask (None: everywhere), (B,); `empty` for an empty mask."""
    if mask is None:
        return values.flatten(1).mean(dim=1)
    inside = mask.bool()
    voxels = inside.flatten(1).sum(dim=1)
    mean = values.masked_fill(~inside, 0).flatten(1).sum(dim=1) / voxels.clamp(min=1)
    return torch.where(voxels > 0, mean, empty)


def absolute_error(prediction: Tensor, target: Tensor) -> Tensor:
    """|prediction - target| voxel by voxel, in float32 at least."""
    return _difference(prediction, target).abs()


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """(prediction - target)^2 voxel by voxel, in float32 at least."""
    return _difference(prediction, target).square()


def similarity(prediction: Tensor, target: Tensor) -> Tensor:
    """SSIM at every voxel, with black as no luminance."""
    return ssim_map(prediction, target, floor=BLACK)


def balanced(values: Tensor, tumour: Tensor, enhancement: Tensor) -> Tensor:
    """Mean of (B, 1, X, Y, Z) values over the tumour's two parts, each counting half, (B,); 0 without a tumour."""
    parts = (tumour & enhancement, tumour & ~enhancement)
    means = torch.stack([over(values, part, empty=0) for part in parts])
    there = torch.stack([part.flatten(1).any(dim=1) for part in parts]).sum(dim=0)
    return means.sum(dim=0) / there.clamp(min=1)


def _difference(prediction: Tensor, target: Tensor) -> Tensor:
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    return prediction.to(dtype) - target.to(dtype)


METRICS: dict[str, Metric] = {
    "mae_image": lambda prediction, target, masks: over(absolute_error(prediction, target), None, empty=0),
    "mse_image": lambda prediction, target, masks: over(squared_error(prediction, target), None, empty=0),
    "ssim_image": lambda prediction, target, masks: ssim(prediction, target, floor=BLACK),
    "mae_brain": lambda prediction, target, masks: over(absolute_error(prediction, target), masks["brain"], empty=0),
    "mse_brain": lambda prediction, target, masks: over(squared_error(prediction, target), masks["brain"], empty=0),
    "ssim_brain": lambda prediction, target, masks: over(similarity(prediction, target), masks["brain"], empty=1),
    "mae_tumour": lambda prediction, target, masks: over(absolute_error(prediction, target), masks["tumour"], empty=0),
    "mse_tumour": lambda prediction, target, masks: over(squared_error(prediction, target), masks["tumour"], empty=0),
    "ssim_tumour": lambda prediction, target, masks: over(similarity(prediction, target), masks["tumour"], empty=1),
    "mae_balanced": lambda prediction, target, masks: balanced(
        absolute_error(prediction, target), masks["tumour"], masks["enhancement"]
    ),
}


@torch.no_grad()
def score(prediction: Tensor, target: Tensor, masks: Masks) -> dict[str, Tensor]:
    """Every metric of `METRICS`, each (B,); the maps are computed once. No gradient.

    Raises ValueError for an edge below 11 voxels, the SSIM window.
    """
    alike = similarity(prediction, target)
    scores = errors(prediction, target, masks) | {"ssim_image": interior_mean(alike)}
    for region in ("brain", "tumour"):
        scores[f"ssim_{region}"] = over(alike, masks[region], empty=1)
    return {name: scores[name] for name in METRICS}


@torch.no_grad()
def errors(prediction: Tensor, target: Tensor, masks: Masks) -> dict[str, Tensor]:
    """The metrics of `METRICS` without SSIM, each (B,); they need no window. No gradient."""
    absolute = absolute_error(prediction, target)
    squared = absolute.square()
    scores = {"mae_image": over(absolute, None, empty=0), "mse_image": over(squared, None, empty=0)}
    for region in ("brain", "tumour"):
        scores[f"mae_{region}"] = over(absolute, masks[region], empty=0)
        scores[f"mse_{region}"] = over(squared, masks[region], empty=0)
    scores["mae_balanced"] = balanced(absolute, masks["tumour"], masks["enhancement"])
    return scores
