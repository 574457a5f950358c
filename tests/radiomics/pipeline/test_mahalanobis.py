"""Distances against the textbook's, their reference on known distributions, and the words for strange features."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import mahalanobis

from lab.radiomics.pipeline.mahalanobis import FAR, fit_distance


def normal(count, features=5, seed=0):
    return pd.DataFrame(
        np.random.default_rng(seed).normal(10, 2, size=(count, features)), columns=[f"f{n}" for n in range(features)]
    )


def names(count):
    return np.array([f"p{n}" for n in range(count)])


def test_distances_are_mahalanobis():
    train = normal(4000)
    found = fit_distance(train.iloc[:1000], names(1000)).distances(train.iloc[1000:1010])
    inverse = np.linalg.inv(np.cov(train.T))
    plain = [mahalanobis(row, train.mean(), inverse) for row in train.iloc[1000:1010].to_numpy()]
    assert found == pytest.approx(plain, rel=0.15)


def test_new_patients_of_the_same_kind_fill_all_percentiles_alike():
    novelty = fit_distance(normal(150), names(150))
    found = novelty.percentiles(normal(3000, seed=1))
    assert found.mean() == pytest.approx(0.5, abs=0.06)
    assert (found > FAR).mean() < 0.07
    inside = fit_distance(normal(150, 40), names(150)).percentiles(normal(3000, 40, seed=1))
    assert inside.mean() == pytest.approx(0.5, abs=0.1)  # in-sample distances would put everybody at the far end


def test_far_away_is_far_and_says_why():
    train = normal(100)
    novelty = fit_distance(train, names(100))
    odd = train.iloc[[0, 1]].copy()
    odd.iloc[0] = train.mean()
    odd.iloc[1, 2] = 10 + 2 * 30
    assert novelty.percentiles(odd).tolist()[1] == 1.0
    assert novelty.percentiles(odd)[0] < 0.05
    calm, strange = novelty.outlying(odd)
    assert calm == ""
    assert strange.startswith("f2 +")
    assert strange.endswith("SD")


def test_an_unusual_combination_is_far_though_each_value_is_usual():
    rng = np.random.default_rng(0)
    a = rng.normal(size=300)
    train = pd.DataFrame({"a": a, "b": a + 0.1 * rng.normal(size=300)})
    novelty = fit_distance(train, names(300))
    assert novelty.percentiles(pd.DataFrame({"a": [1.5, 1.5], "b": [1.5, -1.5]}))[1] == 1.0
    assert novelty.percentiles(pd.DataFrame({"a": [1.5], "b": [1.5]}))[0] < 0.97
    assert novelty.outlying(pd.DataFrame({"a": [1.5], "b": [-1.5]})) == [""]


def test_scans_of_one_patient_are_left_out_together():
    train = normal(20)
    twice = pd.concat([train, train], ignore_index=True)
    together = fit_distance(twice, np.tile(names(20), 2))
    apart = fit_distance(twice, names(40))
    assert together.reference.max() > apart.reference.max()
    assert len(together.reference) == 40


def test_more_features_than_patients_and_constants_do():
    train = normal(20, 50).assign(constant=1.0)
    novelty = fit_distance(train, names(20))
    assert np.isfinite(novelty.distances(normal(5, 50, seed=2).assign(constant=1.0))).all()
    with pytest.raises(ValueError, match="needs 3 patients; there are 2"):
        fit_distance(train.iloc[:4], np.array(["a", "a", "b", "b"]))
