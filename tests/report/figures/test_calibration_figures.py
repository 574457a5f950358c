import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import expit

from lab.report.figures.classifier.calibration import calibration_figure, decision_figure
from lab.report.figures.classifier.importance import learning_figure
from lab.report.figures.style import save
from lab.stats.calibration import calibration, reliability_table
from lab.stats.decision_curve import decision_curve


def sample(seed=0, count=60):
    rng = np.random.default_rng(seed)
    true = rng.normal(size=count)
    return (rng.random(count) < expit(true)).astype(int), expit(1.5 * true)


def test_calibration_shows_bins_histogram_and_figures(tmp_path):
    labels, probabilities = sample()
    figure = calibration_figure(labels, probabilities, phantom=True)
    upper, lower = figure.axes
    table, result = reliability_table(labels, probabilities), calibration(labels, probabilities)
    points, _, (bars,) = upper.containers[0]
    np.testing.assert_allclose(points.get_xydata(), table[["predicted", "observed"]])
    np.testing.assert_allclose([bar[:, 1] for bar in bars.get_segments()], table[["low", "high"]])
    text = upper.texts[0].get_text()
    for words in (
        f"slope {result.slope.value:.2f} ({result.slope.low:.2f} to {result.slope.high:.2f})",
        f"intercept {result.intercept.value:.2f}",
        f"calibration-in-the-large {result.in_the_large.value:.2f}",
        f"Brier score {result.brier.value:.3f}",
    ):
        assert words in text
    heights = np.array([bar.get_height() for bar in lower.patches])
    assert heights[heights > 0].sum() == labels.sum()
    assert -heights[heights < 0].sum() == (1 - labels).sum()
    assert "phantom" in figure._suptitle.get_text()
    assert f"60 patients, {labels.sum()} enhancing" in figure.texts[-1].get_text()
    with Image.open(save(figure, tmp_path / "calibration.png")) as picture:
        assert picture.size == (990, 1215)


def test_without_a_slope_no_line_is_drawn_and_the_reason_is_printed():
    labels, _ = sample()
    figure = calibration_figure(labels, labels, phantom=False)
    text = figure.axes[0].texts[0].get_text()
    assert "separated completely" in text
    assert "60 predictions of 0 or 1" in text
    assert "logistic recalibration" not in [line.get_label() for line in figure.axes[0].get_lines()]
    assert "phantom" not in figure._suptitle.get_text()


def test_decision_curves_of_several_and_of_all_and_none():
    labels, probabilities = sample()
    figure = decision_figure(labels, {"radiomics": probabilities, "volume": np.full(60, 0.4)}, phantom=True)
    lines = {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}
    assert list(lines) == ["treat all", "treat none", "radiomics", "volume"]
    np.testing.assert_allclose(lines["radiomics"], decision_curve(labels, probabilities)[["threshold", "model"]])
    assert lines["treat none"][:, 1].tolist() == [0, 0]
    assert "phantom" in figure._suptitle.get_text()
    with pytest.raises(ValueError, match="no probabilities"):
        decision_figure(labels, {}, phantom=True)
    with pytest.raises(ValueError, match="lie in"):
        decision_figure(labels, {"scores": probabilities * 3}, phantom=True)


def test_decision_curve_of_one_class_is_refused():
    with pytest.raises(ValueError, match="both classes"):
        decision_figure([1, 1], {"radiomics": [0.2, 0.3]}, phantom=True)


def test_learning_figure_has_a_point_a_size():
    table = pd.DataFrame({"n": [10, 20, 40], "mean": [0.6, 0.7, 0.75], "low": [0.4, 0.6, 0.7], "high": [0.8, 0.8, 0.8],
                          "seeds": 10})  # fmt: skip
    figure = learning_figure(table, phantom=True, name="radiomics")
    (curve,) = figure.axes[0].containers
    assert curve[0].get_ydata().tolist() == [0.6, 0.7, 0.75]
    assert "phantom" in figure._suptitle.get_text()
    assert "10 random splits" in figure.texts[-1].get_text()
    with pytest.raises(ValueError, match="no learning curve"):
        learning_figure(table[:0], phantom=True, name="radiomics")
