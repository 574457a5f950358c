"""ICC(3,1) against published figures and an analysis of variance by hand; what the changed masks look like."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lab.radiomics.features.masks import PERTURBATIONS, dilate, erode
from lab.radiomics.features.stability import measure_perturbed, stability
from lab.stats.agreement import icc_3_1

SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
"""Table 2 of Shrout & Fleiss 1979: six targets, four judges."""


def test_published_example():
    """Their table 4 gives 0.71; the interval is the one of the R package psych."""
    icc, low, high = icc_3_1(SHROUT_FLEISS)
    assert icc == pytest.approx(0.7148, abs=5e-5)
    assert low == pytest.approx(0.3425, abs=5e-4)
    assert high == pytest.approx(0.9459, abs=5e-4)


def test_equals_an_analysis_of_variance_by_hand():
    rng = np.random.default_rng(1)
    table = rng.normal(size=(9, 1)) * 2 + rng.normal(size=(1, 6)) + rng.normal(size=(9, 6))
    n, k = table.shape
    grand = sum(sum(row) for row in table) / (n * k)
    total = sum((value - grand) ** 2 for row in table for value in row)
    cases = k * sum((sum(row) / k - grand) ** 2 for row in table)
    raters = n * sum((sum(column) / n - grand) ** 2 for column in table.T)
    between, residual = cases / (n - 1), (total - cases - raters) / ((n - 1) * (k - 1))
    icc, low, high = icc_3_1(table)
    assert icc == pytest.approx((between - residual) / (between + (k - 1) * residual), abs=1e-12)
    for bound, tail in ((low, 0.975), (high, 0.025)):
        ratio = between / residual / stats.f.isf(1 - tail, n - 1, (n - 1) * (k - 1))
        assert bound == pytest.approx((ratio - 1) / (ratio + k - 1), abs=1e-12)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    n, k, draws = 15, 6, 4000
    ratings = 2.0 * rng.normal(size=(n, 1, draws)) + rng.normal(size=(1, k, 1)) + rng.normal(size=(n, k, draws))
    icc, low, high = icc_3_1(ratings)
    truth = 4 / 5
    assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(0.95, abs=0.012)
    assert np.median(icc) == pytest.approx(truth, abs=0.02)


def test_limits():
    """A constant offset of a rater does not count; where no case differs there is nothing to tell cases by."""
    offset = np.arange(5.0)[:, None] + np.array([0.0, 0.1, 7.0])
    assert icc_3_1(offset) == (1.0, 1.0, 1.0)
    assert np.isnan(icc_3_1(np.full((5, 3), 0.1))).all()
    noise = np.random.default_rng(0).normal(size=(2000, 4))
    assert icc_3_1(noise)[0] == pytest.approx(0, abs=0.03)
    both = np.stack([SHROUT_FLEISS, SHROUT_FLEISS[::-1] * 3 + 1], axis=2)
    assert np.ptp(icc_3_1(both), axis=1) == pytest.approx(0, abs=1e-12)


def test_the_icc_of_every_feature():
    cases = [f"c{i}" for i in range(6)]
    tables = {
        str(number): pd.DataFrame({"a": column, "b": -column}, index=cases)
        for number, column in enumerate(SHROUT_FLEISS.T)
    }
    found = stability(tables)
    assert list(found.columns) == ["feature", "icc", "low", "high", "n"]
    assert list(found["feature"]) == ["a", "b"]
    assert (found["n"] == 6).all()
    assert found["icc"].to_numpy() == pytest.approx(float(icc_3_1(SHROUT_FLEISS)[0]))


def test_changed_masks():
    point = np.zeros((5, 5, 5), bool)
    point[2, 2, 2] = True
    assert dilate(point).sum() == 7
    assert (erode(dilate(point)) == point).all()
    for axis, name in enumerate(("shift x", "shift y", "shift z")):
        moved = PERTURBATIONS[name](point)
        assert [index[0] for index in np.nonzero(moved)] == [2 + (axis == other) for other in range(3)]
        full = PERTURBATIONS[name](np.ones((3, 3, 3), bool))
        assert full.sum() == 18  # what leaves on one side does not come back on the other
    assert point.sum() == 1
    assert (PERTURBATIONS["none"](point) == point).all()


def test_stability_of_the_phantom(tiny_cohort, tmp_path):
    parameters = tmp_path / "small.yaml"
    parameters.write_text(
        "setting: {binCount: 16, minimumROISize: 26, label: 1, additionalInfo: false}\n"
        "imageType: {Original: {}}\nfeatureClass: {shape: [VoxelVolume], firstorder: [Mean, Skewness]}\n"
    )
    told = []
    tables = measure_perturbed(
        tiny_cohort, ("T1",), tmp_path / "cache", parameters=parameters, processes=1, progress=lambda *n: told.append(n)
    )
    found = stability(tables)
    assert told[-1][:2] == (6 * 12, 6 * 12)
    assert any(line.startswith("mask erode, EGD-0003: left out") for _, _, line in told)
    found = found.set_index("feature")
    assert list(found.index) == [
        "MASK_original_shape_VoxelVolume",
        "T1_original_firstorder_Mean",
        "T1_original_firstorder_Skewness",
    ]
    assert (found["n"] < 11).all()  # erosion leaves too little of the small ones
    alone = dataclasses.replace(tiny_cohort, index=tiny_cohort.index.loc[[tables["none"].index[0]]])
    with pytest.raises(ValueError, match="two cases that bear every changed mask, 1 do"):
        measure_perturbed(alone, ("T1",), tmp_path / "cache", parameters=parameters, processes=1)
    assert ((found["low"] < found["icc"]) & (found["icc"] < found["high"])).all()
    assert found.loc["T1_original_firstorder_Mean", "icc"] > found.loc["T1_original_firstorder_Skewness", "icc"]
