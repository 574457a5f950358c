"""Importances over splits: what a split did not select counts as 0 there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lab.radiomics.assess.importance import summarise_importances, summarise_learning
from lab.stats.intervals import corrected_t

TABLE = pd.DataFrame(
    [(1, 1, "a", 0.2), (1, 2, "a", 0.1), (2, 1, "a", 0.3), (1, 1, "b", 0.4), (2, 2, "c", -0.1)],
    columns=["repeat", "fold", "feature", "importance"],
)


def test_a_split_that_did_not_select_counts_as_zero():
    found = summarise_importances(TABLE, splits=4, train=80, test=20).set_index("feature")
    assert list(found.index) == ["a", "b", "c"]
    assert found["importance"].to_list() == pytest.approx([0.15, 0.1, -0.025])
    assert found["selected"].to_list() == [0.75, 0.25, 0.25]
    expected = corrected_t([0.2, 0.1, 0.3, 0], train=80, test=20, bounds=(-1, 1))
    assert found.loc["a", ["low", "high"]].to_list() == pytest.approx([expected.low, expected.high])


def test_one_split_has_no_interval():
    found = summarise_importances(TABLE.iloc[[0, 3]], splits=1, train=80, test=20)
    assert found["low"].isna().all()
    assert np.isfinite(found["importance"]).all()


def test_more_splits_than_said():
    with pytest.raises(ValueError, match="importances of 4 splits, but there are 2"):
        summarise_importances(TABLE, splits=2, train=80, test=20)


def test_a_learning_curve_has_the_corrected_t_at_each_size():
    curve = pd.DataFrame(
        [(seed, n, 18, 0.6 + 0.05 * seed + n / 400) for seed in range(3) for n in (10, 40)],
        columns=["seed", "n", "test", "score"],
    )
    found = summarise_learning(curve)
    assert found["n"].tolist() == [10, 40]
    assert found["seeds"].tolist() == [3, 3]
    last = corrected_t(curve.loc[curve["n"] == 40, "score"], train=40, test=18)
    np.testing.assert_allclose(found.iloc[1][["mean", "low", "high"]].to_numpy(float), last[:3])
