"""Simulation of a glioma: site, outline, oedema, necrosis and leaking vessels.

The grade drives all traits through one hidden aggressiveness, each with its own scatter, so necrosis, oedema and signal
predict leakage in part, as in patients.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lab.phantom.anatomy import Atlas, Head, Mass
from lab.phantom.fields import Index, Volume, random_field

_AGGRESSIVENESS = {2: -1.1, 3: -0.4, 4: 0.75}
_MAX_LEAK_MM = 0.45


@dataclass(frozen=True, kw_only=True)
class LesionPlan:
    """Traits of one patient's tumour, independent of the anatomy."""

    mass: Mass
    axes: NDArray[np.float64]  # (3, 3), from millimetres to the unit ball: the ellipsoid that is distorted
    leakiness: float  # 0 (intact barrier) to 1: how much of the solid tissue leaks, and how strongly
    necrotic_part: float  # part of the radius that is necrotic, 0 to 0.75
    oedema_mm: float  # how far oedema reaches along white matter
    solid_t2_scale: float  # T2 and T1 of the solid part relative to `TISSUES`: cellular tumours are darker on T2
    roughness: float  # texture of the solid part


def plan_lesion(rng: np.random.Generator, atlas: Atlas, grade: int) -> LesionPlan:
    """Draw site, size and traits for a grade II, III or IV glioma."""
    aggressive = _AGGRESSIVENESS[grade] + 0.55 * rng.standard_normal()
    leak, necrosis, oedema, cells = aggressive + rng.standard_normal(4) * (0.8, 0.6, 0.7, 0.7)
    radius = float(np.clip(np.exp(rng.normal(np.log(21.0), 0.27)), 13, 33))
    while True:
        centre = rng.uniform((-58, -88, -28), (58, 58, 62))
        depth = float(atlas.depth_at(*centre.astype(np.float32).reshape(3, 1))[0])
        if depth > 0.35 * radius + 5 and abs(centre[0]) > 10 and centre[2] > -20 - 0.5 * (centre[1] + 60):
            break
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    stretch = np.exp(rng.normal(0, 0.22, 3))
    stretch /= np.prod(stretch) ** (1 / 3)
    push = radius * float(np.clip(0.16 + 0.06 * oedema + 0.05 * rng.standard_normal(), 0.03, 0.32))
    return LesionPlan(
        mass=Mass(centre_mm=centre, radius_mm=radius, push_mm=push),
        axes=turn / (stretch * radius),
        leakiness=float(np.clip((leak + 0.35) / 1.9, 0, 1)),
        necrotic_part=float(np.clip(0.22 + 0.3 * necrosis, 0, 0.75)) * (necrosis > -0.35),
        oedema_mm=float(4 + 15 / (1 + np.exp(-1.3 * oedema))),
        solid_t2_scale=float(np.clip(1.05 - 0.13 * cells, 0.75, 1.35)),
        roughness=float(np.clip(0.09 + 0.04 * aggressive, 0.03, 0.2)),
    )


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """The voxels that a tumour changes; every map is float32 over `index`."""

    index: Index  # flat indices on the head's grid, (N,)
    fractions: dict[str, Volume]  # part of each voxel that is oedema, tumour (solid), necrosis
    t1_scale: Volume
    t2_scale: Volume  # relaxation times of the solid and swollen tissue relative to `TISSUES`
    concentration_mm: Volume  # contrast agent where solid tissue leaks (mM)
    mask: NDArray[np.bool_]  # the whole tumour as an expert would segment it


def _ramp(distance_mm: Volume, width_mm: float) -> Volume:
    """Share of a voxel inside a surface: 0 to 1 over `width_mm`."""
    return np.clip(distance_mm / np.float32(width_mm) + np.float32(0.5), 0, 1)


def grow_lesion(rng: np.random.Generator, head: Head, plan: LesionPlan) -> Lesion:
    """Simulate the planned tumour in this head; `head.fractions` is reduced in place."""
    radius = plan.mass.radius_mm
    box = head.grid.box_around(plan.mass.centre_mm, 1.75 * radius + plan.oedema_mm + 8)
    grid = head.grid.crop(box)
    edge = max(2.0, grid.spacing_mm)
    healthy = {name: volume[box] for name, volume in head.fractions.items()}
    depth, midline = head.depth_mm[box], head.midline_mm[box]
    swell = ndimage.gaussian_filter(healthy["white"], 2.0 / grid.spacing_mm, truncate=2.5)
    fluid = ndimage.gaussian_filter(healthy["csf"], 1.5 / grid.spacing_mm, truncate=2.5)

    def noise(length_mm: float) -> Volume:
        return random_field(rng, length_mm).on(grid)

    x, y, z = (axis - np.float32(c) for axis, c in zip(grid.axes_mm(), plan.mass.centre_mm))
    a = plan.axes.T.astype(np.float32)
    away = np.sqrt(sum((a[i, 0] * x + a[i, 1] * y + a[i, 2] * z) ** 2 for i in range(3)))
    lobes = 0.24 * radius * noise(0.9 * radius) + 0.11 * radius * noise(0.42 * radius)
    side = np.float32(np.sign(plan.mass.centre_mm[0]))
    # The falx holds the tumour on its side; only where white matter crosses the midline can it follow.
    bridge = np.max(healthy["white"] * (np.abs(midline) < 2 + grid.spacing_mm / 2), axis=0)
    bridge = np.clip(1.5 * ndimage.gaussian_filter(bridge, 2.0 / grid.spacing_mm), 0, 1)
    falx = 4.0 * np.maximum(-side * midline, 0) * (1 - bridge)
    core = radius * (1 - away) + lobes + 1.0 * noise(5.0) - falx - 9 * fluid - 7 * (1 - swell - fluid).clip(0, 0.6)
    core = core + 2.0 - 2.5 * np.maximum(2 - depth, 0)
    reach = plan.oedema_mm * (1.7 * swell - 0.35 + 0.28 * noise(13.0)) + 1.4 * noise(5.0)
    oedema_edge = core + np.minimum(reach, 1.5 * plan.oedema_mm) - falx

    inside = _ramp(core, edge)
    dead_edge = core - (1 - plan.necrotic_part) * radius * (0.8 + 0.2 * noise(0.8 * radius)) + 1.2 * noise(5.0)
    dead = _ramp(dead_edge, edge) * inside if plan.necrotic_part > 0 else np.zeros_like(inside)
    swollen = _ramp(oedema_edge, 2.5 * edge) * np.clip(1.5 * swell + 0.25, 0, 1) * (0.85 + 0.12 * noise(9.0)).clip(0, 1)
    swollen = (1 - inside) * swollen * (1 - np.clip(1.5 * healthy["csf"] + healthy["blood"], 0, 1)) * (depth > 0)
    solid, dead = (inside - dead) * (depth > 0), dead * (depth > 0)
    kept = 1 - np.clip(solid + dead + swollen, 0, 1)
    for name, volume in healthy.items():
        volume *= kept if name != "blood" else 1 - inside

    # Leakage: strongest in the living rim round necrosis, patchy elsewhere, fading into the oedema.
    rim = np.exp(-((dead_edge / np.float32(0.16 * radius + 2.5)) ** 2)) if plan.necrotic_part > 0 else 0.0
    spread = 1.5 * plan.leakiness - 0.95
    patches = np.clip(spread + 0.7 * noise(max(5.0, 0.35 * radius)), 0, 0.8)
    wall = np.clip(rim * (spread + 0.9 + 0.4 * noise(8.0)), 0, 1.2)
    concentration = _MAX_LEAK_MM * plan.leakiness**0.6 * np.clip(0.8 * patches + 0.85 * wall, 0, 1.2)
    texture = plan.roughness * noise(6.0) + 0.6 * plan.roughness * noise(3.0)
    cells = (plan.solid_t2_scale - 1 - 0.12 * rim) * inside + texture
    whole = inside + swollen
    mask = (ndimage.gaussian_filter(whole, 1.2 / grid.spacing_mm, truncate=2.5) > 0.42) & (depth > 0)
    touched = np.nonzero((whole > 0) & (depth > 0))
    index = np.ravel_multi_index(tuple(i + part.start for i, part in zip(touched, box)), head.grid.shape)
    return Lesion(
        index=index,
        fractions={"oedema": swollen[touched], "tumour": solid[touched], "necrosis": dead[touched]},
        t1_scale=np.clip(1 + 0.6 * cells[touched], 0.6, 1.6),
        t2_scale=np.clip(1 + cells[touched], 0.5, 1.8),
        concentration_mm=concentration[touched].astype(np.float32),
        mask=mask[touched],
    )
