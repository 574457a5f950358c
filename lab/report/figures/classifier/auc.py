"""Forest plot of the AUCs of all methods with their intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lab.io.files import plural
from lab.report.figures.classifier.roc import count_note
from lab.report.figures.style import (
    BASELINE_COLOUR,
    COLOURS,
    DASHED,
    INK,
    SMALL,
    TEXT,
    headline,
    new_figure,
    plain_axes,
)
from lab.stats.intervals import CONFIDENCE


def auc_figure(performance: pd.DataFrame, *, phantom: bool, judged: int = 1, event: str = "enhancing") -> Figure:
    """AUC over patients with DeLong's interval, and the mean over splits with Nadeau & Bengio's below it.

    `performance` is that of `lab.radiomics.assess.assess.Assessment`; its first `judged` methods have a colour, the
    baselines are grey. A method on fewer patients than the first is marked. Raises ValueError where there is nothing to
    draw.
    """
    table = performance[performance["auc"].notna()].reset_index(drop=True)
    if table.empty:
        raise ValueError("no method has an AUC to draw")
    figure = new_figure(8.6, 0.46 * len(table) + 1.75)
    axes = figure.subplots()
    axes.axvline(0.5, **DASHED)
    most, names = int(table["patients"].iloc[0]), []
    for place, row in enumerate(table.to_dict("records")):
        height = len(table) - 1 - place
        colour = COLOURS[place % len(COLOURS)] if place < judged else BASELINE_COLOUR
        for key, y, width, marker in (("auc", height, 2.4, "o"), ("auc_splits", height - 0.24, 1.0, "|")):
            axes.plot([row[f"{key}_low"], row[f"{key}_high"]], [y, y], color=colour, linewidth=width)
            axes.plot(row[key], y, marker, color=colour, markersize=7)
        text = f"{row['auc']:.2f} ({row['auc_low']:.2f} to {row['auc_high']:.2f})"
        axes.text(1.02, height, text, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL, color=INK)
        fewer = f"\n{plural(int(row['patients']), 'patient')}" * (row["patients"] != most)
        names.append(row["method"] + fewer)
    axes.set_yticks(range(len(table) - 1, -1, -1), names)
    lowest = float(np.nanmin(table[["auc_low", "auc_splits_low"]].to_numpy(float)))
    axes.set(xlim=(min(0.4, lowest - 0.03), 1.01), ylim=(-0.6, len(table) - 0.5))
    axes.set_xlabel("AUC", fontsize=TEXT, color=INK)
    plain_axes(axes, grid="x")
    axes.tick_params(axis="y", length=0, labelsize=TEXT)
    count = count_note(most, int(table["events"].iloc[0]), event)
    note = f"{count}; thick: patients (DeLong), thin: mean over splits (Nadeau-Bengio), {100 * CONFIDENCE:g} % CI"
    headline(figure, "AUC of all methods", phantom=phantom, note=note)
    return figure
