"""Requests to a served network: a patient by paths, and what the answer holds."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from patients import SEQUENCES

ALL = (*SEQUENCES, "mask")
OUTSIDE = "does not lie in the folder that this server reads from"
CUBE = np.random.default_rng(1).uniform(1, 2, (3, 6, 6, 6))


def by_path(**changes: Any) -> dict[str, Any]:
    return {name: f"one/{name}.nii.gz" for name in ALL} | changes


def decoded(volume: dict[str, str]) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(volume["nifti"]))).dataobj)


def voxels(file: Path) -> np.ndarray:
    return np.asarray(nib.load(file).dataobj)
