"""Figures of samples, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from lab.evaluation.figure_spec import JudgedCase
from lab.evaluation.place.sample_spread import crps, enhancing, mean_spread, spread_ratio
from lab.io.case_file import BRAIN, TUMOUR


def judged(prediction: np.ndarray, spread: np.ndarray | None) -> JudgedCase:
    """A brain of 4 x 10 x 10 voxels, half of it tumour, of which half enhances."""
    truth, flags = np.zeros((4, 10, 10), np.float32), np.full((4, 10, 10), BRAIN, np.uint8)
    flags[:2] |= TUMOUR
    truth[:1] = 0.6
    return JudgedCase(
        prediction=prediction, probability=None, spread=spread, t1=np.zeros_like(truth), truth=truth, flags=flags,
        brain=flags > 0, noise_sd=0.0, spacing_mm=1.0, threshold=0.3, enhancing_ml=0.5,
    )  # fmt: skip


def test_the_crps_of_samples_that_are_right_is_lower_than_their_error():
    generator = np.random.default_rng(0)
    case = judged(generator.normal(0, 0.1, (4, 10, 10)).astype(np.float32), np.full((4, 10, 10), 0.05, np.float32))
    assert crps(case) == pytest.approx(np.abs(case.prediction - case.truth).mean() - 0.05, abs=1e-6)
    assert np.isnan(crps(judged(case.prediction, None)))


def test_the_spread_is_read_where_it_enhances_and_elsewhere():
    spread = np.full((4, 10, 10), 0.02, np.float32)
    spread[:1] = 0.08
    case = judged(np.zeros((4, 10, 10), np.float32), spread)
    assert enhancing(case).sum() == 100
    assert mean_spread(case, enhancing(case)) == pytest.approx(0.08)
    assert mean_spread(case, case.brain & ~enhancing(case)) == pytest.approx(0.02)
    assert spread_ratio(case) == pytest.approx(4)
    assert np.isnan(mean_spread(case, np.zeros_like(case.brain)))
    assert np.isnan(spread_ratio(judged(case.prediction, None)))
