"""Scatter plot of every network's image fidelity against enhancement, with the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from lab.evaluation.figures import spec_of
from lab.report.figures.noise_floor import draw_floor, floor_level
from lab.report.figures.style import (
    BASELINE_COLOUR,
    COLOURS,
    FAINT,
    INK,
    SMALL,
    TEXT,
    bottom_legend,
    headline,
    limits_of,
    new_figure,
    plain_axes,
)
from lab.report.tables.patient_table import lower_is_better, metric_name

KINDS = {
    "grid": (COLOURS[0], "o", 62, "network of the study"),
    "search": (COLOURS[1], "o", 34, "trial of the guided search"),
    "baseline": (BASELINE_COLOUR, "D", 48, "baseline"),
}
MAX_LABELS, ALL_LABELS = 9, 12
"""Most networks of the front that are named; up to so many networks in all, every one is named where there is room."""
BARS = "; bars: 95 % intervals"
OFFSETS = [(dx, dy) for dy in (0, 9, -9, 18, -18, 30, -30, 44, -44) for dx in (-8, 8)]
"""Candidate positions of a label relative to its point, in points of type, in order of preference."""


def pareto(cost: ArrayLike, score: ArrayLike, *, low: bool = True) -> np.ndarray:
    """Pareto-optimal points (bool array): no other is as cheap and better, or cheaper and as good.

    `low` says that a low score is good. Points that are not finite are never on the front.
    """
    costs, scores = np.asarray(cost, float), np.asarray(score, float) * (1 if low else -1)
    usable = np.isfinite(costs) & np.isfinite(scores)
    front = np.zeros(costs.shape, bool)
    for i in np.flatnonzero(usable):
        no_worse = usable & (costs <= costs[i]) & (scores <= scores[i])
        front[i] = not (no_worse & ((costs < costs[i]) | (scores < scores[i]))).any()
    return front


def front_figure(
    points: pd.DataFrame,
    *,
    x: str = "mae_brain",
    y: str = "dice_rule",
    phantom: bool,
    split: str,
    title: str = "Image fidelity against enhancement",
    floor: float | None = None,
) -> Figure:
    """Each network's `y` over its `x`; Pareto-optimal networks are ringed, joined and named.

    `points` has the columns label, kind (of `KINDS`), x and y, and may have `<x>_low`, `<x>_high`, `<y>_low`,
    `<y>_high`: ends of an interval. Baselines are grey and never on the front; one
    that is far off stands at the edge with its figures in its label. `floor` is that of the MAE. Raises ValueError
    where no point has both values.
    """
    known = points.dropna(subset=[x, y]).reset_index(drop=True)
    if known.empty:
        raise ValueError(f"no network has both {x} and {y}")
    figure = new_figure(8.4, 5.8)
    axes = figure.add_subplot()
    plain_axes(axes, grid="both")
    baseline = (known["kind"] == "baseline").to_numpy(bool)
    (left, right), (bottom, top) = _limits(known, x), _limits(known, y)
    values = known[[x, y]].to_numpy(float)
    places = np.clip(values, (left, bottom), (right, top))
    low_x, low_y = lower_is_better(x), lower_is_better(y)
    cost = np.where(baseline, np.nan, places[:, 0] if low_x else -places[:, 0])
    front = pareto(cost, places[:, 1], low=low_y)
    for row in known.to_dict("records"):
        style = {"color": KINDS[row["kind"]][0], "linewidth": 1, "alpha": 0.35, "zorder": 1}
        if _ends(known, x):
            axes.plot([row[f"{x}_low"], row[f"{x}_high"]], [row[y], row[y]], **style)
        if _ends(known, y):
            axes.plot([row[x], row[x]], [row[f"{y}_low"], row[f"{y}_high"]], **style)
    order = np.flatnonzero(front)[np.argsort(cost[front], kind="stable")]
    axes.plot(*places[order].T, color=INK, linewidth=1, alpha=0.6, drawstyle="steps-post", zorder=2)
    for kind, (colour, marker, size, _) in KINDS.items():
        for ringed in (False, True):
            chosen = ((known["kind"] == kind) & (front == ringed)).to_numpy(bool)
            ring = {"edgecolors": INK, "linewidths": 1.6} if ringed else {"edgecolors": "white", "linewidths": 0.6}
            style = {"s": size, "marker": marker, "color": colour, "zorder": 4 + ringed, "clip_on": False}
            axes.scatter(*places[chosen].T, **style, **ring)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.set_xlabel(f"{metric_name(x)}   {'←' if low_x else '→'} better", fontsize=TEXT)
    axes.set_ylabel(f"{metric_name(y)}   {'↓' if low_y else '↑'} better", fontsize=TEXT)
    draw_floor([axes], floor_level(x, floor), across=False)
    draw_floor([axes], floor_level(y, floor), across=True)
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", markersize=7, label=name)
        for kind, (colour, marker, _, name) in KINDS.items()
        if kind in set(known["kind"])
    ]
    style = {"color": INK, "linewidth": 1, "marker": "o", "markerfacecolor": "white", "markeredgewidth": 1.6}
    bottom_legend(figure, [*handles, Line2D([], [], label="Pareto front: no network is better in both", **style)])
    headline(figure, title, phantom=phantom, note=f"means over {split} patients" + BARS * _ends(known, y))
    notable = [
        *np.flatnonzero(baseline),
        *order[np.linspace(0, len(order) - 1, min(len(order), MAX_LABELS)).astype(int)],
    ]
    if (~baseline).sum() <= ALL_LABELS:
        notable += [i for i in np.flatnonzero(~baseline) if i not in notable]
    texts = [str(label) for label in known["label"]]
    for i in np.flatnonzero((places != values).any(axis=1)):
        texts[i] += f" ({spec_of(x).text(values[i, 0])}, {spec_of(y).text(values[i, 1])})"
    _label(figure, axes, {int(i): texts[i] for i in notable}, places, baseline)
    return figure


def _ends(known: pd.DataFrame, metric: str) -> bool:
    return {f"{metric}_low", f"{metric}_high"} <= set(known.columns)


def _limits(known: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Limits of an axis: those of the networks and their intervals, widened for baselines that are not far off."""
    networks = known[known["kind"] != "baseline"]
    core = networks if len(networks) else known
    names = [metric, *(f"{metric}_{end}" for end in ("low", "high") if _ends(known, metric))]
    return limits_of(core[names], known[metric], 0.1)


def _label(figure: Figure, axes: Axes, texts: Mapping[int, str], points: np.ndarray, baseline: np.ndarray) -> None:
    """Write names beside their points without hiding a point or another name; names without room are left out."""
    figure.draw_without_rendering()  # fixes the layout, on which the positions depend
    pixels = figure.dpi / 72
    dots = axes.transData.transform(points)
    taken = [Bbox([dot - 4 * pixels, dot + 4 * pixels]) for dot in dots]
    room = axes.get_window_extent()
    for i, name in texts.items():
        text = axes.annotate(name, tuple(points[i]), fontsize=SMALL, color=FAINT if baseline[i] else INK, zorder=6)
        text.set_in_layout(False)
        extent = text.get_window_extent()
        for dx, dy in OFFSETS:
            left = dots[i][0] + dx * pixels - (extent.width if dx < 0 else 0)
            bottom = dots[i][1] + dy * pixels - extent.height / 2
            box = Bbox.from_bounds(left, bottom, extent.width, extent.height)
            inside = room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 and box.y1 <= room.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                text.remove()
                line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
                axes.annotate(
                    name, tuple(points[i]), xytext=(dx, dy), textcoords="offset points",
                    ha="right" if dx < 0 else "left", va="center", fontsize=SMALL, color=text.get_color(), zorder=3,
                    arrowprops=line if abs(dy) > 10 else None,
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
                ).set_in_layout(False)  # fmt: skip
                break
        else:
            text.remove()
