"""Which of T1, T2 and FLAIR carries the enhancement, and what would more patients bring?

    python studies/ablation.py                       the embedded phantom, some minutes on 2 cores
    python studies/ablation.py --data PATH           EGD, BraTS, a CSV of paths or a prepared cohort
    ... --vary inputs                                the sequences alone; --vary patients: their number alone
    ... --patients 25 50 100 200                     other points of the learning curve
    ... --method place-and-draw --model.id place-unet  with another method

Fixed:   cohort, split and test patients, network, loss, method, optimiser, seed. An epoch of fewer patients has fewer
         steps: --train.patience decides when each stops
Varied:  the inputs: T1, T2 and FLAIR, alone, in pairs and together; the number of training patients: random parts of
         the training patients, each part of the next larger, and all of them
Score:   voxel AUC in and near the validation patients' tumours ranks the trials: of the probability of enhancement
         where the method states one, else of the drawn contrast. Test patients are scored at the end; baselines have
         all inputs and all training patients
Paper:   all three sequences, 252 patients for training; the paper has no ablation
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from lab.cli.study_command import run_study, settings_for
from lab.config import Config
from lab.io.files import plural

if TYPE_CHECKING:
    from lab.experiments.plan import Plan

QUESTION = "Which of T1, T2 and FLAIR carries the enhancement, and what would more patients bring?"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablation(Config):
    """Which of T1, T2 and FLAIR carries the enhancement, and what would more patients bring?"""

    vary: tuple[Literal["inputs", "patients"], ...] = ("inputs", "patients")
    """What to vary: the input sequences, the number of training patients."""
    patients: tuple[int, ...] = ()
    """Numbers of training patients, by default 25 50 100 200, and 6 12 on the phantom. Numbers above what there are are
    left out; all patients are always a trial."""


def grid(settings: Ablation) -> dict[str, dict[str, Any]]:
    """All inputs and all patients; then parts of the inputs, and parts of the patients."""
    inputs = settings.data.inputs
    found: dict[str, dict[str, Any]] = {"all inputs and patients": {}}
    if "inputs" in settings.vary:
        for count in range(1, len(inputs)):
            for chosen in itertools.combinations(inputs, count):
                found[" + ".join(chosen)] = {"data.inputs": chosen}
    if "patients" in settings.vary:
        numbers = settings.patients or ((25, 50, 100, 200) if settings.data.path else (6, 12))
        found |= {plural(count, "patient"): {"train.patients": count} for count in sorted(numbers)}
    return found


def possible(plan: Plan) -> dict[str, Mapping[str, Any]]:
    """The grid without numbers of patients that the training part does not have; prints which."""
    most = min(split.loc[split["split"] == "train", "patient_id"].nunique() for split in plan.splits)
    grid = plan.study.grid
    kept = {label: settings for label, settings in grid.items() if settings.get("train.patients", 0) < most}
    if left := [label for label in grid if label not in kept]:
        print(f"Left out, for there are {most} training patients: {', '.join(left)}", flush=True)
    return kept


def main() -> int:
    """Run the study, or continue it."""
    changes = {"study.objective": "val/voxel_auc"}
    demo = {"train.epochs": 20}
    varied = {"train.patients": "--patients"}
    settings = settings_for(Ablation, sys.argv[1:], varied=varied, changes=changes, demo=demo)
    return run_study(
        settings,
        name="ablation",
        question=QUESTION,
        grid=lambda: grid(settings),
        series="label",
        complete=possible,
    )


if __name__ == "__main__":
    sys.exit(main())
