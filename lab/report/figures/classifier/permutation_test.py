"""Is it better than chance? The AUC against those of permuted labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lab.report.figures.style import COLOURS, HEAD, INK, RIVAL_COLOUR, SMALL, TEXT, headline, new_figure, plain_axes
from lab.report.text.verdict import p_text

BINS = 41


def null_figure(
    null: pd.DataFrame, performance: pd.DataFrame, *, phantom: bool, title: str = "Is it better than chance?"
) -> Figure:
    """A histogram of the AUCs under permuted labels and the AUC that was found, one panel a method of `null`.

    Both tables are those of `lab.radiomics.assess.assess.Assessment`. Raises ValueError where there is nothing to draw.
    """
    methods = list(dict.fromkeys(null["method"]))
    if not methods:
        raise ValueError("there are no permuted AUCs to draw")
    rows = performance.set_index("method")
    figure = new_figure(max(6.6, 4.6 * len(methods) + 0.8), 3.7)  # room for the title
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    found = rows.loc[methods, "auc"].to_numpy(float)
    ends = np.append(null["auc"].to_numpy(float), found)
    span = (min(0.2, float(ends.min()) - 0.02), max(0.8, float(ends.max()) + 0.02))
    for place, (axes, method) in enumerate(zip(panels, methods)):
        axes.hist(null.loc[null["method"] == method, "auc"], bins=np.linspace(*span, BINS), color=RIVAL_COLOUR)
        axes.axvline(found[place], color=COLOURS[place % len(COLOURS)], linewidth=2.4)
        text = f"{found[place]:.2f}, {p_text(float(rows.loc[method, 'p']))}"
        side, nudge = ("right", -0.012) if found[place] > sum(span) / 2 else ("left", 0.012)
        where = axes.get_xaxis_transform()
        axes.text(found[place] + nudge, 0.95, text, transform=where, ha=side, va="center", fontsize=SMALL, color=INK)
        axes.set_title(method, fontsize=HEAD, fontweight="bold", color=INK)
        axes.set_xlim(*span)
        axes.set_xlabel("AUC", fontsize=TEXT, color=INK)
        plain_axes(axes)
    panels[0].set_ylabel("permutations", fontsize=TEXT, color=INK)
    count = int((null["method"] == methods[0]).sum())
    headline(figure, title, phantom=phantom, note=f"grey: {count} permutations of the labels, predictions held fixed")
    return figure
