"""Which training method draws enhancement where it is?

    python studies/enhancement.py                    the embedded phantom, a few minutes on 2 cores
    python studies/enhancement.py --data PATH        EGD, BraTS, a CSV of paths or a prepared cohort
    ... --methods supervised place-and-draw          some of the methods; each has its settings, --place-and-draw.steps
    ... --repeats 3 --folds 5                        several seeds, and every patient tested once

Fixed:   cohort, split, loss L1_brain, number of epochs, seed
Varied:  the training method, each with the network that it needs, else model 0. `supervised` with model 0 and L1_brain
         is the paper's. Each method has its own optimiser and augmentation
Score:   voxel AUC in and near the validation patients' tumours ranks the trials: of the probability of enhancement
         where a method states one, else of the drawn contrast. Test patients are scored at the end, each method beside
         the strongest baseline, with intervals
Paper:   no figure says where it enhances; the paper names a GAN among its suggestions for further work
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from lab.cli.study_command import run_study, settings_for
from lab.config import Config
from lab.synthesis.methods import METHODS

QUESTION = "Which training method draws enhancement where it is?"
PAPER = "supervised"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Enhancement(Config):
    """Which training method draws enhancement where it is?"""

    methods: tuple[str, ...] = tuple(METHODS)
    """Methods to compare."""


def grid(settings: Enhancement) -> dict[str, dict[str, Any]]:
    """Each method with the network that it trains."""
    found = {}
    for method in settings.methods:
        network = METHODS.find(method).network or settings.model.id
        label = f"{network.replace('model-', 'model ')}, {settings.loss.name}" if method == PAPER else method
        found[label] = {"train.method": method, "model.id": network}
    return found


def main() -> int:
    """Run the study, or continue it."""
    changes = {"study.objective": "val/voxel_auc"}
    varied = {"train.method": "--methods"}
    settings = settings_for(Enhancement, sys.argv[1:], varied=varied, changes=changes, registry=True)
    return run_study(settings, name="enhancement", question=QUESTION, grid=lambda: grid(settings), series="label")


if __name__ == "__main__":
    sys.exit(main())
