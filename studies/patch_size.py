"""Does it help to train on patches round the tumour, and of what size?

    python studies/patch_size.py                    the embedded phantom, a few minutes on 2 cores
    python studies/patch_size.py --data PATH        EGD, BraTS, a CSV of paths or a prepared cohort
    python studies/patch_size.py --sizes 0 96 48    other edges in millimetres; 0 is the whole volume

Fixed:   cohort, split, model 1, optimiser, number of epochs, seed
Varied:  the whole volume and cubes of 128, 96 and 64 mm round the tumour's centre of mass, each with L1_brain, L2_brain
         and SSIM: the twelve trials of the paper's tables 3 and 7
Score:   Lin's concordance of synthetic and true contrast over the voxels in and near the validation patients' tumours
         ranks the trials. The paper scored each size inside its own patch; small patches are nearly all tumour, so its
         figures cannot be compared across sizes. The report shows these, and beside them every size on the same voxels:
         the whole volume by sliding window, scored inside the smallest patch
Paper:   brain MAE 0.120 (full), 0.123 (128), 0.133 (96), 0.153 (64), each inside its own patch (L1_brain, EGD, 1 mm)
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from lab.cli.study_command import run_study, settings_for
from lab.config import Config

QUESTION = "Does it help to train on patches round the tumour, and of what size?"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchSize(Config):
    """Does it help to train on patches round the tumour, and of what size?"""

    sizes: tuple[float, ...] = (0.0, 128.0, 96.0, 64.0)
    """Edges in millimetres; 0 is the whole volume."""
    losses: tuple[str, ...] = ("L1_brain", "L2_brain", "SSIM")
    """Losses to train each size with."""


def grid(settings: PatchSize) -> dict[str, dict[str, Any]]:
    """Every size with every loss."""
    return {
        f"{f'{size:g} mm' if size else 'full'}, {loss}": {"train.patch_mm": size or None, "loss.name": loss}
        for loss in settings.losses
        for size in settings.sizes
    }


def main() -> int:
    """Run the study, or continue it."""
    varied = {"train.patch-mm": "--sizes", "loss.name": "--losses"}
    changes = {"model.id": "model-1", "study.objective": "val/contrast_pooled"}
    settings = settings_for(PatchSize, sys.argv[1:], varied=varied, changes=changes, demo={"train.epochs": 20})
    return run_study(
        settings, name="patch_size", question=QUESTION, grid=lambda: grid(settings), series="train.patch_mm"
    )


if __name__ == "__main__":
    sys.exit(main())
