"""Training losses of the paper.

Each loss takes prediction and target (B, 1, X, Y, Z) in [-1, 1] and `masks`, bool tensors of the same shape under
`brain`, `tumour` and `enhancement`, and gives one number, in float32 whatever the inputs' precision.

A masked loss is the mean over the mask of each patient, then the mean over the patients with a mask: large and small
tumours count equally, and a patient without enhancement does not dilute the others. Where every mask of the batch is
empty, the loss and its gradient are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lab.evaluation.ssim import BLACK, ssim

Masks = Mapping[str, Tensor]
Loss = Callable[[Tensor, Tensor, Masks], Tensor]


def mean_over(prediction: Tensor, target: Tensor, mask: Tensor | None, power: int) -> Tensor:
    """Mean of |prediction - target|^power over `mask` (None: everywhere) per patient, then over those with a mask."""
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    difference = prediction.to(dtype) - target.to(dtype)
    if mask is None:
        return difference.abs().pow(power).mean()
    inside = mask.bool()
    # masked before the power: voxels outside the mask must have no gradient, not even NaN
    error = difference.masked_fill(~inside, 0).abs().pow(power).flatten(1).sum(dim=1)  # (B,)
    voxels = inside.flatten(1).sum(dim=1)
    patients = (voxels > 0).sum()
    return (error / voxels.clamp(min=1)).sum() / patients.clamp(min=1)


def l1(prediction: Tensor, target: Tensor, masks: Masks) -> Tensor:
    """Mean absolute error over the whole image."""
    return mean_over(prediction, target, None, 1)


def l2(prediction: Tensor, target: Tensor, masks: Masks) -> Tensor:
    """Mean squared error over the whole image."""
    return mean_over(prediction, target, None, 2)


def l1_brain(prediction: Tensor, target: Tensor, masks: Masks) -> Tensor:
    """Mean absolute error inside the brain."""
    return mean_over(prediction, target, masks["brain"], 1)


def l2_brain(prediction: Tensor, target: Tensor, masks: Masks) -> Tensor:
    """Mean squared error inside the brain."""
    return mean_over(prediction, target, masks["brain"], 2)


def l1_tumour(prediction: Tensor, target: Tensor, masks: Masks) -> Tensor:
    """Mean absolute error inside the tumour."""
    return mean_over(prediction, target, masks["tumour"], 1)


def l2_tumour(prediction: Tensor, target: Tensor, masks: Masks) -> Tensor:
    """Mean squared error inside the tumour."""
    return mean_over(prediction, target, masks["tumour"], 2)


def l1_enhancement(prediction: Tensor, target: Tensor, masks: Masks) -> Tensor:
    """Mean absolute error where the true image enhances."""
    return mean_over(prediction, target, masks["enhancement"], 1)


def l2_enhancement(prediction: Tensor, target: Tensor, masks: Masks) -> Tensor:
    """Mean squared error where the true image enhances."""
    return mean_over(prediction, target, masks["enhancement"], 2)


def ssim_loss(prediction: Tensor, target: Tensor, masks: Masks) -> Tensor:
    """1 - mean SSIM, 11 x 11 x 11 window, with black as no luminance (Wang et al. 2004).

    Raises ValueError for an edge below 11 voxels.
    """
    return 1 - ssim(prediction, target, floor=BLACK).mean()


def mix(weights: tuple[float, float, float]) -> Loss:
    """w1 L1 + w2 SSIM + w3 L1_enhancement (after Chen et al. 2021); a term of weight 0 is not computed.

    Raises ValueError for a negative weight, and where all are 0.
    """
    terms = [(weight, loss) for weight, loss in zip(weights, (l1, ssim_loss, l1_enhancement)) if weight]
    if not terms or any(weight < 0 for weight, _ in terms):
        raise ValueError(f"The weights of the mix loss have to be >= 0 and not all 0, found {weights}.")

    def mixed(prediction: Tensor, target: Tensor, masks: Masks) -> Tensor:
        """Weighted sum of the terms."""
        return torch.stack([weight * loss(prediction, target, masks) for weight, loss in terms]).sum()

    return mixed
