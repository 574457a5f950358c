"""Box plots of scores over patients, with every patient as a point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lab.evaluation.figures import shown_in, spec_of
from lab.io.files import plural
from lab.report.figures.noise_floor import draw_floor, floor_level
from lab.report.figures.style import (
    BASELINE_COLOUR,
    FAINT,
    HEAD,
    INK,
    SHADE,
    SMALL,
    TEXT,
    bottom_legend,
    colours,
    headline,
    new_figure,
    plain_axes,
)
from lab.report.tables.patient_table import per_patient, summarise


def box_plots(
    patients: pd.DataFrame,
    *,
    phantom: bool,
    metrics: Sequence[str] | None = None,
    split: str = "test",
    floor: float | None = None,
) -> Figure:
    """A panel per metric, a row per trial (from the long per-patient table), baselines on a grey band at the bottom.

    The box spans the quartiles, the line is the median, whiskers reach the farthest patient within 1.5 box lengths;
    every patient is a point, filled where the tumour enhances. The dotted line is the best baseline's median, the
    thin line the `floor` of the MAE, the noise floor of every model (see `lab.report.figures.noise_floor`).
    """
    metrics = shown_in("boxes") if metrics is None else metrics
    order, patients = summarise(patients), per_patient(patients)
    labels, baseline = list(order["label"]), order["rival"].to_numpy(bool)
    palette = colours(order.loc[~order["rival"], "loss"])
    filled = patients["enhancing"].astype(float) > 0 if "enhancing" in patients else pd.Series(True, patients.index)
    figure = new_figure(3.1 * len(metrics) + 2.0, 0.34 * len(labels) + 1.9)
    grid = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    positions = np.arange(len(labels))[::-1].astype(float)
    for axes, metric in zip(grid, metrics):
        if baseline.any():
            axes.axhspan(positions[baseline].min() - 0.5, positions[baseline].max() + 0.5, color=SHADE, zorder=0)
        medians = []
        for row, position in zip(order.itertuples(), positions):
            chosen = patients[patients["trial"] == row.trial].dropna(subset=[metric]).sort_values("case_id")
            values = chosen[metric].to_numpy(float)
            colour = BASELINE_COLOUR if row.rival else palette[str(row.loss)]
            if not values.size:
                axes.text(0.5, position, "region empty", transform=axes.get_yaxis_transform(), ha="center", va="center",
                          fontsize=SMALL, color=FAINT)  # fmt: skip
                continue
            medians += [float(np.median(values))] * row.rival
            line = {"color": colour, "linewidth": 0.8}
            box = {"facecolor": colour, "alpha": 0.25, "edgecolor": colour, "linewidth": 0.8}
            axes.boxplot(values, positions=[position], vert=False, widths=0.62, showfliers=False, patch_artist=True,
                         boxprops=box, medianprops=line | {"linewidth": 2.2}, whiskerprops=line,
                         capprops=line)  # fmt: skip
            # fixed offsets, the same for a patient in every row, so that points do not hide each other
            heights = position + 0.22 * (((np.arange(values.size) * 0.618034) % 1.0) * 2 - 1)
            for enhancing, face, width in ((True, colour, 0.5), (False, "white", 0.9)):
                part = filled.loc[chosen.index].to_numpy(bool) == enhancing
                style = {"s": 11, "color": face, "linewidths": width, "edgecolors": INK, "zorder": 3}
                axes.scatter(values[part], heights[part], **style)
        spec = spec_of(metric)
        if medians and spec.hint:
            axes.axvline(min(medians, key=spec.loss), color=FAINT, linewidth=1, linestyle=":", zorder=1)
        axes.set_title(spec.head, fontsize=HEAD, fontweight="bold", color=INK)
        axes.set_xlabel(spec.hint, fontsize=TEXT, color=FAINT)
        axes.set_yticks(positions, labels)
        axes.set_ylim(-0.6, len(labels) - 0.4)
        plain_axes(axes, grid="x")
        axes.tick_params(axis="y", length=0, labelsize=TEXT)
        axes.locator_params(axis="x", nbins=5)
        draw_floor([axes], floor_level(metric, floor), across=False)
    handles: list[Patch | Line2D] = [
        Patch(facecolor=c, alpha=0.5, edgecolor=c, label=name) for name, c in palette.items()
    ]
    if baseline.any():
        handles.append(Patch(facecolor=BASELINE_COLOUR, alpha=0.5, label="baseline"))
        handles.append(Line2D([], [], color=FAINT, linestyle=":", label="best baseline's median"))
    for face, text in ((INK, "enhancing tumour"), ("white", "not enhancing")) if "enhancing" in patients else ():
        point = {"marker": "o", "linestyle": "", "markersize": 4, "markeredgecolor": INK}
        handles.append(Line2D([], [], markerfacecolor=face, label=text, **point))
    bottom_legend(figure, handles, min(7, len(handles)))
    count = int(order["patients"].max())
    headline(figure, f"Scores of {plural(count, f'{split} patient')}", phantom=phantom)
    return figure
