"""Common style of all figures: colours, type sizes, the word phantom, and saving.

Every figure is made through matplotlib's object API (`matplotlib.figure.Figure`): no global state is touched, and
workers may draw in parallel.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

DPI = 150
INK, FAINT, GRID, SHADE = "#222222", "#666666", "#dddddd", "#f0f0f0"
TITLE, HEAD, TEXT, SMALL = 13, 10, 9, 8  # type sizes in points
# Okabe & Ito's palette, distinguishable with the common forms of colour blindness.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D1F", "#000000", "#882255", "#999933")
MARKERS = ("o", "s", "^", "D", "P", "X", "v", "<", ">", "*")
BASELINE_COLOUR = "#777777"
BETTER, WORSE = "#0072B2", "#E69F00"
DASHED = {"color": FAINT, "linewidth": 0.9, "linestyle": (0, (4, 3)), "zorder": 1}
"""A reference line: chance, equality, the ideal."""


def new_figure(width: float, height: float, *, by_hand: bool = False) -> Figure:
    """An empty white figure (inches) with an automatic layout without overlaps, or laid out `by_hand` with `panel`."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=None if by_hand else "constrained")
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(h_pad=0.08, w_pad=0.08)
    FigureCanvasAgg(figure)
    return figure


def panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches from the figure's left and top edge."""
    full_width, full_height = figure.get_size_inches()
    box = (left / full_width, 1 - (top + height) / full_height, width / full_width, height / full_height)
    return figure.add_axes(box)


def headline(figure: Figure, text: str, *, phantom: bool, note: str = "") -> None:
    """Title of the figure, with a fainter note below; the title says phantom whenever the patients are simulated."""
    title = f"{text} (phantom: simulated patients)" if phantom else text
    height = figure.get_size_inches()[1]
    place = {"y": 1 - 0.12 / height} if figure.get_layout_engine() is None else {}
    figure.suptitle(
        f"{title}\n" if note else title, fontsize=TITLE, fontweight="bold", color=INK, linespacing=1.5, **place
    )
    if note:
        figure.text(0.5, 1 - 0.42 / height, note, ha="center", va="top", fontsize=TEXT, color=FAINT)


def plain_axes(axes: Axes, *, grid: str = "y") -> None:
    """Thin axes without a box, and a faint grid along "x", "y", "both" or "none"."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(labelsize=SMALL, colors=INK, which="both")
    axes.set_axisbelow(True)
    if grid != "none":
        axes.grid(axis=grid, color=GRID, linewidth=0.7)


def picture_axes(axes: Axes) -> None:
    """Axes of an image: no ticks, no frame."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def bottom_legend(figure: Figure, handles: Sequence[Artist], columns: int | None = None) -> None:
    """A legend below all panels."""
    figure.legend(
        handles=list(handles), loc="outside lower center", ncols=columns or len(handles), fontsize=SMALL, frameon=False
    )


def limits_of(core: ArrayLike, others: ArrayLike, room: float) -> tuple[float, float]:
    """Limits of an axis: those of the `core` values, widened for `others` that lie at most one span beyond them."""
    ends, beyond = np.ravel(np.asarray(core, float)), np.ravel(np.asarray(others, float))
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    span = high - low or abs(high) or 1.0
    near = [low, high, *beyond[(beyond >= low - span) & (beyond <= high + span)]]
    margin = room * (max(near) - min(near) or span)
    return float(min(near) - margin), float(max(near) + margin)


def colours(names: Iterable[object]) -> dict[str, str]:
    """A colour for each name, in order of first appearance; baselines use `RIVAL_COLOUR` instead."""
    return {name: COLOURS[position % len(COLOURS)] for position, name in enumerate(dict.fromkeys(map(str, names)))}


_RENDERED: WeakKeyDictionary[Figure, dict[int, bytes]] = WeakKeyDictionary()


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The finished figure as PNG, by default at 150 dots per inch; rendered once for its page and its file."""
    rendered = _RENDERED.setdefault(figure, {})
    if dpi not in rendered:
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
        rendered[dpi] = buffer.getvalue()
    return rendered[dpi]


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG and return the path; a kill in the middle leaves no partial file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(png(figure))
    os.replace(partial, path)
    return path
