"""A patient of simple shapes for a network that is a rule, of which every voxel is known."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from patients import AFFINE, volumes
from torch import Tensor, nn

from lab.deploy.patient_folder import PICTURE, REPORT
from lab.inference.settings import ENHANCEMENT, SYNTHESIS, UNCERTAINTY

REAL = Path(__file__).parents[3] / "shared" / "cases" / "brats2021-1mm" / "BraTS2021_01481"
FILES = [ENHANCEMENT, REPORT, PICTURE, SYNTHESIS, UNCERTAINTY]
MODEL = {"id": 0, "width": 2, "depth": 2, "norm": "batch", "dropout": 0.5}


class Rule(nn.Module):
    """The T1, and 0.5 more where the FLAIR is bright."""

    def __init__(self, more: float = 0.5) -> None:
        super().__init__()
        self.more = nn.Parameter(torch.tensor(more))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1] + self.more * (x[:, 2:3] > 0.8)


def head(seed: int = 0) -> dict[str, np.ndarray]:
    """T1, T2, FLAIR and MASK in RAS, see `patients.volumes`."""
    made = volumes(seed)
    return {name.replace("mask", "MASK"): volume for name, volume in made.items()}


def stored(folder: Path, axes: str = "RAS", ending: str = ".nii.gz", seed: int = 0) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, data in head(seed).items():
        image = nib.Nifti1Image(data, AFFINE)
        turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(axes))
        paths[name] = folder / f"{name}{ending}"
        nib.save(image.as_reoriented(turn), paths[name])
    return paths


def split(paths: dict[str, Path]) -> tuple[dict[str, Path], Path]:
    return {name: path for name, path in paths.items() if name != "MASK"}, paths["MASK"]


def quiet(_: str) -> None:
    pass
