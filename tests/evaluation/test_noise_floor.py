"""The noise estimate: known noise is found, partial volume and resampling shift it as the docstring says."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.restoration import estimate_sigma

from lab.data.batches import CaseStore
from lab.evaluation.evaluate import evaluate
from lab.evaluation.noise_floor import floor, noise_sd
from lab.phantom import physics, scanner
from lab.phantom.subject import make_subject

SHAPE = (48, 56, 44)


def head() -> tuple[np.ndarray, np.ndarray]:
    """A ball of a brain with three tissues, each of one value, on a background of -1."""
    x, y, z = np.indices(SHAPE)
    radius = np.sqrt((x - 23.5) ** 2 + (y - 27.5) ** 2 + (z - 21.5) ** 2)
    image = np.select([radius < 8, radius < 16, radius < 21], [-0.4, 0.1, 0.5], -1.0).astype(np.float32)
    return image, radius < 21


def noise(sd: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sd, SHAPE).astype(np.float32)


@pytest.mark.parametrize("sd", [0.005, 0.03, 0.1])
def test_white_noise_in_a_piecewise_constant_brain_is_recovered(sd):
    image, brain = head()
    estimates = [noise_sd(np.where(brain, image + noise(sd, seed), -1), brain) for seed in range(3)]
    assert np.mean(estimates) == pytest.approx(sd, rel=0.04)


def test_an_image_without_noise_has_none():
    image, brain = head()
    assert noise_sd(image, brain) == 0
    x, y, z = np.indices(SHAPE)
    assert noise_sd(0.01 * x - 0.02 * y + 0.005 * z, brain) == pytest.approx(0, abs=1e-6)


def test_the_background_does_not_count():
    image, brain = head()
    grainy = image + noise(0.03)
    assert noise_sd(np.where(brain, grainy, 7 * noise(1.0)), brain) == noise_sd(np.where(brain, grainy, -1), brain)


def test_agrees_with_scikit_image_on_pure_noise():
    pure = noise(0.04)
    theirs = estimate_sigma(pure, average_sigmas=True)  # db2 wavelet, every second coefficient
    assert noise_sd(pure, np.ones(SHAPE, bool)) == pytest.approx(theirs, rel=0.05)


def test_units_are_those_of_the_image():
    image, brain = head()
    grainy = image + noise(0.03)
    assert noise_sd(10 * grainy + 3, brain) == pytest.approx(10 * noise_sd(grainy, brain), rel=1e-4)


@pytest.mark.parametrize(("shift", "low", "high"), [(0.5, 0.3, 0.4), (0.25, 0.45, 0.65)])
def test_resampled_noise_is_underestimated(shift, low, high):
    pure = ndimage.shift(noise(0.04), [shift] * 3, order=1, mode="grid-wrap")
    assert low < noise_sd(pure, np.ones(SHAPE, bool)) / pure.std() < high


def test_on_the_phantom_coarse_voxels_read_too_high(monkeypatch):
    known = {}
    acquire = scanner.acquire

    def spy(rng, sample, values, name):
        """The scan, and the same scan with the noise switched off: everything else is drawn before it."""
        with monkeypatch.context() as patch:
            patch.setattr(physics, "rician_noise", lambda signal, sigma, rng: signal)
            clean = acquire(np.random.default_rng(1), sample, values.copy(), name)
        noisy = acquire(np.random.default_rng(1), sample, values, name)
        bright = clean > np.percentile(clean[clean > 0], 40)
        known[name] = (noisy - clean)[bright].std()
        return noisy

    monkeypatch.setattr(scanner, "acquire", spy)
    image = make_subject(7, 1, 4.0).images["T1GD"]
    brain = ndimage.binary_erosion(image > np.percentile(image[image > 0], 40), iterations=2)
    assert brain.sum() > 2000
    assert 1.05 < noise_sd(image, brain) / known["T1GD"] < 1.8


def test_the_floor_is_what_the_truth_itself_would_score():
    sd = 0.07
    errors = np.random.default_rng(2).normal(0, sd, 400_000)
    assert floor(sd) == {
        "floor_mae": pytest.approx(np.abs(errors).mean(), rel=0.01),
        "floor_mse": pytest.approx((errors**2).mean(), rel=0.01),
    }


def test_a_noise_free_prediction_of_a_noisy_scan_scores_the_floor():
    image, brain = head()
    grainy = image + noise(0.05)
    expected = floor(noise_sd(grainy, brain))
    assert np.abs(grainy - image)[brain].mean() == pytest.approx(expected["floor_mae"], rel=0.04)
    assert ((grainy - image) ** 2)[brain].mean() == pytest.approx(expected["floor_mse"], rel=0.08)


def test_too_small_a_brain_has_no_estimate():
    image, brain = head()
    assert np.isnan(noise_sd(image, np.zeros_like(brain)))
    speck = np.zeros_like(brain)
    speck[20:22, 20, 20] = True
    assert np.isnan(noise_sd(image, speck))
    assert np.isnan(floor(float("nan"))["floor_mae"])


def test_the_table_has_the_scan_s_own_noise(tiny_cohort):
    case = tiny_cohort.index.index[0]
    table = evaluate(lambda batch: 0 * batch.target, CaseStore(tiny_cohort, [case], inputs=("T1",), target="T1GD"))
    image, mask = tiny_cohort.load(case)
    sd = noise_sd(image[tiny_cohort.channel("T1GD")], (mask & 1) != 0)
    assert table["noise_sd"].item() == sd > 0
    assert table["floor_mse"].item() == pytest.approx(sd**2)
