"""Progress of the guided search: the objective over trials, and the importance of every setting."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.io.files import plural
from lab.report.figures.noise_floor import draw_floor, floor_level
from lab.report.figures.style import (
    BASELINE_COLOUR,
    COLOURS,
    FAINT,
    HEAD,
    INK,
    SMALL,
    TEXT,
    headline,
    new_figure,
    plain_axes,
)
from lab.report.tables.patient_table import lower_is_better, metric_name


def search_figure(
    trials: pd.DataFrame,
    importances: Mapping[str, float],
    *,
    objective: str,
    phantom: bool,
    start: float | None = None,
    floor: float | None = None,
) -> Figure:
    """The objective of every trial and the best so far (left), and the importance of every setting (right).

    `trials` has the columns number, label, state ("finished", "pruned" or "failed") and value (of a pruned trial that
    of its last epoch). `objective` is a metric's name such as "val/mae_brain", `start` its value for the network that
    the search started from, `floor` the noise floor of the MAE (drawn where the objective is an MAE). Raises ValueError
    where no trial has a value.
    """
    drawn = trials.dropna(subset=["value"])
    if drawn.empty:
        raise ValueError("no trial of the search has a value to draw")
    figure = new_figure(11.5, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1))
    metric = objective.rpartition("/")[2]
    _history(left, drawn, low=lower_is_better(metric), start=start)
    draw_floor([left], floor_level(metric, floor), across=True)
    left.set_ylabel(f"validation {metric_name(metric)}", fontsize=TEXT)
    left.set_title("Objective", fontsize=HEAD, fontweight="bold", color=INK)
    right.set_title("Importance of the settings", fontsize=HEAD, fontweight="bold", color=INK)
    _bars(right, importances)
    counts = [(int((trials["state"] == state).sum()), state) for state in ("finished", "pruned", "failed")]
    told = ", ".join(f"{count} {state}" for count, state in counts if count)
    headline(figure, f"Guided search: {plural(len(trials), 'trial')} ({told})", phantom=phantom)
    return figure


def best_so_far(values: np.ndarray, finished: np.ndarray, *, low: bool) -> np.ndarray:
    """The best value of the finished trials up to each trial; NaN before the first."""
    sign = 1 if low else -1
    best = np.minimum.accumulate(np.where(finished, sign * values, np.inf)) * sign
    return np.where(np.isfinite(best), best, np.nan)


def _history(axes: Axes, drawn: pd.DataFrame, *, low: bool, start: float | None) -> None:
    finished = (drawn["state"] == "finished").to_numpy()
    numbers, values = drawn["number"].to_numpy(float), drawn["value"].to_numpy(float)
    axes.plot(numbers[finished], values[finished], "o", color=COLOURS[0], markersize=6, label="finished")
    if (~finished).any():
        style = {"color": FAINT, "markersize": 6, "markeredgewidth": 1.6}
        axes.plot(numbers[~finished], values[~finished], "x", label="pruned (its last epoch)", **style)
    if finished.any():
        best = best_so_far(values, finished, low=low)
        axes.plot(numbers, best, color=COLOURS[1], linewidth=1.8, drawstyle="steps-post", label="best so far", zorder=1)
    if start is not None:
        axes.axhline(start, color=BASELINE_COLOUR, linewidth=1.2, linestyle="--", label="the grid's best", zorder=0)
    axes.set_xlabel("trial of the search", fontsize=TEXT)
    axes.margins(y=0.12)
    plain_axes(axes)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=SMALL, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4)


def _bars(axes: Axes, importances: Mapping[str, float]) -> None:
    if not importances:
        axes.set_axis_off()
        text = "too few finished trials\nto say what mattered"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=TEXT, color=FAINT)
        return
    ordered = sorted(importances.items(), key=lambda item: item[1])
    places = np.arange(len(ordered))
    shares = [share for _, share in ordered]
    axes.barh(places, shares, color=COLOURS[0], height=0.6)
    for place, share in zip(places, shares):
        axes.text(share + 0.01, place, f"{share:.2f}", va="center", fontsize=SMALL, color=INK)
    axes.set_yticks(places, [name.replace("_", " ") for name, _ in ordered])
    axes.set_xlim(0, max(1.12 * max(shares), 0.1))
    axes.set_xlabel("share of the variation between trials (fANOVA)", fontsize=TEXT)
    plain_axes(axes, grid="x")
    axes.tick_params(axis="y", length=0, labelsize=TEXT)
