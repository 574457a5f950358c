"""A patient of simple shapes as files, and a network that was logged for such patients, untrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import nibabel as nib
import numpy as np

from lab.data.prepare_worker import VERSION
from lab.synthesis.networks.paper import build
from lab.tracking.models.network import log_network
from lab.tracking.run import Run
from lab.tracking.store import connect

SHAPE, SPACING = (44, 52, 46), 4.0
AFFINE = np.array([[4.0, 0, 0, -90], [0, 4.0, 0, -126], [0, 0, 4.0, -72], [0, 0, 0, 1]])
SEQUENCES = ("T1", "T2", "FLAIR")
KNOWN: dict[str, Any] = {
    "inputs": list(SEQUENCES),
    "target": "T1GD",
    "spacing_mm": SPACING,
    "shape": [40, 48, 40],
    "preparation": {"brain_mask": "auto", "clip_sigma": 4.0, "enhancement_threshold": 0.3, "enhancing_ml": 0.5},
    "layout": "brats2023",
    "preparation_version": VERSION,
    "cohort_digest": "c0" * 16,
    "phantom": False,
}


def volumes(seed: int = 0) -> dict[str, np.ndarray]:
    """T1, T2, FLAIR and mask (X, Y, Z) in RAS: an ellipsoid with a bright ball in FLAIR, and that ball as the mask."""
    rng = np.random.default_rng(seed)
    grid = np.indices(SHAPE).astype(float)
    brain = sum((axis - centre) ** 2 / edge**2 for axis, centre, edge in zip(grid, (22, 26, 22), (15, 19, 16))) <= 1
    ball = sum((axis - centre) ** 2 for axis, centre in zip(grid, (16, 28, 24))) < 10
    made = {
        name: np.where(brain, 400 + 40 * np.sin(grid[0] / 4) + rng.normal(0, 12, SHAPE), 0).astype(np.float32)
        for name in SEQUENCES
    }
    made["FLAIR"][ball] += 400
    return {**made, "mask": ball.astype(np.uint8)}


def stored(folder: Path, axes: str = "RAS") -> dict[str, Path]:
    """The same as NIfTI files, stored along `axes`."""
    folder.mkdir(parents=True, exist_ok=True)
    turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(axes))
    paths = {}
    for name, data in volumes().items():
        paths[name] = folder / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(data, AFFINE).as_reoriented(turn), paths[name])
    return paths


def logged(slot: str, **changes: Any) -> str:
    """URI of a logged network of two filters; `changes` to what it is known to expect."""
    run = Run.open("patients", slot, identity={"slot": slot})
    return log_network(run, build(0, width=2, depth=2, seed=3), KNOWN | changes)


def named(uri: str, name: str, alias: str = "champion") -> str:
    """Register a logged model, with an alias; its URI by that."""
    version = mlflow.register_model(uri, name).version
    connect().set_registered_model_alias(name, alias, version)
    return f"models:/{name}@{alias}"
