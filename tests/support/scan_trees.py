"""Small heads with a known truth, written as the data sets write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lab.config import DataConfig
from lab.data.cohort import Cohort, read_index
from lab.data.contract import Contract
from lab.data.prepare import prepare

BRATS_2023 = {"T1": "-t1n", "T1GD": "-t1c", "T2": "-t2w", "FLAIR": "-t2f", "MASK": "-seg"}
BRATS_2021 = {"T1": "_t1", "T1GD": "_t1ce", "T2": "_t2", "FLAIR": "_flair", "MASK": "_seg"}
SETTINGS = DataConfig()
ONE_CLASS = DataConfig(allow_one_class=True)
SHAPE, SPACING = (44, 52, 46), 4.0
AFFINE = np.array([[4.0, 0, 0, -90], [0, 4.0, 0, -126], [0, 0, 4.0, -72], [0, 0, 0, 1]])


def head(seed: int, *, enhancing: bool = True, label: int = 3) -> dict[str, np.ndarray]:
    """Volumes at 4 mm in RAS: an ellipsoid brain in zeros, a spherical tumour whose core (`label`) enhances or not."""
    rng = np.random.default_rng(seed)
    grid = np.indices(SHAPE).astype(float)
    centre = np.array([22, 26, 22])[:, None, None, None]
    brain = ((grid - centre) ** 2 / np.array([15, 19, 16])[:, None, None, None] ** 2).sum(0) <= 1
    site = np.array([22 + rng.choice([-6, 6]), 26 + rng.integers(-5, 6), 24])[:, None, None, None]
    distance = np.sqrt(((grid - site) ** 2).sum(0))
    mask = np.where(distance < 4.5, 2, 0)
    mask[distance < 2.5] = label if enhancing else 1
    volumes = {}
    for name, contrast in {"T1": -60, "T2": 200, "FLAIR": 160, "T1GD": -60, "ADC": 90}.items():
        values = 400 + 40 * np.sin(grid[0] / 4) + 30 * np.cos(grid[1] / 5) + rng.normal(0, 12, SHAPE)
        values[distance < 4.5] += contrast
        if name == "T1GD" and enhancing:
            values[distance < 2.5] += 500
        volumes[name] = np.where(brain, values, 0).astype(np.int16)
    return {**volumes, "MASK": np.where(brain, mask, 0).astype(np.uint8)}


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def save_as(path: Path, data: np.ndarray, axes: str) -> Path:
    """Save RAS data in another stored orientation such as LPS; the world coordinates of every voxel stay."""
    image = nib.Nifti1Image(data, AFFINE)
    image = image.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(axes))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def brats_case(root: Path, case_id: str, volumes: dict[str, np.ndarray], suffixes: dict[str, str] = BRATS_2023) -> Path:
    for name, suffix in suffixes.items():
        if name in volumes:
            save(root / case_id / f"{case_id}{suffix}.nii.gz", volumes[name])
    return root / case_id


def brats_tree(root: Path, enhancing: int = 2, others: int = 2) -> Path:
    """A BraTS 2023 tree of `enhancing` + `others` patients."""
    for number in range(enhancing + others):
        brats_case(root, f"BraTS-GLI-{number:05d}-000", head(number, enhancing=number < enhancing))
    return root


def run(source: Path, out: Path, settings: DataConfig = SETTINGS, **options: Any) -> Cohort:
    """Prepare in this process."""
    return prepare(source, out, settings, processes=1, **options)


def left_out(out: Path) -> dict[str, str]:
    """Reason by case id."""
    table = read_index(out / "index.csv").set_index("case_id")
    return table.loc[table["status"] == "left out", "reason"].to_dict()


def contract(spacing_mm: float = 4.0, shape: tuple[int, int, int] = (40, 48, 40)) -> Contract:
    how = {"brain_mask": "nonzero", "clip_sigma": 4.0, "enhancement_threshold": 0.3, "enhancing_ml": 0.5}
    return Contract(
        inputs=("T1", "T2", "FLAIR"),
        target="T1GD",
        spacing_mm=spacing_mm,
        shape=shape,
        preparation=how,
        layout="brats2023",
        cohort_digest="0" * 32,
        phantom=False,
    )
