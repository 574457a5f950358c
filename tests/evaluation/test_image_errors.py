"""Contract tests over every entry of METRICS, and their values against NumPy and scikit-image."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from lab.evaluation.image_errors import METRICS, errors, score

SHAPE = (3, 1, 14, 17, 12)
REGIONS = ("image", "brain", "tumour")
PAPER = {f"{kind}_{region}" for kind in ("mae", "mse", "ssim") for region in REGIONS}
PERFECT = {"mae": 0.0, "mse": 0.0, "ssim": 1.0}


def batch(seed: int = 0) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Three patients with a noisy prediction each; the third has no tumour."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(SHAPE, generator=generator) * 2 - 1
    prediction = (target + 0.4 * torch.randn(SHAPE, generator=generator)).clamp(-1, 1)
    brain, tumour = torch.zeros((2, *SHAPE), dtype=torch.bool)
    brain[..., 1:-1, 2:-2, 1:] = True
    tumour[0, ..., 3:9, 4:8, 0:4] = True  # up to the border of the volume
    tumour[1, ..., 6, 6, 6] = True
    enhancement = target > 0.3  # in the first tumour and all over the head
    return prediction, target, {"brain": brain, "tumour": tumour, "enhancement": enhancement}


def test_the_paper_has_nine_and_one_is_ours():
    assert list(METRICS)[:9] == [f"{kind}_{region}" for region in REGIONS for kind in PERFECT]
    assert set(METRICS) == PAPER | {"mae_balanced"}


@pytest.mark.parametrize("name", METRICS)
def test_one_finite_value_per_patient(name):
    value = METRICS[name](*batch())
    assert value.shape == (3,)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert not torch.allclose(value[0], value[1])


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_prediction_scores_perfectly(name):
    _, target, masks = batch()
    torch.testing.assert_close(METRICS[name](target, target, masks), torch.full((3,), PERFECT[name.split("_")[0]]))


@pytest.mark.parametrize("name", sorted(name for name in PAPER if not name.endswith("image")))
def test_an_empty_mask_scores_perfectly_and_leaves_the_others_alone(name):
    prediction, target, masks = batch()
    kind, region = name.split("_")
    emptied = masks | {region: masks[region].clone()}
    emptied[region][1] = False
    before, after = METRICS[name](prediction, target, masks), METRICS[name](prediction, target, emptied)
    assert before[1] != PERFECT[kind]
    assert after[1] == PERFECT[kind]
    assert torch.equal(before[[0, 2]], after[[0, 2]])


@pytest.mark.parametrize("name", METRICS)
def test_patients_are_judged_one_by_one(name):
    prediction, target, masks = batch()
    together = METRICS[name](prediction, target, masks)
    order = [1, 2, 0]
    permuted = METRICS[name](prediction[order], target[order], {key: mask[order] for key, mask in masks.items()})
    torch.testing.assert_close(permuted, together[order])
    alone = METRICS[name](prediction[:1], target[:1], {key: mask[:1] for key, mask in masks.items()})
    torch.testing.assert_close(alone, together[:1])


@pytest.mark.parametrize("name", METRICS)
def test_half_precision_is_judged_in_float32(name):
    prediction, target, masks = batch()
    value = METRICS[name](prediction.bfloat16(), target.half(), masks)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, METRICS[name](prediction.bfloat16().float(), target.half().float(), masks))


def test_values_equal_numpy_and_scikit_image():
    prediction, target, masks = batch()
    values = {name: metric(prediction, target, masks) for name, metric in METRICS.items()}
    for i in range(3):
        x, y = (volume[i, 0].numpy().astype(np.float64) for volume in (prediction, target))
        mean, whole = structural_similarity(
            x + 1, y + 1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=2.0, full=True
        )
        maps = {"mae": np.abs(x - y), "mse": (x - y) ** 2, "ssim": whole}
        for kind, image in maps.items():
            for region in ("brain", "tumour"):
                mask = masks[region][i, 0].numpy()
                expected = image[mask].mean() if mask.any() else PERFECT[kind]
                assert values[f"{kind}_{region}"][i].item() == pytest.approx(expected, abs=1e-5), (kind, region, i)
        assert values["mae_image"][i].item() == pytest.approx(maps["mae"].mean(), abs=1e-5)
        assert values["mse_image"][i].item() == pytest.approx(maps["mse"].mean(), abs=1e-5)
        assert values["ssim_image"][i].item() == pytest.approx(mean, abs=1e-5)


def test_score_is_all_metrics_at_once_without_gradient():
    prediction, target, masks = batch()
    scores = score(prediction.requires_grad_(), target, masks)
    assert set(scores) == set(METRICS)
    for name, value in scores.items():
        assert not value.requires_grad
        torch.testing.assert_close(value, METRICS[name](prediction, target, masks).detach(), atol=1e-6, rtol=1e-5)


def test_worse_predictions_score_worse():
    prediction, target, masks = batch()
    better = score(target + 0.5 * (prediction - target), target, masks)
    worse = score(prediction, target, masks)
    for name in METRICS:
        patients = slice(0, 2) if name.endswith(("tumour", "balanced")) else slice(None)
        gain = better[name][patients] - worse[name][patients]
        assert (gain > 0 if name.startswith("ssim") else gain < 0).all(), name


def test_balanced_error_gives_both_parts_of_the_tumour_the_same_weight():
    prediction, target, masks = batch()
    values = METRICS["mae_balanced"](prediction, target, masks)
    wrong = (prediction - target).abs()[0, 0].numpy()
    tumour, enhancing = (masks[name][0, 0].numpy() for name in ("tumour", "enhancement"))
    parts = wrong[tumour & enhancing].mean(), wrong[tumour & ~enhancing].mean()
    assert values[0].item() == pytest.approx(np.mean(parts))
    assert values[0].item() != pytest.approx(wrong[tumour].mean(), rel=1e-3)
    assert values[1].item() == (prediction - target).abs()[1, 0, 6, 6, 6].item()  # one voxel, one part
    assert values[2].item() == 0  # no tumour


def test_balanced_error_of_one_hundred_and_one_voxels():
    """100 voxels without enhancement are right, one with it is off by 0.8: the plain error hides it."""
    target, tumour, enhancing = torch.zeros(1, 1, 11, 11, 11), *torch.zeros((2, 1, 1, 11, 11, 11), dtype=torch.bool)
    tumour.view(-1)[:101] = True
    enhancing.view(-1)[0] = True
    target.view(-1)[0] = 0.8
    scores = score(torch.zeros_like(target), target, {"brain": tumour, "tumour": tumour, "enhancement": enhancing})
    assert scores["mae_tumour"].item() == pytest.approx(0.8 / 101)
    assert scores["mae_balanced"].item() == pytest.approx(0.4)


def test_errors_are_the_scores_that_need_no_window():
    prediction, target, masks = batch()
    found, everything = errors(prediction, target, masks), score(prediction, target, masks)
    assert set(found) == {name for name in METRICS if not name.startswith("ssim")}
    assert all(torch.equal(value, everything[name]) for name, value in found.items())
    assert list(everything) == list(METRICS)


def test_volumes_smaller_than_the_window_are_refused():
    small = torch.zeros(1, 1, 8, 16, 16)
    with pytest.raises(ValueError, match="window of 11"):
        score(small, small, dict.fromkeys(("brain", "tumour", "enhancement"), small.bool()))
