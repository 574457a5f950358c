"""Reliability of the voxel intervals: nominal against measured coverage on test patients, by region."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lab.evaluation.calibration_text import REGIONS
from lab.io.files import plural
from lab.report.figures.style import COLOURS, FAINT, INK, MARKERS, SMALL, TEXT, headline, new_figure, plain_axes

ASIDE = 0.004
"""Horizontal offset between the regions of one level, which keeps their intervals apart."""


def reliability_figure(summary: pd.DataFrame, *, looks: int, phantom: bool, level: float = 0.9) -> Figure:
    """Coverage at every nominal level with its interval over patients, beside the width of the intervals.

    `summary` has the columns looks, level, region, value, low, high, half_width, n, as in a calibration's `coverage`.
    Raises ValueError where nothing was measured for this number of test-time augmentation passes.
    """
    table = summary[summary["looks"] == looks]
    if table.empty:
        raise ValueError(f"no coverage was measured for {plural(looks, 'augmentation')}")
    figure = new_figure(9.6, 5.6)
    axes, beside = figure.subplots(1, 2, width_ratios=(3.2, 1.25))
    lowest = float(np.nanmin(table[["value", "low", "level"]].to_numpy(float)))
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    shown = [region for region in REGIONS if (table["region"] == region).any()]
    for place, region in enumerate(shown):
        part = table[table["region"] == region].sort_values("level")
        x = part["level"].to_numpy(float) + ASIDE * (place - (len(shown) - 1) / 2)
        value = part["value"].to_numpy(float)
        reach = np.abs(part[["low", "high"]].to_numpy(float).T - value)
        reach = np.nan_to_num(reach)
        axes.errorbar(x, value, yerr=reach, color=COLOURS[place], marker=MARKERS[place], markersize=5.5, linewidth=1.4,
                      elinewidth=1.0, capsize=2, zorder=3, label=_label(region, part, level))  # fmt: skip
    axes.set_xlim(0.46, 1.0)
    axes.set_ylim(max(-0.02, min(0.4, lowest - 0.06)), 1.02)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("nominal share of voxels inside", fontsize=TEXT, color=INK)
    axes.set_ylabel("measured on test patients", fontsize=TEXT, color=INK)
    axes.legend(fontsize=SMALL, frameon=False, loc="upper left")
    plain_axes(axes, grid="both")
    widths = table[np.isclose(table["level"], level)].set_index("region")["half_width"]
    places = np.arange(len(shown))
    beside.barh(places, [float(widths[region]) for region in shown], color=COLOURS[: len(shown)], height=0.6)
    beside.set_yticks([])
    beside.invert_yaxis()
    beside.set_xlabel(f"half width at {level:.0%}, from -1 to 1", fontsize=TEXT, color=INK)
    plain_axes(beside, grid="x")
    count = int(table["n"].max())
    note = f"{plural(count, 'test patient')}, {plural(looks, 'augmentation')} each; bars: 95 % interval over patients"
    headline(figure, "Voxel intervals: nominal and measured coverage", phantom=phantom, note=note)
    return figure


def _label(region: str, part: pd.DataFrame, level: float) -> str:
    at = part[np.isclose(part["level"], level)].iloc[0]
    return f"{REGIONS[region]}: {at['value']:.0%} at {level:.0%} (n = {int(at['n'])})"
