"""Forest plot of every network's paired differences to a reference, with intervals, one panel per metric."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lab.evaluation.figures import shown_in, spec_of
from lab.report.figures.style import (
    BETTER,
    FAINT,
    HEAD,
    INK,
    SHADE,
    SMALL,
    TEXT,
    WORSE,
    bottom_legend,
    headline,
    limits_of,
    new_figure,
    plain_axes,
)
from lab.report.tables.paired_tests import asked
from lab.report.tables.patient_table import is_baseline, lower_is_better, metric_name

UNCLEAR = "#8a8a8a"
ACROSS = 3


def forest(
    effects: pd.DataFrame,
    tests: pd.DataFrame,
    *,
    phantom: bool,
    metrics: Sequence[str] | None = None,
    best: Hashable | None = None,
    alpha: float = 0.05,
) -> Figure:
    """Mean paired difference (row - reference) with its 95 % interval, one panel per metric, one row per trial.

    `effects` is the result of `lab.stats.effects.effects`, `tests` that of `paired_tests` with the same reference. A
    difference has a colour only where the Wilcoxon test, corrected after Holm, is below `alpha`; an interval that
    excludes zero is not enough. `best` is the trial chosen on validation, the reference where `effects` has it, else
    the first one is. Raises ValueError where there is nothing to draw.
    """
    references = list(dict.fromkeys(effects["against"])) or [""]
    reference = str(best) if str(best) in references else references[0]
    effects = effects[effects["against"] == reference]
    metrics = shown_in("forest") if metrics is None else metrics
    shown = [metric for metric in metrics if effects.loc[effects["metric"] == metric, "n"].gt(0).any()]
    if not shown:
        raise ValueError(f"there are no effects on any of {list(metrics)}")
    first = effects.drop_duplicates("row")
    across = min(ACROSS, len(shown))
    bands = -(-len(shown) // across)
    figure = new_figure(3.3 * across + 2.6, bands * (0.29 * len(first) + 1.05) + 1.1)
    grid = figure.subplots(bands, across, squeeze=False, sharey=True).ravel()
    places = {key: len(first) - 1 - position for position, key in enumerate(first["row"])}
    for axes, metric in zip(grid, shown):
        _panel(axes, effects[effects["metric"] == metric], metric, places, _clear(tests, metric, reference, alpha))
        axes.set_yticks(list(places.values()), first["label"])
        axes.set_ylim(-0.6, len(first) - 0.4)
        plain_axes(axes, grid="x")
        axes.tick_params(axis="y", length=0, labelsize=TEXT)
        axes.locator_params(axis="x", nbins=5)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    style = {"linewidth": 1.8, "marker": "o", "markersize": 5.5, "markeredgewidth": 1.4}
    better = f"better (Wilcoxon, Holm, p < {alpha:g})"
    handles = [Line2D([], [], color=BETTER, label=better, **style)]
    handles.append(Line2D([], [], color=WORSE, label=f"worse (p < {alpha:g})", **style))
    handles.append(Line2D([], [], color=UNCLEAR, markerfacecolor="white", label="no difference shown", **style))
    bottom_legend(figure, handles)
    role = " (best on validation)" if best is not None and reference == str(best) else ""
    note = "mean over patients of row - reference, with 95 % interval (paired bootstrap)"
    headline(figure, f"Differences to {first['against_label'].iloc[0]}{role}", phantom=phantom, note=note)
    return figure


def _panel(axes: Axes, table: pd.DataFrame, metric: str, places: Mapping[str, int], clear: Mapping[str, bool]) -> None:
    """One metric: a dot and its interval for each trial; a value far off the scale is an arrow with its value."""
    baselines = [place for key, place in places.items() if is_baseline(key)]
    if baselines:
        axes.axhspan(min(baselines) - 0.5, max(baselines) + 0.5, color=SHADE, zorder=0)
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
    networks = table[~table["row"].map(is_baseline)]
    core = networks if len(networks) else table
    ends = core[["low", "high", "mean_difference"]].to_numpy(float)
    left, right = limits_of(np.append(ends, 0.0), table["mean_difference"], 0.07)
    for row in table.itertuples():
        place, value = places[row.row], float(row.mean_difference)
        colour = (BETTER if clear[row.row] else WORSE) if row.row in clear else UNCLEAR
        words = {"va": "center", "fontsize": SMALL, "clip_on": True}
        if not np.isfinite(value):
            axes.text(0.5, place, "no value", transform=axes.get_yaxis_transform(), ha="center", color=FAINT, **words)
        elif not left <= value <= right:
            text = f"{value:+.{spec_of(metric).decimals}f}"
            text, end, side = (f"{text} →", right, "right") if value > right else (f"← {text}", left, "left")
            axes.text(end, place, text, ha=side, color=colour, fontweight="bold", **words)
        else:
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.8, solid_capstyle="round")
            face = colour if row.row in clear else "white"
            axes.plot(value, place, "o", color=colour, markersize=5.5, markerfacecolor=face, markeredgewidth=1.4)
    axes.set_xlim(left, right)
    axes.set_title(f"{metric_name(metric)}, n = {int(table['n'].max())}", fontsize=HEAD, fontweight="bold", color=INK)
    ends = ("better", "worse") if lower_is_better(metric) else ("worse", "better")
    axes.set_xlabel(f"← {ends[0]}   difference   {ends[1]} →", fontsize=TEXT, color=FAINT)


def _clear(tests: pd.DataFrame, metric: str, reference: str, alpha: float) -> dict[str, bool]:
    """Trials with a significant difference to the reference -> whether it is better; pairs count in either order."""
    found = asked(tests, metric)
    found = found[found["p_holm"] < alpha]
    direct, turned = found[found["against"] == reference], found[found["row"] == reference]
    return dict(zip(direct["row"], direct["better"].astype(bool))) | dict(
        zip(turned["against"], ~turned["better"].astype(bool))
    )
