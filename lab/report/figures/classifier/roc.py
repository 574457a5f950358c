"""ROC and precision-recall curves of a classifier, with bands and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.io.files import plural
from lab.report.figures.style import (
    COLOURS,
    DASHED,
    FAINT,
    INK,
    SMALL,
    TEXT,
    bottom_legend,
    colours,
    headline,
    new_figure,
    plain_axes,
)
from lab.stats.intervals import CONFIDENCE, Estimate
from lab.stats.roc import PrecisionRecall, Roc, roc_curve

OPEN_POINT: dict[str, Any] = {
    "color": INK, "linewidth": 1.1, "markersize": 5.5, "markerfacecolor": "white", "markeredgewidth": 1.3,
}  # fmt: skip
"""A measured point with error bars."""
STAMP_INCHES = 0.66
"""99 pixels at 150 dots per inch: MLflow folds a note after a hundred pixels."""
FEW = 3
"""Most legend entries that fit below the diagonal, and most curves with bands that stay distinguishable."""


def roc_figure(
    rocs: Mapping[str, Roc],
    *,
    phantom: bool,
    title: str = "Will it enhance? ROC",
    event: str = "enhancing",
    point: pd.DataFrame | None = None,
    point_name: str = "threshold from validation",
) -> Figure:
    """ROC curves by name (see `lab.stats.roc`), each with its band, and the AUC with every interval in the legend.

    A mean over splits has its splits as thin lines behind it; of more than three curves only the first has a band, and
    the others are thin. `point` (the result of `at_threshold`) adds one operating point with its Wilson intervals as a
    cross. Raises ValueError where there is nothing to draw.
    """
    if not rocs:
        raise ValueError("there is no ROC curve to draw")
    entries = len(rocs) + (point is not None)
    figure = new_figure(6.6, 7.2 if entries <= FEW else 7.4 + 0.3 * entries)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], **DASHED)
    palette = colours(rocs)
    for name, roc in rocs.items():
        colour, several = palette[name], len(roc.curves) > 1
        if several:
            for x, y in roc.curves:
                axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.22, zorder=2)
            x, y = np.append(0.0, roc.grid), np.append(0.0, roc.sensitivity)
        else:
            x, y = roc.curves[0]
        leads = len(rocs) <= FEW or name == next(iter(rocs))
        if leads:
            axes.fill_between(roc.grid, roc.low, roc.high, color=colour, alpha=0.16, linewidth=0, zorder=1.5)
        axes.plot(x, y, color=colour, linewidth=2.0 if leads else 1.2, zorder=4.5 if leads else 4,
                  label=_roc_label(name, roc), solid_joinstyle="miter")  # fmt: skip
    if point is not None:
        _operating_point(axes, point, point_name)
    _unit_square(axes, "1 - specificity", "sensitivity")
    if entries <= FEW:  # below the diagonal, which good curves leave free
        axes.legend(loc="lower right", fontsize=SMALL, frameon=True, framealpha=0.9, edgecolor="none", borderpad=0.3)
    else:
        figure.legend(loc="outside lower center", ncols=1, fontsize=SMALL, frameon=False)
    note = [_whom(rocs, event), f"band: {100 * CONFIDENCE:g} % at each specificity"]
    note += ["thin: splits"] * any(len(roc.curves) > 1 for roc in rocs.values())
    headline(figure, title, phantom=phantom, note="; ".join(part for part in note if part))
    return figure


def precision_recall_figure(
    curves: Mapping[str, PrecisionRecall],
    *,
    phantom: bool,
    title: str = "Will it enhance? Precision-recall",
    event: str = "enhancing",
) -> Figure:
    """Precision-recall curves by name as steps, with the average precision and its interval in the legend.

    The dashed line is the precision of calling everybody positive. Raises ValueError where there is nothing to draw, or
    where the curves are from different patients.
    """
    if not curves:
        raise ValueError("there is no precision-recall curve to draw")
    groups = {(curve.patients, curve.events) for curve in curves.values()}
    if len(groups) > 1:
        raise ValueError(f"the curves are of different patients (n, {event}): {sorted(groups)}")
    figure = new_figure(6.9, 7.3)
    axes = figure.subplots()
    first = next(iter(curves.values()))
    axes.axhline(first.prevalence, label=f"everybody positive: {first.prevalence:.2f}", **DASHED)
    palette = colours(curves)
    for name, curve in curves.items():
        # between two scores only the lower precision is reached: a step, not a slope
        rises = np.diff(curve.recall, prepend=-1.0) > 0
        first_hit = int(np.flatnonzero(curve.recall > 0)[0])
        heights = np.append(curve.precision[first_hit], curve.precision[rises][1:])
        axes.step(curve.recall[rises], heights, where="pre", color=palette[name], linewidth=2.0, zorder=3,
                  label=f"{name}\naverage precision {interval_text(curve.average)}")  # fmt: skip
    _unit_square(axes, "recall (sensitivity)", "precision (positive predictive value)")
    handles, labels = axes.get_legend_handles_labels()
    bottom_legend(figure, [*handles[1:], handles[0]], min(2, len(labels)))
    level = f"{100 * CONFIDENCE:g} % CI by bootstrap"
    headline(figure, title, phantom=phantom, note=f"{count_note(first.patients, first.events, event)}; {level}")
    return figure


def roc_thumbnail(patients: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """The curves of some methods (columns method, label, score, a row per patient) without text."""
    figure = new_figure(STAMP_INCHES, STAMP_INCHES, by_hand=True)
    axes = figure.add_axes((0.04, 0.04, 0.92, 0.92))
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.6, linestyle=(0, (3, 2)))
    for colour, method in reversed(list(zip(COLOURS, methods))):
        part = patients[patients["method"] == method]
        if part["label"].nunique() == 2:
            axes.plot(*roc_curve(part["label"], part["score"]), color=colour, linewidth=1.4)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color(FAINT)
        spine.set_linewidth(0.6)
    return figure


def interval_text(found: Estimate, digits: int = 2) -> str:
    """A figure and its interval as "0.84 (0.74 to 0.91)"; "not known" where it is NaN."""
    if not np.isfinite(found.value):
        return "not known"
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def count_note(patients: int, events: int, event: str) -> str:
    """The number of patients and events, as "100 patients, 48 enhancing"."""
    return f"{plural(patients, 'patient')}, {events} {event}"


def _roc_label(name: str, roc: Roc) -> str:
    """Name, AUC, and its intervals with the method of each."""
    # a bootstrap whose samples all agree has no interval
    ranges = ", ".join(
        (f"{one.low:.2f} to {one.high:.2f}" if one.low < one.high else "none") + f" ({one.method})"
        for one in roc.intervals
    )
    what = f"mean AUC of {len(roc.curves)} splits" if len(roc.curves) > 1 else "AUC"
    return f"{name}: {what} {roc.intervals[0].value:.2f}\n{100 * CONFIDENCE:g} % CI {ranges}"


def _whom(rocs: Mapping[str, Roc], event: str) -> str:
    """The number of patients behind the curves where all curves have it and agree, else ""."""
    counts = {roc.patients for roc in rocs.values() if roc.patients is not None}
    events = {roc.events for roc in rocs.values() if roc.events is not None}
    if len(counts) != 1:
        return ""
    patients = counts.pop()
    return count_note(patients, events.pop(), event) if len(events) == 1 else plural(patients, "patient")


def _operating_point(axes: Axes, point: pd.DataFrame, name: str) -> None:
    rows = point.set_index("figure")
    sensitivity, specificity = rows.loc["sensitivity"], rows.loc["specificity"]
    x, y = 1 - specificity["value"], sensitivity["value"]
    if not np.isfinite([x, y]).all():
        raise ValueError("an operating point needs patients of both classes")
    across = [[x - (1 - specificity["high"])], [(1 - specificity["low"]) - x]]
    upright = [[y - sensitivity["low"]], [sensitivity["high"] - y]]
    label = f"{name}\nsensitivity {y:.2f}, specificity {1 - x:.2f}"
    axes.errorbar(x, y, xerr=across, yerr=upright, fmt="o", label=label, zorder=6, **OPEN_POINT)


def _unit_square(axes: Axes, x: str, y: str) -> None:
    ticks = np.linspace(0, 1, 6)
    axes.set(xlim=(-0.012, 1.012), ylim=(-0.012, 1.012), aspect="equal", xticks=ticks, yticks=ticks)
    axes.set_xlabel(x, fontsize=TEXT, color=INK)
    axes.set_ylabel(y, fontsize=TEXT, color=INK)
    plain_axes(axes, grid="both")
