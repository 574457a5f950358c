"""Anatomy of a healthy head: MNI152 tissue maps, deformed for each patient, with vessels, skull and scalp."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lab.phantom.fields import FIELD_OF_VIEW_START_MM, Grid, Index, Spline, Volume, field_of_view, random_field

HEAD_MARGIN_MM = 14.0  # skull and scalp outside the brain
_CONTROL_MM = 6.0
_VENTRICLES_MM = (0.0, -14.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """MNI152 at one voxel size; grey and white matter as uint8 (255 is a full voxel)."""

    grid: Grid
    grey: NDArray[np.uint8]
    white: NDArray[np.uint8]
    depth_mm: Volume  # distance to the brain's surface, positive inside, on a 2 mm grid from the field of view's start
    head: tuple[slice, ...]  # box of `grid` that holds brain, skull and scalp

    def depth_at(self, x: Volume, y: Volume, z: Volume) -> Volume:
        """Depth below the brain's surface (mm) at positions in mm; all three arrays of one shape."""
        first = (start + 0.5 for start in FIELD_OF_VIEW_START_MM)
        where = np.stack([(p - a) / 2 for p, a in zip((x, y, z), first)])
        return ndimage.map_coordinates(self.depth_mm, where, order=1, mode="nearest", prefilter=False)


def check_spacing(spacing_mm: float) -> None:
    """Raise ValueError for a voxel size outside 1 to 8 mm."""
    if not 1.0 <= spacing_mm <= 8.0:
        raise ValueError(f"Phantom with {spacing_mm} mm voxels: the atlas has 1 mm voxels. Choose 1 to 8 mm.")


@lru_cache(maxsize=2)
def load_atlas(spacing_mm: float) -> Atlas:
    """The atlas from nilearn, block-averaged to 1 to 8 mm, in about 3 s. Raises ValueError for other sizes."""
    check_spacing(spacing_mm)
    from nilearn import datasets  # imports for two seconds

    grid = field_of_view(spacing_mm)
    brain = np.asarray(datasets.load_mni152_brain_mask(resolution=1).dataobj) > 0
    coarse = brain[::2, ::2, ::2]
    depth = ndimage.distance_transform_edt(coarse) - ndimage.distance_transform_edt(~coarse)
    depth = ndimage.gaussian_filter(2.0 * depth.astype(np.float32), 0.7)
    head = ndimage.find_objects((depth > -HEAD_MARGIN_MM - 4).astype(np.uint8))[0]
    box = tuple(
        slice(int(2 * part.start / spacing_mm), min(n, int(np.ceil(2 * part.stop / spacing_mm))))
        for part, n in zip(head, grid.shape)
    )

    def average(image: object) -> NDArray[np.uint8]:
        values = np.asarray(image.dataobj, dtype=np.float32)  # type: ignore[attr-defined]
        for axis, n in enumerate(grid.shape):
            edges = np.arange(n)[:, None] * spacing_mm - np.arange(values.shape[axis])[None, :]
            overlap = np.clip(np.minimum(edges + spacing_mm, 1) - np.maximum(edges, 0), 0, None) / spacing_mm
            values = np.moveaxis(np.tensordot(overlap.astype(np.float32), values, axes=(1, axis)), 0, axis)
        return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)

    grey = average(datasets.load_mni152_gm_template(resolution=1))
    white = average(datasets.load_mni152_wm_template(resolution=1))
    return Atlas(grid=grid, grey=grey, white=white, depth_mm=depth, head=box)


@dataclass(frozen=True, kw_only=True)
class Mass:
    """Mass effect of a tumour: a ball in MNI152 space that displaces the brain."""

    centre_mm: NDArray[np.float64]
    radius_mm: float
    push_mm: float


@dataclass(frozen=True, kw_only=True)
class Head:
    """One patient's head on the box `grid`; every map is (X, Y, Z) float32."""

    grid: Grid
    depth_mm: Volume
    midline_mm: Volume  # distance from the (displaced) midline, positive on the right
    brain: Index  # flat indices of the voxels in the brain
    fractions: dict[str, Volume]  # part of each voxel that is white, grey, csf, blood: 1 in the brain, 0 outside


def _displacement(rng: np.random.Generator, atlas: Atlas, grid: Grid, atrophy: float, mass: Mass) -> list[Spline]:
    """Source position in the atlas minus position in the patient (mm), along x, y, z."""
    control = grid.lattice(_CONTROL_MM)
    x, y, z = np.broadcast_arrays(*control.axes_mm())
    stiff = 0.3 + 0.7 * np.clip(atlas.depth_at(x, y, z) / 14, 0, 1)
    radius = np.sqrt((x - mass.centre_mm[0]) ** 2 + (y - mass.centre_mm[1]) ** 2 + (z - mass.centre_mm[2]) ** 2) + 1e-3
    beyond = np.maximum(radius - mass.radius_mm, 0) / (mass.radius_mm + 12)
    push = mass.push_mm * np.minimum(radius / mass.radius_mm, 1) * np.exp(-(beyond**2)) / radius
    fluid = sum((p - c) ** 2 for p, c in zip((x, y, z), _VENTRICLES_MM))
    widen = atrophy * np.exp(-fluid / (2 * 26.0**2))
    splines = []
    for i, p in enumerate((x, y, z)):
        bend = 2.4 * random_field(rng, 45.0).on(control) + 1.3 * random_field(rng, 20.0).on(control)
        shift = stiff * (bend - push * (p - mass.centre_mm[i]) - widen * (p - _VENTRICLES_MM[i]))
        splines.append(Spline(lattice=control, coefficients=shift.astype(np.float32)))
    return splines


def _vessels(
    rng: np.random.Generator, grid: Grid, brain: Index, depth: Volume, midline: Volume, tissue: dict[str, Volume]
) -> Volume:
    """Blood in each brain voxel: winding vessels in the sulci, the longitudinal fissure and its sinus, the plexus."""
    half = grid.spacing_mm / 2

    def field(length_mm: float) -> Volume:
        return random_field(rng, length_mm).at(grid, brain)

    def tubes(length_mm: float, radius_mm: float) -> Volume:
        """Two random fields are both near zero along curves; a coarse voxel holds only part of such a curve."""
        width = float(np.hypot(radius_mm, half))
        away = field(length_mm) ** 2 + field(length_mm) ** 2
        return (radius_mm / width) ** 2 * np.exp(away * np.float32(-((length_mm / 2 / width) ** 2) / 2))

    _, y, z = (np.broadcast_to(axis, grid.shape).reshape(-1)[brain] for axis in grid.axes_mm())
    sulci = np.clip(1.6 * tissue["csf"] + 0.45 * tissue["grey"] - 1.2 * tissue["white"], 0, 1)
    blood = (0.9 * sulci + 0.08) * (tubes(13.0, 0.8) + tubes(24.0, 1.2))
    width = float(np.hypot(0.8, half))
    sheet = (0.8 / width) * np.exp(midline**2 * np.float32(-1 / (2 * width**2)))
    patchy = np.clip(0.35 + 0.3 * field(11.0), 0, 0.9)
    above = np.clip((z + 8 - 0.25 * (y + 20)) / 10, 0, 1) * np.clip((52 - depth) / 8, 0, 1)
    blood = np.maximum(blood, sheet * patchy * above * np.clip(1 - 2 * tissue["white"], 0, 1))
    sinus = np.clip((5.0 - np.abs(midline) - 0.6 * depth) / max(2.0, half), 0, 1) * above
    blood = np.maximum(blood, 0.85 * sinus)
    plexus = np.clip(2 * field(5.0) - 2.4, 0, 1) * np.clip((depth - 34) / 6, 0, 1) * tissue["csf"]
    return np.clip(np.maximum(blood, 0.45 * plexus), 0, 0.95).astype(np.float32)


def create_head(rng: np.random.Generator, atlas: Atlas, *, atrophy: float, mass: Mass) -> Head:
    """Deform the atlas into one patient, sharpen its averaged folds and add vessels.

    `atrophy` goes from 0 (narrow ventricles) to about 0.35 (wide ventricles and sulci); `mass` displaces the tissue.
    """
    grid = atlas.grid.crop(atlas.head)
    offset = _displacement(rng, atlas, grid, atrophy, mass)
    # The surface is smooth: its depth on a 4 mm lattice is enough.
    coarse = grid.lattice(max(4.0, grid.spacing_mm))
    origin = (axis + spline.on(coarse) for axis, spline in zip(coarse.axes_mm(), offset))
    depth = Spline(lattice=coarse, coefficients=atlas.depth_at(*origin)).on(grid)
    index = np.nonzero(depth > 0)
    brain = np.ravel_multi_index(index, grid.shape)
    where = np.empty((3, brain.size), dtype=np.float32)
    for row, i, part, spline in zip(where, index, atlas.head, offset):
        np.multiply(spline.at(grid, brain), 1 / grid.spacing_mm, out=row)
        row += i + part.start
    tissue = {
        name: ndimage.map_coordinates(source, where, output=np.float32, order=1, mode="nearest", prefilter=False)
        * np.float32(1 / 255)
        for name, source in (("white", atlas.white), ("grey", atlas.grey))
    }
    tissue["csf"] = np.clip(1 - tissue["grey"] - tissue["white"], 0, 1)
    # Folds of an average brain are blurred: random gains make them this patient's own, squares sharpen them.
    for name, bias in (("white", 0.0), ("csf", 0.5 + 2.0 * atrophy)):
        tissue[name] *= np.exp(np.float32(0.5) * random_field(rng, 5.0).at(grid, brain) + np.float32(bias))
    if grid.spacing_mm < 2:
        tissue = {name: part * part for name, part in tissue.items()}
    whole = 1 / np.maximum(tissue["grey"] + tissue["white"] + tissue["csf"], np.float32(1e-6))
    tissue = {name: part * whole for name, part in tissue.items()}
    midline = grid.axes_mm()[0] + offset[0].on(grid)
    blood = _vessels(rng, grid, brain, depth.reshape(-1)[brain], midline.reshape(-1)[brain], tissue)
    tissue = {name: part * (1 - blood) for name, part in tissue.items()} | {"blood": blood}
    fractions = {name: np.zeros(grid.shape, dtype=np.float32) for name in tissue}
    for name, part in tissue.items():
        fractions[name].reshape(-1)[brain] = part
    return Head(grid=grid, depth_mm=depth, midline_mm=midline, brain=brain, fractions=fractions)
