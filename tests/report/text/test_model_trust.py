"""What a model's calibration found, in words and as a plot: nothing is promised that was not measured."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from lab.evaluation.calibration_text import REGIONS
from lab.report.figures.interval_coverage import reliability_figure
from lab.report.text.model_trust import NONE, trust_lines, trust_table


def rows(level: float, region: str, value: float, looks: int = 4, **changes) -> dict:
    known = {
        "looks": looks,
        "level": level,
        "region": region,
        "value": value,
        "low": value - 0.05,
        "high": value + 0.02,
    }
    return known | {"half_width": 0.2, "n": 12} | changes


COVERAGE = [
    rows(level, region, value)
    for level in (0.5, 0.9)
    for region, value in (("everywhere", level), ("tumour", level), ("enhancing", level / 3))
]
CLEAN = {"fault": "none", "n": 12, "seen": 0.08, "warned": 0.08, "refused": 0.0}
SWAPPED = {"fault": "T1 and T2 swapped", "n": 10, "seen": 1.0, "warned": 0.0, "refused": 1.0}
UNTRIED = {"fault": "T1 with contrast agent", "n": 0, "seen": None, "warned": None, "refused": None}


def record(**changes) -> dict:
    known = {
        "patients": {"train": 30, "val": 10, "test": 12},
        "intervals": {"4": {"patients": 10}},
        "coverage": COVERAGE,
        "probability": {"slope": 1.0, "patients": 10, "events": 6, "by": "expert label", "test": {"n": 12}},
        "likeness": {"patients": 30},
        "strangers": [CLEAN, SWAPPED, UNTRIED],
    }
    return known | changes


def test_nothing_measured_is_said():
    assert trust_lines({}) == [NONE]
    assert trust_table({}) is None


def test_the_card_has_what_was_found():
    text = " ".join(trust_lines(record()))
    assert "10 validation patients, tried on 12 test patients." in text
    assert "from 10 validation scans (6 enhance, by expert label); AUC not measured" in text
    assert "of 12 clean test scans 8% are warned of" in text
    assert "T1 and T2 swapped 100%" in text
    assert "contrast agent" not in text  # was not tried
    table = trust_table(record())
    assert table is not None
    assert table.columns[2].head == "inside 90% intervals (%)"
    assert [row.cells[0] for row in table.rows] == [REGIONS[name] for name in ("everywhere", "tumour", "enhancing")]
    assert "| 30 (25 to 32) |" in table.markdown()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"probability": {"missing": "all 10 enhance"}}, "No probability that a tumour enhances: all 10 enhance"),
        ({"intervals": {"4": {"patients": 2}}}, "too few to promise anything"),
        ({"strangers": []}, "was not measured: there were no test patients"),
        ({"coverage": []}, "made for 90% of the voxels; coverage was not measured"),
        ({}, "No verdict whether a tumour enhances"),
    ],
)
def test_what_is_missing_is_said(changes, said):

    assert re.search(said, " ".join(trust_lines(record(**changes))))


def test_the_plot_shows_promised_against_measured():
    figure = reliability_figure(pd.DataFrame(COVERAGE), looks=4, phantom=False)
    axes, beside = figure.axes
    drawn = [np.column_stack(line.get_data()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert any(np.allclose(points, [[0, 0], [1, 1]]) for points in drawn)
    assert any(np.allclose(points[:, 1], [0.5 / 3, 0.3]) for points in drawn)
    labels = axes.get_legend_handles_labels()[1]
    assert "inside true enhancement: 30% at 90% (n = 12)" in labels
    assert [bar.get_width() for bar in beside.patches] == [0.2] * 3
    assert axes.get_ylim()[0] < 0.5 / 3  # what is bad is in the picture


def test_a_phantom_says_so_and_other_looks_are_not_mixed_in():
    summary = pd.DataFrame([*COVERAGE, rows(0.9, "everywhere", 0.1, looks=1, low=None, high=None)])
    figure = reliability_figure(summary, looks=1, phantom=True)
    assert "phantom" in figure._suptitle.get_text()
    assert "whole brain: 10% at 90%" in figure.axes[0].get_legend_handles_labels()[1][0]
    with pytest.raises(ValueError, match="no coverage was measured for 3 augmentations"):
        reliability_figure(summary, looks=3, phantom=False)
