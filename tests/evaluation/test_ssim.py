"""SSIM against two independent implementations, MONAI's and scikit-image's."""

import time

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from lab.evaluation.ssim import interior_mean, ssim, ssim_map

SHAPES = [(11, 11, 11), (11, 12, 13), (24, 17, 32), (16, 31, 12)]


def pair(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth volume with a constant background of -1, like a brain, and a noisy version of it; float64 in [-1, 1]."""
    rng = np.random.default_rng(seed)
    truth = gaussian_filter(rng.standard_normal(shape), 1.5)
    truth /= np.abs(truth).max()
    noisy = np.clip(truth + 0.2 * rng.standard_normal(shape), -1, 1)
    truth[: shape[0] // 3] = noisy[: shape[0] // 3] = -1
    noisy[0] += 1e-3
    return truth, noisy


def tensor(*volumes: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(np.stack(volumes), dtype=dtype)[:, None]


def skimage_ssim(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    return structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=2.0, full=True
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_scikit_image(shape):
    x, y = pair(shape)
    mean, whole = skimage_ssim(x, y)
    assert mean < 0.95
    assert ssim(tensor(x), tensor(y)).item() == pytest.approx(mean, abs=1e-5)
    np.testing.assert_allclose(ssim_map(tensor(x), tensor(y))[0, 0].numpy(), whole, atol=1e-5)
    precise = ssim_map(tensor(x, dtype=torch.float64), tensor(y, dtype=torch.float64))
    np.testing.assert_allclose(precise[0, 0].numpy(), whole, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_monai_and_so_does_the_gradient(shape):
    monai_losses = pytest.importorskip("monai.losses")
    monai_metrics = pytest.importorskip("monai.metrics")
    x, y = (tensor(a, b) for a, b in zip(pair(shape, 1), pair(shape, 2), strict=True))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    value = ssim(ours, y)
    loss = monai_losses.SSIMLoss(spatial_dims=3, data_range=2.0)(theirs, y)
    metric = monai_metrics.SSIMMetric(spatial_dims=3, data_range=2.0)(x, y)[:, 0]
    torch.testing.assert_close(value, metric, atol=1e-5, rtol=0)
    assert 1 - value.mean().item() == pytest.approx(loss.item(), abs=1e-5)
    (1 - value.mean()).backward()
    loss.backward()
    assert (ours.grad - theirs.grad).abs().max() < 1e-4 * theirs.grad.abs().max()


def test_published_formula_at_one_voxel():
    """Wang's formula, written out for the one window of an 11^3 volume."""
    x, y = pair((11, 11, 11), 3)
    line = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = line[:, None, None] * line[:, None] * line
    window /= window.sum()
    mean_x, mean_y = (window * x).sum(), (window * y).sum()
    var_x, var_y = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum()
    covariance = (window * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = 0.02**2, 0.06**2
    expected = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    expected /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    assert ssim(tensor(x), tensor(y)).item() == pytest.approx(expected, abs=1e-5)
    assert ssim_map(tensor(x), tensor(y))[0, 0, 5, 5, 5].item() == pytest.approx(expected, abs=1e-5)


def test_other_window_sigma_and_range():
    x, y = pair((15, 13, 14))
    _, whole = structural_similarity(
        x, y, gaussian_weights=True, sigma=1.0, use_sample_covariance=False, data_range=1.0, full=True
    )  # scikit-image derives a window of 9 from sigma 1 (int(3.5 + 0.5) = 4 either side)
    ours = ssim_map(tensor(x), tensor(y), window=9, sigma=1.0, data_range=1.0)
    np.testing.assert_allclose(ours[0, 0].numpy(), whole, atol=1e-5)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_equal_volumes_score_one_with_zero_gradient(value):
    x = tensor(pair((12, 14, 13))[0]) if value == 0 else torch.full((1, 1, 12, 14, 13), value)
    moving = x.clone().requires_grad_()
    score = ssim(moving, x)
    assert score.item() == pytest.approx(1, abs=1e-7)
    score.sum().backward()
    assert moving.grad.abs().max() < 1e-6


def test_symmetric_and_never_above_one():
    x, y = (tensor(volume) for volume in pair((14, 15, 16)))
    torch.testing.assert_close(ssim_map(x, y), ssim_map(y, x), atol=1e-6, rtol=0)
    assert ssim_map(x, y).max() <= 1 + 1e-6


def test_flat_black_against_flat_white():
    """No structure to compare, so only the luminance term: (-2 + C1) / (2 + C1)."""
    black = torch.full((1, 1, 11, 12, 13), -1.0)
    assert ssim(black, -black).item() == pytest.approx((-2 + 0.02**2) / (2 + 0.02**2), abs=1e-6)


def test_samples_of_a_batch_do_not_mix():
    a, b = pair((13, 12, 11), 1), pair((13, 12, 11), 2)
    together = ssim(tensor(a[0], b[0]), tensor(a[1], b[1]))
    alone = torch.cat([ssim(tensor(a[0]), tensor(a[1])), ssim(tensor(b[0]), tensor(b[1]))])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert (together[0] - together[1]).abs() > 1e-3


def test_channels_last_input_gives_the_same():
    x, y = (tensor(volume) for volume in pair((12, 13, 14)))
    last = x.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(ssim(last, y), ssim(x, y))
    torch.testing.assert_close(ssim(x.mT.contiguous().mT, y), ssim(x, y))


def test_the_interior_of_the_map_is_the_scalar():
    x, y = (tensor(volume) for volume in pair((16, 21, 13)))
    torch.testing.assert_close(interior_mean(ssim_map(x, y)), ssim(x, y), atol=1e-6, rtol=0)


@pytest.mark.parametrize("function", [ssim, ssim_map])
def test_gradients_are_right(function):
    """Against finite differences in float64, in both arguments, for the whole map and the mean."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand((2, 1, 1, 4, 3, 5), generator=generator, dtype=torch.float64) * 2 - 1
    options = {"window": 3, "sigma": 0.8}
    both = (x.requires_grad_(), y.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: function(a, b, **options), both)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    x, y = (tensor(volume).to(dtype) for volume in pair((16, 17, 18)))
    moving = x.clone().requires_grad_()
    score = ssim(moving, y)
    assert score.dtype == torch.float32
    torch.testing.assert_close(score, ssim(x.float(), y.float()))
    score.sum().backward()
    assert moving.grad.dtype == dtype
    assert moving.grad.isfinite().all()


def test_autocast_changes_nothing():
    x, y = (tensor(volume) for volume in pair((16, 17, 18)))
    outside = ssim_map(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ssim_map(x, y)
        assert (x[0, 0] @ x[0, 0].mT).dtype == torch.bfloat16  # autocast is on, and still on afterwards
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)


def test_training_works_after_an_evaluation_in_inference_mode():
    """Filters cached in inference mode may not be inference tensors: autograd refuses to save those."""
    x, y = (tensor(volume) for volume in pair((11, 19, 23)))
    with torch.inference_mode():
        ssim(x, y)
    moving = x.clone().requires_grad_()
    ssim(moving, y).sum().backward()
    assert moving.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("x_shape", "y_shape", "message"),
    [
        ((1, 1, 10, 12, 12), (1, 1, 10, 12, 12), "10 x 12 x 12.*patch_mm"),
        ((1, 1, 12, 12, 12), (2, 1, 12, 12, 12), "one shape"),
        ((12, 12, 12), (12, 12, 12), "one shape"),
    ],
)
@pytest.mark.parametrize("function", [ssim, ssim_map])
def test_wrong_shapes_are_refused(function, x_shape, y_shape, message):
    with pytest.raises(ValueError, match=message):
        function(torch.zeros(x_shape), torch.zeros(y_shape))


def test_an_even_window_is_refused():
    with pytest.raises(ValueError, match="odd"):
        ssim(torch.zeros(1, 1, 12, 12, 12), torch.zeros(1, 1, 12, 12, 12), window=8)


def test_the_whole_size_stays_fast():
    """A guard for the shape of the algorithm; the figures are in bench/ssim.py. Seconds of CPU, whatever else runs."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 1, 80, 96, 80, generator=generator) for _ in range(2))
    x.requires_grad_()
    ssim(x, y).sum().backward()
    start = time.process_time()
    ssim(x, y).sum().backward()
    assert time.process_time() - start < 4.0
