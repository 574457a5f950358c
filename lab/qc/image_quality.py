"""What can be measured on a prepared patient that tells a strange scan from the patients a model learned from.

Each measure is one number that a fault moves far and a tumour, however large, does not: of each sequence the shape of
its histogram, its course from the rim inwards and its grain; of each pair of sequences how one behaves where the other
is dark or bright; of the brain its size and shape. Names are `kind`, `kind:T1` or `kind:T1:T2`, so that to exchange two
sequences is to exchange two names. The tumour mask is not looked at: a new patient may come without one.
"""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
from scipy import ndimage, stats

from lab.io.case_file import BRAIN
from lab.io.files import canonical
from lab.io.grid import bounding_box
from lab.qc.coverage import flattest_side
from lab.qc.measures import names_of

GRID_MM = 4.0
"""Voxels are averaged to about this edge for everything but the grain."""
RIM_MM, NEXT_MM, CLOSING_MM = 6.0, 14.0, 16.0
"""Depth of the rim and of the layer under it; radius of the ball that fills notches of the brain."""
FINE_MM, SURROUND_MM, DOTS = 2.0, (10.0, 18.0), 0.0005
"""Edge of the voxels for fine structures, of cubes round them, and the share of voxels that stand out most."""
EXTREME = 0.1
"""Share of a sequence's voxels that count as its darkest, or brightest."""
SAMPLE = 60_000
"""Brain voxels at most on which the grain is measured."""
LEAST_VOXELS = 300
"""Averaged voxels below which a brain cannot be measured."""


def measure(image: np.ndarray, masks: np.ndarray, channels: tuple[str, ...], spacing_mm: float) -> dict[str, float]:
    """The measures of a prepared patient by name; NaN where a sequence or the brain does not allow one.

    Args:
        image: (C, X, Y, Z) in [-1, 1], RAS.
        masks: (X, Y, Z) bit flags.
        channels: names of the C sequences; of those that come twice the first counts.
        spacing_mm: edge of a voxel, the same along all axes.
    """
    if image.shape[0] != len(channels) or image.shape[1:] != masks.shape:
        raise ValueError(f"an image {image.shape} of {', '.join(channels)} and masks {masks.shape} do not fit together")
    names = list(dict.fromkeys(map(canonical, channels)))
    picked = [list(map(canonical, channels)).index(name) for name in names]
    brain = (masks & BRAIN) > 0
    found = dict.fromkeys(names_of(tuple(names)), float("nan"))
    if not brain.any():
        return found
    box = bounding_box(brain)
    brain = brain[box]
    volumes = [np.multiply(image[channel][box], brain, dtype=np.float32) for channel in picked]
    finer = max(1, round(FINE_MM / spacing_mm))
    coarser = max(1, round(GRID_MM / spacing_mm / finer))
    edge = finer * coarser * spacing_mm
    fine_parts, *fine = (_block_means(volume, finer) for volume in (brain.astype(np.float32), *volumes))
    parts = _block_means(fine_parts, coarser)
    inside = parts >= 0.5
    if np.count_nonzero(inside) < LEAST_VOXELS:
        return found
    values = {name: _block_means(volume, coarser)[inside] / parts[inside] for name, volume in zip(names, fine)}
    found |= _brain(brain, inside, edge, spacing_mm)
    scaled = {}
    for name in names:
        found |= _histogram(values[name], name)
        width = float(np.subtract(*np.quantile(values[name], [0.75, 0.25])))
        if width > 0:
            scaled[name] = (values[name] - np.median(values[name])) / width
    regions = _regions(inside, edge)
    for name, level in scaled.items():
        found |= _layers(level, regions, name)
    found |= _relations({name: level[~regions["rim"]] for name, level in scaled.items()})
    if len(scaled) == len(names):
        found["dark_everywhere"] = float(np.mean(np.all([level < -1.5 for level in scaled.values()], axis=0)))
    found |= _vessels(fine, fine_parts, names, finer * spacing_mm)
    found |= _grain(volumes, brain, names)
    return {name: value if np.isfinite(value) else float("nan") for name, value in found.items()}


def _block_means(volume: np.ndarray, factor: int) -> np.ndarray:
    """(X, Y, Z) averaged over cubes of `factor` voxels, zeros beyond the end."""
    if factor == 1:
        return volume
    for axis, size in enumerate(volume.shape):
        if size % factor:
            volume = np.pad(volume, [(0, -size % factor if other == axis else 0) for other in range(3)])
        turned = np.moveaxis(volume, axis, 0)
        total = turned[::factor].copy()
        for offset in range(1, factor):
            total += turned[offset::factor]
        volume = np.moveaxis(total, 0, axis)
    return volume / np.float32(factor**3)


def _brain(brain: np.ndarray, inside: np.ndarray, edge: float, spacing_mm: float) -> dict[str, float]:
    """Size and shape of the brain; `inside` is its averaged mask of voxels of `edge` mm."""
    width, length, height = (size * spacing_mm for size in brain.shape)
    volume = float(np.count_nonzero(brain))
    at = [(axis.mean() + 0.5) / size - 0.5 for axis, size in zip(np.nonzero(inside), inside.shape)]
    halves = [(slice(0, size // 2), slice(size - size // 2, size)) for size in brain.shape]
    octants = [np.count_nonzero(brain[x, y, z]) for x in halves[0] for y in halves[1] for z in halves[2]]
    return {
        "volume": np.log(volume * spacing_mm**3 / 1000),
        "width": np.log(width),
        "length": np.log(length),
        "height": np.log(height),
        "length_to_width": np.log(length / width),
        "height_to_width": np.log(height / width),
        "box_share": volume / brain.size,
        "solidity": _solidity(inside, edge),
        "mirrored": np.count_nonzero(brain & brain[::-1]) / volume,
        "mirror_gap": np.log(_mirror_gap(inside, edge)),
        "flattest": flattest_side(brain)[0],
        **_upright(brain),
        "off_x": at[0],
        "off_y": at[1],
        "off_z": at[2],
        "least_octant": np.log(max(1, min(octants)) * 8 / volume),
    }


def _solidity(inside: np.ndarray, edge: float) -> float:
    """Volume over that of the mask closed by a ball."""
    margin = int(np.ceil(CLOSING_MM / edge)) + 1
    padded = np.pad(inside, margin)
    dilated = ndimage.distance_transform_edt(~padded, sampling=edge) <= CLOSING_MM
    closed = ndimage.distance_transform_edt(dilated, sampling=edge) > CLOSING_MM
    return float(np.count_nonzero(inside) / np.count_nonzero(closed | padded))


def _upright(brain: np.ndarray) -> dict[str, float]:
    """How the lower third of the brain's height differs from the upper: it reaches less far forward, and is cleft."""
    third = max(1, round(0.35 * brain.shape[2]))
    forward, filled = [], []
    for part in (brain[:, :, :third], brain[:, :, -third:]):
        columns = part.sum(axis=(0, 2), dtype=np.float64)
        forward.append(float(columns @ np.arange(len(columns)) / columns.sum() / len(columns)))
        across = np.maximum.accumulate(part, axis=0) & np.maximum.accumulate(part[::-1], axis=0)[::-1]
        filled.append(np.count_nonzero(part) / np.count_nonzero(across))
    return {"tilt": forward[0] - forward[1], "clefts": filled[0] - filled[1]}


def _mirror_gap(inside: np.ndarray, edge: float) -> float:
    """Millimetres from the brain to the farthest voxel of its own mirror image, and a voxel more."""
    away = ndimage.distance_transform_edt(~inside, sampling=edge)
    return float(away[inside[::-1]].max()) + edge


def _vessels(volumes: list[np.ndarray], parts: np.ndarray, names: list[str], edge: float) -> dict[str, float]:
    """How far fine structures stand out from what is round them: brighter ones over darker ones, and over the spread.

    Flow makes vessels dark; contrast agent makes them bright. Voxels are `edge` mm, `parts` the brain's share of each.
    """
    inside = parts >= 0.5
    found = {}
    sizes = [max(3, 2 * round(surround / edge / 2) + 1) for surround in SURROUND_MM]
    weights = [np.maximum(ndimage.uniform_filter(inside.astype(np.float32), size), 1e-6) for size in sizes]
    inner = [inside & (weight > 0.999) for weight in weights]
    if min(map(np.count_nonzero, inner)) < LEAST_VOXELS:
        return {}
    for volume, name in zip(volumes, names):
        values = np.where(inside, volume / np.maximum(parts, 0.5), 0)
        near, far = (
            (values - ndimage.uniform_filter(values, size) / weight)[where]
            for size, weight, where in zip(sizes, weights, inner)
        )
        low, high = np.quantile(near, [DOTS, 1 - DOTS])
        first, third, highest = np.quantile(far, [0.25, 0.75, 1 - DOTS])
        if low < 0 < high:
            found[f"vessels:{name}"] = float(np.log(-high / low))
        if first < third < highest:
            found[f"dots:{name}"] = float(np.log(highest / (third - first))) if highest > 0 else float("nan")
    return found


def _regions(inside: np.ndarray, edge: float) -> dict[str, np.ndarray]:
    """(N,) masks over the averaged brain voxels."""
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=edge)[1:-1, 1:-1, 1:-1][inside]
    x, y, z = np.nonzero(inside)
    rim = depth <= max(RIM_MM, 1.01 * edge)
    under = (depth <= max(NEXT_MM, 2.01 * edge)) & ~rim
    return {
        "rim": rim,
        "under_rim": under,
        "deep": ~rim & ~under,
        "centre": depth >= np.quantile(depth, 0.93),
        "right": x > np.median(x),
        "front": y > np.median(y),
        "top": z > np.median(z),
    }


def _histogram(values: np.ndarray, name: str) -> dict[str, float]:
    low, first, middle, third, high, highest = np.quantile(values, [0.02, 0.25, 0.5, 0.75, 0.98, 0.998])
    width = third - first
    if not width > 0:
        return {}
    floor = 0.05 * width
    return {
        f"median:{name}": float(middle),
        f"spread:{name}": float(np.log(width)),
        f"low_tail:{name}": float(np.log(max(middle - low, floor) / width)),
        f"high_tail:{name}": float(np.log(max(high - middle, floor) / width)),
        f"highest:{name}": float(np.log(max(highest - middle, floor) / width)),
    }


def _layers(level: np.ndarray, regions: dict[str, np.ndarray], name: str) -> dict[str, float]:
    """Medians of the rim, the layer under it, the middle and the halves, in spreads."""

    def median(region: np.ndarray) -> float:
        return float(np.median(level[region])) if region.any() else float("nan")

    deep = median(regions["deep"])
    return {
        f"rim:{name}": median(regions["rim"]) - deep,
        f"under_rim:{name}": median(regions["under_rim"]) - deep,
        f"centre:{name}": median(regions["centre"]) - median(~regions["centre"]),
        f"to_right:{name}": median(regions["right"]) - median(~regions["right"]),
        f"to_front:{name}": median(regions["front"]) - median(~regions["front"]),
        f"to_top:{name}": median(regions["top"]) - median(~regions["top"]),
    }


def _relations(scaled: dict[str, np.ndarray]) -> dict[str, float]:
    """Rank correlations of each pair, and each sequence where another is darkest and brightest, in spreads.

    The rim is left out: there a voxel holds more or less of what is no brain, by the way a scan was stripped.
    """
    found = {}
    ranks = {name: stats.rankdata(level) for name, level in scaled.items()}
    for a, b in map(sorted, combinations(scaled, 2)):
        found[f"correlation:{a}:{b}"] = float(np.corrcoef(ranks[a], ranks[b])[0, 1])
    for a, b in permutations(scaled, 2):
        low, high = np.quantile(scaled[b], [EXTREME, 1 - EXTREME])
        found[f"where_dark:{a}:{b}"] = float(np.median(scaled[a][scaled[b] <= low]))
        found[f"where_bright:{a}:{b}"] = float(np.median(scaled[a][scaled[b] >= high]))
    return found


def _grain(volumes: list[np.ndarray], brain: np.ndarray, names: list[str]) -> dict[str, float]:
    """How much each sequence jumps from voxel to voxel along each axis, against its spread.

    Second differences at a sample of voxels well inside the brain; their median leaves edges of tissue out. White
    noise differs as much from the next voxel as from the one after it, anatomy less.
    """
    strides = [brain.shape[1] * brain.shape[2], brain.shape[2], 1]
    inner = np.zeros_like(brain)
    core = tuple(slice(2, -2) for _ in range(3))
    inner[core] = brain[core]
    index = np.flatnonzero(inner)
    index = index[:: max(1, len(index) // SAMPLE)]
    flat = brain.reshape(-1)
    for stride in strides:
        if len(index):
            index = index[flat[index - 2 * stride] & flat[index + 2 * stride] & flat[index - stride]]
            index = index[flat[index + stride]]
    if len(index) < LEAST_VOXELS // 4:
        return {}
    found = {}
    for volume, name in zip(volumes, names):
        values = volume.reshape(-1)
        here = values[index]
        width = float(np.subtract(*np.quantile(here, [0.75, 0.25])))
        if not width > 0:
            continue
        near, far = [], []
        for axis, stride in zip("xyz", strides):
            bend = np.median(np.abs(values[index - stride] + values[index + stride] - 2 * here)) / np.sqrt(6)
            found[f"grain_{axis}:{name}"] = float(np.log(max(float(bend) / width, 1e-4)))
            near.append(np.median(np.abs(values[index + stride] - here)))
            far.append(np.median(np.abs(values[index + 2 * stride] - here)))
        if min(far) > 0 and min(near) > 0:
            found[f"white:{name}"] = float(np.log(np.mean(near) / np.mean(far)))
    return found
