"""Paired tests between trials: against SciPy one pair at a time, and Holm against its definition."""

import itertools
import time

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from lab.report.tables.paired_tests import COLUMNS, MIN_PAIRS, paired_tests
from lab.stats.multiple_tests import holm

METRICS = [f"{kind}_{region}" for region in ("image", "brain", "tumour") for kind in ("mae", "mse", "ssim")]


def long_table(scores: dict[object, np.ndarray], metric: str = "mae_brain") -> pd.DataFrame:
    rows = [
        {"trial": trial, "case_id": f"case-{i:03d}", metric: value}
        for trial, values in scores.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def holm_by_definition(p: list[float]) -> list[float]:
    """Holm 1979: reject in order while p_(j) <= alpha / (m - j + 1); the adjusted p is the smallest such alpha."""
    m = len(p)
    ranked = sorted(p)
    return [min(1.0, max((m - j) * ranked[j] for j in range(ranked.index(value) + 1))) for value in p]


def test_holm_equals_its_definition():
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 40):
        p = rng.random(size) ** 4
        np.testing.assert_allclose(holm(p), holm_by_definition(list(p)), rtol=1e-14)


def test_holm_worked_example_with_ties_and_gaps():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.02, 0.02, 0.9]), [0.06, 0.06, 0.9])
    np.testing.assert_allclose(holm([0.02, np.nan, 0.5]), [0.04, np.nan, 0.5])
    assert holm([]).size == 0


@pytest.mark.parametrize("patients", [6, 12, 45, 60])
def test_equals_scipy_pair_by_pair(patients):
    """Untied, tied, partly missing and partly zero differences, each with its own choice of exact or approximate."""
    rng = np.random.default_rng(patients)
    scores = {trial: rng.random(patients) for trial in (0, 1, 2, "copy T1")}
    scores["missing"] = np.where(np.arange(patients) == 2, np.nan, rng.random(patients))
    scores["tied"] = scores[0] + np.where(np.arange(patients) % 2, 0.25, -0.25)
    scores["nearly 0"] = np.where(np.arange(patients) < 3, scores[0], scores[0] + rng.random(patients))
    result = paired_tests(long_table(scores)).set_index(["a", "b"])
    assert len(result) == 21
    for a, b in itertools.combinations(scores, 2):
        difference = scores[a] - scores[b]
        difference = difference[~np.isnan(difference)]
        row = result.loc[(a, b)]
        assert row.n == len(difference)
        assert row.median_difference == pytest.approx(np.median(difference))
        if len(difference) < MIN_PAIRS:
            assert np.isnan(row.p)
            assert row.note == "too few"
        else:
            assert row.p == pytest.approx(wilcoxon(difference[difference != 0]).pvalue, rel=1e-12), (a, b)
    np.testing.assert_allclose(result.p_holm, holm(result.p))


def test_each_reference_has_a_family_of_its_own():
    rng = np.random.default_rng(3)
    scores = {trial: rng.random(12) for trial in (0, 1, 2, 3, "copy T1", "linear regression")}
    result = paired_tests(long_table(scores), against=[2, "copy T1", "linear regression"])
    plain = paired_tests(long_table(scores))
    assert len(result) == len(plain) == 15  # every pair stays in the table, with the same p
    np.testing.assert_array_equal(result.p, plain.p)
    assert result.against.value_counts().to_dict() == {"linear regression": 5, "copy T1": 4, 2: 3, "": 3}
    for reference, family in result.groupby("against"):
        if reference == "":
            assert family.p_holm.isna().all()
            assert set(family.a) | set(family.b) == {0, 1, 3}
        else:
            assert all(reference in pair for pair in zip(family.a, family.b))
            np.testing.assert_allclose(family.p_holm, holm(family.p))


def test_smaller_families_find_what_all_pairs_would_hide():
    """Ten patients, 15 networks: no p below 0.002 exists, and 136 pairs would ask for less than 0.0004."""
    rng = np.random.default_rng(0)
    base = rng.random(10)
    scores = {trial: base + 0.01 * trial + 1e-4 * rng.random(10) for trial in range(15)}
    scores |= {"copy T1": base + 1, "linear regression": base - 1}
    assert (paired_tests(long_table(scores)).p_holm > 0.05).all()
    found = paired_tests(long_table(scores), against=[0, "copy T1", "linear regression"])
    assert (found[found.against != ""].p_holm < 0.05).all()


def test_an_unknown_reference_is_refused():
    with pytest.raises(ValueError, match="no trial 7 to test against"):
        paired_tests(long_table({0: np.ones(8), 1: np.ones(8)}), against=[7])


def test_a_clear_difference_is_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    base = rng.random(30)
    table = long_table({"good": base, "bad": base + 0.1, "same": base + rng.normal(0, 1e-3, 30)})
    result = paired_tests(table).set_index(["a", "b"])
    assert result.loc[("good", "bad"), "p_holm"] < 1e-6
    assert result.loc[("good", "bad"), "median_difference"] == pytest.approx(-0.1)
    assert result.loc[("good", "same"), "p"] > 0.05


def test_equal_trials_have_p_one():
    values = np.random.default_rng(0).random(10)
    result = paired_tests(long_table({0: values, 1: values}))
    assert result.p.tolist() == [1.0]
    assert result.p_holm.tolist() == [1.0]
    assert result.median_difference.tolist() == [0.0]


def test_too_few_pairs_are_named_and_leave_the_correction_alone():
    rng = np.random.default_rng(0)
    scores = {0: rng.random(9), 1: rng.random(9), 2: np.where(np.arange(9) < 5, rng.random(9), np.nan)}
    result = paired_tests(long_table(scores))
    assert result.note.tolist() == ["", "too few", "too few"]
    assert result.n.tolist() == [9, 5, 5]
    assert result.p[0] == result.p_holm[0]
    assert result.p[1:].isna().all()
    assert not result.median_difference.isna().any()


def test_no_common_patient():
    result = paired_tests(long_table({0: np.array([1.0, np.nan]), 1: np.array([np.nan, 1.0])}))
    assert result.n.tolist() == [0]
    assert result.median_difference.isna().all()


def test_scans_of_one_patient_count_once():
    rng = np.random.default_rng(0)
    table = long_table({0: rng.random(14), 1: rng.random(14)})
    table["patient_id"] = [f"p{i // 2}" for i in range(14)] * 2
    result = paired_tests(table)
    assert result.n.tolist() == [7]
    means = table.groupby(["trial", "patient_id"]).mae_brain.mean()
    assert result.p[0] == pytest.approx(wilcoxon(means[0] - means[1]).pvalue)


def test_one_trial_and_wrong_tables():
    one = long_table({0: np.ones(8)})
    assert list(paired_tests(one).columns) == COLUMNS
    assert paired_tests(one).empty
    with pytest.raises(ValueError, match="lacks the columns"):
        paired_tests(one.drop(columns="case_id"))
    with pytest.raises(ValueError, match="case-000 more than once"):
        paired_tests(pd.concat([one, one]))


@pytest.mark.parametrize("patients", [12, 45])
def test_a_whole_study_takes_little_time(patients):
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame(rng.random((patients, 9)), columns=METRICS).assign(trial=trial, case_id=np.arange(patients))
        for trial in [*range(15), "copy T1", "linear regression"]
    ]
    table = pd.concat(frames)
    table.loc[table.case_id.isin([3, 7]), "mae_tumour"] = np.nan
    table.loc[table.case_id.isin([3, 7]), "mse_tumour"] = 0.0  # zero differences for every pair
    start = time.process_time()  # of CPU, whatever else runs
    result = paired_tests(table)
    assert time.process_time() - start < 10
    assert len(result) == 136 * 9
    assert result.groupby("metric", sort=False).n.first().loc["mae_tumour"] == patients - 2
    assert list(dict.fromkeys(result.metric)) == METRICS
