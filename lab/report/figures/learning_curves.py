"""Learning curves of all trials, one column per loss."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from lab.report.figures.noise_floor import draw_floor
from lab.report.figures.style import (
    BASELINE_COLOUR,
    HEAD,
    INK,
    TEXT,
    bottom_legend,
    colours,
    headline,
    new_figure,
    plain_axes,
)
from lab.report.tables.patient_table import model_name, model_title

COLUMNS_A_ROW = 4
TRAINING = {"linewidth": 0.9, "linestyle": (0, (3, 2))}
REFERENCE_DASHES = (":", "-.", (0, (8, 3)))


def learning_curves(
    histories: Mapping[Hashable, pd.DataFrame],
    trials: pd.DataFrame,
    *,
    phantom: bool,
    reference: Mapping[str, float] | None = None,
    floor: float | None = None,
) -> Figure:
    """Train and validation loss of every trial and, below, its validation MAE in the brain, one column per loss.

    `histories` maps a trial to a table with the columns epoch, train/loss, val/loss, val/mae_brain; `trials` has the
    columns trial, model, loss and, where known, best_epoch, which a dot marks. Losses have different scales, hence a
    column each; the lower panels share one axis. `reference` adds dashed lines to these, such as the MAE of copy T1 on
    the same validation patients (three at most), and `floor` a thin one: the noise floor of the MAE.
    """
    known = trials[trials["trial"].isin(list(histories))]
    known = known.assign(model=known["model"].map(model_name), loss=known["loss"].astype(str))
    if known.empty:
        raise ValueError("no trial has a training history to draw")
    losses, levels = list(dict.fromkeys(known["loss"])), reference or {}
    palette = colours(sorted(known["model"].unique()))
    across = min(COLUMNS_A_ROW, len(losses))
    bands = -(-len(losses) // across)
    figure = new_figure(max(7.5, 3.9 * across), 5.0 * bands + 1.3)
    grid = figure.subplots(2 * bands, across, squeeze=False)
    uppers, lowers = grid[::2].ravel(), grid[1::2].ravel()
    errors = pd.concat([histories[trial]["val/mae_brain"] for trial in known["trial"]]).dropna().to_numpy(float)
    for upper, below, loss in zip(uppers, lowers, losses):
        own = known[known["loss"] == loss]
        for trial in own.to_dict("records"):
            history, colour = histories[trial["trial"]].sort_values("epoch"), palette[trial["model"]]
            upper.plot(history["epoch"], history["train/loss"], color=colour, **TRAINING)
            at_best = history[history["epoch"] == trial.get("best_epoch")]
            for axes, column in ((upper, "val/loss"), (below, "val/mae_brain")):
                axes.plot(history["epoch"], history[column], color=colour, linewidth=1.5)
                axes.plot(at_best["epoch"], at_best[column], "o", color=colour, markersize=4.5, markeredgecolor="white")
        upper.set_title(loss, fontsize=HEAD, fontweight="bold", color=INK)
        shown = pd.concat([histories[trial][["train/loss", "val/loss"]] for trial in own["trial"]])
        _scale(upper, shown.to_numpy(float))
        _scale(below, np.append(errors, list(levels.values())))
        draw_floor([below], floor, across=True)
        for dashes, level in zip(REFERENCE_DASHES, levels.values()):
            below.axhline(level, color=BASELINE_COLOUR, linewidth=1.2, linestyle=dashes, zorder=1)
        below.set_xlabel("epoch", fontsize=TEXT)
        for axes in (upper, below):
            plain_axes(axes)
            axes.xaxis.get_major_locator().set_params(integer=True)
    for upper, below in zip(uppers[::across], lowers[::across]):
        upper.set_ylabel("loss", fontsize=TEXT)
        below.set_ylabel("validation MAE, brain", fontsize=TEXT)
    for axes in (*uppers[len(losses) :], *lowers[len(losses) :]):
        axes.set_axis_off()
    handles = [Line2D([], [], color=colour, linewidth=2, label=model_title(name)) for name, colour in palette.items()]
    handles.append(Line2D([], [], color=INK, linewidth=1.5, label="validation"))
    handles.append(Line2D([], [], color=INK, label="training", **TRAINING))
    handles.append(Line2D([], [], color=INK, marker="o", linestyle="", markersize=4.5, label="best epoch"))
    for dashes, name in zip(REFERENCE_DASHES, levels):
        handles.append(Line2D([], [], color=BASELINE_COLOUR, linewidth=1.2, linestyle=dashes, label=name))
    bottom_legend(figure, handles, min(len(handles), max(2, int(figure.get_size_inches()[0] / 1.6))))
    headline(figure, "Learning curves", phantom=phantom)
    return figure


def _scale(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic axis where values span more than a factor of four."""
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if low > 0 and high > 4 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 3, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(low / 1.1, high * 1.1)
    else:
        room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - room, high + room)
