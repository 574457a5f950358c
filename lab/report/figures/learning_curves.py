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
from lab.report.figures.style import BASELINE_COLOUR, HEAD, INK, SMALL, TEXT, colours, headline, new_figure, plain_axes
from lab.report.tables.patient_table import model_name, model_title

ENDINGS = {
    "finished": (None, "ran to its end"),
    "stopped": ("|", "stopped early (patience)"),
    "pruned": ("X", "pruned by the search"),
    "failed": ("v", "failed"),
}
STATES = {
    "complete": "finished", "completed": "finished", "finished": "finished", "running": "finished",
    "stopped": "stopped", "stopped early": "stopped", "early stopped": "stopped",
    "pruned": "pruned", "killed": "pruned", "fail": "failed", "failed": "failed",
}  # fmt: skip
COLUMNS_A_ROW = 4
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
    columns trial, model, loss, state (see `STATES`) and, where known, best_epoch. Losses have different scales, hence a
    column each; the lower panels share one axis. `reference` adds dotted lines to these, such as the MAE of copy T1 on
    the same validation patients (three at most), and `floor` a thin one: the noise floor of the MAE.
    """
    known = trials[trials["trial"].isin(list(histories))]
    known = known.assign(model=known["model"].map(model_name))
    if known.empty:
        raise ValueError("no trial has a training history to draw")
    losses = list(dict.fromkeys(known["loss"].astype(str)))
    palette = colours(sorted(known["model"].unique()))
    across = min(COLUMNS_A_ROW, len(losses))
    bands = -(-len(losses) // across)
    figure = new_figure(max(7.5, 3.9 * across), 5.0 * bands + 1.3)
    grid = figure.subplots(2 * bands, across, squeeze=False)
    lower = [grid[2 * (i // across) + 1][i % across] for i in range(len(losses))]
    values = pd.concat([histories[trial]["val/mae_brain"] for trial in known["trial"]]).dropna()
    seen = set()
    for position, loss in enumerate(losses):
        upper, below = grid[2 * (position // across)][position % across], lower[position]
        for _, trial in known[known["loss"].astype(str) == loss].iterrows():
            history = histories[trial["trial"]].sort_values("epoch")
            colour, ending = palette[trial["model"]], ending_of(trial.get("state"))
            seen.add(ending)
            upper.plot(history["epoch"], history["train/loss"], color=colour, linewidth=0.9, linestyle=(0, (3, 2)))
            for axes, column in ((upper, "val/loss"), (below, "val/mae_brain")):
                axes.plot(history["epoch"], history[column], color=colour, linewidth=1.5)
                _mark(axes, history, column, colour, ending, trial.get("best_epoch"))
        upper.set_title(loss, fontsize=HEAD, fontweight="bold", color=INK)
        shown = pd.concat([histories[t] for t in known.loc[known["loss"].astype(str) == loss, "trial"]])
        _scale(upper, shown[["train/loss", "val/loss"]].to_numpy(float))
        _scale(below, np.append(values.to_numpy(float), list((reference or {}).values())))
        draw_floor([below], floor, across=True)
        for dashes, level in zip(REFERENCE_DASHES, (reference or {}).values()):
            below.axhline(level, color=BASELINE_COLOUR, linewidth=1.2, linestyle=dashes, zorder=1)
        below.set_xlabel("epoch", fontsize=TEXT)
        if position % across == 0:
            upper.set_ylabel("loss", fontsize=TEXT)
            below.set_ylabel("validation MAE, brain", fontsize=TEXT)
        for axes in (upper, below):
            plain_axes(axes)
            axes.xaxis.get_major_locator().set_params(integer=True)
    for position in range(len(losses), bands * across):
        grid[2 * (position // across)][position % across].set_axis_off()
        grid[2 * (position // across) + 1][position % across].set_axis_off()
    _legend(
        figure,
        palette,
        seen,
        list(reference or {}),
        bool(known.get("best_epoch", pd.Series(dtype=float)).notna().any()),
    )
    headline(figure, "Learning curves", phantom=phantom)
    return figure


def ending_of(state: object) -> str:
    """How a trial ended: "finished", "stopped", "pruned" or "failed", from the state in Optuna, MLflow or the lab."""
    word = str(state).rpartition(".")[2].replace("_", " ").lower()
    return STATES.get(word, "finished")


def _mark(axes: Axes, history: pd.DataFrame, column: str, colour: str, ending: str, best_epoch: object) -> None:
    """A dot at the best epoch, and a marker of the trial's ending at the last one."""
    measured = history.dropna(subset=[column])
    if measured.empty:
        return
    at_best = measured[measured["epoch"] == best_epoch]
    axes.plot(at_best["epoch"], at_best[column], "o", color=colour, markersize=4.5, markeredgecolor="white", zorder=4)
    marker = ENDINGS[ending][0]
    if marker:
        last = measured.iloc[-1]
        size, width, edge = (11, 2.0, colour) if marker == "|" else (9, 0.6, "white")
        style = {"markersize": size, "markeredgewidth": width, "markeredgecolor": edge}
        axes.plot(last["epoch"], last[column], marker, color=colour, zorder=5, **style)


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


def _legend(figure: Figure, palette: dict[str, str], endings: set[str], reference: list[str], best: bool) -> None:
    handles = [Line2D([], [], color=colour, linewidth=2, label=model_title(name)) for name, colour in palette.items()]
    handles.append(Line2D([], [], color=INK, linewidth=1.5, label="validation"))
    handles.append(Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (3, 2)), label="training"))
    if best:
        handles.append(Line2D([], [], color=INK, marker="o", linestyle="", markersize=4.5, label="best epoch"))
    for ending, (marker, text) in ENDINGS.items():
        if marker and ending in endings:
            width = 2.0 if marker == "|" else 0.6
            handles.append(
                Line2D([], [], color=INK, marker=marker, linestyle="", markersize=8, markeredgewidth=width, label=text)
            )
    handles += [
        Line2D([], [], color=BASELINE_COLOUR, linewidth=1.2, linestyle=dashes, label=name)
        for dashes, name in zip(REFERENCE_DASHES, reference)
    ]
    columns = min(len(handles), max(2, int(figure.get_size_inches()[0] / 1.6)))  # as many as fit side by side
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False)
