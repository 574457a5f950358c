"""Picture of a new patient in three planes: inputs, synthetic image, its enhancement and its uncertainty.

Every picture says SYNTHETIC, in its head and on the panels of the synthetic image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from lab.evaluation.enhancement import padded
from lab.io.files import canonical
from lab.io.grid import bounding_box
from lab.report.figures.slices import SYNTHETIC_COLOUR, TUMOUR_COLOUR
from lab.report.figures.style import FAINT, HEAD, INK, SMALL, TEXT, new_figure, panel

Volume = NDArray[Any]
WARNING_COLOUR = "#D55E00"
PHANTOM = "PHANTOM-trained model: this image means nothing for a patient"
OUTLINED = "predicted enhancement"
PLANES = ("axial", "coronal", "sagittal")
EDGE, GAP, LEFT, TOP, BOTTOM, LINE = 1.75, 0.06, 0.3, 0.95, 0.36, 0.25
"""Inches: a panel, between panels, the margins, and a line of text."""


@dataclass(frozen=True, kw_only=True)
class SynthesisImages:
    """The content of one patient's picture; all volumes (X, Y, Z) RAS on the model's grid."""

    case_id: str
    inputs: Mapping[str, Volume]
    """Name of a sequence -> image in [-1, 1]; T1 is required."""
    synthesis: Volume
    spread: Volume | None
    """Uncertainty in the units of the synthetic image; None where it is not known."""
    spread_name: str = "SD over augmentations"
    spread_note: str = ""
    """Measured coverage of such intervals on patients outside the fit; a line at the bottom."""
    enhancement: Volume
    brain: Volume
    tumour: Volume
    tumour_name: str = "tumour mask"
    target: str = "T1GD"

    def window(self, *volumes: Volume) -> tuple[float, float]:
        """Grey window from the 1st to the 99th percentile in the brain."""
        if not self.brain.any():
            return -1.0, 1.0
        low, high = np.percentile(np.concatenate([volume[self.brain] for volume in volumes]), [1, 99])
        return float(low) - 0.05, max(float(high), float(low) + 0.1)


def crossing(patient: SynthesisImages) -> tuple[int, int, int]:
    """Crossing point of the three planes: the middle of the enhancement inside the tumour, else of the tumour, else of
    the brain."""
    for mask in (patient.enhancement & patient.tumour, patient.tumour, patient.brain):
        if mask.any():
            x, y, z = (int(np.median(axis)) for axis in np.nonzero(mask))
            return x, y, z
    x, y, z = (size // 2 for size in patient.brain.shape)
    return x, y, z


def synthesis_picture(
    patient: SynthesisImages, *, model: str, summary: str, phantom: bool, warning: str = ""
) -> Figure:
    """A row per plane, a column for each input, the synthetic image, its enhancement and its uncertainty.

    `summary` is a line below the head, `warning` one above it. Axial and coronal planes have the patient's right on the
    left, sagittal ones the front on the left.
    """
    t1 = next(volume for name, volume in patient.inputs.items() if canonical(name) == "T1")
    shared = patient.window(t1, patient.synthesis)
    columns: dict[str, tuple[Volume, tuple[float, float]]] = {
        name: (volume, shared if canonical(name) == "T1" else patient.window(volume))
        for name, volume in patient.inputs.items()
    }
    columns |= dict.fromkeys((f"SYNTHETIC {patient.target}", OUTLINED), (patient.synthesis, shared))
    note = f"outlines: blue the predicted enhancement, white the {patient.tumour_name}"
    if patient.spread is not None:
        inside = patient.spread[patient.brain]
        limit = max(float(np.percentile(inside, 99)), 1e-3) if inside.size else 1.0
        columns[patient.spread_name] = (patient.spread, (0.0, limit))
        note += f"; {patient.spread_name} from 0 (black) to {limit:.2g} (bright) on a scale from -1 to 1"
    warning = "; ".join(filter(None, (PHANTOM if phantom else "", warning)))
    top, bottom = TOP + LINE * bool(warning), BOTTOM + LINE * bool(patient.spread_note)
    width, height = 2 * LEFT + len(columns) * (EDGE + GAP), top + len(PLANES) * (EDGE + GAP) + bottom
    figure = new_figure(width, height, by_hand=True)
    title = f"SYNTHETIC {patient.target} of {patient.case_id}: predicted by {model}, not acquired, not for diagnosis"
    head = {"ha": "center", "color": WARNING_COLOUR}
    figure.text(0.5, 1 - 0.3 / height, title, fontsize=HEAD, fontweight="bold", **head)
    figure.text(0.5, 1 - 0.58 / height, warning, fontsize=TEXT, **head)
    figure.text(0.5, 1 - (0.58 + LINE * bool(warning)) / height, summary, ha="center", fontsize=TEXT, color=FAINT)
    for at, line in ((bottom - BOTTOM, note), (0, patient.spread_note)):
        figure.text(0.5, (at + 0.14) / height, line, ha="center", fontsize=SMALL, color=FAINT)
    axes = panel(figure, 0, 0, width, height)  # one for all panels, in inches: eighteen take most of a second
    axes.set_axis_off()
    point, box = crossing(patient), _box(patient.brain)
    for row, plane in enumerate(PLANES):
        upper = height - top - row * (EDGE + GAP)
        middle = upper - EDGE / 2
        axes.text(LEFT - 0.06, middle, plane, rotation=90, ha="right", va="center", fontsize=TEXT, color=INK)
        for column, (name, (volume, window)) in enumerate(columns.items()):
            left, synthetic = LEFT + column * (EDGE + GAP), name not in patient.inputs
            axes.add_patch(Rectangle((left, upper - EDGE), EDGE, EDGE, facecolor="black", zorder=0))
            picture = cut(volume, plane, point, box)
            tall, wide = (EDGE * size / max(picture.shape) for size in picture.shape)
            corner, ceiling = left + (EDGE - wide) / 2, upper - (EDGE - tall) / 2
            place = (corner, corner + wide, ceiling - tall, ceiling)
            how = {"cmap": "inferno" if name == patient.spread_name else "gray", "interpolation": "bilinear"}
            axes.imshow(picture, extent=place, vmin=window[0], vmax=window[1], zorder=1, **how)
            if name == OUTLINED:
                for mask, colour in ((patient.tumour, TUMOUR_COLOUR), (patient.enhancement, SYNTHETIC_COLOUR)):
                    outline = cut(mask, plane, point, box).astype(float)
                    if outline.any() and not outline.all():
                        style = {"levels": [0.5], "colors": [colour], "linewidths": 0.6, "zorder": 2}
                        axes.contour(outline, extent=place, origin="upper", **style)
            centre = {"ha": "center", "color": WARNING_COLOUR if synthetic else INK}
            if row == 0:
                axes.text(left + EDGE / 2, upper + 0.06, name, fontsize=TEXT, **centre)
            if synthetic:
                axes.text(left + EDGE / 2, upper - EDGE + 0.04, "SYNTHETIC", fontsize=7, **centre)
            letters = {"va": "top", "fontsize": SMALL, "color": "white", "fontweight": "bold"}
            for x, side, align in zip((0.05, EDGE - 0.05), "AP" if plane == "sagittal" else "RL", ("left", "right")):
                axes.text(left + x, upper - 0.05, side, ha=align, **letters)
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    return figure


def _box(brain: Volume) -> tuple[slice, ...]:
    """The brain's bounding box with a margin; everything without a brain."""
    margin = max(1, max(brain.shape) // 32)
    return padded(bounding_box(brain), margin, brain.shape) if brain.any() else (slice(None),) * 3


def cut(volume: Volume, plane: str, point: tuple[int, int, int], box: tuple[slice, ...]) -> Volume:
    """Rows and columns of a picture, head up (axial: front up), right on the left (sagittal: front left)."""
    x, y, z = point
    sections = {
        "axial": lambda: volume[box[0], box[1], z].T[::-1, ::-1],
        "coronal": lambda: volume[box[0], y, box[2]].T[::-1, ::-1],
        "sagittal": lambda: volume[x, box[1], box[2]].T[::-1, ::-1],
    }
    return np.asarray(sections[plane]())
