"""The slice shown of a patient: its choice, window, orientation and outlines.

Volumes are arrays (X, Y, Z) in RAS orientation with values in [-1, 1]. They are shown in radiological convention: seen
from below, the patient's right on the left of the page, the front at the top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from lab.data.cohort import BRAIN, EXPERT, TUMOUR, Cohort
from lab.evaluation.enhancement import near
from lab.io.case_file import clear_without_target
from lab.report.figures.style import INK, TEXT, picture_axes

Volume = NDArray[Any]
TUMOUR_COLOUR, TRUE_COLOUR, SYNTHETIC_COLOUR = "#ffffff", "#E69F00", "#56B4E9"
ERROR_MAP = LinearSegmentedColormap.from_list(
    "signed error",
    [(0.0, "#d0efff"), (0.2, "#56B4E9"), (0.35, "#0060a8"), (0.46, "#000000"),
     (0.54, "#000000"), (0.65, "#b03a00"), (0.8, "#E69F00"), (1.0, "#fff1b8")],
)  # fmt: skip
"""Blue where a synthetic image is too dark (missed contrast), orange where it is too bright (hallucinated contrast)."""
EXPERT_COLOUR = "#00D68F"
PROBABILITY_MAP = LinearSegmentedColormap.from_list(
    "probability",
    [(0.0, (0.3, 0.0, 0.5, 0.0)), (0.1, (0.35, 0.05, 0.55, 0.4)), (0.35, (0.62, 0.12, 0.5, 0.75)),
     (0.65, (0.9, 0.3, 0.5, 0.85)), (1.0, (1.0, 0.88, 0.8, 0.95))],
)  # fmt: skip
"""Nothing at 0, violet where little is likely, pale pink at 1; laid over the T1."""


@dataclass(frozen=True, kw_only=True)
class PatientImages:
    """The images and masks of one patient for figures, all of shape (X, Y, Z), RAS."""

    case_id: str
    inputs: Mapping[str, Volume]
    """Name of a sequence -> image in [-1, 1], in the order in which they are shown."""
    truth: Volume
    t1: Volume
    """The T1 before contrast, from which enhancement is defined (also where it is not an input)."""
    brain: Volume
    tumour: Volume
    spacing_mm: float
    expert: Volume | None = None
    """The data set's enhancing label, where it has one."""
    target: str = "T1GD"
    threshold: float = 0.3
    enhancing_ml: float = 0.5
    """Without an expert label, less than this by the rule counts as no enhancement in the choice of a slice."""

    @property
    def near(self) -> Volume:
        """The tumour and the few millimetres around it in which enhancement is measured; bool (X, Y, Z)."""
        return near(np.asarray(self.tumour, bool), np.asarray(self.brain, bool), self.spacing_mm)


@dataclass(frozen=True, kw_only=True)
class Stated:
    """A network's stated probability of enhancement for one patient."""

    probability: Volume
    """(X, Y, Z) in [0, 1]."""
    threshold: float
    """Above it a voxel is taken to enhance; chosen on validation patients, NaN where none could be."""


def patient_from(
    cohort: Cohort,
    case_id: str,
    *,
    inputs: Sequence[str],
    target: str = "T1GD",
    threshold: float = 0.3,
    enhancing_ml: float = 0.5,
) -> PatientImages:
    """The images of a prepared case for figures. Raises what `Cohort.load` and `Cohort.channel` raise."""
    image, mask = cohort.load(case_id)
    mask = clear_without_target(mask)

    def channel(sequence: str) -> Volume:
        return np.asarray(image[cohort.channel(sequence)], np.float32)

    return PatientImages(
        case_id=case_id,
        inputs={name: channel(name) for name in inputs},
        truth=channel(target),
        t1=channel("T1"),
        brain=(mask & BRAIN) > 0,
        tumour=(mask & TUMOUR) > 0,
        expert=(mask & EXPERT) > 0 if cohort.labelled(case_id) else None,
        spacing_mm=cohort.spacing_mm,
        target=target,
        threshold=threshold,
        enhancing_ml=enhancing_ml,
    )


def choose_slice(patient: PatientImages) -> tuple[int, str]:
    """Index of the axial slice to show, and the reason for its choice.

    The slice with the largest enhancing area by the expert label or, without one, by the paper's rule in or near the
    tumour; for a tumour that does not enhance, the slice with its largest area; else the one with the most brain.
    """
    rule = None
    if patient.expert is None:
        rule = (patient.truth - patient.t1 > patient.threshold) & patient.near
        if rule.sum() * patient.spacing_mm**3 / 1000 < patient.enhancing_ml:
            rule = None
    choices = [
        (patient.expert, "largest enhancing area (expert label)"),
        (rule, "largest enhancing area (rule)"),
        (patient.tumour, "largest tumour area, no enhancement"),
        (patient.brain, "most brain, no tumour"),
    ]
    for mask, why in choices:
        if mask is not None and mask.any():
            return int(mask.sum(axis=(0, 1)).argmax()), why
    return patient.truth.shape[2] // 2, "middle of the volume"


def radiological(plane: Volume) -> Volume:
    """A plane (X, Y) of a RAS volume as rows and columns of a picture: front on top, patient's right on the left."""
    return plane.T[::-1, ::-1]


class View:
    """One slice of one patient: its position, window and outlines.

    T1, truth and synthetic images share the grey `window`, taken from T1 and truth; other sequences have their own
    scale. Errors (synthesis - truth) share the scale -`error_limit` to `error_limit`, twice the threshold of
    enhancement, so colours mean the same in every figure.
    """

    def __init__(self, patient: PatientImages, syntheses: Sequence[Volume]) -> None:
        named = {**patient.inputs, "T1": patient.t1, "brain": patient.brain, "tumour": patient.tumour}
        named |= {f"synthesis {number}": volume for number, volume in enumerate(syntheses)}
        for name, volume in named.items():
            if volume.shape != patient.truth.shape:
                raise ValueError(
                    f"{patient.case_id}: {name} has shape {volume.shape}, the truth has {patient.truth.shape}; "
                    "all volumes of a patient must be on one grid"
                )
        self.patient = patient
        self.z, self.why = choose_slice(patient)
        brain = self._plane(patient.brain) > 0
        self._brain = brain if brain.any() else np.ones_like(brain)
        margin = max(2, round(4 / patient.spacing_mm))
        self._box = tuple(
            slice(max(0, int(line.min()) - margin), int(line.max()) + margin + 1)
            for line in map(np.unique, np.nonzero(self._brain))
        )
        self._truth, self._t1 = self._plane(patient.truth), self._plane(patient.t1)
        self.window = self._window(self._t1, self._truth)
        self.tumour = self._plane(patient.tumour) > 0
        self._near = patient.near[:, :, self.z]
        self.true = self.enhancement(patient.truth)
        self.expert = None if patient.expert is None else self._plane(patient.expert) > 0
        self.error_limit = 2 * patient.threshold
        across, along = (len(range(*part.indices(size))) for part, size in zip(self._box, brain.shape))
        self.aspect = along / across

    def enhancement(self, volume: Volume) -> Volume:
        """Where an image enhances by the paper's rule, in or near the tumour; bool (X, Y)."""
        return (self._plane(volume) - self._t1 > self.patient.threshold) & self._near

    def grey(self, axes: Axes, volume: Volume, title: str = "", *, own_window: bool = False) -> None:
        """An image through the shared window, or through its own."""
        plane = self._plane(volume)
        low, high = self._window(plane) if own_window else self.window
        self._show(axes, plane, cmap="gray", vmin=low, vmax=high)
        axes.set_title(title, fontsize=TEXT, color=INK, pad=3)

    def difference(self, axes: Axes, title: str = "") -> None:
        """The subtraction image, truth - T1; the rule's threshold is at two thirds of its scale."""
        plane = np.where(self._brain, self._truth - self._t1, -1.0)
        self._show(axes, plane, cmap="gray", vmin=-self.patient.threshold, vmax=2 * self.patient.threshold)
        axes.set_title(title, fontsize=TEXT, color=INK, pad=3)

    def error(self, axes: Axes, volume: Volume) -> None:
        """The signed error in the brain, synthesis - truth."""
        wrong = np.where(self._brain, self._plane(volume) - self._truth, 0.0)
        self._show(axes, wrong, cmap=ERROR_MAP, vmin=-self.error_limit, vmax=self.error_limit)

    def stated(self, axes: Axes, stated: Stated) -> None:
        """The stated probability in colour over the T1; nothing outside the brain."""
        self._show(axes, self._t1, cmap="gray", vmin=self.window[0], vmax=self.window[1])
        shown = np.where(self._brain, self._plane(stated.probability), 0.0)
        self._show(axes, shown, cmap=PROBABILITY_MAP, vmin=0, vmax=1)

    def found(self, axes: Axes, stated: Stated) -> None:
        """Outlines of where the stated probability exceeds its threshold, and of where it truly enhances.

        As in the scorecard only voxels in or near the tumour count. The truth is the expert's label where there is one,
        else the paper's rule.
        """
        true, colour = (self.true, TRUE_COLOUR) if self.expert is None else (self.expert, EXPERT_COLOUR)
        self.outline(axes, true, colour, width=0.9)
        found = (self._plane(stated.probability) > stated.threshold) & self._near
        self.outline(axes, found, SYNTHETIC_COLOUR, width=0.9)

    def outline(self, axes: Axes, mask: Volume, colour: str, *, dashed: bool = False, width: float = 0.6) -> None:
        """The contour of a mask (X, Y), thin enough to leave a small lesion visible."""
        picture = radiological(mask[self._box].astype(float))
        if picture.any() and not picture.all():
            lines = ["dashed" if dashed else "solid"]
            axes.contour(picture, levels=[0.5], colors=[colour], linewidths=width, linestyles=lines)

    def sides(self, axes: Axes) -> None:
        """Marks of the patient's right and left."""
        for x, letter, align in ((0.04, "R", "left"), (0.96, "L", "right")):
            style = {"fontsize": TEXT, "color": "white", "fontweight": "bold"}
            axes.text(x, 0.97, letter, transform=axes.transAxes, ha=align, va="top", **style)

    def _plane(self, volume: Volume) -> Volume:
        return np.asarray(volume[:, :, self.z], float)

    def _window(self, *planes: Volume) -> tuple[float, float]:
        low, high = np.percentile(np.concatenate([plane[self._brain] for plane in planes]), [1, 99])
        return float(low) - 0.05, max(float(high), float(low) + 0.1)

    def _show(self, axes: Axes, plane: Volume, **how: Any) -> None:
        axes.imshow(radiological(plane[self._box]), interpolation="bilinear", **how)
        picture_axes(axes)
