"""What does quality cost? Time, memory and parameters of each trial against its error, with the Pareto front."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from lab.report.figures.noise_floor import draw_floor, floor_level
from lab.report.figures.style import (
    FAINT,
    HEAD,
    INK,
    RIVAL_COLOUR,
    SMALL,
    TEXT,
    colours,
    headline,
    markers,
    new_figure,
    plain_axes,
)
from lab.report.tables.patient_table import lower_is_better, metric_name, model_title, summarise

COSTS = {
    "train_seconds": "training time (s)",
    "peak_memory_mb": "peak memory (MB)",
    "parameters": "parameters",
}


def pareto(cost: ArrayLike, score: ArrayLike, *, low: bool = True) -> np.ndarray:
    """Which points (bool array) no other beats in both: none is as cheap and better, or cheaper and as good.

    `low` says that a low score is good. Points that are not finite are never on the front.
    """
    costs, scores = np.asarray(cost, float), np.asarray(score, float) * (1 if low else -1)
    usable = np.isfinite(costs) & np.isfinite(scores)
    front = np.zeros(costs.shape, bool)
    for i in np.flatnonzero(usable):
        no_worse = usable & (costs <= costs[i]) & (scores <= scores[i])
        front[i] = not (no_worse & ((costs < costs[i]) | (scores < scores[i]))).any()
    return front


def cost_against_quality(
    trials: pd.DataFrame,
    patients: pd.DataFrame,
    *,
    phantom: bool,
    metric: str = "mae_brain",
    split: str = "test",
    floor: float | None = None,
) -> Figure:
    """A panel a cost: the mean of `metric` over patients against it, colour = loss, marker = model.

    `trials` has the columns trial and those of `COSTS` (missing or empty: said so in the panel); `patients` is the long
    per-patient table. Dotted lines are the trivial rivals, the thin line the `floor` of the MAE.
    """
    scores = summarise(patients)
    low = lower_is_better(metric)
    mean = f"{metric}_mean"
    drawn = scores[~scores["rival"]].merge(trials.drop(columns=["label", "model", "loss"], errors="ignore"), on="trial")
    palette, shapes = colours(drawn["loss"]), markers(sorted(drawn["model"].unique()))
    rivals = scores[scores["rival"]]
    figure = new_figure(4.1 * len(COSTS) + 0.4, 5.4)
    grid = figure.subplots(1, len(COSTS), squeeze=False, sharey=True)[0]
    for axes, (column, name) in zip(grid, COSTS.items()):
        axes.set_title(name, fontsize=HEAD, fontweight="bold", color=INK)
        plain_axes(axes, grid="both")
        costs = (
            pd.to_numeric(drawn[column], errors="coerce").to_numpy(float)
            if column in drawn
            else np.full(len(drawn), np.nan)
        )
        values = drawn[mean].to_numpy(float)
        usable = np.isfinite(costs) & np.isfinite(values) & (costs > 0)
        for label, level in zip(rivals["label"], rivals[mean]):
            axes.axhline(level, color=RIVAL_COLOUR, linewidth=1.1, linestyle=_dash(label), zorder=1)
        if not usable.any():
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", fontsize=TEXT, color=FAINT)
            axes.set_xticks([])
            continue
        front = pareto(np.where(usable, costs, np.nan), values, low=low)
        order = np.argsort(costs[front])
        axes.plot(
            costs[front][order],
            values[front][order],
            color=INK,
            linewidth=1,
            alpha=0.6,
            drawstyle="steps-post",
            zorder=2,
        )
        for i in np.flatnonzero(usable):
            row = drawn.iloc[i]
            ring = {"edgecolors": INK, "linewidths": 1.6} if front[i] else {"edgecolors": "white", "linewidths": 0.6}
            shape, colour = shapes[str(row["model"])], palette[str(row["loss"])]
            axes.scatter(costs[i], values[i], s=62, marker=shape, color=colour, zorder=4 + front[i], **ring)
        _log_cost(axes, costs[usable])
    draw_floor(list(grid), floor_level(metric, floor), across=True)
    grid[0].set_ylabel(
        f"{metric_name(metric)}: mean over {split} patients ({'low' if low else 'high'} is good)", fontsize=TEXT
    )
    _legend(figure, palette, shapes, list(rivals["label"]))
    headline(figure, "Cost against quality", phantom=phantom)
    return figure


def short_number(value: float) -> str:
    """A number as on an axis: 950, 1.5k, 20M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _dash(label: str) -> str:
    return ":" if label == "copy T1" else "--"


def _log_cost(axes: Axes, costs: np.ndarray) -> None:
    low, high = float(costs.min()), float(costs.max())
    if high > 3 * low:
        axes.set_xscale("log")
        wide = high > 60 * low
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(low / 1.4, high * 1.4)
    else:
        room = 0.12 * (high - low) or 0.1 * high
        axes.set_xlim(low - room, high + room)
        axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def _legend(figure: Figure, palette: dict[str, str], shapes: dict[str, str], rivals: list[str]) -> None:
    handles = [
        Line2D([], [], color=c, marker="s", linestyle="", markersize=8, label=name) for name, c in palette.items()
    ]
    handles += [
        Line2D([], [], color=FAINT, marker=marker, linestyle="", markersize=7, label=model_title(name))
        for name, marker in shapes.items()
    ]
    handles.append(Line2D([], [], color=INK, linewidth=1, marker="o", markerfacecolor="white", markeredgewidth=1.6,
                          label="Pareto front"))  # fmt: skip
    handles += [Line2D([], [], color=RIVAL_COLOUR, linestyle=_dash(label), label=label) for label in rivals]
    columns = min(len(handles), 6)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False)
