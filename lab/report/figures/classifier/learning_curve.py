"""Would more patients help? The figure of a classifier over the number of patients it trains on."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from lab.report.figures.style import FAINT, INK, SMALL, TEXT, colours, headline, markers, new_figure, plain_axes
from lab.report.tables.patient_table import plural
from lab.stats.intervals import CONFIDENCE


def learning_figure(
    curves: Mapping[str, pd.DataFrame],
    *,
    phantom: bool,
    title: str = "Would more patients help?",
    figure_name: str = "AUC",
    chance: float | None = 0.5,
    level: float = CONFIDENCE,
) -> Figure:
    """Mean over seeds with its interval at each training size, for tables by name from `summarise_learning`.

    Points of several curves stand a little apart; `chance` draws a dashed line; `level` is that of the tables. Raises
    ValueError where there is nothing to draw.
    """
    if not curves or any(table.empty for table in curves.values()):
        raise ValueError("there is no learning curve to draw")
    figure = new_figure(6.6, 5.0)
    axes = figure.subplots()
    sizes = sorted({int(size) for table in curves.values() for size in table["n"]})
    apart = 0.012 * (sizes[-1] - sizes[0] or 1)
    palette, signs = colours(curves), markers(curves)
    for number, (name, table) in enumerate(curves.items()):
        shift = apart * (number - (len(curves) - 1) / 2)
        reach = [table["mean"] - table["low"], table["high"] - table["mean"]]
        axes.errorbar(table["n"] + shift, table["mean"], yerr=reach, color=palette[name], marker=signs[name],
                      markersize=5.5, linewidth=1.6, elinewidth=1.1, label=name)  # fmt: skip
    if chance is not None:
        axes.axhline(chance, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), label="chance")
    axes.set_xticks(sizes)
    axes.set_xlabel("patients to train on", fontsize=TEXT, color=INK)
    axes.set_ylabel(f"mean {figure_name} of the test patients", fontsize=TEXT, color=INK)
    plain_axes(axes)
    figure.legend(loc="outside lower center", ncols=min(4, len(curves) + 1), fontsize=SMALL, frameon=False)
    seeds = max(int(table["seeds"].max()) for table in curves.values())
    note = f"{plural(seeds, 'random split')}; bars: {100 * level:g} % CI, corrected resampled t"
    headline(figure, title, phantom=phantom, note=note)
    return figure
