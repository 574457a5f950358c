import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.stats import norm
from sklearn import metrics

from lab.stats.auc import (
    auc,
    bootstrap_auc,
    delong,
    delong_interval,
    delong_test,
    permutation_null,
    score_interval,
    subgroup_auc,
    weighted_auc,
)
from lab.stats.roc import (
    on_grid,
    precision_recall,
    roc_curve,
    roc_of_patients,
    roc_of_splits,
    weighted_average_precision,
)

# albumin, total protein, K-G score, surgery of benefit (1) or not (0): the 43 complete patients of DeLong et al. 1988
OVARIAN = np.fromstring(
    """3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
    3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
    2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
    3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
    3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
    3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1""",
    sep=" ",
).reshape(43, 4)


def binormal(positives, negatives, area, rng, *, digits=None):
    """Labels and normal scores with a true AUC; rounding makes ties."""
    labels = np.repeat([1, 0], [positives, negatives])
    scores = rng.normal(size=labels.size) + np.sqrt(2) * norm.ppf(area) * labels
    return labels, scores if digits is None else scores.round(digits)


def slow_delong(labels, rows):
    """Structural components and their covariance, written out pair by pair from the paper's equations 1 to 6."""
    aucs, tens, ones = [], [], []
    for scores in rows:
        high, low = scores[labels == 1], scores[labels == 0]
        psi = np.array([[1.0 if y < x else 0.5 if y == x else 0.0 for y in low] for x in high])
        aucs.append(psi.sum() / psi.size)
        tens.append([psi[i].sum() / len(low) for i in range(len(high))])
        ones.append([psi[:, j].sum() / len(high) for j in range(len(low))])
    count = len(aucs)
    s10, s01 = np.zeros((count, count)), np.zeros((count, count))
    for r in range(count):
        for s in range(count):
            s10[r, s] = sum((a - aucs[r]) * (b - aucs[s]) for a, b in zip(tens[r], tens[s])) / (len(tens[r]) - 1)
            s01[r, s] = sum((a - aucs[r]) * (b - aucs[s]) for a, b in zip(ones[r], ones[s])) / (len(ones[r]) - 1)
    return np.array(aucs), s10 / len(tens[0]) + s01 / len(ones[0])


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_auc_and_curves_equal_scikit_learn(digits):
    rng = np.random.default_rng(4)
    for positives, negatives in ((3, 2), (40, 25), (20, 300)):
        labels, scores = binormal(positives, negatives, 0.8, rng, digits=digits)
        assert auc(labels, scores) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
        x, y, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
        np.testing.assert_allclose(roc_curve(labels, scores), (x, y), atol=1e-12)
        found = precision_recall(labels, scores, rng=rng, resamples=100)
        precision, recall, _ = metrics.precision_recall_curve(labels, scores)
        np.testing.assert_allclose(found.recall, recall[::-1], atol=1e-12)
        np.testing.assert_allclose(found.precision[1:], precision[::-1][1:], atol=1e-12)
        assert found.average.value == pytest.approx(metrics.average_precision_score(labels, scores), abs=1e-12)


def test_weights_are_repeated_patients():
    rng = np.random.default_rng(5)
    labels, scores = binormal(12, 9, 0.7, rng, digits=1)
    weights = rng.integers(0, 4, (20, labels.size)).astype(float)
    areas = weighted_auc(labels > 0, scores, weights)
    precisions = weighted_average_precision(labels > 0, scores, weights)
    for row, area, precision in zip(weights.astype(int), areas, precisions):
        again = np.repeat(labels, row), np.repeat(scores, row)
        assert area == pytest.approx(metrics.roc_auc_score(*again), abs=1e-12)
        assert precision == pytest.approx(metrics.average_precision_score(*again), abs=1e-12)


@pytest.mark.parametrize("digits", [None, 1])
def test_delong_equals_the_papers_formulas(digits):
    rng = np.random.default_rng(6)
    for positives, negatives in ((2, 2), (7, 19), (40, 30)):
        labels, first = binormal(positives, negatives, 0.8, rng, digits=digits)
        rows = np.stack([first, (first + rng.normal(size=first.size)).round(digits or 6), -first])
        areas, covariance = slow_delong(labels, rows)
        found = delong(labels, rows)
        np.testing.assert_allclose(found[0], areas, atol=1e-10)
        np.testing.assert_allclose(found[1], covariance, atol=1e-10)
        variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        test = delong_test(labels, rows[0], rows[1])
        if variance > 0:
            z = (areas[0] - areas[1]) / np.sqrt(variance)
            np.testing.assert_allclose([test.z, test.p], [z, 2 * norm.sf(abs(z))], atol=1e-10)


def test_delong_equals_published_figures():
    """Figures for the paper's ovarian cancer data as in the SAS/STAT user's guide (LOGISTIC, comparing ROC curves)."""
    labels, (albumin, protein, kg) = OVARIAN[:, 3], (OVARIAN[:, 0], OVARIAN[:, 1], 10 - OVARIAN[:, 2])
    published = {"albumin": (0.7366, 0.0927, 0.5549, 0.9182), "kg": (0.7258, 0.1028, 0.5243, 0.9273),
                 "protein": (0.6478, 0.1000, 0.4518, 0.8439)}  # fmt: skip
    for name, scores in {"albumin": albumin, "kg": kg, "protein": protein}.items():
        found = delong_interval(labels, scores, scale="plain")
        np.testing.assert_allclose([found.value, found.se, found.low, found.high], published[name], atol=5.1e-5)
    for scores, difference, chi_square, p in ((albumin, 0.0108, 0.0127, 0.9102), (protein, -0.0780, 0.5554, 0.4561)):
        found = delong_test(labels, scores, kg)
        np.testing.assert_allclose([found.difference, found.z**2, found.p], [difference, chi_square, p], atol=5.1e-5)


def test_intervals_hold_the_truth():
    """95 % of 400 samples would be 380; three binomial standard deviations are 13."""
    rng, repeats = np.random.default_rng(7), 400
    held = dict.fromkeys(("logit", "plain", "score", "bootstrap"), 0)
    for _ in range(repeats):
        labels, scores = binormal(30, 20, 0.85, rng)
        logit, plain = (delong_interval(labels, scores, scale=scale) for scale in ("logit", "plain"))
        drawn = bootstrap_auc(labels, scores, rng=rng, resamples=200)
        low, high = score_interval(logit.value, 30, 20)
        for name, ends in (("logit", logit[1:3]), ("plain", plain[1:3]), ("score", (low, high)),
                           ("bootstrap", drawn[1:3])):  # fmt: skip
            held[name] += ends[0] <= 0.85 <= ends[1]
        assert 0 < logit.low < logit.value < logit.high < 1
        assert plain.high <= 1
    assert 0.93 <= held["logit"] / repeats <= 0.98
    assert 0.93 <= held["score"] / repeats <= 0.99
    assert 0.87 <= held["plain"] / repeats <= 0.97
    assert 0.87 <= held["bootstrap"] / repeats <= 0.97
    assert held["logit"] >= held["plain"]


def test_delong_test_keeps_its_level():
    rng, repeats = np.random.default_rng(8), 400
    rejected = 0
    for _ in range(repeats):
        labels, common = binormal(40, 30, 0.8, rng)
        first, second = (common + rng.normal(size=common.size) for _ in range(2))
        rejected += delong_test(labels, first, second).p < 0.05
    assert 0.02 <= rejected / repeats <= 0.085


def test_the_null_is_uniform_and_better_scores_have_small_p():
    rng = np.random.default_rng(9)
    labels = np.repeat([1, 0], [20, 15])
    p = [permutation_null(labels, rng.normal(size=35), rng=rng, permutations=200).p for _ in range(200)]
    assert 0.42 < np.mean(p) < 0.58
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.1
    found = permutation_null(labels, labels, rng=rng, permutations=999)
    assert found.p == 1 / 1000
    assert found.auc == 1
    assert found.aucs.mean() == pytest.approx(0.5, abs=0.02)
    assert permutation_null(labels, np.zeros(35), rng=rng, permutations=99).p == 1


def test_complete_separation_has_a_score_interval_and_says_so():
    labels = np.repeat([1, 0], [10, 12])
    found = delong_interval(labels, labels + 0.0)
    assert (found.value, found.se, found.high, found.method) == (1.0, 0.0, 1.0, "Newcombe")
    # the lower end solves (1 - A)^2 = z^2 A (1 - A) [1 + ((m + n) / 2 - 1) ((1 - A) / (2 - A) + A / (1 + A))] / (m n)
    a = found.low
    assert 0.7 < a < 0.95
    inner = 1 + 10 * ((1 - a) / (2 - a) + a / (1 + a))
    assert (1 - a) ** 2 == pytest.approx(norm.ppf(0.975) ** 2 * a * (1 - a) * inner / 120, rel=1e-6)
    reverse = delong_interval(labels, -labels)
    assert (reverse.value, reverse.low) == (0.0, 0.0)
    assert reverse.high == pytest.approx(1 - a)
    constant = delong_interval(labels, np.zeros(22))
    assert constant.value == 0.5
    assert constant.low == pytest.approx(1 - constant.high)
    assert bootstrap_auc(labels, labels, rng=np.random.default_rng(0))[:3] == (1.0, 1.0, 1.0)


def test_delong_test_at_its_edges():
    labels = np.repeat([1, 0], [10, 12])
    scores = np.random.default_rng(1).normal(size=22)
    same = delong_test(labels, scores, np.exp(scores))
    assert (same.difference, same.z, same.p) == (0.0, 0.0, 1.0)
    impossible = delong_test(labels, labels, np.zeros(22))
    assert impossible.difference == 0.5
    assert np.isnan([impossible.z, impossible.p, impossible.low]).all()
    with pytest.raises(ValueError, match="same patients"):
        delong_test(labels, scores, scores[:5])
    with pytest.raises(ValueError, match="two patients of each"):
        delong([1, 0, 0], [3, 2, 1])
    with pytest.raises(ValueError, match="score 0 is nan"):
        delong_test([1, 1, 0, 0], [4, 3, 2, 1], [np.nan, 1, 1, 1])


def test_the_grid_takes_the_middle_of_a_rise():
    curve = (np.array([0, 0, 0.5, 0.5, 1]), np.array([0, 0.4, 0.4, 1, 1]))
    np.testing.assert_allclose(on_grid(curve, np.array([0, 0.25, 0.5, 0.75, 1])), [0.4, 0.4, 0.7, 1, 1])
    tie = (np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(on_grid(tie, np.array([0, 0.3, 1])), [0, 0.3, 1])


def test_mean_roc_of_splits():
    rng = np.random.default_rng(10)
    splits = [binormal(9, 11, 0.8, rng) for _ in range(20)]
    found = roc_of_splits(splits, train=80, patients=100)
    areas = [metrics.roc_auc_score(*split) for split in splits]
    np.testing.assert_allclose(found.aucs, areas)
    assert found.intervals[0].value == pytest.approx(np.mean(areas))
    assert found.intervals[0].method == "Nadeau-Bengio"
    assert trapezoid(found.sensitivity, found.grid) == pytest.approx(np.mean(areas), abs=1e-3)
    assert (np.diff(found.sensitivity) >= -1e-12).all()
    assert (found.low <= found.sensitivity).all()
    assert (found.sensitivity <= found.high).all()
    assert found.low.min() >= 0
    assert found.high.max() <= 1
    with pytest.raises(ValueError, match=r"split 1: all 2 labels are 1"):
        roc_of_splits([([0, 1], [1, 2]), ([1, 1], [1, 2])], train=8)
    with pytest.raises(ValueError, match="at least 2 splits"):
        roc_of_splits(splits[:1], train=80)


def test_roc_over_patients_and_its_band():
    rng = np.random.default_rng(11)
    labels, scores = binormal(60, 50, 0.8, rng)
    found = roc_of_patients(labels, scores, rng=rng, resamples=500)
    assert [one.method for one in found.intervals] == ["DeLong", "bootstrap"]
    assert (found.patients, found.events) == (110, 60)
    assert trapezoid(found.sensitivity, found.grid) == pytest.approx(auc(labels, scores), abs=2e-3)
    truth = norm.cdf(np.sqrt(2) * norm.ppf(0.8) + norm.ppf(found.grid[50:451]))
    assert ((found.low[50:451] <= truth) & (truth <= found.high[50:451])).mean() > 0.8
    reach = found.high - found.low
    assert reach[100] < 0.5


def test_average_precision_interval_holds_the_truth():
    rng, repeats = np.random.default_rng(12), 150
    labels, scores = binormal(100_000, 100_000, 0.8, rng)
    truth = metrics.average_precision_score(labels, scores)
    held = 0
    for _ in range(repeats):
        found = precision_recall(*binormal(50, 50, 0.8, rng), rng=rng, resamples=200).average
        held += found.low <= truth <= found.high
    assert held / repeats > 0.88


def test_subgroups_too_small_are_listed_without_an_auc():
    rng = np.random.default_rng(13)
    labels, scores = binormal(20, 20, 0.8, rng)
    vendor = np.array(["A"] * 14 + ["B"] * 6 + ["A"] * 16 + ["B"] * 4, object)
    vendor[0] = None
    found = subgroup_auc(labels, scores, vendor).set_index("group")
    assert list(found.index) == ["A", "B", "unknown"]
    assert found.loc["A", ["n", "events"]].tolist() == [29, 13]
    member = vendor == "A"
    expected = delong_interval(labels[member], scores[member])
    np.testing.assert_allclose(found.loc["A", ["auc", "low", "high"]].to_numpy(float), expected[:3])
    assert found["note"].tolist() == ["", "too few", "too few"]
    assert found.loc[["B", "unknown"], "auc"].isna().all()
    assert subgroup_auc(labels, labels, np.zeros(40))["note"].tolist() == ["interval: Newcombe"]
    with pytest.raises(ValueError, match="2 groups for 40"):
        subgroup_auc(labels, scores, ["A", "B"])
