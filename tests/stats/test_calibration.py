import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from lab.stats.calibration import calibration, recalibrated, reliability_table


def patients(count, rng, *, slope=1.0, intercept=0.0, spread=1.5):
    """Labels and probabilities whose logit is `intercept + slope * logit` off the truth."""
    true = rng.normal(size=count) * spread
    return (rng.random(count) < expit(intercept + slope * true)).astype(int), expit(true)


@pytest.mark.parametrize(
    ("count", "slope", "intercept", "spread"), [(28, 1, 0, 1.5), (300, 0.4, -1, 3), (300, 2, 1, 0.3), (2000, 1, -3, 1)]
)
def test_slope_and_intercept_equal_scikit_learn(count, slope, intercept, spread):
    labels, probabilities = patients(count, np.random.default_rng(1), slope=slope, intercept=intercept, spread=spread)
    found = calibration(labels, probabilities)
    x = logit(probabilities)[:, None]
    other = LogisticRegression(penalty=None, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(x, labels)
    assert found.slope.value == pytest.approx(other.coef_[0, 0], abs=1e-6)
    assert found.intercept.value == pytest.approx(other.intercept_[0], abs=1e-6)
    # standard errors from a second derivative of the likelihood taken numerically
    top = np.array([found.intercept.value, found.slope.value])
    step = 1e-4 * np.eye(2)

    def loss(at):
        score = at[0] + at[1] * x[:, 0]
        return np.logaddexp(0, score).sum() - score[labels == 1].sum()

    hessian = [[(loss(top + i + j) - loss(top + i - j) - loss(top - i + j) + loss(top - i - j)) / 4e-8
                for j in step] for i in step]  # fmt: skip
    errors = np.sqrt(np.diag(np.linalg.inv(hessian)))
    np.testing.assert_allclose([found.intercept.se, found.slope.se], errors, rtol=1e-4)
    assert found.slope.high == pytest.approx(found.slope.value + 1.959964 * found.slope.se)


def test_calibration_in_the_large_makes_mean_risk_equal_the_prevalence():
    labels, probabilities = patients(200, np.random.default_rng(2), intercept=0.8)
    found = calibration(labels, probabilities).in_the_large
    moved = expit(logit(probabilities) + found.value)
    assert moved.mean() == pytest.approx(labels.mean(), abs=1e-9)
    assert found.se == pytest.approx(1 / np.sqrt((moved * (1 - moved)).sum()), rel=1e-6)
    assert found.low < 0.8 < found.high


def test_true_values_are_held_by_their_intervals():
    """95 % of 300 would be 285; three binomial standard deviations are 11. Brier's truth is from a million patients."""
    rng, repeats = np.random.default_rng(3), 300
    labels, probabilities = patients(1_000_000, rng)
    brier = np.mean((labels - probabilities) ** 2)
    scaled = 1 - brier / (labels.mean() * (1 - labels.mean()))
    held = dict.fromkeys(("slope", "intercept", "in_the_large", "brier", "scaled_brier"), 0)
    truth = dict(zip(held, (1, 0, 0, brier, scaled)))
    for _ in range(repeats):
        found = calibration(*patients(100, rng))
        for name in held:
            held[name] += getattr(found, name).low <= truth[name] <= getattr(found, name).high
    for name, count in held.items():
        assert 0.91 <= count / repeats <= 0.99, name


def test_brier_equals_scikit_learn_and_its_scale():
    labels, probabilities = patients(80, np.random.default_rng(4))
    found = calibration(labels, probabilities)
    assert found.brier.value == pytest.approx(brier_score_loss(labels, probabilities), abs=1e-12)
    assert calibration(labels, labels).brier[:3] == (0, 0, 0)
    assert calibration(labels, labels).scaled_brier.value == 1
    prevalence = calibration(labels, np.full(80, labels.mean()))
    assert prevalence.scaled_brier.value == pytest.approx(0, abs=1e-12)
    assert calibration(labels, 1 - labels).brier.value == 1


@pytest.mark.parametrize("intercept", [0, 2.5])
def test_error_of_the_scaled_brier_equals_leaving_out_one_patient_at_a_time(intercept):
    labels, probabilities = patients(120, np.random.default_rng(10), intercept=intercept)
    keep = ~np.eye(120, dtype=bool)
    left = [calibration(labels[row], probabilities[row]).scaled_brier.value for row in keep]
    jackknife = np.sqrt(119 / 120 * np.sum((left - np.mean(left)) ** 2))
    assert calibration(labels, probabilities).scaled_brier.se == pytest.approx(jackknife, rel=0.05)


def test_without_a_finite_slope_it_is_nan_and_says_why():
    labels = np.repeat([0, 1], 10)
    apart = calibration(labels, np.linspace(0.05, 0.95, 20))
    assert "separated completely" in apart.note
    assert np.isnan([apart.slope.value, apart.intercept.value]).all()
    assert apart.in_the_large.value == pytest.approx(0, abs=1e-9)
    assert np.isnan(recalibrated(apart, [0.3])).all()
    reverse = calibration(labels, np.linspace(0.95, 0.05, 20))
    assert "separated completely" in reverse.note
    touching = calibration([0, 0, 1, 1], [0.2, 0.5, 0.5, 0.9])
    assert "separated completely" in touching.note
    constant = calibration(labels, np.full(20, 0.3))
    assert "equal" in constant.note
    assert constant.in_the_large.value == pytest.approx(logit(0.5) - logit(0.3))


def test_probabilities_of_0_and_1_are_counted_and_kept_finite():
    labels, probabilities = patients(60, np.random.default_rng(5))
    probabilities[:3], labels[:3] = (0, 1, 1), (1, 1, 0)
    found = calibration(labels, probabilities)
    assert found.clipped == 3
    assert np.isfinite([found.slope.value, found.slope.se, found.intercept.value]).all()
    assert found.note == ""


@pytest.mark.parametrize(
    ("labels", "probabilities", "words"),
    [([0, 1], [0.2, 1.2], "lie in"), ([1, 1], [0.2, 0.3], "both classes"), ([0, 1], [0.2, np.nan], "nan"),
     ([0, 1, 1], [0.2, 0.3], "one length")],
)  # fmt: skip
def test_nonsense_is_refused(labels, probabilities, words):
    with pytest.raises(ValueError, match=words):
        calibration(labels, probabilities)


def test_recalibration_of_the_calibrated_changes_nothing():
    labels, probabilities = patients(300, np.random.default_rng(6), slope=0.5, intercept=0.3)
    better = recalibrated(calibration(labels, probabilities), probabilities)
    again = calibration(labels, better)
    assert again.slope.value == pytest.approx(1, abs=1e-8)
    assert again.intercept.value == pytest.approx(0, abs=1e-8)


def test_reliability_bins_hold_everybody_once():
    labels, probabilities = patients(103, np.random.default_rng(7))
    table = reliability_table(labels, probabilities)
    assert len(table) == 10
    assert table["n"].sum() == 103
    assert table["events"].sum() == labels.sum()
    assert table["n"].between(10, 11).all()
    for row in table.itertuples():
        other = binomtest(row.events, row.n).proportion_ci(method="wilson")
        np.testing.assert_allclose([row.observed, row.low, row.high], [row.events / row.n, *other], atol=1e-12)


def test_reliability_bins_are_tenths_of_the_sorted_patients():
    labels, probabilities = patients(100, np.random.default_rng(9))
    order = np.argsort(probabilities)
    table = reliability_table(labels, probabilities)
    np.testing.assert_allclose(table["predicted"], probabilities[order].reshape(10, 10).mean(axis=1))
    np.testing.assert_allclose(table["observed"], labels[order].reshape(10, 10).mean(axis=1))


def test_reliability_of_few_and_of_ties():
    labels, probabilities = patients(28, np.random.default_rng(8))
    assert len(reliability_table(labels, probabilities)) == 2
    assert len(reliability_table(labels, probabilities, bins=5)) == 5
    tied = reliability_table(labels, np.repeat([0.2, 0.8], 14), bins=4)
    assert tied["predicted"].tolist() == pytest.approx([0.2, 0.8])
    assert tied["n"].tolist() == [14, 14]
    assert len(reliability_table(labels, np.full(28, 0.4))) == 1
    assert len(reliability_table([1, 1], [0.4, 0.6])) == 2
    with pytest.raises(ValueError, match="at least one bin"):
        reliability_table(labels, probabilities, bins=0)
