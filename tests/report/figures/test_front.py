"""The front between fidelity and enhancement, and the floor as a line."""

import math
import time

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lab.report.figures import pareto_front as front
from lab.report.figures.box_plots import box_plots
from lab.report.figures.noise_floor import COLOUR, draw_floor, floor_level, floor_of
from lab.report.figures.pareto_front import front_figure


def points(**changes) -> pd.DataFrame:
    """Three networks, of which the middle one is beaten in both, and a baseline that would be on the front."""
    table = pd.DataFrame(
        {
            "label": ["sharp", "beaten", "bright", "copy T1"],
            "kind": ["grid", "search", "grid", "baseline"],
            "mae_brain": [0.10, 0.12, 0.11, 0.09],
            "dice_rule": [0.1, 0.3, 0.4, 0.5],
        }
    )
    return table.assign(**changes)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def steps(figure: Figure) -> list[tuple[float, float]]:
    line = next(line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post")
    return list(zip(line.get_xdata(), line.get_ydata()))


def test_the_front_is_of_networks_only_and_names_them(monkeypatch):
    figure = front_figure(points(), phantom=False, split="test")
    assert steps(figure) == [(0.10, 0.1), (0.11, 0.4)]
    assert set(texts(figure)) == set(points()["label"])  # few enough to be named all
    monkeypatch.setattr(front, "ALL_LABELS", 2)
    assert set(texts(front_figure(points(), phantom=False, split="test"))) == {"sharp", "bright", "copy T1"}


def test_the_front_knows_which_way_is_better():
    figure = front_figure(points(mae_tumour=[0.3, 0.5, 0.2, 0.1]), y="mae_tumour", phantom=False, split="validation")
    assert steps(figure) == [(0.10, 0.3), (0.11, 0.2)]
    assert "↓ better" in figure.axes[0].get_ylabel()
    higher = front_figure(points(), x="dice_rule", y="mae_brain", phantom=False, split="test")
    assert steps(higher) == [(0.4, 0.11), (0.1, 0.10)]


def test_the_phantom_is_named_and_intervals_are_told():
    ends = points(dice_rule_low=0.0, dice_rule_high=0.6)
    figure = front_figure(ends, phantom=True, split="test")
    assert "phantom" in figure._suptitle.get_text()
    assert any("95 %" in text.get_text() for text in figure.texts)


def test_a_baseline_far_off_does_not_squeeze_the_networks():
    figure = front_figure(points(mae_brain=[0.10, 0.12, 0.11, 0.90]), phantom=False, split="test")
    assert figure.axes[0].get_xlim()[1] < 0.2
    assert "copy T1 (0.900, 0.50)" in texts(figure)


def test_labels_hide_neither_each_other_nor_points():
    rng = np.random.default_rng(0)
    crowd = pd.DataFrame({"label": [f"network {i}" for i in range(40)], "kind": "search"})
    crowd["mae_brain"] = np.linspace(0.1, 0.11, 40)
    crowd["dice_rule"] = np.linspace(0.1, 0.2, 40) + 1e-4 * rng.random(40)  # all on the front
    figure = front_figure(crowd, phantom=False, split="test")
    figure.draw_without_rendering()
    boxes = [text.get_bbox_patch().get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert 1 <= len(boxes) <= 9
    shrunk = [box.padded(-2) for box in boxes]
    assert not any(a.overlaps(b) for i, a in enumerate(shrunk) for b in shrunk[:i])


def test_no_point_is_refused():
    with pytest.raises(ValueError, match="both"):
        front_figure(points(dice_rule=np.nan), phantom=False, split="test")


def test_the_floor_is_the_mean_over_patients_not_over_trials_or_scans():
    table = pd.DataFrame(
        {
            "trial": [0, 0, 0, 1],
            "case_id": ["a", "b", "c", "a"],
            "patient_id": ["p", "p", "q", "p"],
            "floor_mae": [0.02, 0.04, 0.06, 0.02],
        }
    )
    assert floor_of(table) == pytest.approx((0.03 + 0.06) / 2)
    assert floor_of(table.drop(columns="floor_mae")) is None


def test_the_floor_of_each_metric():
    deviation = 0.05
    floor = math.sqrt(2 / math.pi) * deviation
    assert floor_level("mae_brain", floor) == floor_level("mae_balanced", floor) == floor
    assert floor_level("mse_tumour", floor) == pytest.approx(deviation**2)
    assert [floor_level(metric, floor) for metric in ("ssim_brain", "mae_image", "dice_rule")] == [None] * 3
    assert floor_level("mae_brain", None) is None


def floor_lines(axes):
    return [line for line in axes.lines if line.get_color() == COLOUR]


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_line_stands_at_the_floor_and_a_label_gives_one_far_off(scale):
    for level, far in ((0.12, False), (0.001, True)):
        figure = Figure()
        axes = figure.add_subplot()
        axes.set_yscale(scale)
        axes.set_ylim(0.15, 0.2)
        draw_floor([axes], level, across=True)
        assert [line.get_ydata()[0] for line in floor_lines(axes)] == ([] if far else [level])
        assert 0 < axes.get_ylim()[0] <= 0.15
        assert ("0.001 ↓" in axes.texts[0].get_text()) == far


def test_only_panels_of_errors_inside_the_brain_have_the_line(patients):
    figure = box_plots(patients, phantom=True, metrics=("mae_brain", "ssim_brain", "mae_image"), floor=0.05)
    assert [len(floor_lines(axes)) for axes in figure.axes] == [1, 0, 0]
    assert not floor_lines(box_plots(patients, phantom=True, metrics=("mae_brain",)).axes[0])


def test_a_large_front_is_drawn_quickly():
    rng = np.random.default_rng(1)
    crowd = pd.DataFrame({"label": [f"trial {i}" for i in range(200)], "kind": "search"})
    crowd[["mae_brain", "dice_rule"]] = rng.random((200, 2))
    start = time.process_time()  # of CPU, whatever else runs
    front_figure(crowd, phantom=True, split="test")
    assert time.process_time() - start < 10
