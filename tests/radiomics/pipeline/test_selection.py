"""Rankings against scikit-learn and our AUC; the greedy choice by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_selection import f_classif

from lab.radiomics.pipeline.selection import BestUncorrelated, Ranked, anova, rank_auc
from lab.stats.auc import auc


@pytest.fixture
def cases():
    rng = np.random.default_rng(0)
    y = np.arange(50) % 2
    return rng.normal(size=(50, 20)).round(1) + 0.5 * y[:, None], y


def test_anova_is_scikit_learns(cases):
    values, y = cases
    assert np.allclose(anova(values, y == 1), f_classif(values, y)[0])


def test_the_rank_merit_is_the_auc(cases):
    values, y = cases
    assert np.allclose(rank_auc(values, y == 1), [abs(auc(y, column) - 0.5) for column in values.T])


def test_the_best_come_first_and_equal_ones_keep_their_order(cases):
    values, y = cases
    X = pd.DataFrame({"noise": values[:, 0], "label": y * 1.0, "again": -1.0 * y})
    assert Ranked("auc").fit(X, y).transform(X).columns.tolist() == ["label", "again", "noise"]
    with pytest.raises(ValueError, match="got nonsense"):
        Ranked("nonsense").fit(X, y)


def test_copies_of_a_better_feature_go():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200))
    X = pd.DataFrame({"a": a, "minus a": -a + 0.1 * rng.normal(size=200), "a and b": a + b, "b": b})
    assert BestUncorrelated(correlation_limit=0.9).fit(X).columns_ == ["a", "a and b", "b"]
    assert BestUncorrelated(correlation_limit=0.6).fit(X).columns_ == ["a", "b"]
    assert BestUncorrelated(features=1, correlation_limit=0.6).fit(X).columns_ == ["a"]
    assert BestUncorrelated().fit(X).columns_ == list(X)


def test_no_two_chosen_features_correlate_beyond_the_limit():
    rng = np.random.default_rng(1)
    X = pd.DataFrame(rng.normal(size=(40, 5)) @ rng.normal(size=(5, 60)), columns=[f"f{n}" for n in range(60)])
    found = BestUncorrelated(correlation_limit=0.8).fit_transform(X)
    correlation = np.abs(np.corrcoef(found.T)) - np.eye(found.shape[1])
    assert 1 < found.shape[1] < 60
    assert correlation.max() <= 0.8 + 1e-12
