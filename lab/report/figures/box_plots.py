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
    every patient is a point, filled where the tumour enhances. The dotted line is the better baseline's median, the
    thin line the `floor` of the MAE, the noise floor of every model (see `lab.report.figures.noise_floor`).
    """
    metrics = shown_in("boxes") if metrics is None else metrics
    order, patients = summarise(patients), per_patient(patients)
    labels, rival = list(order["label"]), order["rival"].to_numpy(bool)
    palette = colours(order.loc[~order["rival"], "loss"])
    filled = patients["enhancing"].astype(float) > 0 if "enhancing" in patients else pd.Series(True, patients.index)
    figure = new_figure(3.1 * len(metrics) + 2.0, 0.34 * len(labels) + 1.9)
    grid = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    positions = np.arange(len(labels))[::-1].astype(float)
    for axes, metric in zip(grid, metrics):
        if rival.any():
            axes.axhspan(positions[rival].min() - 0.5, positions[rival].max() + 0.5, color=SHADE, zorder=0)
        medians = []
        for row, position in zip(order.itertuples(), positions):
            chosen = patients[patients["trial"] == row.trial].dropna(subset=[metric]).sort_values("case_id")
            values = chosen[metric].to_numpy(float)
            colour = BASELINE_COLOUR if row.rival else palette[str(row.loss)]
            if not values.size:
                axes.text(0.5, position, "region empty", transform=axes.get_yaxis_transform(), ha="center", va="center",
                          fontsize=SMALL, color=FAINT)  # fmt: skip
                continue
            if row.rival:
                medians.append(float(np.median(values)))
            axes.boxplot(
                values,
                positions=[position],
                vert=False,
                widths=0.62,
                showfliers=False,
                patch_artist=True,
                boxprops={"facecolor": colour, "alpha": 0.25, "edgecolor": colour, "linewidth": 0.8},
                medianprops={"color": colour, "linewidth": 2.2},
                whiskerprops={"color": colour, "linewidth": 0.8},
                capprops={"color": colour, "linewidth": 0.8},
            )
            heights = position + _spread(values.size)
            enhancing = filled.loc[chosen.index].to_numpy(bool)
            axes.scatter(
                values[enhancing], heights[enhancing], s=11, color=colour, linewidths=0.5, edgecolors=INK, zorder=3
            )
            axes.scatter(
                values[~enhancing], heights[~enhancing], s=11, color="white", linewidths=0.9, edgecolors=INK, zorder=3
            )
        name = spec_of(metric)
        if medians and name.hint:
            axes.axvline(min(medians, key=name.loss), color=FAINT, linewidth=1, linestyle=":", zorder=1)
        axes.set_title(name.head, fontsize=HEAD, fontweight="bold", color=INK)
        axes.set_xlabel(name.hint, fontsize=TEXT, color=FAINT)
        axes.set_yticks(positions, labels)
        axes.set_ylim(-0.6, len(labels) - 0.4)
        plain_axes(axes, grid="x")
        axes.tick_params(axis="y", length=0, labelsize=TEXT)
        axes.locator_params(axis="x", nbins=5)
        draw_floor([axes], floor_level(metric, floor), across=False)
    _legend(figure, palette, bool(rival.any()), "enhancing" in patients)
    count = int(order["patients"].max())
    headline(figure, f"Scores of {plural(count, f'{split} patient')}", phantom=phantom)
    return figure


def _spread(count: int) -> np.ndarray:
    """Small fixed offsets, so that points do not hide each other; a patient has the same offset in every row."""
    return 0.22 * (((np.arange(count) * 0.618034) % 1.0) * 2 - 1)


def _legend(figure: Figure, palette: dict[str, str], rivals: bool, enhancing: bool) -> None:
    handles: list[Patch | Line2D] = [
        Patch(facecolor=c, alpha=0.5, edgecolor=c, label=name) for name, c in palette.items()
    ]
    if rivals:
        handles.append(Patch(facecolor=BASELINE_COLOUR, alpha=0.5, label="trivial rival"))
        handles.append(Line2D([], [], color=FAINT, linestyle=":", label="better rival's median"))
    if enhancing:
        for face, text in ((INK, "enhancing tumour"), ("white", "not enhancing")):
            handles.append(Line2D([], [], marker="o", linestyle="", markersize=4, markerfacecolor=face,
                                  markeredgecolor=INK, label=text))  # fmt: skip
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(7, len(handles)), fontsize=SMALL, frameon=False
    )
