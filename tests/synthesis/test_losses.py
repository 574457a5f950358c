"""Contract tests over every entry of LOSSES, and each loss against the same thing in plain NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lab.config import LossConfig
from lab.evaluation.ssim import ssim
from lab.synthesis.losses import LOSSES, make_loss
from lab.synthesis.losses.image_losses import Loss

SHAPE = (3, 1, 13, 12, 14)
MASKED = [f"{kind}_{region}" for kind in ("L1", "L2") for region in ("brain", "tumour", "enhancement")]


def loss_named(name: str, weights: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Loss:
    return make_loss(LossConfig(name=name, mix_weights=weights))


def batch(seed: int = 0) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Three patients: the second does not enhance, the third has neither tumour nor enhancement."""
    generator = torch.Generator().manual_seed(seed)
    prediction, target = torch.rand((2, *SHAPE), generator=generator) * 2 - 1
    masks = {name: torch.zeros(SHAPE, dtype=torch.bool) for name in ("brain", "tumour", "enhancement")}
    masks["brain"][..., 1:-1, 1:-1, 1:-1] = True
    masks["tumour"][0, ..., 3:8, 3:8, 3:8] = True
    masks["tumour"][1, ..., 5:7, 5:7, 5:7] = True
    masks["enhancement"][0, ..., 4:6, 4:6, 4:6] = True
    return prediction, target, masks


@pytest.mark.parametrize("name", LOSSES)
def test_one_finite_number_with_a_finite_gradient(name):
    prediction, target, masks = batch()
    prediction.requires_grad_()
    loss = loss_named(name)(prediction, target, masks)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.item() > 0
    loss.backward()
    assert prediction.grad.isfinite().all()
    assert prediction.grad.abs().sum() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_zero_at_identity(name):
    _, target, masks = batch()
    prediction = target.clone().requires_grad_()
    loss = loss_named(name)(prediction, target, masks)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    loss.backward()
    assert prediction.grad.abs().max() < 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_order_of_patients_does_not_matter(name):
    prediction, target, masks = batch()
    order = [2, 0, 1]
    permuted = loss_named(name)(prediction[order], target[order], {key: mask[order] for key, mask in masks.items()})
    torch.testing.assert_close(permuted, loss_named(name)(prediction, target, masks))


@pytest.mark.parametrize("name", MASKED)
def test_gradient_only_inside_the_mask(name):
    prediction, target, masks = batch()
    prediction.requires_grad_()
    loss_named(name)(prediction, target, masks).backward()
    inside = masks[name.split("_")[1]]
    assert (prediction.grad[~inside] == 0).all()
    assert (prediction.grad[inside] != 0).all()


@pytest.mark.parametrize("name", MASKED)
def test_equals_numpy_over_the_patients_with_a_mask(name):
    prediction, target, masks = batch()
    power, region = int(name[1]), name.split("_")[1]
    error = np.abs(prediction.numpy() - target.numpy()).astype(np.float64) ** power
    means = [error[i][masks[region][i].numpy()].mean() for i in range(3) if masks[region][i].any()]
    assert len(means) == {"brain": 3, "tumour": 2, "enhancement": 1}[region]
    assert loss_named(name)(prediction, target, masks).item() == pytest.approx(np.mean(means), rel=1e-5)


@pytest.mark.parametrize("name", MASKED)
def test_nothing_to_look_at_gives_zero_and_no_gradient(name):
    prediction, target, masks = batch()
    prediction.requires_grad_()
    loss = loss_named(name)(prediction, target, {key: torch.zeros_like(mask) for key, mask in masks.items()})
    assert loss.item() == 0
    loss.backward()
    assert (prediction.grad == 0).all()


@pytest.mark.parametrize("name", MASKED)
def test_voxels_outside_the_mask_do_not_matter_whatever_they_hold(name):
    prediction, target, masks = batch()
    expected = loss_named(name)(prediction, target, masks)
    inside = masks[name.split("_")[1]]
    prediction = prediction.masked_fill(~inside, torch.nan).requires_grad_()
    loss = loss_named(name)(prediction, target, masks)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_patient_without_a_region_has_a_finite_loss_and_gradient(name):
    prediction, target, masks = batch()
    for empty in masks:
        one = prediction[:1].clone().requires_grad_()
        own = {key: torch.zeros_like(mask[:1]) if key == empty else mask[:1] for key, mask in masks.items()}
        loss = loss_named(name)(one, target[:1], own)
        loss.backward()
        assert loss.isfinite()
        assert one.grad.isfinite().all()


@pytest.mark.parametrize("name", ["L1", "L2", "SSIM"])
def test_losses_of_the_whole_image_need_no_masks(name):
    prediction, target, _ = batch()
    assert loss_named(name)(prediction, target, {}).item() > 0


def test_whole_image_losses_equal_torch():
    prediction, target, masks = batch()
    torch.testing.assert_close(
        loss_named("L1")(prediction, target, masks), torch.nn.functional.l1_loss(prediction, target)
    )
    torch.testing.assert_close(
        loss_named("L2")(prediction, target, masks), torch.nn.functional.mse_loss(prediction, target)
    )
    torch.testing.assert_close(
        loss_named("SSIM")(prediction, target, masks), 1 - ssim(prediction + 1, target + 1).mean()
    )


def test_ssim_loss_is_blind_to_a_small_offset_round_zero():
    grey = torch.full((1, 1, 16, 16, 16), 0.05)
    assert loss_named("SSIM")(grey, -grey, {}).item() < 0.01  # on signed values the luminance term would be negative


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_predictions_are_judged_in_float32(name):
    prediction, target, masks = batch()
    rounded = prediction.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_named(name)(rounded, target, masks)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, loss_named(name)(rounded.float(), target, masks))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_right(name):
    """Against finite differences in float64, in a few directions (SSIM needs 11 voxels an edge)."""
    prediction, target, masks = (
        value.double()
        if isinstance(value, Tensor)
        else {key: mask[:2, ..., :11, :11, :11] for key, mask in value.items()}
        for value in batch()
    )
    prediction, target = prediction[:2, ..., :11, :11, :11].clone().requires_grad_(), target[:2, ..., :11, :11, :11]
    assert torch.autograd.gradcheck(lambda x: loss_named(name)(x, target, masks), prediction, fast_mode=True)


def test_mix_is_the_weighted_sum_and_skips_zero_weights():
    prediction, target, masks = batch()
    parts = [loss_named(name)(prediction, target, masks) for name in ("L1", "SSIM", "L1_enhancement")]
    mixed = loss_named("mix", (2.0, 0.5, 3.0))(prediction, target, masks)
    torch.testing.assert_close(mixed, 2 * parts[0] + 0.5 * parts[1] + 3 * parts[2])
    torch.testing.assert_close(loss_named("mix")(prediction, target, masks), sum(parts))
    torch.testing.assert_close(loss_named("mix", (0.0, 1.0, 0.0))(prediction, target, {}), parts[1])


def test_make_loss_knows_every_name_and_says_so():
    with pytest.raises(ValueError, match=r"no loss 'l1'.*L1_brain"):
        loss_named("l1")


@pytest.mark.parametrize("weights", [(0.0, 0.0, 0.0), (1.0, -1.0, 1.0)])
def test_weights_that_make_no_sense_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        loss_named("mix", weights)
