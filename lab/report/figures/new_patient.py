"""Picture of a new patient in three planes: inputs, synthetic image, its enhancement and its uncertainty.

Every picture says SYNTHETIC, in its head and on the panels of the synthetic image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from lab.io.files import canonical
from lab.io.grid import bounding_box
from lab.report.figures.slices import SYNTHETIC_COLOUR, TUMOUR_COLOUR
from lab.report.figures.style import FAINT, HEAD, INK, SMALL, TEXT, new_figure, panel

Volume = NDArray[Any]
WARNING_COLOUR = "#D55E00"
PHANTOM = "PHANTOM-trained model: this image means nothing for a patient"
PLANES = ("axial", "coronal", "sagittal")
EDGE, GAP, LEFT, TOP, BOTTOM, LINE = 1.75, 0.06, 0.3, 0.95, 0.36, 0.25
"""Inches: a panel, between panels, the margins, and a line of text."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The content of one patient's picture; all volumes (X, Y, Z) RAS on the model's grid."""

    case_id: str
    inputs: Mapping[str, Volume]
    """Name of a sequence -> image in [-1, 1]; T1 is required."""
    synthesis: Volume
    spread: Volume | None
    """Uncertainty in the units of the synthetic image; None where it is not known."""
    spread_name: str = "SD of looks"
    spread_note: str = ""
    """Measured coverage of such intervals on patients outside the fit; a line at the bottom."""
    enhancement: Volume
    brain: Volume
    tumour: Volume
    target: str = "T1GD"


def crossing(patient: Drawn) -> tuple[int, int, int]:
    """Crossing point of the three planes: the middle of the enhancement inside the tumour, else of the tumour, else of
    the brain."""
    for mask in (patient.enhancement & patient.tumour, patient.tumour, patient.brain):
        if mask.any():
            x, y, z = (int(np.median(axis)) for axis in np.nonzero(mask))
            return x, y, z
    x, y, z = (size // 2 for size in patient.brain.shape)
    return x, y, z


def synthesis_picture(patient: Drawn, *, model: str, said: str, phantom: bool, warning: str = "") -> Figure:
    """A row per plane, a column for each input, the synthetic image, its enhancement and its uncertainty.

    `said` is a line below the head, `warning` one above it. Axial and coronal planes have the patient's right on the
    left, sagittal ones the front on the left.
    """
    columns = [*patient.inputs, f"SYNTHETIC {patient.target}", "drawn enhancement"]
    columns += [patient.spread_name] if patient.spread is not None else []
    width = 2 * LEFT + len(columns) * (EDGE + GAP)
    warning = "; ".join(filter(None, (PHANTOM if phantom else "", warning)))
    top = TOP + LINE * bool(warning)
    bottom = BOTTOM + LINE * bool(patient.spread_note)
    height = top + len(PLANES) * (EDGE + GAP) + bottom
    figure = new_figure(width, height, by_hand=True)
    _head(figure, patient, model, said, warning)
    axes = panel(figure, 0, 0, width, height)  # one for all panels, in inches: eighteen take most of a second
    axes.set_axis_off()
    view = _View(patient)
    for row, plane in enumerate(PLANES):
        for column, title in enumerate(columns):
            left, upper = LEFT + column * (EDGE + GAP), height - top - row * (EDGE + GAP)
            if row == 0:
                colour = WARNING_COLOUR if column >= len(patient.inputs) else INK
                axes.text(left + EDGE / 2, upper + 0.06, title, ha="center", fontsize=TEXT, color=colour)
            view.show(axes, column, plane, (left, upper))
        middle = height - top - row * (EDGE + GAP) - EDGE / 2
        axes.text(LEFT - 0.06, middle, plane, rotation=90, ha="right", va="center", fontsize=TEXT, color=INK)
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    note = "outlines: blue what is drawn as enhancing, white the tumour mask"
    if patient.spread is not None:
        note += f"; {patient.spread_name} from 0 (black) to {view.limit:.2g} (bright) on a scale from -1 to 1"
    for at, line in ((bottom - BOTTOM, note), (0, patient.spread_note)):
        figure.text(0.5, (at + 0.14) / height, line, ha="center", fontsize=SMALL, color=FAINT)
    return figure


def _head(figure: Figure, patient: Drawn, model: str, said: str, warning: str) -> None:
    height = figure.get_size_inches()[1]
    title = f"SYNTHETIC {patient.target} of {patient.case_id}: drawn by {model}, not acquired, not for diagnosis"
    below = 0.58 + LINE * bool(warning)
    for text, at, style in (
        (title, 0.3, {"fontsize": HEAD, "fontweight": "bold", "color": WARNING_COLOUR}),
        (warning, 0.58, {"fontsize": TEXT, "color": WARNING_COLOUR}),
        (said, below, {"fontsize": TEXT, "color": FAINT}),
    ):
        figure.text(0.5, 1 - at / height, text, ha="center", **style)


class _View:
    """The windows and positions of all panels of a patient."""

    def __init__(self, patient: Drawn) -> None:
        self.patient, self.point = patient, crossing(patient)
        brain = patient.brain
        box = bounding_box(brain) if brain.any() else tuple(slice(0, size) for size in brain.shape)
        margin = max(1, max(brain.shape) // 32)
        self.box = tuple(
            slice(max(0, part.start - margin), min(size, part.stop + margin)) for part, size in zip(box, brain.shape)
        )
        t1 = next(volume for name, volume in patient.inputs.items() if canonical(name) == "T1")
        self.window = self._percentiles(t1, patient.synthesis)
        spread = None if patient.spread is None else patient.spread[brain]
        self.limit = max(float(np.percentile(spread, 99)), 1e-3) if spread is not None and spread.size else 1.0

    def show(self, axes: Axes, column: int, plane: str, corner: tuple[float, float]) -> None:
        """One panel, its upper left corner at `corner` (inches); the picture keeps its shape on a black square."""
        patient, count = self.patient, len(self.patient.inputs)
        names = list(patient.inputs)
        shown: dict[str, Any] = {"cmap": "gray"}
        volume: Volume = patient.synthesis
        low, high = self.window
        if column < count:
            volume = patient.inputs[names[column]]
            low, high = self.window if canonical(names[column]) == "T1" else self._percentiles(volume)
        elif column == count + 2 and patient.spread is not None:
            volume, low, high, shown = patient.spread, 0.0, self.limit, {"cmap": "inferno"}
        picture = cut(volume, plane, self.point, self.box)
        left, top = corner
        rows, columns = picture.shape
        tall, wide = (EDGE * size / max(rows, columns) for size in (rows, columns))
        left, top = left + (EDGE - wide) / 2, top - (EDGE - tall) / 2
        square = ((corner[0], corner[1] - EDGE), EDGE, EDGE)
        axes.add_patch(Rectangle(*square, facecolor="black", zorder=0))
        place = (left, left + wide, top - tall, top)
        axes.imshow(picture, interpolation="bilinear", extent=place, vmin=low, vmax=high, zorder=1, **shown)
        if column == count + 1:
            for mask, colour in ((patient.tumour, TUMOUR_COLOUR), (patient.enhancement, SYNTHETIC_COLOUR)):
                outline = cut(mask, plane, self.point, self.box).astype(float)
                if outline.any() and not outline.all():
                    axes.contour(
                        outline, levels=[0.5], colors=[colour], linewidths=0.6, extent=place, origin="upper", zorder=2
                    )
        if column >= count:
            style = {"ha": "center", "fontsize": 7, "color": WARNING_COLOUR}
            axes.text(corner[0] + EDGE / 2, corner[1] - EDGE + 0.04, "SYNTHETIC", **style)
        letters = ("A", "P") if plane == "sagittal" else ("R", "L")
        for x, letter, align in zip((0.05, EDGE - 0.05), letters, ("left", "right")):
            style = {"fontsize": SMALL, "color": "white", "fontweight": "bold"}
            axes.text(corner[0] + x, corner[1] - 0.05, letter, ha=align, va="top", **style)

    def _percentiles(self, *volumes: Volume) -> tuple[float, float]:
        brain = self.patient.brain
        if not brain.any():
            return -1.0, 1.0
        low, high = np.percentile(np.concatenate([volume[brain] for volume in volumes]), [1, 99])
        return float(low) - 0.05, max(float(high), float(low) + 0.1)


def cut(volume: Volume, plane: str, point: tuple[int, int, int], box: tuple[slice, ...]) -> Volume:
    """Rows and columns of a picture, head up (axial: front up), right on the left (sagittal: front left)."""
    x, y, z = point
    sections = {
        "axial": lambda: volume[box[0], box[1], z].T[::-1, ::-1],
        "coronal": lambda: volume[box[0], y, box[2]].T[::-1, ::-1],
        "sagittal": lambda: volume[x, box[1], box[2]].T[::-1, ::-1],
    }
    return np.asarray(sections[plane]())
