"""Maps of the most important features over the images that they are computed from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.radiomics.features.feature_maps import FeatureMap
from lab.report.figures.classifier.importance import feature_words
from lab.report.figures.slices import radiological
from lab.report.figures.style import FAINT, HEAD, INK, SMALL, headline, new_figure, panel, picture_axes

WIDE, GAP, HEAD_ROOM, TITLE_ROOM, BAR_ROOM, MARGIN = 2.3, 0.1, 0.64, 0.9, 0.95, 0.15  # inches
AROUND_MM, LEAST_MM = 18.0, 90.0
"""Margin shown around the tumour, and minimum width of the picture."""
MAP, OUTLINE = "viridis", "#ffffff"


def feature_pictures(
    rows: Sequence[Sequence[FeatureMap]],
    *,
    phantom: bool,
    event: str = "enhancing",
) -> Figure:
    """A row per feature, a column per patient (lowest, median, highest value): the image with the map in the tumour.

    `rows` is the result of `lab.radiomics.features.feature_maps.maps_of_top`. The maps of a row share one scale, from
    the 2nd to the 98th percentile; a shape feature has only its outline. Raises ValueError where there is nothing to
    draw.
    """
    if not rows or not all(rows):
        raise ValueError("there is no feature map to draw")
    columns = max(len(row) for row in rows)
    width = 2 * MARGIN + columns * (WIDE + GAP) + BAR_ROOM
    tall = HEAD_ROOM + WIDE + 0.1
    figure = new_figure(width, TITLE_ROOM + len(rows) * tall + 0.35, by_hand=True)
    for number, row in enumerate(rows):
        top = TITLE_ROOM + number * tall
        name = feature_words(row[0].feature) + ("" if row[0].values is not None else f", over {row[0].sequence}")
        place = (MARGIN / width, 1 - (top + 0.08) / figure.get_size_inches()[1])
        figure.text(*place, name, fontsize=HEAD, fontweight="bold", color=INK, va="top")
        limits = _limits(row)
        for column, one in enumerate(row):
            axes = panel(figure, MARGIN + column * (WIDE + GAP), top + HEAD_ROOM, WIDE, WIDE)
            _draw(axes, one, limits)
            label = event if one.label else f"not {event}"
            axes.set_title(
                f"{one.role}: {_number(one.value)}\n{one.case_id}, {label}", fontsize=SMALL, color=INK, pad=3
            )
        if limits:
            _bar(figure, width - BAR_ROOM - 0.02, top + HEAD_ROOM, limits)
    note = (
        "axial slice with most tumour, from below (patient's right on the left)\n"
        "colour: the feature in a small cube round each tumour voxel"
    )
    headline(figure, "The first features over the image", phantom=phantom, note=note)
    return figure


def _limits(row: Sequence[FeatureMap]) -> tuple[float, float] | None:
    values = [one.values[np.isfinite(one.values)] for one in row if one.values is not None]
    everything = np.concatenate(values) if values else np.empty(0)
    if not everything.size:
        return None
    low, high = np.percentile(everything, [2, 98])
    return float(low), float(high if high > low else low + 1)


def _draw(axes: Axes, one: FeatureMap, limits: tuple[float, float] | None) -> None:
    box = _box(one)
    grey = one.picture[box]
    inside = one.picture[one.brain] if one.brain.any() else one.picture
    low, high = np.percentile(inside, [1, 99])
    axes.imshow(radiological(grey), cmap="gray", vmin=low - 0.05, vmax=max(high, low + 0.1), interpolation="bilinear")
    if one.values is not None and limits is not None:
        axes.imshow(radiological(one.values[box]), cmap=MAP, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    outline = radiological(one.tumour[box].astype(float))
    if outline.any() and not outline.all():
        axes.contour(outline, levels=[0.5], colors=[OUTLINE], linewidths=1.6 if one.values is None else 0.7)
    picture_axes(axes)


def _box(one: FeatureMap) -> tuple[slice, slice]:
    """A square around the tumour, within the image."""
    rows, columns = np.nonzero(one.tumour)
    if not rows.size:
        return slice(None), slice(None)
    extent_mm = one.spacing_mm * (int(max(np.ptp(rows), np.ptp(columns))) + 1) + 2 * AROUND_MM
    edge = min(round(float(max(extent_mm, LEAST_MM)) / one.spacing_mm), *one.tumour.shape)
    starts = [
        int(np.clip((line.min() + line.max() + 1) // 2 - edge // 2, 0, size - edge))
        for line, size in zip((rows, columns), one.tumour.shape)
    ]
    return slice(starts[0], starts[0] + edge), slice(starts[1], starts[1] + edge)


def _number(value: float) -> str:
    return f"{value:.0f}" if 100 <= abs(value) < 1e5 else f"{value:.3g}"


def _bar(figure: Figure, left: float, top: float, limits: tuple[float, float]) -> None:
    axes = panel(figure, left + 0.08, top + 0.2, 0.11, WIDE - 0.4)
    axes.imshow(np.linspace(1, 0, 128)[:, None], aspect="auto", cmap=MAP, extent=(0, 1, *limits))
    axes.yaxis.tick_right()
    axes.set_xticks([])
    axes.locator_params(axis="y", nbins=5)
    axes.tick_params(labelsize=SMALL, colors=INK, length=2)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
