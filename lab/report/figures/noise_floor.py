"""The noise floor as a line in figures of the error.

A perfect model predicts the noise-free image and is still compared with a noisy one. Noise of standard deviation sd
leaves a mean absolute error of sqrt(2 / pi) sd and a mean squared error of sd^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from lab.report.figures.style import SMALL

COLOUR = "#AA3377"
_INSIDE = ("brain", "tumour", "balanced")


def floor_of(patients: pd.DataFrame) -> float | None:
    """Mean over patients of `floor_mae` in the long per-patient table; None where it was not measured."""
    if "floor_mae" not in patients or not patients["floor_mae"].notna().any():
        return None
    cases = patients.drop_duplicates("case_id")
    who = "patient_id" if "patient_id" in cases else "case_id"
    return float(cases.groupby(who)["floor_mae"].mean().mean())


def floor_level(metric: str, floor: float | None) -> float | None:
    """The floor of a metric, from that of the MAE; None where there is none.

    It holds inside the brain only: the background of the whole image has no noise, and SSIM has no such bound.
    """
    kind, _, region = metric.partition("_")
    if floor is None or region not in _INSIDE or kind not in ("mae", "mse"):
        return None
    return floor if kind == "mae" else floor**2 * math.pi / 2


def draw_floor(panels: Sequence[Axes], level: float | None, *, across: bool) -> None:
    """A thin labelled line at the floor, `across` the panels or up them; the panels share that axis.

    The axis is widened to include the floor. Where that would leave the data less than half of the axis, a label at its
    end gives the floor's value instead.
    """
    if level is None:
        return
    for axes in panels:
        low, high = axes.get_ylim() if across else axes.get_xlim()
        log = (axes.get_yscale() if across else axes.get_xscale()) == "log"
        below, above, place = (math.log(value) if log else value for value in (low, high, level))
        far = below - place > above - below
        if not far:
            end = min(below, place - 0.06 * (above - below))
            axes.set(**{"ylim" if across else "xlim": (math.exp(end) if log else end, high)})
            (axes.axhline if across else axes.axvline)(level, color=COLOUR, linewidth=1, zorder=1)
        text = f"floor {level:.3f}" if far else "floor"
        style: dict[str, Any] = {"textcoords": "offset points", "fontsize": SMALL, "color": COLOUR}
        if across:
            text, frame = text + " ↓" * far, axes.get_yaxis_transform()
            style |= {"xy": (0.995, low if far else level), "ha": "right", "va": "bottom", "xytext": (0, 2)}
        else:
            text, frame = "← " * far + text, axes.get_xaxis_transform()
            style |= {"xy": (low if far else level, 0.995), "ha": "left", "va": "top", "xytext": (3, 0)}
        axes.annotate(text, xycoords=frame, **style).set_in_layout(False)
