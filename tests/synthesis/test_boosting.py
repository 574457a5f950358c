"""Boosting on the phantom: what it is given, what it finds, and that masks of test patients do not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lab.data.batches import CaseStore, image_of, map_of, tumour_core
from lab.io.case_file import BRAIN, CORE, TUMOUR
from lab.synthesis.baselines import Training, boost, fit_baselines
from lab.synthesis.boosting import Voxels, depth_mm, dice_threshold, largest, voxel_features

INPUTS = ("T1", "T2", "FLAIR")


@pytest.fixture(scope="module")
def training(tiny_cohort) -> Training:
    return Training(cohort=tiny_cohort, case_ids=tiny_cohort.index.index[:8], inputs=INPUTS, target="T1GD")


@pytest.fixture(scope="module")
def batch(tiny_cohort):
    return CaseStore(tiny_cohort, tiny_cohort.index.index[8:9], inputs=INPUTS, target="T1GD").batch([0])


def test_it_predicts_an_image_and_a_probability_without_any_mask_but_the_brain(training, batch):
    predict = boost(training)
    found = predict(batch)
    image, probability = image_of(found), map_of(found, "probability")
    assert image.shape == probability.shape == batch.target.shape
    assert image.abs().max() <= 1
    assert 0 <= probability.min() <= probability.max() <= 1
    assert (probability[~batch.masks["brain"]] == 0).all()
    blind = {name: mask if name == "brain" else torch.zeros_like(mask) for name, mask in batch.masks.items()}
    again = predict(replace(batch, masks=blind, target=torch.zeros_like(batch.target)))
    assert torch.equal(map_of(again, "probability"), probability)
    assert torch.equal(image_of(again), image)


def test_two_fits_agree_and_a_case_is_predicted_alike_twice(tiny_cohort, training, batch):
    other = replace(training)
    first, second = training.boosted.maps(batch), other.boosted.maps(batch)
    for one, two in zip(first, second):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(first, training.boosted.maps(batch)):  # kept from before
        np.testing.assert_array_equal(one, two)


def test_where_it_was_fitted_it_ranks_tumour_voxels_first(training, tiny_cohort):
    store = CaseStore(tiny_cohort, training.case_ids, inputs=INPUTS, target="T1GD")
    batch = store.batch([0])
    tumour, brain = (batch.masks[name][0, 0].numpy() for name in ("tumour", "brain"))
    likely = training.boosted.maps(batch).tumour
    assert likely[tumour].mean() > likely[brain & ~tumour].mean() + 0.3


def test_painting_adds_the_mean_rise_in_the_mask_and_leaves_the_regression_elsewhere(training, batch):
    predict = fit_baselines(training.cohort, training.case_ids, inputs=INPUTS, target="T1GD")
    image, mask = predict["painted tumour (mask given)"](batch), batch.masks["tumour"] & batch.masks["brain"]
    t1 = batch.inputs[:, :1]
    assert 0.3 < training.rise < 2  # the phantom enhances by the rule
    torch.testing.assert_close(image[mask], (t1[mask] + training.rise).clamp(-1, 1))
    assert torch.equal(image[~mask], training.linear(batch)[~mask])


def test_features_ignore_what_lies_outside_the_brain():
    rng = np.random.default_rng(0)
    inputs = rng.normal(0, 0.3, (2, 9, 10, 8)).astype(np.float32)
    brain = np.zeros((9, 10, 8), bool)
    brain[2:7, 2:8, 1:7] = True
    found = voxel_features(inputs, brain, 2.0)
    assert found.shape == (brain.sum(), 12)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[:, 0], inputs[0][brain])
    changed = np.where(brain, inputs, -1).astype(np.float32)
    np.testing.assert_array_equal(found, voxel_features(changed, brain, 2.0))
    flat = voxel_features(np.full_like(inputs, 0.25), brain, 2.0)
    np.testing.assert_allclose(flat[:, 1:4], 0.25, atol=1e-5)  # the surface does not darken
    np.testing.assert_allclose(flat[:, 4:6], 0, atol=1e-4)


def test_the_core_is_the_experts_or_the_ring_and_what_it_encloses():
    ring = np.zeros((15, 15, 15), bool)
    ring[3:12, 3:12, 3:12] = True
    ring[5:10, 5:10, 5:10] = False
    flags = np.full(ring.shape, BRAIN | TUMOUR, np.uint8)
    core = tumour_core(flags, ring, 2.0)
    assert core[7, 7, 7]
    assert core.sum() == 9**3
    assert not tumour_core(flags, np.zeros_like(ring), 2.0).any()
    assert (tumour_core(np.where(ring, flags, BRAIN), ring, 2.0) == ring).all()  # no further than the tumour
    flags[2:13, 3:12, 3:12] |= CORE
    assert (tumour_core(flags, ring, 2.0) == ((flags & CORE) != 0)).all()


def test_depth_grows_inwards_in_millimetres():
    brain = np.ones((20, 20, 20), bool)
    found = np.zeros_like(brain)
    found[5:15, 5:15, 5:15] = True
    depth = depth_mm(found, brain, 2.0).reshape(brain.shape)
    assert depth[5, 10, 10] == 2
    assert depth[9, 9, 9] == 10
    assert depth[4, 10, 10] == -2
    assert not depth_mm(np.zeros_like(brain), brain, 2.0).any()


def test_pieces_below_a_tenth_of_the_largest_are_dropped():
    mask = np.zeros((20, 5, 5), bool)
    mask[:10] = True
    mask[12, 0, 0] = True
    assert largest(mask).sum() == 250
    assert not largest(np.zeros_like(mask)).any()


def test_the_threshold_of_the_highest_dice():
    values = np.linspace(0.005, 0.995, 100).astype(np.float32)
    assert dice_threshold([values], [values > 0.7]) == pytest.approx(0.7, abs=0.011)
    assert dice_threshold([values], [values > 2]) == 0.5


def test_probabilities_follow_the_true_shares_although_the_sample_is_balanced():
    rng = np.random.default_rng(0)
    voxels = Voxels(0)
    for patient in "abcdef":
        positive = rng.random(3000) < 0.05
        voxels.add(patient, rng.normal(0, 1, (3000, 2)).astype(np.float32), positive)  # features say nothing
    assert voxels.fit("abcdef")(np.zeros((5, 2), np.float32)).mean() == pytest.approx(0.05, abs=0.03)
    only = Voxels(0)
    only.add("a", np.zeros((10, 2), np.float32), np.zeros(10, bool))
    assert not only.fit("a")(np.zeros((4, 2), np.float32)).any()
