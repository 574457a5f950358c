import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, roc_curve

from lab.stats.decision_curve import at_threshold, decision_curve, youden_threshold


def sample(count=60, digits=None, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [count // 3, count - count // 3])
    scores = 1 / (1 + np.exp(-rng.normal(size=count) - 1.2 * labels + 0.6))
    return labels, scores if digits is None else scores.round(digits)


@pytest.mark.parametrize("digits", [None, 1])
def test_youden_reaches_the_highest_index(digits):
    for seed in range(20):
        labels, scores = sample(digits=digits, seed=seed)
        threshold = youden_threshold(labels, scores)
        false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
        rows = at_threshold(labels, scores, threshold).set_index("figure")["value"]
        assert rows["sensitivity"] + rows["specificity"] - 1 == pytest.approx((true - false).max(), abs=1e-12)
        assert threshold not in scores or threshold == scores.min()


def test_youden_by_hand_and_at_its_edges():
    assert youden_threshold([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.9]) == 0.5
    # 0.2 and 0.7 are equally good; the lower one misses nobody
    assert youden_threshold([0, 1, 0, 1], [0.1, 0.3, 0.6, 0.8]) == pytest.approx(0.2)
    assert youden_threshold([0, 0, 1, 1], [0.5] * 4) == 0.5
    reverse = youden_threshold([1, 1, 0, 0], [0.1, 0.2, 0.6, 0.9])
    assert reverse == 0.1
    called = at_threshold([1, 1, 0, 0], [0.1, 0.2, 0.6, 0.9], reverse).set_index("figure")
    assert called.loc["sensitivity", "value"] == 1
    with pytest.raises(ValueError, match="both classes"):
        youden_threshold([1, 1], [0.1, 0.2])


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.7])
def test_figures_at_a_threshold_equal_the_confusion_matrix(threshold):
    labels, scores = sample()
    table = at_threshold(labels, scores, threshold).set_index("figure")
    tn, fp, fn, tp = confusion_matrix(labels, scores >= threshold).ravel()
    counts = {"sensitivity": (tp, tp + fn), "specificity": (tn, tn + fp), "ppv": (tp, tp + fp), "npv": (tn, tn + fn),
              "accuracy": (tp + tn, 60)}  # fmt: skip
    assert list(table.index) == list(counts)
    for figure, (hits, total) in counts.items():
        row = table.loc[figure]
        other = binomtest(int(hits), int(total)).proportion_ci(method="wilson")
        assert (row["hits"], row["n"]) == (hits, total)
        np.testing.assert_allclose(row[["value", "low", "high"]].to_numpy(float), [hits / total, *other], atol=1e-12)


def test_a_figure_about_nobody_is_not_known():
    table = at_threshold([1, 1, 1], [0.2, 0.3, 0.4], 0.9).set_index("figure")
    assert table.loc["sensitivity", "value"] == 0
    assert table.loc[["specificity", "ppv"], "value"].isna().all()
    assert table.loc[["specificity", "ppv"], "n"].tolist() == [0, 0]
    with pytest.raises(ValueError, match="threshold is NaN"):
        at_threshold([0, 1], [0.2, 0.3], np.nan)


def test_a_score_at_the_threshold_is_positive():
    assert at_threshold([1, 0], [0.5, 0.4], 0.5)["value"].tolist() == [1.0] * 5


def test_decision_curve_equals_the_formula():
    labels, scores = sample(digits=2)
    table = decision_curve(labels, scores)
    assert table["threshold"].iloc[[0, -1]].tolist() == [0.01, 0.99]
    for row in table.itertuples():
        called = [score >= row.threshold for score in scores]
        true = sum(c and y == 1 for c, y in zip(called, labels))
        false = sum(c and y == 0 for c, y in zip(called, labels))
        odds = row.threshold / (1 - row.threshold)
        assert row.model == pytest.approx(true / 60 - false / 60 * odds, abs=1e-12)
        assert row.all == pytest.approx(20 / 60 - 40 / 60 * odds, abs=1e-12)
        assert row.none == 0
    assert table["model"].max() <= 20 / 60


def test_decision_curve_at_its_ends():
    labels = np.array([1, 0, 0])
    assert decision_curve(labels, labels)["model"].tolist() == pytest.approx([1 / 3] * 99)
    everybody = decision_curve(labels, np.ones(3))
    np.testing.assert_allclose(everybody["model"], everybody["all"])
    assert decision_curve(labels, np.zeros(3))["model"].eq(0).all()
    assert decision_curve(labels, np.ones(3), 1 / 3)["all"].item() == pytest.approx(0)
    for thresholds in (0, [0.5, 1.0], np.nan):
        with pytest.raises(ValueError, match="threshold probabilities"):
            decision_curve(labels, np.ones(3), thresholds)
    with pytest.raises(ValueError, match="lie in"):
        decision_curve(labels, [2, 1, 0])
