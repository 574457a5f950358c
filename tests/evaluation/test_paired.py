"""The paired bootstrap on cases worked out by hand, and the interval that it is known to become."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lab.evaluation.enhancement import SUMS, gain_sums
from lab.evaluation.figures import shown_in
from lab.evaluation.pooled import compare_means, compare_scores, point
from lab.stats.bootstrap import expanded_interval, patient_draws


def table(values, *, patients=None, **columns) -> pd.DataFrame:
    names = [f"c{i}" for i in range(len(values))]
    return pd.DataFrame({"case_id": names, "patient_id": patients or names, "mae_brain": values, **columns})


def contrast(skill: float, count: int, seed: int) -> pd.DataFrame:
    rows = []
    for i in range(count):
        true, own = np.random.default_rng([0, i]), np.random.default_rng([seed, i])
        real = true.gamma(1, 0.3, 60)
        rows.append(gain_sums(skill * real + 0.05 * own.normal(size=60), real))
    return table(np.zeros(count), **dict(zip(SUMS, np.array(rows).T)))


def test_a_difference_that_is_the_same_in_everybody_has_no_width():
    first = np.linspace(0.1, 0.9, 12)
    found = compare_means(table(first), table(first - 0.25), "mae_brain")
    assert found.difference == pytest.approx(0.25)
    assert (found.low, found.high) == pytest.approx((0.25, 0.25))
    assert found.n == 12


def test_for_a_mean_it_is_nearly_students_interval():
    rng = np.random.default_rng(0)
    for count in (10, 40):
        gap = rng.normal(0.3, 1, count)
        found = compare_means(table(gap + 5), table(np.full(count, 5.0)), "mae_brain", resamples=40_000)
        low, high = stats.t.interval(0.95, count - 1, gap.mean(), stats.sem(gap))
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.12 * (high - low))


def test_it_is_wider_than_plain_percentiles_and_the_more_so_the_fewer_there_are():
    ratios = []
    for count in (6, 60):
        values = np.random.default_rng(1).normal(size=count)
        weights = patient_draws(count, 20_000, np.random.default_rng(0))
        result = weights @ values / count
        low, high = expanded_interval(result, count)
        ratios.append((high - low) / np.diff(np.percentile(result[1:], [2.5, 97.5]))[0])
    assert ratios[0] > 1.3
    assert 1 < ratios[1] < 1.05


def test_pairing_takes_out_what_is_hard_for_both():
    hard = np.random.default_rng(2).normal(0, 10, 20)
    own = np.random.default_rng(3).normal(0, 0.1, 20)
    paired = compare_means(table(hard + 1 + own), table(hard), "mae_brain")
    assert 0.9 < paired.low < paired.high < 1.1


def test_scores_are_those_of_the_scorecard_and_only_common_cases_count():
    first, second = contrast(0.8, 20, 1), contrast(0.4, 20, 2)
    found = compare_scores(first, second, "contrast_concordance")
    assert found.first == pytest.approx(point(first, "", "contrast_concordance"))
    assert found.second == pytest.approx(point(second, "", "contrast_concordance"))
    assert found.low > 0
    shuffled = second.iloc[::-1].reset_index(drop=True)
    assert compare_scores(first, shuffled, "contrast_concordance") == found
    assert compare_scores(first, second.iloc[5:], "contrast_concordance").n == 15
    turned = compare_scores(second, first, "contrast_concordance")
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_equal_images_do_not_differ():
    one = contrast(0.8, 12, 1)
    found = compare_scores(one, one, "contrast_concordance")
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_a_patient_is_drawn_with_all_scans():
    """Two patients of ten scans each: the mean of a draw takes one of three values, so that the interval is as wide."""
    values = [0.0] * 10 + [1.0] * 10
    found = compare_means(table(values, patients=["a"] * 10 + ["b"] * 10), table([0.0] * 20), "mae_brain")
    assert (found.n, found.low, found.high) == (2, 0, 1)


def test_empty_cells_do_not_count_and_nothing_is_refused():
    values = [1.0, np.nan, 3.0]
    assert compare_means(table(values), table([0.0, 0.0, np.nan]), "mae_brain").n == 1
    with pytest.raises(ValueError, match="mae_brain: defined for none of the 3 common cases"):
        compare_means(table([np.nan] * 3), table(values), "mae_brain")


def test_one_patient_has_no_interval():
    found = compare_means(table([1.0]), table([0.0]), "mae_brain")
    assert found.difference == 1
    assert np.isnan([found.low, found.high]).all()


def test_an_unknown_score_is_refused_and_dice_is_none():
    assert not any("dice" in name for name in shown_in("gate"))
    with pytest.raises(ValueError, match="there is no score 'mae_brain'; known are contrast_concordance"):
        compare_scores(table([1.0]), table([1.0]), "mae_brain")
