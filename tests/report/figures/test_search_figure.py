import numpy as np
import pandas as pd
import pytest

from lab.report.figures.search import best_so_far, search_figure

TRIALS = pd.DataFrame(
    {
        "number": [1, 2, 3, 4, 5],
        "label": [f"search {number:02d}" for number in range(1, 6)],
        "state": ["finished", "pruned", "finished", "failed", "finished"],
        "value": [0.12, 0.05, 0.10, np.nan, 0.11],
    }
)


def test_best_so_far_counts_finished_trials_only():
    values, finished = np.array([0.3, 0.1, 0.2, 0.25]), np.array([False, False, True, True])
    np.testing.assert_array_equal(best_so_far(values, finished, low=True), [np.nan, np.nan, 0.2, 0.2])
    np.testing.assert_array_equal(best_so_far(values, finished, low=False), [np.nan, np.nan, 0.2, 0.25])


def test_history_and_importances():
    figure = search_figure(
        TRIALS, {"learning_rate": 0.7, "width": 0.2, "norm": 0.1}, objective="val/mae_brain", phantom=True, start=0.13
    )
    history, bars = figure.axes
    lines = {line.get_label(): line for line in history.get_lines()}
    assert list(lines["finished"].get_ydata()) == [0.12, 0.10, 0.11]
    assert list(lines["pruned (its last epoch)"].get_xdata()) == [2]
    np.testing.assert_array_equal(lines["best so far"].get_ydata(), [0.12, 0.12, 0.10, 0.10])
    assert lines["the grid's best"].get_ydata()[0] == 0.13
    assert history.get_ylabel() == "validation MAE, brain"
    assert [label.get_text() for label in bars.get_yticklabels()] == ["norm", "width", "learning rate"]
    assert [patch.get_width() for patch in bars.patches] == [0.1, 0.2, 0.7]
    title = figure._suptitle.get_text()
    assert "5 trials (3 finished, 1 pruned, 1 failed)" in title
    assert "phantom" in title


def test_too_few_trials_for_importances_is_said():
    figure = search_figure(TRIALS.head(1), {}, objective="val/ssim_brain", phantom=False)
    assert "too few" in figure.axes[1].texts[0].get_text()
    with pytest.raises(ValueError, match="no trial"):
        search_figure(TRIALS[3:4], {}, objective="val/mae_brain", phantom=False)
