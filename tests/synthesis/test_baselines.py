"""The two trivial baselines against independent ways to the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from lab.data.batches import CaseStore
from lab.data.cohort import BRAIN
from lab.evaluation.evaluate import evaluate
from lab.synthesis.baselines import copy_channel, fit_linear, linear

INPUTS = ("T1", "T2", "FLAIR")


def pooled(cohort, cases, names):
    """Brain voxels of all cases, (N, channels) float64."""
    voxels = []
    for case in cases:
        image, mask = cohort.load(case)
        voxels.append(image[[cohort.channels.index(name) for name in names]][:, (mask & BRAIN) != 0].T)
    return np.concatenate(voxels).astype(np.float64)


@pytest.mark.parametrize("inputs", [INPUTS, ("FLAIR",), ("T2", "T1")])
def test_linear_regression_equals_scikit_learns(tiny_cohort, inputs):
    cases = tiny_cohort.index.index[:5]
    weights = fit_linear(tiny_cohort, cases, inputs=inputs, target="T1GD")
    truth = LinearRegression().fit(pooled(tiny_cohort, cases, inputs), pooled(tiny_cohort, cases, ["T1GD"])[:, 0])
    np.testing.assert_allclose(weights, [*truth.coef_, truth.intercept_], rtol=1e-8, atol=1e-10)
    other = fit_linear(tiny_cohort, tiny_cohort.index.index[5:], inputs=inputs, target="T1GD")
    assert not np.allclose(weights, other, rtol=1e-3)


def test_it_finds_the_target_among_its_inputs(tiny_cohort):
    weights = fit_linear(tiny_cohort, tiny_cohort.index.index[:3], inputs=("T1", "T1GD", "T2"), target="T1GD")
    np.testing.assert_allclose(weights, [0, 1, 0, 0], atol=1e-9)


def test_a_sequence_given_twice_does_not_break_it(tiny_cohort):
    cases = tiny_cohort.index.index[:3]
    once = fit_linear(tiny_cohort, cases, inputs=("T1", "T2"), target="T1GD")
    twice = fit_linear(tiny_cohort, cases, inputs=("T1", "T2", "T1"), target="T1GD")
    np.testing.assert_allclose([twice[0] + twice[2], twice[1], twice[3]], once, atol=1e-8)


def test_the_prediction_is_the_weighted_sum_in_the_brain_and_background_outside(tiny_cohort):
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:2], inputs=INPUTS, target="T1GD")
    batch, weights = store.batch([0, 1]), np.array([0.5, -1.0, 3.0, 0.25])
    image = linear(weights)(batch)
    assert image.shape == batch.target.shape
    brain = batch.masks["brain"]
    t1, t2, flair = (batch.inputs[:, i : i + 1] for i in range(3))
    expected = (0.5 * t1 - t2 + 3 * flair + 0.25).clamp(-1, 1)
    torch.testing.assert_close(image[brain], expected[brain])
    assert (image[~brain] == -1).all()
    assert image.max() == 1  # cut off where the sum leaves the range


@pytest.mark.parametrize("position", [0, 1, 2])
def test_copy_hands_back_an_input(tiny_cohort, position):
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:2], inputs=INPUTS, target="T1GD")
    batch = store.batch([0, 1])
    image = copy_channel(position)(batch)
    assert image.shape == batch.target.shape
    assert torch.equal(image[:, 0], batch.inputs[:, position])


def test_where_it_was_fitted_the_regression_has_a_smaller_squared_error_than_any_copy(tiny_cohort):
    cases = tiny_cohort.index.index[:1]
    store = CaseStore(tiny_cohort, cases, inputs=INPUTS, target="T1GD")
    fitted = evaluate(linear(fit_linear(tiny_cohort, cases, inputs=INPUTS, target="T1GD")), store)
    for position in range(3):
        assert fitted["mse_brain"].item() < evaluate(copy_channel(position), store)["mse_brain"].item()
