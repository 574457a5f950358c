"""Forest plot of every network's paired differences to a reference, with intervals, one panel per metric."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lab.evaluation.figures import shown_in, spec_of
from lab.report.figures.paired_tests import BETTER, WORSE
from lab.report.figures.style import FAINT, HEAD, INK, SHADE, SMALL, TEXT, headline, new_figure, plain_axes
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
    against: Hashable | None = None,
    alpha: float = 0.05,
) -> Figure:
    """Mean paired difference (row - reference) with its 95 % interval, one panel per metric, one row per trial.

    `effects` is the result of `lab.stats.effects.effects`, `tests` that of `paired_tests` with the same reference. A
    difference has a colour only where the Wilcoxon test, corrected after Holm, is below `alpha`; an interval that
    excludes zero is not enough. `best` is the trial chosen on validation; of several references in `effects`, `against`
    is drawn, by default `best`, else the first. Raises ValueError where there is nothing to draw.
    """
    references = list(dict.fromkeys(effects["against"]))
    wanted = [str(key) for key in (against, best) if key is not None and str(key) in references]
    effects = effects[effects["against"] == (wanted or references or [""])[0]]
    metrics = shown_in("forest") if metrics is None else metrics
    shown = [metric for metric in metrics if effects.loc[effects["metric"] == metric, "n"].gt(0).any()]
    if not shown:
        raise ValueError(f"there are no effects on any of {list(metrics)}")
    first = effects.drop_duplicates("row")
    keys = list(first["row"])
    names = dict(zip(first["row"], first["label"]))
    reference, label = str(first["against"].iloc[0]), str(first["against_label"].iloc[0])
    across = min(ACROSS, len(shown))
    bands = -(-len(shown) // across)
    figure = new_figure(3.3 * across + 2.6, bands * (0.29 * len(keys) + 1.05) + 1.1)
    grid = figure.subplots(bands, across, squeeze=False, sharey=True)
    places = {key: len(keys) - 1 - position for position, key in enumerate(keys)}
    for number, metric in enumerate(shown):
        axes = grid[number // across][number % across]
        _panel(axes, effects[effects["metric"] == metric], metric, places, _clear(tests, metric, reference, alpha))
        axes.set_yticks(list(places.values()), [names[key] for key in keys])
        axes.set_ylim(-0.6, len(keys) - 0.4)
        plain_axes(axes, grid="x")
        axes.tick_params(axis="y", length=0, labelsize=TEXT)
        axes.locator_params(axis="x", nbins=5)
    for number in range(len(shown), bands * across):
        grid[number // across][number % across].set_axis_off()
    _legend(figure, alpha)
    role = " (best on validation)" if best is not None and reference == str(best) else ""
    headline(
        figure,
        f"Differences to {label}{role}",
        phantom=phantom,
        note="mean over patients of row - reference, with 95 % interval (paired bootstrap)",
    )
    return figure


def _panel(axes: Axes, drawn: pd.DataFrame, metric: str, places: Mapping[str, int], clear: Mapping[str, bool]) -> None:
    """One metric: a dot and its interval for each trial; a value far off the scale is an arrow with its value."""
    rivals = [place for key, place in places.items() if is_baseline(key)]
    if rivals:
        axes.axhspan(min(rivals) - 0.5, max(rivals) + 0.5, color=SHADE, zorder=0)
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
    left, right = _limits(drawn)
    for row in drawn.itertuples():
        place, value = places[row.row], float(row.mean_difference)
        colour = (BETTER if clear[row.row] else WORSE) if row.row in clear else UNCLEAR
        if not np.isfinite(value):
            where = axes.get_yaxis_transform()
            axes.text(0.5, place, "no value", transform=where, ha="center", va="center", fontsize=SMALL, color=FAINT)
        elif not left <= value <= right:
            text = f"{value:+.{spec_of(metric).decimals}f}"
            text, end, side = (f"{text} →", right, "right") if value > right else (f"← {text}", left, "left")
            axes.text(end, place, text, ha=side, va="center", fontsize=SMALL, color=colour, fontweight="bold")
        else:
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.8, solid_capstyle="round")
            face = colour if row.row in clear else "white"
            axes.plot(value, place, "o", color=colour, markersize=5.5, markerfacecolor=face, markeredgewidth=1.4)
    axes.set_xlim(left, right)
    axes.set_title(f"{metric_name(metric)}, n = {int(drawn['n'].max())}", fontsize=HEAD, fontweight="bold", color=INK)
    ends = ("better", "worse") if lower_is_better(metric) else ("worse", "better")
    axes.set_xlabel(f"← {ends[0]}   difference   {ends[1]} →", fontsize=TEXT, color=FAINT)


def _clear(tests: pd.DataFrame, metric: str, reference: str, alpha: float) -> dict[str, bool]:
    """Trials with a significant difference to the reference -> whether it is better; pairs count in either order."""
    found = asked(tests, metric)
    found = found[found["p_holm"] < alpha]
    direct, turned = found[found["against"] == reference], found[found["row"] == reference]
    return {row.row: bool(row.better) for row in direct.itertuples()} | {
        row.against: not row.better for row in turned.itertuples()
    }


def _limits(drawn: pd.DataFrame) -> tuple[float, float]:
    """Limits of a panel: those of the networks' intervals, widened for a baseline not far beyond them."""
    networks = drawn[~drawn["row"].map(is_baseline)]
    core = networks if len(networks) else drawn
    ends = np.append(core[["low", "high", "mean_difference"]].to_numpy(float).ravel(), 0.0)
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    span = high - low or 1.0
    for row in drawn.itertuples():
        if low - span <= row.mean_difference <= high + span:
            low, high = np.nanmin([low, row.low, row.mean_difference]), np.nanmax([high, row.high, row.mean_difference])
    return float(low - 0.07 * span), float(high + 0.07 * span)


def _legend(figure: Figure, alpha: float) -> None:
    words = (
        (BETTER, BETTER, f"better (Wilcoxon, Holm, p < {alpha:g})"),
        (WORSE, WORSE, f"worse (p < {alpha:g})"),
        (UNCLEAR, "white", "no difference shown"),
    )
    handles = [
        Line2D([], [], color=colour, linewidth=1.8, marker="o", markersize=5.5, markerfacecolor=face,
               markeredgewidth=1.4, label=text)
        for colour, face, text in words
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
