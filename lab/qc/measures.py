"""What each measure of likeness means: in words, in which aspect it is judged, and how it is shown.

Names are `kind`, `kind:T1` or `kind:T1:T2` (T1, where T2 is such and such), so that to exchange two sequences is to
exchange two names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a measure means."""

    aspect: str
    """Measures of one aspect are judged together."""
    said: str
    """Of a patient, with {value} (and {a}, {b} for the sequences): "the brain has 1400 ml"."""
    floor: float
    """Least SD between patients that is taken for real, in the measure's own unit."""
    shown: Callable[[float], str]
    """The value for people."""


def _signed(value: float) -> str:
    return f"{value:+.2f}"


def _factor(value: float) -> str:
    plain = np.exp(value)
    return f"{plain:.0f}" if plain >= 100 else f"{plain:.3g}"


def _share(value: float) -> str:
    return f"{value:.0%}"


def _of(aspect: str, said: str, floor: float, shown: Callable[[float], str]) -> Kind:
    return Kind(aspect=aspect, said=said, floor=floor, shown=shown)


KINDS: dict[str, Kind] = {
    "volume": _of("size", "the brain has {value} ml", 0.03, _factor),
    "width": _of("size", "the brain is {value} mm wide", 0.02, _factor),
    "length": _of("size", "the brain is {value} mm long", 0.02, _factor),
    "height": _of("size", "the brain is {value} mm high", 0.02, _factor),
    "length_to_width": _of("shape", "the brain is {value} times as long as wide", 0.02, _factor),
    "height_to_width": _of("shape", "the brain is {value} times as high as wide", 0.02, _factor),
    "box_share": _of("shape", "the brain fills {value} of its box", 0.01, _share),
    "solidity": _of("shape", "the brain fills {value} of its outline", 0.01, _share),
    "mirrored": _of("shape", "left and right halves agree in {value} of their volume", 0.01, _share),
    "mirror_gap": _of("shape", "one half lacks what the other has, {value} mm deep", 0.2, _factor),
    "flattest": _of("shape", "the brain's outermost slice has {value} of its largest section", 0.02, _share),
    "tilt": _of(
        "shape", "the brain's lower part lies {value} of its length further forward than the upper", 0.01, _share
    ),
    "clefts": _of("shape", "the brain's lower part is fuller than the upper by {value}", 0.01, _share),
    "off_x": _of("shape", "the brain's mass lies {value} of its width to the right of its middle", 0.006, _share),
    "off_y": _of("shape", "the brain's mass lies {value} of its length in front of its middle", 0.006, _share),
    "off_z": _of("shape", "the brain's mass lies {value} of its height above its middle", 0.006, _share),
    "least_octant": _of("shape", "the smallest eighth of the brain has {value} of an eighth's share", 0.02, _factor),
    "dark_everywhere": _of("shape", "{value} of the brain is dark in every sequence", 0.005, _share),
    "median": _of("histogram {a}", "{a}: the median lies {value} from the mean", 0.01, _signed),
    "spread": _of("histogram {a}", "{a}: the middle half of the voxels spans {value}", 0.05, _factor),
    "low_tail": _of("histogram {a}", "{a}: the dark tail reaches {value} spreads down", 0.05, _factor),
    "high_tail": _of("histogram {a}", "{a}: the bright tail reaches {value} spreads up", 0.05, _factor),
    "highest": _of("histogram {a}", "{a}: the brightest voxels lie {value} spreads up", 0.08, _factor),
    "vessels": _of("dots {a}", "{a}: fine bright structures are {value} times as marked as dark ones", 0.05, _factor),
    "dots": _of("dots {a}", "{a}: the brightest fine structures stand out {value} times as far as most", 0.08, _factor),
    "rim": _of("layers {a}", "{a}: the brain's rim lies {value} spreads from the inside", 0.1, _signed),
    "under_rim": _of("layers {a}", "{a}: the layer under the rim lies {value} spreads from the inside", 0.07, _signed),
    "centre": _of("layers {a}", "{a}: the brain's middle lies {value} spreads from the rest", 0.1, _signed),
    "to_right": _of("layers {a}", "{a}: the right half lies {value} spreads from the left", 0.05, _signed),
    "to_front": _of("layers {a}", "{a}: the front lies {value} spreads from the back", 0.05, _signed),
    "to_top": _of("layers {a}", "{a}: the upper half lies {value} spreads from the lower", 0.05, _signed),
    "grain_x": _of("grain {a}", "{a}: from left to right it jumps by {value} spreads a voxel", 0.08, _factor),
    "grain_y": _of("grain {a}", "{a}: from back to front it jumps by {value} spreads a voxel", 0.08, _factor),
    "grain_z": _of("grain {a}", "{a}: from bottom to top it jumps by {value} spreads a voxel", 0.08, _factor),
    "white": _of("grain {a}", "{a}: neighbouring voxels differ by {value} of what the next but one do", 0.04, _factor),
    "correlation": _of("relations {a} {b}", "{a} and {b} correlate {value}", 0.05, _signed),
    "where_dark": _of(
        "relations {a} {b}", "{a} lies {value} spreads from its median where {b} is darkest", 0.1, _signed
    ),
    "where_bright": _of(
        "relations {a} {b}", "{a} lies {value} spreads from its median where {b} is brightest", 0.1, _signed
    ),
}
"""Kind of measure -> meaning. A sequence is measured in spreads: the interquartile range of its own brain voxels."""


def names_of(sequences: tuple[str, ...]) -> list[str]:
    """Names of the measures of a patient with these sequences."""
    names = []
    for kind, meaning in KINDS.items():
        if "{a}" not in meaning.said:
            names.append(kind)
        elif "{b}" not in meaning.said:
            names += [f"{kind}:{name}" for name in sequences]
        elif kind == "correlation":
            names += [f"{kind}:{a}:{b}" for a, b in map(sorted, combinations(sequences, 2))]
        else:
            names += [f"{kind}:{a}:{b}" for a, b in permutations(sequences, 2)]
    return names


def exchanged(names: Sequence[str], first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
    """Where each of D measures comes from and its sign, were two sequences each the other."""
    other = {first: second, second: first}
    places = {name: place for place, name in enumerate(names)}
    return np.array([places.get(_renamed(name, other), places[name]) for name in names]), np.ones(len(names))


def turned(names: Sequence[str], axis: str) -> tuple[np.ndarray, np.ndarray]:
    """The same, were the head turned end to end along y or z."""
    change = {"y": ("off_y", "to_front", "tilt"), "z": ("off_z", "to_top", "tilt", "clefts")}[axis]
    return np.arange(len(names)), np.array([-1.0 if name.split(":")[0] in change else 1.0 for name in names])


def _renamed(name: str, other: dict[str, str]) -> str:
    kind, *sequences = name.split(":")
    changed = [other.get(sequence, sequence) for sequence in sequences]
    return ":".join([kind, *(sorted(changed) if kind == "correlation" else changed)])


def aspect_of(name: str) -> str:
    """The aspect that a measure belongs to: "size", "grain T1", "relations T1 T2"."""
    kind, *sequences = name.split(":")
    return KINDS[kind].aspect.format(**dict(zip("ab", sorted(sequences))))


def said(name: str, value: float) -> str:
    """A measured value in words."""
    kind, *sequences = name.split(":")
    return KINDS[kind].said.format(value=KINDS[kind].shown(value), **dict(zip("ab", sequences)))
