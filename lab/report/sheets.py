"""What do the syntheses look like, and where are they wrong? Sheets of axial slices through the tumour."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from matplotlib import cm, colors
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lab.report.figures import FAINT, HEAD, INK, SMALL, headline, new_figure, panel
from lab.report.slices import ERROR_MAP, SYNTHETIC_COLOUR, TRUE_COLOUR, TUMOUR_COLOUR, Patient, View, Volume

PANEL, GAP, MARGIN = 1.75, 0.06, 0.15  # inches
BARS, TITLE_ROOM, LEGEND_ROOM = 0.95, 0.72, 0.4
COLUMNS = 5
LABEL = 26  # characters of a label that fit over a panel


def slice_figure(
    patient: Patient, syntheses: Mapping[str, Volume], *, phantom: bool, scores: Mapping[str, str] | None = None
) -> Figure:
    """Inputs, truth, every synthesis and, below each, its absolute error, on one axial slice.

    `syntheses` maps a label to a volume (X, Y, Z), rivals included; five stand in a row, so that models 0-4 of a loss
    line up. T1, truth and syntheses share one grey window, all errors one scale. `scores` adds a short second line to a
    label, such as "MAE 0.091".
    """
    view = View(patient, list(syntheses.values()))
    tall, names = PANEL * view.aspect, list(syntheses)
    references = [*patient.inputs, patient.target, "difference"]
    reference_rows, blocks = -(-len(references) // COLUMNS), -(-len(names) // COLUMNS)
    captions = {name: textwrap.fill(name, LABEL) for name in names}
    captions |= {name: f"{captions[name]}\n{score}" for name, score in (scores or {}).items() if name in captions}
    lines = max((text.count("\n") + 1 for text in captions.values()), default=1)
    head = 0.1 + 0.155 * lines
    top_height, block_height = 0.24 + tall + GAP, head + 2 * (tall + GAP)
    width = 2 * MARGIN + COLUMNS * (PANEL + GAP) + BARS
    height = TITLE_ROOM + reference_rows * top_height + blocks * block_height + LEGEND_ROOM
    figure = new_figure(width, height, by_hand=True)

    for position, name in enumerate(references):
        row, column = divmod(position, COLUMNS)
        axes = panel(figure, _left(column), TITLE_ROOM + row * top_height + 0.24, PANEL, tall)
        if name == "difference":
            view.difference(axes, f"{patient.target} - T1")
            view.outline(axes, view.true, TRUE_COLOUR)
        elif name == patient.target:
            view.grey(axes, patient.truth, f"{name} (truth)")
            axes.title.set_fontweight("bold")
        else:
            view.grey(axes, patient.inputs[name], name, own_window=name != "T1")
        view.outline(axes, view.tumour, TUMOUR_COLOUR)
        if column == 0:
            view.sides(axes)

    below = TITLE_ROOM + reference_rows * top_height
    for position, name in enumerate(names):
        block, column = divmod(position, COLUMNS)
        top = below + block * block_height + head
        axes = panel(figure, _left(column), top, PANEL, tall)
        view.grey(axes, syntheses[name], captions[name])
        view.outline(axes, view.true, TRUE_COLOUR)
        view.outline(axes, view.enhancement(syntheses[name]), SYNTHETIC_COLOUR)
        if column == 0:
            view.sides(axes)
        axes = panel(figure, _left(column), top + tall + GAP, PANEL, tall)
        view.error(axes, syntheses[name])
        view.outline(axes, view.tumour, TUMOUR_COLOUR)

    _bar(figure, TITLE_ROOM + 0.24, tall, view.window, "gray", f"T1, {patient.target}, syntheses")
    _bar(figure, below + head, 1.6 * tall, (0.0, view.error_limit), ERROR_MAP, "absolute error (lower panels)")
    _legend(figure, patient)
    note = f"axial slice z = {view.z}: {view.why}; T1, {patient.target} and syntheses share one grey window"
    headline(figure, f"Patient {patient.case_id}", phantom=phantom, note=note)
    return figure


def trial_slices(patients: Sequence[Patient], syntheses: Sequence[Volume], *, label: str, phantom: bool) -> Figure:
    """One network on a few patients, a row each: inputs, truth, synthesis, absolute error, enhancement.

    The last panel is the truth with the true and the synthetic enhancement outlined. Each row has a grey window of its
    own, shared by T1, truth and synthesis; the errors of all rows share one scale.
    """
    if len(patients) != len(syntheses) or not patients:
        raise ValueError(f"{len(patients)} patients but {len(syntheses)} syntheses: give as many, and at least one")
    inputs, target = list(patients[0].inputs), patients[0].target
    heads = [*inputs, f"{target} (truth)", "synthesis", "absolute error", "enhancement"]
    views = [View(patient, [synthesis]) for patient, synthesis in zip(patients, syntheses)]
    limit = max(view.error_limit for view in views)
    side = 0.3
    talls = [PANEL * view.aspect for view in views]
    width = 2 * MARGIN + side + len(heads) * (PANEL + GAP) + BARS
    figure = new_figure(width, TITLE_ROOM + 0.26 + sum(talls) + GAP * len(talls) + LEGEND_ROOM, by_hand=True)
    top = TITLE_ROOM + 0.26
    for row, (patient, view, synthesis, tall) in enumerate(zip(patients, views, syntheses, talls)):
        view.error_limit = limit
        cells = [panel(figure, side + _left(column), top, PANEL, tall) for column in range(len(heads))]
        for axes, name in zip(cells, inputs):
            view.grey(axes, patient.inputs[name], own_window=name != "T1")
        view.grey(cells[-4], patient.truth)
        view.outline(cells[-4], view.tumour, TUMOUR_COLOUR)
        view.grey(cells[-3], synthesis)
        view.error(cells[-2], synthesis)
        view.outline(cells[-2], view.tumour, TUMOUR_COLOUR)
        view.grey(cells[-1], patient.truth)
        view.outline(cells[-1], view.true, TRUE_COLOUR)
        view.outline(cells[-1], view.enhancement(synthesis), SYNTHETIC_COLOUR)
        view.sides(cells[0])
        cells[0].set_ylabel(f"{patient.case_id}, z = {view.z}", fontsize=SMALL, color=INK)
        for axes, head in zip(cells, heads if row == 0 else []):
            axes.set_title(head, fontsize=HEAD, color=INK, pad=4)
        top += tall + GAP
    _bar(figure, TITLE_ROOM + 0.26, talls[0], (0.0, limit), ERROR_MAP, "absolute error")
    _legend(figure, patients[0])
    note = (
        f"axial slice with the largest enhancing, else tumour, area; T1, {target} and synthesis share one grey window"
    )
    headline(figure, label, phantom=phantom, note=note)
    return figure


def _left(column: int) -> float:
    return MARGIN + column * (PANEL + GAP)


def _bar(figure: Figure, top: float, height: float, limits: tuple[float, float], colour_map: str, text: str) -> None:
    """A shared scale in the right margin, given in inches."""
    left = figure.get_size_inches()[0] - BARS
    scale = cm.ScalarMappable(colors.Normalize(*limits), colour_map)
    bar = figure.colorbar(
        scale, cax=panel(figure, left, top, 0.14, height), extend="max" if colour_map == ERROR_MAP else "neither"
    )
    bar.set_label(text, fontsize=SMALL, color=INK)
    bar.ax.tick_params(labelsize=SMALL)
    bar.ax.locator_params(nbins=6)


def _legend(figure: Figure, patient: Patient) -> None:
    lines = [
        (TUMOUR_COLOUR, "tumour"),
        (TRUE_COLOUR, f"true enhancement ({patient.target} - T1 > {patient.threshold:g}, in or near the tumour)"),
        (SYNTHETIC_COLOUR, "synthetic enhancement (same rule)"),
    ]
    handles = [Line2D([], [], color=colour, linewidth=2, label=text) for colour, text in lines]
    figure.legend(handles=handles, loc="lower center", ncols=3, fontsize=SMALL, frameon=False, labelcolor=FAINT)
