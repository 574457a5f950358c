"""Is the brain whole? A field of view that ends inside the head leaves a flat cut, which no brain has."""

from __future__ import annotations

import numpy as np

from lab.io.grid import bounding_box

CUT, NEARLY = 0.5, 0.25
"""Share of the largest section that the outermost slice may have: above the first a brain is cut, above the second it
may be. (28 brains of BraTS: 0.14 at most.)"""
SIDES = (("left", "right"), ("back", "front"), ("bottom", "top"))


def flattest_side(brain: np.ndarray) -> tuple[float, str]:
    """The largest outermost slice of a brain mask (X, Y, Z) RAS, over the largest one along its axis, and its side."""
    inside = brain[bounding_box(brain)]
    found = []
    for axis, names in enumerate(SIDES):
        area = inside.sum(axis=tuple(other for other in range(3) if other != axis))
        found += [(float(area[end] / area.max()), name) for end, name in zip((0, -1), names)]
    return max(found)


def check_whole(brain: np.ndarray) -> str:
    """A warning where part of the brain may be missing, else "". Raises ValueError where it is."""
    share, side = flattest_side(brain)
    said = f"the brain ends flat at its {side} (there its section is {share:.0%} of the largest)"
    if share > CUT:
        raise ValueError(f"{said}: part of the head is outside the field of view; use a scan of the whole head")
    return f"{said}; part of it may be outside the field of view" if share > NEARLY else ""
