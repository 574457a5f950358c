import numpy as np
import pytest
from PIL import Image

from lab.report.figures.classifier.roc import precision_recall_figure, roc_figure
from lab.report.figures.style import save
from lab.stats.decision_curve import at_threshold
from lab.stats.roc import precision_recall, roc_of_patients, roc_of_splits


def sample(seed=0, count=40):
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], count // 2)
    return labels, rng.normal(size=count) + labels


def patients(seed=0):
    return roc_of_patients(*sample(seed), rng=np.random.default_rng(1), resamples=200)


def texts(figure):
    inside = [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    return inside + [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_the_legend_has_the_auc_with_every_interval():
    roc = patients()
    figure = roc_figure({"radiomics": roc}, phantom=True)
    (text,) = texts(figure)
    delong, drawn = roc.intervals
    assert text.startswith(f"radiomics: AUC {delong.value:.2f}\n95 % CI")
    assert f"{delong.low:.2f} to {delong.high:.2f} (DeLong)" in text
    assert f"{drawn.low:.2f} to {drawn.high:.2f} (bootstrap)" in text
    assert "phantom" in figure._suptitle.get_text()
    assert "40 patients, 20 enhancing; band: 95 % at each specificity" in figure.texts[-1].get_text()
    assert "phantom" not in roc_figure({"radiomics": roc}, phantom=False)._suptitle.get_text()


def test_the_drawn_curve_is_the_exact_one_and_the_band_encloses_it():
    roc = patients()
    axes = roc_figure({"radiomics": roc}, phantom=True).axes[0]
    (line,) = [line for line in axes.get_lines() if line.get_label().startswith("radiomics")]
    np.testing.assert_array_equal(line.get_xydata().T, roc.curves[0])
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(roc.low.min())
    assert corners[:, 1].max() == pytest.approx(roc.high.max())


def test_a_mean_has_its_splits_behind_it():
    roc = roc_of_splits([sample(seed, 20) for seed in range(12)], train=80, patients=100)
    figure = roc_figure({"radiomics": roc}, phantom=True)
    (text,) = texts(figure)
    assert f"mean AUC of 12 splits {np.mean(roc.aucs):.2f}" in text
    assert "(Nadeau-Bengio)" in text
    lines = figure.axes[0].get_lines()
    assert len([line for line in lines if line.get_alpha()]) == 12
    mean = lines[-1].get_xydata()
    assert mean[0].tolist() == [0, 0]
    np.testing.assert_allclose(mean[1:, 1], roc.sensitivity)
    assert figure.texts[-1].get_text() == "100 patients; band: 95 % at each specificity; thin: splits"


def test_an_interval_that_is_a_point_is_not_shown_as_one():
    labels, _ = sample()
    roc = roc_of_patients(labels, labels, rng=np.random.default_rng(0), resamples=100)
    (text,) = texts(roc_figure({"perfect": roc}, phantom=True))
    assert "1.00 (Newcombe), none (bootstrap)" in text


def test_many_curves_have_their_legend_below_and_one_band(tmp_path):
    rocs = {f"baseline {seed}": patients(seed) for seed in range(4)}
    figure = roc_figure(rocs, phantom=True, point=at_threshold(*sample(), 0.5))
    assert len(texts(figure)) == 5
    assert figure.legends
    bands = [part for part in figure.axes[0].collections if part.get_alpha() == 0.16]
    assert len(bands) == 1
    with Image.open(save(figure, tmp_path / "roc.png")) as picture:
        assert picture.size == (990, 1335)
    box = figure.legends[0].get_window_extent()
    assert box.x0 > 0
    assert box.x1 < 990


def test_the_operating_point_is_where_it_belongs():
    table = at_threshold(*sample(), 0.5).set_index("figure")
    figure = roc_figure({"radiomics": patients()}, phantom=True, point=table.reset_index())
    (text,) = [text for text in texts(figure) if "threshold" in text]
    sensitivity, specificity = table.loc["sensitivity"], table.loc["specificity"]
    assert f"sensitivity {sensitivity['value']:.2f}, specificity {specificity['value']:.2f}" in text
    point, _, (across, upright) = figure.axes[0].containers[0]
    assert point.get_xydata()[0] == pytest.approx([1 - specificity["value"], sensitivity["value"]])
    assert across.get_segments()[0][:, 0] == pytest.approx([1 - specificity["high"], 1 - specificity["low"]])
    assert upright.get_segments()[0][:, 1] == pytest.approx([sensitivity["low"], sensitivity["high"]])
    one_class = at_threshold([1, 1], [0.2, 0.7], 0.5)
    with pytest.raises(ValueError, match="both classes"):
        roc_figure({"radiomics": patients()}, phantom=True, point=one_class)


def test_the_area_under_the_drawn_steps_is_the_average_precision():
    for seed in range(5):
        curve = precision_recall(*sample(seed), rng=np.random.default_rng(0), resamples=100)
        figure = precision_recall_figure({"radiomics": curve}, phantom=True)
        line = figure.axes[0].get_lines()[1]
        x, y = line.get_xdata(), line.get_ydata()
        assert line.get_drawstyle() == "steps-pre"
        assert (np.diff(x) * y[1:]).sum() == pytest.approx(curve.average.value)
        average = curve.average
        words = f"average precision {average.value:.2f} ({average.low:.2f} to {average.high:.2f})"
        assert any(words in text for text in texts(figure))
        assert "everybody positive: 0.50" in texts(figure)
        assert "phantom" in figure._suptitle.get_text()


def test_nothing_to_draw_and_different_patients_are_refused():
    with pytest.raises(ValueError, match="no ROC"):
        roc_figure({}, phantom=True)
    with pytest.raises(ValueError, match="no precision"):
        precision_recall_figure({}, phantom=True)
    rng = np.random.default_rng(0)
    curves = {str(count): precision_recall(*sample(0, count), rng=rng, resamples=100) for count in (20, 30)}
    with pytest.raises(ValueError, match="different patients"):
        precision_recall_figure(curves, phantom=True)
