"""Which loss makes the synthetic image enhance where the patient does, and at what cost in fidelity?

    python studies/losses.py                        the embedded phantom, a few minutes on 2 cores
    python studies/losses.py --data PATH            EGD, BraTS, a CSV of paths or a prepared cohort
    python studies/losses.py --data PATH --folds 4  every patient tested once

Fixed:   cohort, split, model 0, optimiser, number of epochs, seed
Varied:  L1 and L2 over the image, the brain and the tumour, and SSIM: the seven of the paper's tables 1 and 5; L1 and
         L2 over the enhancing voxels, which the paper defines and does not report
Score:   Lin's concordance of synthetic and true contrast over the voxels in and near the validation patients' tumours
         ranks the trials, since image metrics do not see enhancement. Test patients are scored at the end, with the
         paper's metrics and the scorecard
Paper:   brain MAE 0.120-0.122 for all but the tumour losses (0.17), tumour MAE 0.162-0.178 (EGD, 1 mm, width 64)
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from lab.cli.study_command import run_study, settings_for
from lab.config import Config

QUESTION = "Which loss makes the synthetic image enhance where the patient does, and at what cost in fidelity?"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Losses(Config):
    """Which loss makes the synthetic image enhance where the patient does, and at what cost in fidelity?"""

    losses: tuple[str, ...] = (
        "L1",
        "L2",
        "L1_brain",
        "L2_brain",
        "L1_tumour",
        "L2_tumour",
        "SSIM",
        "L1_enhancement",
        "L2_enhancement",
    )
    """Losses to compare."""


def grid(settings: Losses) -> dict[str, dict[str, Any]]:
    """The same network with every loss."""
    return {loss: {"loss.name": loss} for loss in settings.losses}


def main() -> int:
    """Run the study, or continue it."""
    changes = {"study.objective": "val/contrast_pooled"}
    varied = {"loss.name": "--losses"}
    settings = settings_for(Losses, sys.argv[1:], varied=varied, changes=changes, demo={"train.epochs": 40})
    return run_study(settings, name="losses", question=QUESTION, grid=lambda: grid(settings))


if __name__ == "__main__":
    sys.exit(main())
