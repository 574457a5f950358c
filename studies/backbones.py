"""Which network body is best, at equal size and at equal time?

    python studies/backbones.py                      the embedded phantom, some minutes on 2 cores
    python studies/backbones.py --data PATH          EGD, BraTS, a CSV of paths or a prepared cohort
    ... --networks model-0 segresnet                 some of the networks; each has its settings, --segresnet.levels
    ... --budgets time                               equal time alone

Fixed:   cohort, split, loss L1_brain, optimiser, seed, and about the number of parameters of the first network
Varied:  the network, the paper's model 0 and MONAI's; and what each may spend: as many epochs as the first network, or
         as much training time. For that an epoch of each is timed once, and noted in the study's run
Score:   brain MAE on the validation patients ranks the trials; test patients are scored at the end, with the baselines
Paper:   its five networks differ by 0.006 in brain MAE; none of MONAI's is among them
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from lab.cli.study_command import equal_widths, run_study, settings_for
from lab.config import Config, network_key

if TYPE_CHECKING:
    from lab.experiments.plan import Plan

QUESTION = "Which network body is best, at equal size and at equal time?"
TIME = ", equal time"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbones(Config):
    """Which network body is best, at equal size and at equal time?"""

    networks: tuple[str, ...] = ("model-0", "segresnet", "dynunet", "attention-unet", "swin-unetr")
    """Networks to compare; the first sets the number of parameters and the time."""
    budgets: tuple[Literal["epochs", "time"], ...] = ("epochs", "time")
    """What is equal for all: the number of epochs, the training time."""


def grid(settings: Backbones, widths: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """Every network with each budget; the first, which sets both, once. `widths` are each network's own settings."""
    names = [network_key(name) for name in settings.networks]
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        label, own = name.replace("model-", "model "), {"model.id": name, **(widths or {}).get(name, {})}
        if "epochs" in settings.budgets or name == names[0]:
            found[label] = own
        if "time" in settings.budgets and name != names[0]:
            found[label + TIME] = {**own, "train.epochs": settings.train.epochs}
    return found


def equal_time(plan: Plan) -> dict[str, Mapping[str, Any]]:
    """The grid with the epochs that take each network as long as the first."""
    from lab.experiments.synthesis.equal_time import with_equal_time  # late, so that --help answers

    first = next(iter(plan.study.grid))
    return with_equal_time(plan, {label: first for label in plan.study.grid if label.endswith(TIME)})


def main() -> int:
    """Run the study, or continue it."""
    varied = {"model.id": "--networks"}
    settings = settings_for(Backbones, sys.argv[1:], varied=varied, registry=True)

    def trials() -> dict[str, dict[str, Any]]:
        return grid(settings, equal_widths(settings, settings.networks, sys.argv))

    return run_study(settings, name="backbones", question=QUESTION, grid=trials, series="label", complete=equal_time)


if __name__ == "__main__":
    sys.exit(main())
