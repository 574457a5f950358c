import numpy as np
import pytest
from scipy.stats import binomtest

from lab.stats.bootstrap import bootstrap, stratified_draws
from lab.stats.intervals import corrected_t, wilson
from lab.stats.predictions import checked, checked_probabilities, one_per_patient


@pytest.mark.parametrize(("hits", "total"), [(0, 1), (0, 12), (7, 12), (12, 12), (1, 400), (399, 400)])
def test_wilson_equals_scipy(hits, total):
    found = wilson(hits, total)
    other = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    assert found.value == hits / total
    np.testing.assert_allclose([found.low, found.high], [other.low, other.high], atol=1e-12)
    assert 0 <= found.low < found.high <= 1


def test_wilson_of_nobody_is_not_known_and_of_nonsense_is_refused():
    assert np.isnan(wilson(0, 0)[:3]).all()
    for hits, total in ((3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="hits"):
            wilson(hits, total)


def test_corrected_t_by_hand():
    """Mean 0.8, variance 0.01; (1/3 + 20/80) * 0.01 = 0.0058333, root 0.0763763; t(2, 0.975) = 4.3026527."""
    found = corrected_t([0.7, 0.8, 0.9], train=80, test=20, bounds=(-9, 9))
    np.testing.assert_allclose(found[:4], [0.8, 0.8 - 0.3286205, 0.8 + 0.3286205, 0.0763763], atol=1e-7)


def test_corrected_t_never_leaves_its_bounds():
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.beta(*rng.uniform(0.2, 3, 2), size=rng.integers(2, 8))
        found = corrected_t(values, train=10, test=rng.integers(1, 9))
        assert 0 <= found.low <= found.value <= found.high <= 1
    assert corrected_t([0.7, 0.8, 0.9], train=80, test=20).high == 1
    assert corrected_t([-0.2, 0.9], train=4, test=1, bounds=(-1, 1)).low == -1


@pytest.mark.parametrize(
    ("values", "train", "words"),
    [([0.8], 9, "at least 2 splits"), ([0.8, np.nan], 9, "every split"), ([0.8, 1.2], 9, "every split"),
     ([0.8, 0.9], 0, "train")],
)  # fmt: skip
def test_corrected_t_refuses(values, train, words):
    with pytest.raises(ValueError, match=words):
        corrected_t(values, train=train, test=1)


def test_corrected_t_holds_the_truth_more_often_than_the_naive_one():
    """Mean test accuracy of a constant guess: splits overlap, so that the naive interval is far too narrow."""
    rng = np.random.default_rng(3)
    hits = {"corrected": 0, "naive": 0}
    for _ in range(300):
        right = rng.random(60) < 0.7
        values = [right[rng.permutation(60)[:12]].mean() for _ in range(20)]
        for name, test in (("corrected", 12), ("naive", 1e-9)):
            found = corrected_t(values, train=48, test=test)
            hits[name] += found.low <= 0.7 <= found.high
    assert hits["corrected"] / 300 > 0.93
    assert hits["naive"] / 300 < 0.7


def test_draws_keep_both_classes():
    positive = np.array([True] * 3 + [False] * 7)
    weights = stratified_draws(positive, 500, np.random.default_rng(0))
    assert weights.shape == (500, 10)
    assert (weights[:, positive].sum(axis=1) == 3).all()
    assert (weights[:, ~positive].sum(axis=1) == 7).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.15)


def test_bootstrap_of_a_mean_equals_its_formula_and_its_seed_alone():
    values = np.random.default_rng(1).normal(size=400)
    positive = np.ones(400, bool)

    def mean(weights):
        return weights @ values / weights.sum(axis=1)

    found = bootstrap(mean, positive, rng=np.random.default_rng(2), resamples=4000)
    reach = 1.96 * values.std() / 20
    np.testing.assert_allclose(found[:3], [values.mean(), values.mean() - reach, values.mean() + reach], atol=0.008)
    assert found == bootstrap(mean, positive, rng=np.random.default_rng(2), resamples=4000)
    with pytest.raises(ValueError, match="at least 100"):
        bootstrap(mean, positive, rng=np.random.default_rng(2), resamples=10)


@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([0, 1], [0.1, 0.2, 0.3], "one length"),
        ([[0, 1]], [[0.1, 0.2]], "two lists"),
        ([], [], "no predictions"),
        ([0, 2], [0.1, 0.2], "found 2"),
        ([0, np.nan], [0.1, 0.2], "0 or 1; found nan"),
        ([0, 1], [0.1, np.nan], "score 1 is nan"),
        ([0, 1], [np.inf, 1], "score 0 is inf"),
        ([1, 1], [0.1, 0.2], "all 2 labels are 1"),
        ([0, 0], [0.1, 0.2], "all 2 labels are 0"),
    ],
)
def test_what_cannot_be_judged_is_refused(labels, scores, words):
    with pytest.raises(ValueError, match=words):
        checked(labels, scores)


def test_probabilities_lie_between_0_and_1():
    with pytest.raises(ValueError, match=r"span -0\.5 to 1"):
        checked_probabilities([0, 1], [-0.5, 1])
    positive, values = checked_probabilities([True, False], [1, 0])
    assert positive.tolist() == [True, False]
    assert values.tolist() == [1.0, 0.0]


def test_one_prediction_a_patient():
    found = one_per_patient(["b", "a", "b", "a", "b"], [1, 0, 1, 0, 1], [0.5, 0.1, 0.7, 0.3, 0.9])
    assert found["patient_id"].tolist() == ["a", "b"]
    assert found["label"].tolist() == [0, 1]
    assert found["splits"].tolist() == [2, 3]
    np.testing.assert_allclose(found["score"], [0.2, 0.7])
    with pytest.raises(ValueError, match="patient a has the label 0 in some"):
        one_per_patient(["a", "a"], [0, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="3 patients for 2"):
        one_per_patient(["a", "b", "c"], [0, 1], [0.1, 0.2])
