"""Voxel counts against scikit-learn and against masks made directly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, cohen_kappa_score, roc_auc_score

from lab.data.batches import CaseStore, image_of
from lab.evaluation.enhancement import near
from lab.evaluation.evaluate import evaluate, means
from lab.evaluation.place.voxel_counts import (
    COUNTS,
    STEP,
    at_thresholds,
    average_precision,
    beyond,
    choose_thresholds,
    count_voxels,
    join_counts,
    read_counts,
    voxel_auc,
)
from lab.evaluation.pooled import point, pooled
from lab.io.case_file import TUMOUR

INPUTS = ("T1", "T2", "FLAIR")


def faint(batch):
    """A fifth of the true rise with noise, and a probability of its own."""
    rng = np.random.default_rng(sum(map(ord, batch.case_ids[0])))
    t1 = batch.inputs[:, :1]
    noise = t1.new_tensor(rng.normal(0, 0.03, t1.shape))
    probability = ((batch.target - t1) + 3 * noise).clamp(0, 1)
    return {"image": t1 + 0.2 * (batch.target - t1) + noise, "probability": probability}


@pytest.fixture(scope="module")
def store(tiny_cohort):
    return CaseStore(tiny_cohort, tiny_cohort.index.index[:6], inputs=INPUTS, target="T1GD")


@pytest.fixture(scope="module")
def voxels(store, tiny_cohort):
    """Contrast and rule of every voxel near the tumour, by case."""
    found = []
    for index in range(len(store)):
        batch = store.batch([index])
        tumour, brain = (batch.masks[name][0, 0].numpy() for name in ("tumour", "brain"))
        region = near(tumour, brain, tiny_cohort.spacing_mm)
        t1 = batch.inputs[0, 0].numpy()
        gain, true = image_of(faint(batch))[0, 0].numpy() - t1, batch.target[0, 0].numpy() - t1 > 0.3
        found.append((gain[region].astype(np.float32), true[region]))
    return found


@pytest.mark.parametrize("score", ["contrast", "probability"])
def test_counts_survive_as_text(score):
    rng = np.random.default_rng(1)
    values, true = rng.random(500).astype(np.float32), rng.random(500) < 0.3
    text = count_voxels(values, true, score)
    counts = read_counts(pd.Series([text, "", np.nan]), score)
    assert counts[0].sum(axis=0).tolist() == [true.sum(), (~true).sum()]
    assert not counts[1:].any()
    above = beyond(counts[0])
    low = -1 if score == "contrast" else 0
    for level in (0.0, 0.25, 0.7):
        assert above[round((level - low) / STEP) + 1].sum() == (values > level).sum()
    assert read_counts(pd.Series([join_counts(pd.Series([text, text]))]), score)[0].tolist() == (2 * counts[0]).tolist()


def test_values_on_an_edge_belong_below_it_and_values_beyond_the_range_to_its_ends():
    values = np.array([0.3, 0.30001, -3, 3], np.float32)
    counts = read_counts(pd.Series([count_voxels(values, np.ones(4, bool), "contrast")]), "contrast")[0]
    assert np.flatnonzero(counts[:, 0]).tolist() == [0, 130, 131, 200]
    assert count_voxels(values[:0], np.ones(0, bool), "contrast") == ""


def test_the_auc_of_a_case_is_that_of_its_voxels(store, voxels):
    table = evaluate(faint, store)
    expected = [roc_auc_score(true, gain) if 0 < true.sum() < true.size else np.nan for gain, true in voxels]
    np.testing.assert_allclose(table["contrast_auc_rule"], expected, atol=1e-6)
    assert np.isnan(voxel_auc(np.zeros(3, bool), np.zeros(3, np.float32)))
    assert table["contrast_auc_expert"].isna().all()  # the phantom ships no label
    figures = means(table, "val")
    assert figures["val/contrast_auc_rule"] == pytest.approx(np.nanmean(expected))
    gain, true = (np.concatenate(part) for part in zip(*voxels))
    assert figures["val/contrast_auc_pooled_rule"] == pytest.approx(roc_auc_score(true, gain), abs=0.003)  # bins


def test_a_patient_is_ranked_by_the_level_that_the_least_enhancing_volume_reaches(store, tiny_cohort):
    table = evaluate(faint, store)
    voxel_ml = tiny_cohort.spacing_mm**3 / 1000
    for index, level in enumerate(table["probability_level"]):
        batch = store.batch([index])
        region = near(*(batch.masks[name][0, 0].numpy() for name in ("tumour", "brain")), tiny_cohort.spacing_mm)
        values = np.sort(faint(batch)["probability"][0, 0].numpy()[region])
        assert level == pytest.approx(values[-int(np.ceil(0.5 / voxel_ml))])
    some = table.assign(enhances_rule=[1, 0, 1, 0, 1, 1])
    for figure, level in (("probability_auc_patients", "probability_level"), ("auc", "enhancement_level")):
        expected = roc_auc_score(some["enhances_rule"], some[level])
        assert point(some, "rule", figure) == pytest.approx(expected)


def test_the_threshold_has_the_highest_kappa_of_all_voxels(store, voxels):
    chosen = choose_thresholds(evaluate(faint, store))
    assert set(chosen) == {"contrast_threshold_rule", "probability_threshold_rule"}
    gain, true = (np.concatenate(part) for part in zip(*voxels))
    levels = np.round(np.arange(-0.2, 0.5, STEP), 2)
    kappas = [cohen_kappa_score(true, gain > level) for level in levels]
    assert chosen["contrast_threshold_rule"] == pytest.approx(levels[int(np.argmax(kappas))])
    assert chosen["contrast_threshold_rule"] < 0.2  # a fifth of the rise is shown


def test_average_precision_is_that_of_all_counted_voxels():
    draws = np.random.default_rng(0)
    values = draws.integers(0, 101, 3000).astype(np.float32) / 100
    true = draws.random(3000) < values / 3
    cells = [count_voxels(values[part], true[part], "probability") for part in (slice(1000), slice(1000, None))]
    expected = average_precision_score(true, values)
    assert average_precision(cells, "probability") == pytest.approx(expected, abs=1e-12)
    assert np.isnan(average_precision([count_voxels(values, np.zeros_like(true), "probability")], "probability"))
    assert np.isnan(average_precision([], "probability"))


def test_figures_at_a_threshold_are_those_of_the_mask_above_it(store, voxels, tiny_cohort):
    table = evaluate(faint, store, {"contrast_threshold_rule": 0.07})
    gain, true = (np.concatenate(part) for part in zip(*voxels))
    ml = tiny_cohort.spacing_mm**3 / 1000
    assert table["contrast_predicted_ml_rule"].sum() == pytest.approx((gain > 0.07).sum() * ml)
    assert table["contrast_overlap_ml_rule"].sum() == pytest.approx(((gain > 0.07) & true).sum() * ml)
    assert table["contrast_hallucinated_ml_rule"].notna().tolist() == table["enhances_rule"].eq(0).tolist()
    assert table["contrast_threshold_rule"].dropna().eq(0.07).all()
    assert table["probability_dice_rule"].isna().all()  # no threshold was chosen for it
    card = pooled(table, resamples=5).set_index(["definition", "figure"])["value"]
    assert card["rule", "contrast_kappa"] == pytest.approx(cohen_kappa_score(true, gain > 0.07))
    both = 2 * ((gain > 0.07) & true).sum() / ((gain > 0.07).sum() + true.sum())
    assert card["rule", "contrast_dice_pooled"] == pytest.approx(both)


def test_at_the_rules_own_threshold_the_figures_are_the_rules(store):
    table = at_thresholds(evaluate(faint, store), {"contrast_threshold_rule": 0.3})
    known = table["contrast_threshold_rule"].notna()
    for own, chosen in (("ml_predicted", "contrast_predicted_ml_rule"), ("dice_rule", "contrast_dice_rule")):
        np.testing.assert_allclose(table.loc[known, own], table.loc[known, chosen], atol=1e-9)


def test_without_contrast_every_threshold_is_as_good_and_the_rules_is_taken(store):
    chosen = choose_thresholds(evaluate(lambda batch: batch.inputs[:, :1], store))
    assert chosen == {"contrast_threshold_rule": 0.3}


def test_tables_without_counts_choose_nothing(store):
    assert choose_thresholds(evaluate(faint, store).drop(columns=list(COUNTS))) == {}


def test_a_region_without_a_tumour_counts_nothing(store):
    table = evaluate(faint, store)
    for index, case in enumerate(table["case_id"]):
        flags = store.cohort.load(case)[1]
        if not (flags & TUMOUR).any():
            assert table.loc[index, "contrast_counts_rule"] == ""
