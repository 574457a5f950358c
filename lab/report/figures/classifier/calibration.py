"""Calibration figures of a classifier: reliability with a histogram of predictions, and decision curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lab.report.figures.classifier.roc import OPEN_POINT, count_note, interval_text
from lab.report.figures.style import (
    COLOURS,
    DASHED,
    GRID,
    INK,
    SMALL,
    TEXT,
    bottom_legend,
    colours,
    headline,
    new_figure,
    plain_axes,
)
from lab.stats.calibration import CalibrationEstimates, calibration, recalibrated, reliability_table
from lab.stats.decision_curve import decision_curve
from lab.stats.intervals import CONFIDENCE
from lab.stats.predictions import checked_probabilities

HISTOGRAM_BINS = np.linspace(0, 1, 26)
HEADROOM = 1.6
"""Height of the histogram in heights of the highest bar; the rest is for text."""
FLOOR = -0.25
"""Lower limit of the net benefit shown, as a share of the prevalence."""


def calibration_figure(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    phantom: bool,
    title: str = "Will it enhance? Calibration",
    event: str = "enhancing",
) -> Figure:
    """Predicted against observed in bins, with Wilson intervals, over a histogram of the predictions by class.

    The line is the logistic recalibration over the range of the predictions; slope, intercepts and Brier scores are
    printed with their intervals (see `lab.stats.calibration`). Raises ValueError as `calibration`.
    """
    positive, values = checked_probabilities(labels, probabilities)
    table = reliability_table(labels, probabilities)
    result = calibration(labels, probabilities)
    figure = new_figure(6.6, 8.1)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4.4, 1.1))
    upper.plot([0, 1], [0, 1], label="ideal", **DASHED)
    if not result.note:
        span = np.linspace(values.min(), values.max(), 200)
        line = {"color": COLOURS[0], "linewidth": 2.0, "zorder": 2, "label": "logistic recalibration"}
        upper.plot(span, recalibrated(result, span), **line)
    observed = table["observed"].to_numpy(float)
    reach = np.abs(table[["low", "high"]].to_numpy(float).T - observed)  # (2, bins)
    sizes = table["n"].astype(int)
    each = " to ".join(map(str, dict.fromkeys([sizes.min(), sizes.max()])))
    bins = f"{len(sizes)} bins of {each} patients"
    upper.errorbar(table["predicted"], observed, yerr=reach, fmt="o", zorder=3, label=bins, **OPEN_POINT)
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 2}
    style = {"va": "top", "fontsize": SMALL, "color": INK, "linespacing": 1.45, "zorder": 5, "bbox": box}
    upper.text(0.02, 0.985, _figures(result), transform=upper.transAxes, **style)
    upper.set(xlim=(-0.012, 1.012), ylim=(-0.012, 1.012))
    upper.set_ylabel(f"observed share {event}", fontsize=TEXT, color=INK)
    upper.legend(loc="lower right", fontsize=SMALL, frameon=True, framealpha=0.9, edgecolor="none")
    plain_axes(upper, grid="both")
    upper.tick_params(labelbottom=False)
    _histogram(lower, positive, values, event)
    note = f"{count_note(result.patients, result.events, event)}; bars and brackets: {100 * CONFIDENCE:g} % CI"
    headline(figure, title, phantom=phantom, note=note)
    return figure


def decision_figure(
    labels: ArrayLike,
    probabilities: Mapping[str, ArrayLike],
    *,
    phantom: bool,
    title: str = "Will it enhance? Decision curve",
    event: str = "enhancing",
) -> Figure:
    """Net benefit over the threshold probability: named probabilities on the same patients, treat all and treat none.

    Values below -1/4 of the prevalence are cut off. Raises ValueError as `decision_curve`, with one class only, and
    where there is nothing to draw.
    """
    if not probabilities:
        raise ValueError("there are no probabilities to draw a decision curve of")
    tables = {name: decision_curve(labels, values) for name, values in probabilities.items()}
    positive, _ = checked_probabilities(labels, next(iter(probabilities.values())))
    first, prevalence = next(iter(tables.values())), float(positive.mean())
    figure = new_figure(7.0, 5.4)
    axes = figure.subplots()
    axes.plot(first["threshold"], first["all"], label="treat all", **(DASHED | {"linewidth": 1.3}))
    axes.axhline(0, color=INK, linewidth=1.1, label="treat none")
    palette = colours(tables)
    for name, table in tables.items():
        axes.plot(table["threshold"], table["model"], color=palette[name], linewidth=2.0, zorder=3, label=name)
    axes.set(xlim=(0, 1), ylim=(FLOOR * prevalence, 1.08 * prevalence))
    axes.set_xlabel("threshold probability", fontsize=TEXT, color=INK)
    axes.set_ylabel("net benefit", fontsize=TEXT, color=INK)
    plain_axes(axes)
    bottom_legend(figure, axes.get_legend_handles_labels()[0], min(4, len(tables) + 2))
    count = count_note(positive.size, int(positive.sum()), event)
    headline(figure, title, phantom=phantom, note=f"{count}; net benefit in true positives per patient")
    return figure


def _figures(result: CalibrationEstimates) -> str:
    """Slope, intercepts and Brier scores with their intervals, a line each, or why there is no slope."""
    lines = [f"slope {interval_text(result.slope)}", f"intercept {interval_text(result.intercept)}"]
    lines = [result.note.replace(": ", ":\n")] if result.note else lines
    lines.append(f"calibration-in-the-large {interval_text(result.in_the_large)}")
    lines.append(f"Brier score {interval_text(result.brier, 3)}")
    lines.append(f"scaled Brier score {interval_text(result.scaled_brier)}")
    lines += [f"{result.clipped} predictions of 0 or 1 moved by 1e-6 for the fit"] * bool(result.clipped)
    return "\n".join(lines)


def _histogram(axes: Axes, positive: np.ndarray, values: np.ndarray, event: str) -> None:
    """Predictions of patients with the event upwards, of the others downwards."""
    width = HISTOGRAM_BINS[1] - HISTOGRAM_BINS[0]
    top = 0
    for part, sign, colour in ((values[positive], 1, COLOURS[3]), (values[~positive], -1, COLOURS[5])):
        counts, _ = np.histogram(part, HISTOGRAM_BINS)
        axes.bar(HISTOGRAM_BINS[:-1] + width / 2, sign * counts, width=0.85 * width, color=colour)
        top = max(top, int(counts.max()))
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(ylim=(-HEADROOM * top, HEADROOM * top), xticks=np.linspace(0, 1, 6))
    axes.set_yticks([-top, 0, top], [str(top), "0", str(top)])
    words = {"transform": axes.transAxes, "fontsize": SMALL, "fontweight": "bold"}
    axes.text(0.01, 0.97, event, color=COLOURS[3], va="top", **words)
    axes.text(0.01, 0.03, f"not {event}", color="#2b7fae", va="bottom", **words)
    axes.set_xlabel(f"predicted probability of {event}", fontsize=TEXT, color=INK)
    axes.set_ylabel("patients", fontsize=TEXT, color=INK)
    plain_axes(axes, grid="none")
    axes.grid(axis="x", color=GRID, linewidth=0.7)
