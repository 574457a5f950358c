"""Does it help a network to know age, sex, grade, IDH and 1p/19q, and which of them carries it?

    python studies/clinical.py                            the embedded phantom, a few minutes on 2 cores
    python studies/clinical.py --data PATH                EGD, or a CSV of paths with these columns
    python studies/clinical.py --covariates age sex       what is known before surgery

Fixed:   cohort, split, model 0, L1_brain, optimiser, number of epochs, seed
Varied:  the images alone; all covariates together; each of them alone. They scale and shift the channels behind every
         normalisation (FiLM, Perez et al. 2018); unknown values are coded as such, known ones are dropped in training
         with the probability --clinical.drop
Score:   Lin's concordance of synthetic and true contrast over the voxels in and near the validation patients' tumours
         ranks the trials. Test patients are scored at the end, each paired with the images alone. A covariate that
         alone tells who enhances (AUC of 0.9 on the training patients) is warned of
Paper:   names covariates as further work and has no figures
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from lab.cli.study_command import run_study, settings_for
from lab.config import COVARIATES, Config, Covariate

QUESTION = "Does it help a network to know age, sex, grade, IDH and 1p/19q, and which of them carries it?"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clinical(Config):
    """Does it help a network to know age, sex, grade, IDH and 1p/19q, and which of them carries it?"""

    covariates: tuple[Covariate, ...] = COVARIATES
    """Covariates to try, together and each alone."""


def grid(settings: Clinical) -> dict[str, dict[str, Any]]:
    """The images alone, all covariates, and each of several."""
    names = settings.covariates
    chosen = {"images alone": (), "all covariates": names}
    chosen |= {name: (name,) for name in names} if len(names) > 1 else {}
    return {label: {"clinical.use": use} for label, use in chosen.items()}


def main() -> int:
    """Run the study, or continue it."""
    changes = {"study.objective": "val/contrast_pooled"}
    varied = {"clinical.use": "--covariates"}
    settings = settings_for(Clinical, sys.argv[1:], varied=varied, changes=changes, demo={"train.epochs": 40})
    return run_study(settings, name="clinical", question=QUESTION, grid=lambda: grid(settings), series="clinical.use")


if __name__ == "__main__":
    sys.exit(main())
