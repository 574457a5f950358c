"""Image quality metrics (IQMs) of a prepared patient, for comparison with the training patients.

Each metric reacts strongly to a fault and hardly to a tumour, however large; `lab.qc.metrics` defines them. The tumour
mask is not used: a new patient may come without one.
"""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
from scipy import ndimage, stats

from lab.io.case_file import BRAIN
from lab.io.files import canonical
from lab.io.grid import bounding_box
from lab.qc.metrics import metric_names

GRID_MM, FINE_MM = 4.0, 2.0
"""Approximate voxel edges after averaging: the second for vessels, the first for everything else but noise."""
RIM_MM, INNER_MM = 6.0, 14.0
"""Depth of the brain's rim, and depth beyond which a voxel is well inside."""
SURROUND_MM, DOTS = (10.0, 18.0), 0.0005
"""Edges of cubes around fine structures, and the share of voxels that stand out most."""
EXTREME = 0.1
"""Share of a sequence's voxels that count as its darkest, or brightest."""
SAMPLE, LEAST_VOXELS = 60_000, 300
"""Maximum number of voxels for measuring noise, and minimum number of averaged voxels of a measurable brain."""
CUT, NEARLY = 0.5, 0.25
"""Ratio of the outermost slice to the largest section above which a brain is cut, and above which it may be (28 brains
of BraTS: 0.14 at most)."""
SIDES = (("left", "right"), ("back", "front"), ("bottom", "top"))


def measure(image: np.ndarray, masks: np.ndarray, channels: tuple[str, ...], spacing_mm: float) -> dict[str, float]:
    """Metrics of a prepared patient by name; NaN where one cannot be measured.

    Args:
        image: (C, X, Y, Z) in [-1, 1], RAS.
        masks: (X, Y, Z) bit flags.
        channels: names of the C sequences; of duplicates the first counts.
        spacing_mm: edge of a voxel, the same along all axes.
    """
    if image.shape[0] != len(channels) or image.shape[1:] != masks.shape:
        raise ValueError(f"an image {image.shape} of {', '.join(channels)} and masks {masks.shape} do not fit together")
    names = list(dict.fromkeys(map(canonical, channels)))
    picked = [list(map(canonical, channels)).index(name) for name in names]
    brain = (masks & BRAIN) > 0
    found = dict.fromkeys(metric_names(tuple(names)), float("nan"))
    if not brain.any():
        return found
    box = bounding_box(brain)
    brain = brain[box]
    volumes = {name: np.multiply(image[place][box], brain, dtype=np.float32) for name, place in zip(names, picked)}
    finer = max(1, round(FINE_MM / spacing_mm))
    coarser = max(1, round(GRID_MM / spacing_mm / finer))
    edge = finer * coarser * spacing_mm
    fine_parts = _block_means(brain.astype(np.float32), finer)
    fine = {name: _block_means(volume, finer) for name, volume in volumes.items()}
    parts = _block_means(fine_parts, coarser)
    inside = parts >= 0.5
    if np.count_nonzero(inside) < LEAST_VOXELS:
        return found
    found |= _brain(brain, inside, edge, spacing_mm)
    spreads = {}
    for name in names:
        values = _block_means(fine[name], coarser)[inside] / parts[inside]
        first, middle, third = np.quantile(values, [0.25, 0.5, 0.75])
        if third > first:
            spreads[name] = (values - middle) / (third - first)
    regions = _regions(inside, edge)
    for name, level in spreads.items():
        low, high, highest = np.maximum(np.abs(np.quantile(level, [0.02, 0.98, 0.998])), 0.05)
        found |= {f"p02:{name}": np.log(low), f"p98:{name}": np.log(high), f"p998:{name}": np.log(highest)}
        found |= _layers(level, regions, name)
    # without the rim, where skull-stripping decides how much of a voxel is brain
    found |= _relations({name: level[~regions["rim"]] for name, level in spreads.items()})
    if len(spreads) == len(names):
        found["dark"] = float(np.mean(np.all([level < -1.5 for level in spreads.values()], axis=0)))
    found |= _vessels(fine, fine_parts, finer * spacing_mm)
    found |= _noise(volumes, brain)
    return {name: float(value) if np.isfinite(value) else float("nan") for name, value in found.items()}


def flattest_side(brain: np.ndarray) -> tuple[float, str]:
    """Highest ratio of an outermost slice of a brain mask (X, Y, Z) RAS to its axis' largest slice, and its side."""
    inside = brain[bounding_box(brain)]
    found = []
    for axis, names in enumerate(SIDES):
        area = inside.sum(axis=tuple(other for other in range(3) if other != axis))
        found += [(float(area[end] / area.max()), name) for end, name in zip((0, -1), names)]
    return max(found)


def check_whole(brain: np.ndarray) -> str:
    """A warning where part of the brain may be missing, else "". Raises ValueError where part is missing.

    A field of view that ends inside the head leaves a flat cut, which no brain has.
    """
    share, side = flattest_side(brain)
    text = f"the brain ends flat at its {side} (there its section is {share:.0%} of the largest)"
    if share > CUT:
        raise ValueError(f"{text}: part of the head is outside the field of view; use a scan of the whole head")
    return f"{text}; part of it may be outside the field of view" if share > NEARLY else ""


def _block_means(volume: np.ndarray, factor: int) -> np.ndarray:
    """(X, Y, Z) averaged over cubes of `factor` voxels, zeros beyond the end."""
    if factor == 1:
        return volume
    padded = np.pad(volume, [(0, -size % factor) for size in volume.shape])
    x, y, z = (size // factor for size in padded.shape)
    return padded.reshape(x, factor, y, factor, z, factor).mean(axis=(1, 3, 5))


def _brain(brain: np.ndarray, inside: np.ndarray, edge: float, spacing_mm: float) -> dict[str, float]:
    """Size and shape of the brain; `inside` is its averaged mask of voxels of `edge` mm."""
    width, length, height = brain.shape
    centre = [(axis.mean() + 0.5) / size - 0.5 for axis, size in zip(np.nonzero(inside), inside.shape)]
    away = ndimage.distance_transform_edt(~inside, sampling=edge)
    third = max(1, round(0.35 * height))
    forward, filled = [], []
    for part in (brain[:, :, :third], brain[:, :, -third:]):
        columns = part.sum(axis=(0, 2), dtype=np.float64)
        forward.append(float(columns @ np.arange(length) / columns.sum() / length))
        across = np.maximum.accumulate(part, axis=0) & np.maximum.accumulate(part[::-1], axis=0)[::-1]
        filled.append(np.count_nonzero(part) / np.count_nonzero(across))
    return {
        "volume": np.log(np.count_nonzero(brain) * spacing_mm**3 / 1000),
        "length": np.log(length * spacing_mm),
        "length_to_width": np.log(length / width),
        "height_to_width": np.log(height / width),
        "asymmetry": np.log(away[inside[::-1]].max() + edge),  # the farthest voxel of the mirror image, and a voxel
        "flattest": flattest_side(brain)[0],
        "tilt": forward[0] - forward[1],  # the lower part reaches less far forward, and is cleft
        "clefts": filled[0] - filled[1],
        "centre_y": centre[1],
        "centre_z": centre[2],
    }


def _regions(inside: np.ndarray, edge: float) -> dict[str, np.ndarray]:
    """(N,) masks over the averaged brain voxels."""
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=edge)[1:-1, 1:-1, 1:-1][inside]
    x, y, z = np.nonzero(inside)
    return {
        "rim": depth <= max(RIM_MM, 1.01 * edge),
        "inner": depth > max(INNER_MM, 2.01 * edge),
        "core": depth >= np.quantile(depth, 0.93),
        "right": x > np.median(x),
        "front": y > np.median(y),
        "top": z > np.median(z),
    }


def _layers(level: np.ndarray, regions: dict[str, np.ndarray], name: str) -> dict[str, float]:
    """Contrast of the rim (grey matter) and of the middle, and intensity non-uniformity along each axis, in spreads."""

    def median(region: np.ndarray) -> float:
        return float(np.median(level[region])) if region.any() else float("nan")

    pairs = {
        "cnr": (regions["rim"], regions["inner"]),
        "cnr_core": (regions["core"], ~regions["core"]),
        "inu_x": (regions["right"], ~regions["right"]),
        "inu_y": (regions["front"], ~regions["front"]),
        "inu_z": (regions["top"], ~regions["top"]),
    }
    return {f"{kind}:{name}": median(one) - median(other) for kind, (one, other) in pairs.items()}


def _relations(spreads: dict[str, np.ndarray]) -> dict[str, float]:
    """Rank correlation of each pair, and median of each sequence where another is darkest and brightest, in spreads."""
    found = {}
    ranks = {name: stats.rankdata(level) for name, level in spreads.items()}
    for a, b in map(sorted, combinations(spreads, 2)):
        found[f"correlation:{a}:{b}"] = float(np.corrcoef(ranks[a], ranks[b])[0, 1])
    for a, b in permutations(spreads, 2):
        low, high = np.quantile(spreads[b], [EXTREME, 1 - EXTREME])
        found[f"where_dark:{a}:{b}"] = float(np.median(spreads[a][spreads[b] <= low]))
        found[f"where_bright:{a}:{b}"] = float(np.median(spreads[a][spreads[b] >= high]))
    return found


def _vessels(volumes: dict[str, np.ndarray], parts: np.ndarray, edge: float) -> dict[str, float]:
    """Contrast of fine structures with their surroundings: bright over dark ones, and bright ones over the spread.

    Flow makes vessels dark; contrast agent makes them bright. `edge` is the voxel size (mm), `parts` the brain's share
    of each voxel.
    """
    inside = parts >= 0.5
    sizes = [max(3, 2 * round(surround / edge / 2) + 1) for surround in SURROUND_MM]
    weights = [np.maximum(ndimage.uniform_filter(inside.astype(np.float32), size), 1e-6) for size in sizes]
    inner = [inside & (weight > 0.999) for weight in weights]
    if min(map(np.count_nonzero, inner)) < LEAST_VOXELS:
        return {}
    found = {}
    for name, volume in volumes.items():
        values = np.where(inside, volume / np.maximum(parts, 0.5), 0)
        near, far = (
            (values - ndimage.uniform_filter(values, size) / weight)[where]
            for size, weight, where in zip(sizes, weights, inner)
        )
        low, high = np.quantile(near, [DOTS, 1 - DOTS])
        first, third, highest = np.quantile(far, [0.25, 0.75, 1 - DOTS])
        if low < 0 < high:
            found[f"vessels:{name}"] = np.log(-high / low)
        if first < third and highest > 0:
            found[f"dots:{name}"] = np.log(highest / (third - first))
    return found


def _noise(volumes: dict[str, np.ndarray], brain: np.ndarray) -> dict[str, float]:
    """Ratio of each sequence's spread to its noise along each axis, at a sample of voxels well inside the brain.

    Noise is the median second difference, which is robust to tissue edges. White noise differs as much from the next
    voxel as from the one after it; anatomy differs less from the next.
    """
    strides = [brain.shape[1] * brain.shape[2], brain.shape[2], 1]
    inner = np.zeros_like(brain)
    core = tuple(slice(2, -2) for _ in range(3))
    inner[core] = brain[core]
    index = np.flatnonzero(inner)
    index, flat = index[:: max(1, len(index) // SAMPLE)], brain.reshape(-1)
    for step in [offset * stride for stride in strides for offset in (-2, -1, 1, 2)]:
        index = index[flat[index + step]]
    if len(index) < LEAST_VOXELS // 4:
        return {}
    found = {}
    for name, volume in volumes.items():
        values = volume.reshape(-1)
        here = values[index]
        spread = float(np.subtract(*np.quantile(here, [0.75, 0.25])))
        if not spread > 0:
            continue
        near, far = [], []
        for axis, stride in zip("xyz", strides):
            bend = np.median(np.abs(values[index - stride] + values[index + stride] - 2 * here)) / np.sqrt(6)
            found[f"snr_{axis}:{name}"] = -np.log(max(float(bend) / spread, 1e-4))
            near.append(np.median(np.abs(values[index + stride] - here)))
            far.append(np.median(np.abs(values[index + 2 * stride] - here)))
        if min(far) > 0 and min(near) > 0:
            found[f"white:{name}"] = np.log(np.mean(near) / np.mean(far))
    return found
