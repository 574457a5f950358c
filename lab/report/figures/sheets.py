"""Sheets of axial slices through the tumour: synthetic images and their errors."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence

from matplotlib import cm, colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lab.report.figures.slices import (
    ERROR_MAP,
    EXPERT_COLOUR,
    PROBABILITY_MAP,
    SYNTHETIC_COLOUR,
    TRUE_COLOUR,
    TUMOUR_COLOUR,
    PatientImages,
    Stated,
    View,
    Volume,
)
from lab.report.figures.style import FAINT, HEAD, INK, SMALL, TEXT, headline, new_figure, panel
from lab.report.tables.patient_table import is_baseline

PANEL, GAP, MARGIN = 1.75, 0.06, 0.15  # inches, of a trial's figure
BARS, TITLE_ROOM, LEGEND_ROOM, TWO_LINES = 0.95, 0.72, 0.4, 0.62  # the legend's room, in one line or in two
SMALL_PANEL, SMALL_GAP, PAIR_GAP = 1.3, 0.02, 0.12  # inches, of the sheet of all trials
PAIRS = 5  # networks a row: models 0-4
LABEL = 42  # characters of a caption that fit over a pair


def slice_figure(
    patient: PatientImages,
    syntheses: Mapping[str, Volume],
    *,
    phantom: bool,
    scores: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    stated: Mapping[str, Stated] | None = None,
) -> Figure:
    """Inputs, truth, and every network's synthetic image and error side by side, on one axial slice.

    `syntheses` maps a label to a volume (X, Y, Z); baselines among them stand in the first row. `groups` maps a label
    to what its row has in common (its loss), which aligns models 0-4 of a loss. T1, truth and synthetic images share
    one grey window and carry no outlines; all errors share one scale. `scores` adds to a label, such as "MAE 0.091".
    `stated` maps a label to its probability of enhancement, which gets a pair in the last rows: in colour over the T1,
    and beside it the truth, both with the outlines of what is found and what truly enhances.
    """
    maps = stated or {}
    view = View(patient, [*syntheses.values(), *(one.probability for one in maps.values())])
    baselines = [name for name in syntheses if is_baseline(name)]
    rows = _rows([name for name in syntheses if not is_baseline(name)], groups or {})
    references = [*patient.inputs, patient.target, "difference"]
    room = 2 * PAIRS - 2 * len(baselines)
    if baselines and len(references) > room:
        rows, baselines = [baselines, *rows], []
    singles = len(references) + 2 * len(baselines)
    below = [list(maps)[i : i + PAIRS] for i in range(0, len(maps), PAIRS)]
    pairs = max([-(-singles // 2), *(len(row) for row in [*rows, *below])])
    known = scores or {}
    titles = {name: f"{name}: {known[name]}" if name in known else name for name in syntheses}
    captions = {name: textwrap.fill(title, LABEL) for name, title in titles.items()}
    headings = {
        name: textwrap.fill(f"{name}: probability of enhancement, outlined above {one.threshold:.2f}", LABEL)
        for name, one in maps.items()
    }
    lines = max((text.count("\n") + 1 for text in [*captions.values(), *headings.values()]), default=1)
    tall, head = SMALL_PANEL * view.aspect, 0.1 + 0.155 * lines
    width = 2 * MARGIN + pairs * (2 * (SMALL_PANEL + SMALL_GAP) + PAIR_GAP) + BARS
    height = TITLE_ROOM + (1 + len(rows) + len(below)) * (head + tall) + (TWO_LINES if maps else LEGEND_ROOM)
    figure = new_figure(width, height, by_hand=True)

    def place(row: int, column: int) -> Axes:
        left = MARGIN + column * (SMALL_PANEL + SMALL_GAP) + column // 2 * PAIR_GAP
        return panel(figure, left, TITLE_ROOM + row * (head + tall) + head, SMALL_PANEL, tall)

    for column, name in enumerate(references):
        axes = place(0, column)
        if name == "difference":
            view.difference(axes, f"{patient.target} - T1")
            view.outline(axes, view.true, TRUE_COLOUR)
        elif name == patient.target:
            view.grey(axes, patient.truth, f"{name} (truth)")
            axes.title.set_fontweight("bold")
        else:
            view.grey(axes, patient.inputs[name], name, own_window=name != "T1")
        if column == 0:
            view.sides(axes)
    table = [(0, pairs - len(baselines) + i, name) for i, name in enumerate(baselines)]
    table += [(row, i, name) for row, names in enumerate(rows, start=1) for i, name in enumerate(names)]
    for row, pair, name in table:
        synthesis, error = place(row, 2 * pair), place(row, 2 * pair + 1)
        view.grey(synthesis, syntheses[name])
        synthesis.set_title(captions[name], fontsize=TEXT, color=INK, pad=3, loc="left")
        view.error(error, syntheses[name])
        view.outline(error, view.tumour, TUMOUR_COLOUR, dashed=True)
    for row, names in enumerate(below, start=1 + len(rows)):
        for pair, name in enumerate(names):
            over, beside = place(row, 2 * pair), place(row, 2 * pair + 1)
            view.stated(over, maps[name])
            over.set_title(headings[name], fontsize=TEXT, color=INK, pad=3, loc="left")
            view.grey(beside, patient.truth)
            for axes in (over, beside):
                view.found(axes, maps[name])

    top = TITLE_ROOM + head
    limits, share = (-view.error_limit, view.error_limit), 1.0 if rows else 0.42  # of a row, for the upper scale
    _bar(figure, top, share * tall, view.window, "gray", f"T1, {patient.target}, syntheses")
    second = top + head + tall if rows else top + 0.58 * tall
    _bar(figure, second, (1.6 if len(rows) > 1 else share) * tall, limits, ERROR_MAP, "synthesis - truth")
    if below:
        _bar(figure, top + (1 + len(rows)) * (head + tall), tall, (0, 1), PROBABILITY_MAP, "probability")
    _legend(figure, patient, synthetic=False, stated=bool(maps))
    note = f"axial slice z = {view.z}, {view.why}; of each pair the left is the synthesis, the right its error"
    note += "; last: stated probability over the T1, and the truth" * bool(maps)
    headline(figure, f"Patient {patient.case_id}", phantom=phantom, note=note)
    return figure


def _rows(names: Sequence[str], groups: Mapping[str, str]) -> list[list[str]]:
    """Names in rows of at most `PAIRS`; a group of several starts a row of its own."""
    sizes = Counter(groups.get(name, "") for name in names)
    rows: list[list[str]] = []
    previous = None
    for name in names:
        group = groups.get(name, "") if max(sizes.values()) > 1 else ""
        if group != previous or len(rows[-1]) == PAIRS:
            rows.append([])
        rows[-1].append(name)
        previous = group
    return rows


def trial_slices(
    patients: Sequence[PatientImages],
    syntheses: Sequence[Volume],
    *,
    label: str,
    phantom: bool,
    stated: Sequence[Stated] = (),
) -> Figure:
    """One network on a few patients, a row each: inputs, truth, synthetic image, error, enhancement.

    The panel of enhancement is the truth with the true and the synthetic enhancement outlined. Where the network states
    a probability, `stated` has that of each patient, which is shown last, over the T1. Each row has its own grey
    window, shared by T1, truth and synthetic image; the errors of all rows share one scale.
    """
    if len(patients) != len(syntheses) or not patients or len(stated) not in (0, len(patients)):
        raise ValueError(
            f"{len(patients)} patients, {len(syntheses)} syntheses, {len(stated)} probabilities: give as many of each "
            "(probabilities may be left out), and at least one"
        )
    inputs, target = list(patients[0].inputs), patients[0].target
    heads = [*inputs, f"{target} (truth)", "synthesis", "error", "enhancement"]
    heads += ["stated probability"] if stated else []
    views = [View(patient, [synthesis]) for patient, synthesis in zip(patients, syntheses)]
    limit = max(view.error_limit for view in views)
    side = 0.3
    talls = [PANEL * view.aspect for view in views]
    width = 2 * MARGIN + side + len(heads) * (PANEL + GAP) + BARS
    height = TITLE_ROOM + 0.26 + sum(talls) + GAP * len(talls) + (TWO_LINES if stated else LEGEND_ROOM)
    figure = new_figure(width, height, by_hand=True)
    top = TITLE_ROOM + 0.26
    for row, (patient, view, synthesis, tall) in enumerate(zip(patients, views, syntheses, talls)):
        view.error_limit = limit
        cells = [
            panel(figure, side + MARGIN + column * (PANEL + GAP), top, PANEL, tall) for column in range(len(heads))
        ]
        for axes, name in zip(cells, inputs):
            view.grey(axes, patient.inputs[name], own_window=name != "T1")
        truth, drawn, error, both = cells[len(inputs) : len(inputs) + 4]
        view.grey(truth, patient.truth)
        view.grey(drawn, synthesis)
        view.error(error, synthesis)
        view.outline(error, view.tumour, TUMOUR_COLOUR, dashed=True)
        view.grey(both, patient.truth)
        view.outline(both, view.true, TRUE_COLOUR)
        view.outline(both, view.enhancement(synthesis), SYNTHETIC_COLOUR)
        if stated:
            view.stated(cells[-1], stated[row])
            view.found(cells[-1], stated[row])
        view.sides(cells[0])
        cells[0].set_ylabel(f"{patient.case_id}, z = {view.z}", fontsize=SMALL, color=INK)
        for axes, head in zip(cells, heads if row == 0 else []):
            axes.set_title(head, fontsize=HEAD, color=INK, pad=4)
        top += tall + GAP
    part = 0.44 if stated else 1.0
    _bar(figure, TITLE_ROOM + 0.26, part * talls[0], (-limit, limit), ERROR_MAP, "synthesis - truth")
    if stated:
        _bar(figure, TITLE_ROOM + 0.26 + 0.56 * talls[0], part * talls[0], (0, 1), PROBABILITY_MAP, "probability")
    _legend(figure, patients[0], synthetic=True, stated=bool(stated))
    note = (
        f"axial slice with the largest enhancing, else tumour, area; T1, {target} and synthesis share one grey window"
    )
    headline(figure, label, phantom=phantom, note=note)
    return figure


def _bar(
    figure: Figure, top: float, height: float, limits: tuple[float, float], colours: str | colors.Colormap, text: str
) -> None:
    """A shared scale in the right margin, given in inches."""
    left = figure.get_size_inches()[0] - BARS
    scale = cm.ScalarMappable(colors.Normalize(*limits), colours)
    extend = "both" if colours is ERROR_MAP else "neither"
    axes = panel(figure, left, top, 0.14, height)
    axes.set_facecolor("black")  # seen through a scale that is clear at its lower end
    bar = figure.colorbar(scale, cax=axes, extend=extend)
    bar.set_label(text, fontsize=SMALL, color=INK)
    bar.ax.tick_params(labelsize=SMALL)
    bar.ax.locator_params(nbins=6)


def _legend(figure: Figure, patient: PatientImages, *, synthetic: bool, stated: bool) -> None:
    rule = f"true enhancement ({patient.target} - T1 > {patient.threshold:g}, in or near the tumour)"
    handles = [
        Line2D([], [], color=FAINT, linewidth=1, linestyle="dashed", label="tumour"),
        Line2D([], [], color=TRUE_COLOUR, linewidth=1.5, label=rule),
    ]
    if synthetic:
        handles.append(Line2D([], [], color=SYNTHETIC_COLOUR, linewidth=1.5, label="synthetic enhancement (same rule)"))
    if stated and patient.expert is not None:
        handles.append(Line2D([], [], color=EXPERT_COLOUR, linewidth=1.5, label="enhancement by the expert's label"))
    if stated:
        handles.append(Line2D([], [], color=SYNTHETIC_COLOUR, linewidth=1.5, label="probability above its threshold"))
    signs = ((0.2, "too dark, as where contrast is missed"), (0.8, "too bright, as where it is made up"))
    handles += [Patch(color=ERROR_MAP(place), label=text) for place, text in signs]
    columns = 4 if stated else 5
    figure.legend(handles=handles, loc="lower center", ncols=columns, fontsize=SMALL, frameon=False, labelcolor=FAINT)
