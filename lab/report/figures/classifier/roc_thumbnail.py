"""The ROC as small as a stamp, for the few lines that MLflow shows of a note."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from lab.report.figures.style import COLOURS, FAINT, new_figure
from lab.stats.roc import roc_curve

INCHES = 0.66
"""99 pixels at 150 dots an inch: a note is folded after a hundred."""


def roc_thumbnail(patients: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """The curves of some methods (columns method, label, score, a row a patient) without words."""
    figure = new_figure(INCHES, INCHES, by_hand=True)
    axes = figure.add_axes((0.04, 0.04, 0.92, 0.92))
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.6, linestyle=(0, (3, 2)))
    for colour, method in reversed(list(zip(COLOURS, methods))):
        part = patients[patients["method"] == method]
        if part["label"].nunique() == 2:
            axes.plot(*roc_curve(part["label"], part["score"]), color=colour, linewidth=1.4)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(FAINT)
        spine.set_linewidth(0.6)
    return figure
