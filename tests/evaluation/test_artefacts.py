"""Planted checkerboards are found at their amplitude, smooth images have none; blur lowers sharpness."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from lab.evaluation.artefacts import checkerboard, gradient_energy, sharpness

SHAPE = (50, 58, 46)
X, Y, Z = np.indices(SHAPE)
BRAIN = ((X - 24.5) / 23) ** 2 + ((Y - 28.5) / 27) ** 2 + ((Z - 22.5) / 21) ** 2 < 1


def anatomy(seed: int = 0) -> np.ndarray:
    """Smooth blobs and sharp edges, -1 outside the brain."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=SHAPE), 5)
    tissue = np.where(smooth > 0, 0.3, -0.2) + 0.5 * smooth / smooth.std() * 0.1
    return np.where(BRAIN, tissue, -1.0).astype(np.float32)


def pattern(*axes: int) -> np.ndarray:
    return np.prod([(-1.0) ** (X, Y, Z)[axis] for axis in axes], axis=0)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_each_planted_pattern_is_found_at_its_amplitude(axes):
    plain = np.where(BRAIN, 0.1, -1.0)
    assert checkerboard(plain + 0.05 * pattern(*axes), BRAIN) == pytest.approx(0.05, rel=1e-4)


def test_patterns_add_in_quadrature_which_is_their_rms():
    cells = 0.03 * pattern(0) + 0.04 * pattern(1, 2)
    assert checkerboard(np.where(BRAIN, cells, -1.0), BRAIN) == pytest.approx(0.05, rel=1e-4)
    assert np.sqrt((cells**2).mean()) == pytest.approx(0.05)
    weights = np.random.default_rng(3).normal(0, 0.04, (2, 2, 2))
    cells = weights[X % 2, Y % 2, Z % 2]
    assert checkerboard(np.where(BRAIN, cells, -1.0), BRAIN) == pytest.approx(weights.std(), rel=1e-4)


def test_a_planted_pattern_is_found_in_noisy_anatomy():
    noise = np.random.default_rng(1).normal(0, 0.05, SHAPE)
    planted = anatomy() + noise + 0.05 * pattern(0, 1)
    assert checkerboard(np.where(BRAIN, planted, -1), BRAIN) == pytest.approx(0.05, rel=0.15)


def test_a_pattern_whose_strength_varies_is_found():
    strength = 0.05 * np.cos(2 * np.pi * Y / 60)
    found = checkerboard(np.where(BRAIN, strength * pattern(0), -1), BRAIN)
    assert found == pytest.approx(np.sqrt((strength[BRAIN] ** 2).mean()), rel=0.15)


def test_smooth_images_noise_and_anatomy_have_next_to_none():
    assert checkerboard(0.01 * X - 0.02 * Y + 0.03 * Z, BRAIN) < 1e-4
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 4)
    assert checkerboard(smooth / np.abs(smooth).max(), BRAIN) < 1e-3
    assert checkerboard(np.random.default_rng(0).normal(0, 0.05, SHAPE), BRAIN) < 0.008
    assert checkerboard(anatomy(), BRAIN) < 0.01


def test_a_bright_plane_of_the_grid_is_no_checkerboard():
    falx = np.where(X == 25, 0.8, 0.0)
    assert checkerboard(falx, BRAIN) < 1e-4


def test_the_background_does_not_count():
    plain = anatomy()
    assert checkerboard(np.where(BRAIN, plain, pattern(0)), BRAIN) == checkerboard(plain, BRAIN)


@torch.no_grad()
def test_a_transposed_convolution_leaves_one_and_upsampling_does_not():
    small = torch.from_numpy(anatomy()[None, None, ::2, ::2, ::2].copy())
    layer = nn.ConvTranspose3d(1, 1, 3, stride=2, padding=1, output_padding=1, bias=False)
    layer.weight.fill_(1 / 8)  # overlaps once, twice, four and eight times
    uneven = layer(small)[0, 0].numpy()
    assert uneven.shape == SHAPE
    even = nn.functional.interpolate(small, scale_factor=2, mode="trilinear")[0, 0].numpy()
    inner = ndimage.binary_erosion(BRAIN, iterations=2)
    assert checkerboard(uneven, inner) > 0.04
    assert checkerboard(uneven, inner) > 10 * checkerboard(even, inner)
    flat = layer(torch.full_like(small, 0.4))[0, 0].numpy()
    per_axis = np.array([1, 0.5])
    share = np.einsum("i,j,k->ijk", per_axis, per_axis, per_axis)
    assert checkerboard(flat, inner) == pytest.approx(0.4 * share.std(), rel=1e-4)


def test_too_small_a_brain_has_no_figure():
    speck = np.zeros(SHAPE, bool)
    assert np.isnan(checkerboard(anatomy(), speck))
    assert np.isnan(sharpness(anatomy(), anatomy(), speck, 0))
    speck[20:24, 20:24, 20:24] = True
    assert np.isnan(checkerboard(anatomy(), speck))


def test_a_scan_without_noise_is_as_sharp_as_itself():
    assert sharpness(anatomy(), anatomy(), BRAIN, 0.0) == 1.0


def test_blur_lowers_sharpness_step_by_step():
    truth = anatomy()
    blurred = [sharpness(ndimage.gaussian_filter(truth, sigma), truth, BRAIN, 0.0) for sigma in (0.5, 1, 2)]
    assert 1 > blurred[0] > blurred[1] > blurred[2] > 0


def test_the_noise_of_the_truth_is_taken_off():
    clean = anatomy()
    noisy = clean + np.random.default_rng(4).normal(0, 0.06, SHAPE)
    assert sharpness(clean, noisy, BRAIN, 0.06) == pytest.approx(1, rel=0.01)
    assert sharpness(clean, noisy, BRAIN, 0.0) < 0.9
    flat = np.random.default_rng(4).normal(0, 0.05, SHAPE)
    assert np.isnan(sharpness(clean, flat, BRAIN, 0.06))


def test_half_the_contrast_is_half_as_sharp_and_a_checkerboard_earns_nothing():
    truth = anatomy()
    assert sharpness(truth / 2, truth, BRAIN, 0) == pytest.approx(0.5)
    assert sharpness(truth + 0.2 * pattern(0, 1, 2), truth, BRAIN, 0) == pytest.approx(1, abs=1e-6)


def test_gradient_energy_is_numpy_s():
    image, inner = anatomy(), ndimage.binary_erosion(BRAIN)
    expected = sum(part[inner].astype(float) ** 2 for part in np.gradient(image)).mean()
    assert gradient_energy(image, inner) == pytest.approx(expected, rel=1e-5)
