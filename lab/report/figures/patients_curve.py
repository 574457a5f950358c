"""The learning curve over training patients: where it enhances, against their number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from lab.evaluation.figures import FIGURES
from lab.report.figures.style import (
    BASELINE_COLOUR,
    COLOURS,
    HEAD,
    INK,
    TEXT,
    bottom_legend,
    headline,
    new_figure,
    plain_axes,
)

PANELS = ("auc", "kappa", "dice_pooled")
"""Figures at a threshold chosen on validation patients, and the voxel AUC, of the score that is read."""


def patients_curve(
    card: pd.DataFrame, trials: pd.DataFrame, strongest: Mapping[str, Any] | None, *, phantom: bool
) -> Figure:
    """Voxel AUC, kappa and pooled Dice with intervals over the test patients, by the number of training patients.

    `trials` has the columns `trial` and `patients` (empty for trials that are not part of the curve), `card` is that of
    `pooled_scorecard`. Read is the stated probability where there is one, else the contrast; the truth is that of
    `strongest`, the strongest baseline, which is drawn as a line.
    """
    curve = trials.dropna(subset=["patients"]).sort_values("patients")
    truth = "rule" if strongest is None else strongest["truth"]
    found = card[card["definition"] == truth].set_index(["trial", "figure"])
    figure = new_figure(11.0, 4.2)
    for axes, name in zip(figure.subplots(1, len(PANELS)), PANELS):
        rows = read_rows(found, list(curve["trial"]), name)
        draw_curve(axes, curve["patients"].to_numpy(float), rows)
        if strongest is not None:
            level = read_rows(found, [strongest["baseline"]], name)["value"].iloc[0]
            axes.axhline(level, color=BASELINE_COLOUR, linewidth=1.2, linestyle="--", zorder=1)
        axes.set_title(FIGURES[f"contrast_{name}"].title, fontsize=HEAD, fontweight="bold", color=INK)
    handles = [Line2D([], [], color=COLOURS[0], marker="o", label="network, 95 % interval over test patients")]
    if strongest is not None:
        dashes = {"color": BASELINE_COLOUR, "linestyle": "--"}
        handles.append(Line2D([], [], label=f"{strongest['baseline']}, all training patients", **dashes))
    bottom_legend(figure, handles)
    headline(figure, "What more training patients bring", phantom=phantom)
    return figure


def read_rows(found: pd.DataFrame, trials: list[Any], name: str) -> pd.DataFrame:
    """Value, low and high of each trial's figure: of its stated probability where it has one, else of its contrast."""
    columns = ["value", "low", "high"]
    keys = [[(trial, f"{score}_{name}") for trial in trials] for score in ("probability", "contrast")]
    stated, drawn = (found.reindex(pd.MultiIndex.from_tuples(some))[columns].reset_index(drop=True) for some in keys)
    return stated.where(stated["value"].notna(), drawn)


def draw_curve(axes: Axes, patients: np.ndarray, rows: pd.DataFrame) -> None:
    """One line with intervals over the number of patients, on an axis where each doubling is as wide."""
    below, above = rows["value"] - rows["low"], rows["high"] - rows["value"]
    spans = np.nan_to_num(np.stack([below.to_numpy(float), above.to_numpy(float)]))
    axes.errorbar(patients, rows["value"], yerr=spans, color=COLOURS[0], marker="o", capsize=3, linewidth=1.6)
    axes.set_xscale("log", base=2)
    axes.set_xticks(patients, [f"{count:g}" for count in patients])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("training patients", fontsize=TEXT)
    plain_axes(axes)
