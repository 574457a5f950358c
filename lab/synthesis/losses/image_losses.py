"""What a network is trained to make small: every loss of the paper, by name.

Each loss takes prediction and target (B, 1, X, Y, Z) in [-1, 1] and `masks`, bool tensors of the same shape under
`brain`, `tumour` and `enhancement`, and gives one number, in float32 whatever the inputs' precision.

A masked loss is the mean over the mask of each patient, then the mean over the patients whose mask is not empty: a
patient with a large tumour counts no more than one with a small tumour, and a patient without enhancement does not
dilute those with. Where every mask of the batch is empty the loss is 0 and so is its gradient.
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
    # masked before the power, so that no voxel outside sends a gradient, not even NaN
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
    """1 - mean SSIM, 11 x 11 x 11 window, counted from black (Wang et al. 2004).

    Raises ValueError for an edge below 11 voxels.
    """
    return 1 - ssim(prediction, target, floor=BLACK).mean()


def mix(weight_l1: float, weight_ssim: float, weight_enhancement: float) -> Loss:
    """w1 L1 + w2 SSIM + w3 L1_enhancement (after Chen et al. 2021); a term of weight 0 is not computed."""
    terms = [(weight_l1, l1), (weight_ssim, ssim_loss), (weight_enhancement, l1_enhancement)]
    terms = [(weight, loss) for weight, loss in terms if weight]
    if not terms or any(weight < 0 for weight, _ in terms):
        weights = (weight_l1, weight_ssim, weight_enhancement)
        raise ValueError(f"The weights of the mix loss have to be >= 0 and not all 0, found {weights}.")

    def mixed(prediction: Tensor, target: Tensor, masks: Masks) -> Tensor:
        """Weighted sum of the terms."""
        return torch.stack([weight * loss(prediction, target, masks) for weight, loss in terms]).sum()

    return mixed


LOSSES: dict[str, Loss] = {
    "L1": l1,
    "L2": l2,
    "L1_brain": l1_brain,
    "L2_brain": l2_brain,
    "L1_tumour": l1_tumour,
    "L2_tumour": l2_tumour,
    "L1_enhancement": l1_enhancement,
    "L2_enhancement": l2_enhancement,
    "SSIM": ssim_loss,
    "mix": mix(1.0, 1.0, 1.0),
}


def make_loss(name: str, mix_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Loss:
    """The loss called `name`; `mix_weights` weigh L1, SSIM and L1_enhancement in `mix`. ValueError if unknown."""
    if name not in LOSSES:
        raise ValueError(f"There is no loss '{name}'; choose from {', '.join(LOSSES)}.")
    return mix(*mix_weights) if name == "mix" else LOSSES[name]
