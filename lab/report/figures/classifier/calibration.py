"""Calibration figures of a classifier: reliability with a histogram of predictions, and decision curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lab.report.figures.classifier.roc import count_note, interval_text
from lab.report.figures.style import COLOURS, FAINT, GRID, INK, SMALL, TEXT, colours, headline, new_figure, plain_axes
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
    upper.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1, label="ideal")
    if not result.note:
        span = np.linspace(values.min(), values.max(), 200)
        upper.plot(span, recalibrated(result, span), color=COLOURS[0], linewidth=2.0, zorder=2,
                   label="logistic recalibration")  # fmt: skip
    observed = table["observed"].to_numpy(float)
    reach = np.abs(table[["low", "high"]].to_numpy(float).T - observed)  # (2, bins)
    upper.errorbar(table["predicted"], observed, yerr=reach, fmt="o", color=INK, markersize=5.5, linewidth=1.1,
                   markerfacecolor="white", markeredgewidth=1.3, zorder=3, label=_bin_words(table["n"]))  # fmt: skip
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 2}
    upper.text(0.02, 0.985, _figures(result), transform=upper.transAxes, va="top", fontsize=SMALL, color=INK,
               linespacing=1.45, zorder=5, bbox=box)  # fmt: skip
    upper.set_xlim(-0.012, 1.012)
    upper.set_ylim(-0.012, 1.012)
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
    axes.plot(first["threshold"], first["all"], color=FAINT, linewidth=1.3, linestyle=(0, (4, 3)), label="treat all")
    axes.axhline(0, color=INK, linewidth=1.1, label="treat none")
    palette = colours(tables)
    for name, table in tables.items():
        axes.plot(table["threshold"], table["model"], color=palette[name], linewidth=2.0, zorder=3, label=name)
    axes.set_xlim(0, 1)
    axes.set_ylim(FLOOR * prevalence, 1.08 * prevalence)
    axes.set_xlabel("threshold probability", fontsize=TEXT, color=INK)
    axes.set_ylabel("net benefit", fontsize=TEXT, color=INK)
    plain_axes(axes)
    figure.legend(loc="outside lower center", ncols=min(4, len(tables) + 2), fontsize=SMALL, frameon=False)
    count = count_note(positive.size, int(positive.sum()), event)
    headline(figure, title, phantom=phantom, note=f"{count}; net benefit in true positives per patient")
    return figure


def _figures(result: CalibrationEstimates) -> str:
    """Slope, intercepts and Brier scores with their intervals, a line each, or why there is no slope."""
    lines = []
    if result.note:
        lines.append(result.note.replace(": ", ":\n"))
    else:
        lines += [f"slope {interval_text(result.slope)}", f"intercept {interval_text(result.intercept)}"]
    lines.append(f"calibration-in-the-large {interval_text(result.in_the_large)}")
    lines.append(f"Brier score {interval_text(result.brier, 3)}")
    lines.append(f"scaled Brier score {interval_text(result.scaled_brier)}")
    if result.clipped:
        lines.append(f"{result.clipped} predictions of 0 or 1 moved by 1e-6 for the fit")
    return "\n".join(lines)


def _bin_words(counts: ArrayLike) -> str:
    sizes = np.asarray(counts, int)
    each = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    return f"{sizes.size} bins of {each} patients"


def _histogram(axes: Axes, positive: np.ndarray, values: np.ndarray, event: str) -> None:
    """Predictions of patients with the event upwards, of the others downwards."""
    up, _ = np.histogram(values[positive], HISTOGRAM_BINS)
    down, _ = np.histogram(values[~positive], HISTOGRAM_BINS)
    width = HISTOGRAM_BINS[1] - HISTOGRAM_BINS[0]
    middle = HISTOGRAM_BINS[:-1] + width / 2
    axes.bar(middle, up, width=0.85 * width, color=COLOURS[3])
    axes.bar(middle, -down, width=0.85 * width, color=COLOURS[5])
    axes.axhline(0, color=INK, linewidth=0.8)
    top = int(max(up.max(), down.max()))
    axes.set_ylim(-HEADROOM * top, HEADROOM * top)
    axes.set_yticks([-top, 0, top], [str(top), "0", str(top)])
    for height, word, colour in ((0.97, event, COLOURS[3]), (0.03, f"not {event}", "#2b7fae")):
        axes.text(0.01, height, word, transform=axes.transAxes, fontsize=SMALL, color=colour,
                  va="top" if height > 0.5 else "bottom", fontweight="bold")  # fmt: skip
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_xlabel(f"predicted probability of {event}", fontsize=TEXT, color=INK)
    axes.set_ylabel("patients", fontsize=TEXT, color=INK)
    plain_axes(axes, grid="none")
    axes.grid(axis="x", color=GRID, linewidth=0.7)
