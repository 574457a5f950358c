"""Definitions of the image quality metrics (IQMs): group, wording, and minimum SD between patients.

A name is `kind`, `kind:T1` or `kind:T1:T2` (for instance T1 where T2 is dark), so exchanging two sequences exchanges
two names. Metrics that MRIQC (Esteban 2017) has too carry MRIQC's names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np


class Metric(NamedTuple):
    """Definition of a kind of metric."""

    group: str
    """Metrics of one group share a Mahalanobis distance."""
    least_sd: float
    """Minimum SD between patients, in the metric's own unit."""
    text: str
    """Sentence about a patient with {value} (and {a}, {b} for the sequences)."""
    shown: Callable[[float], str]
    """Formats the value for the sentence."""


def _factor(value: float) -> str:
    plain = np.exp(value)
    return f"{plain:.0f}" if plain >= 100 else f"{plain:.3g}"


_signed, _share = "{:+.2f}".format, "{:.0%}".format

KINDS: dict[str, Metric] = {
    "volume": Metric("size", 0.03, "the brain has {value} ml", _factor),
    "length": Metric("size", 0.02, "the brain is {value} mm long", _factor),
    "length_to_width": Metric("shape", 0.02, "the brain is {value} times as long as wide", _factor),
    "height_to_width": Metric("shape", 0.02, "the brain is {value} times as high as wide", _factor),
    "asymmetry": Metric("shape", 0.2, "one half lacks what the other has, {value} mm deep", _factor),
    "flattest": Metric("shape", 0.02, "the brain's outermost slice has {value} of its largest section", _share),
    "tilt": Metric("shape", 0.01, "the lower part lies {value} of its length further forward than the upper", _share),
    "clefts": Metric("shape", 0.01, "the brain's lower part is fuller than the upper by {value}", _share),
    "centre_y": Metric("shape", 0.006, "the brain's centre lies {value} of its length in front of its middle", _share),
    "centre_z": Metric("shape", 0.006, "the brain's centre lies {value} of its height above its middle", _share),
    "dark": Metric("shape", 0.005, "{value} of the brain is dark in every sequence", _share),
    "p02": Metric("histogram {a}", 0.05, "{a}: the dark tail (2 %) reaches {value} spreads down", _factor),
    "p98": Metric("histogram {a}", 0.05, "{a}: the bright tail (98 %) reaches {value} spreads up", _factor),
    "p998": Metric("histogram {a}", 0.08, "{a}: the brightest voxels (99.8 %) lie {value} spreads up", _factor),
    "vessels": Metric(
        "vessels {a}", 0.05, "{a}: fine bright structures are {value} times as marked as dark ones", _factor
    ),
    "dots": Metric(
        "vessels {a}", 0.08, "{a}: the brightest fine structures stand out {value} times the usual", _factor
    ),
    "cnr": Metric("layers {a}", 0.1, "{a}: the brain's rim lies {value} spreads from the inside", _signed),
    "cnr_core": Metric("layers {a}", 0.1, "{a}: the brain's middle lies {value} spreads from the rest", _signed),
    "inu_x": Metric("layers {a}", 0.05, "{a}: the right half lies {value} spreads from the left", _signed),
    "inu_y": Metric("layers {a}", 0.05, "{a}: the front lies {value} spreads from the back", _signed),
    "inu_z": Metric("layers {a}", 0.05, "{a}: the upper half lies {value} spreads from the lower", _signed),
    "snr_x": Metric("noise {a}", 0.08, "{a}: signal to noise from left to right is {value}", _factor),
    "snr_y": Metric("noise {a}", 0.08, "{a}: signal to noise from back to front is {value}", _factor),
    "snr_z": Metric("noise {a}", 0.08, "{a}: signal to noise from bottom to top is {value}", _factor),
    "white": Metric(
        "noise {a}", 0.04, "{a}: neighbouring voxels differ by {value} of what the next but one do", _factor
    ),
    "correlation": Metric("relations {a} {b}", 0.05, "{a} and {b} correlate {value}", _signed),
    "where_dark": Metric(
        "relations {a} {b}", 0.1, "{a} lies {value} spreads from its median where {b} is dark", _signed
    ),
    "where_bright": Metric(
        "relations {a} {b}", 0.1, "{a} lies {value} spreads from its median where {b} is bright", _signed
    ),
}
"""Kind of metric -> definition. A spread is the interquartile range of a sequence's own brain voxels."""


def metric_names(sequences: tuple[str, ...]) -> list[str]:
    """Names of the metrics of a patient with these sequences."""
    names = []
    for kind, meaning in KINDS.items():
        if "{a}" not in meaning.text:
            names.append(kind)
        elif "{b}" not in meaning.text:
            names += [f"{kind}:{name}" for name in sequences]
        elif kind == "correlation":
            names += [f"{kind}:{a}:{b}" for a, b in map(sorted, combinations(sequences, 2))]
        else:
            names += [f"{kind}:{a}:{b}" for a, b in permutations(sequences, 2)]
    return names


def metric_kind(name: str) -> Metric:
    """Definition of a metric."""
    return KINDS[name.split(":")[0]]


def group_of(name: str) -> str:
    """The group of a metric: "size", "noise T1", "relations T1 T2"."""
    return metric_kind(name).group.format(**dict(zip("ab", sorted(name.split(":")[1:]))))


def format_metric(name: str, value: float) -> str:
    """A metric's value in words."""
    kind = metric_kind(name)
    return kind.text.format(value=kind.shown(value), **dict(zip("ab", name.split(":")[1:])))


def exchange(names: Sequence[str], first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
    """Source index and sign of each of D metrics once two sequences are exchanged."""
    other, places = {first: second, second: first}, {name: place for place, name in enumerate(names)}

    def renamed(name: str) -> str:
        kind, *sequences = name.split(":")
        changed = [other.get(sequence, sequence) for sequence in sequences]
        return ":".join([kind, *(sorted(changed) if kind == "correlation" else changed)])

    return np.array([places.get(renamed(name), places[name]) for name in names]), np.ones(len(names))


def turn(names: Sequence[str], axis: str) -> tuple[np.ndarray, np.ndarray]:
    """Source index and sign of each of D metrics once the head is turned end to end along y or z."""
    change = {"y": ("centre_y", "inu_y", "tilt"), "z": ("centre_z", "inu_z", "tilt", "clefts")}[axis]
    return np.arange(len(names)), np.array([-1.0 if name.split(":")[0] in change else 1.0 for name in names])
