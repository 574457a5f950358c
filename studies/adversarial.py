"""Does an adversary, or a flow, draw the enhancement that an image loss leaves out, and at what cost?

    python studies/adversarial.py                        the embedded phantom, some minutes on 2 cores
    python studies/adversarial.py --data PATH            EGD, BraTS, a CSV of paths or a prepared cohort
    python studies/adversarial.py --weights 0.01 0.1 1   other weights of the adversarial loss
    ... --methods supervised differentiable-judge flow   other methods; --adversarial.filters, --flow.steps, ...

Fixed:   cohort, split, L1_brain, optimiser, number of epochs, seed, and model 0 (`--model.id` takes another); a flow
         has two networks of that width and depth
Varied:  the method: supervised, adversarial with each weight beside the image loss, flow
Score:   Lin's concordance of synthetic and true contrast over the voxels in and near the validation patients' tumours
         ranks the trials. Test patients are scored at the end. The page has the seconds of a volume, and the samples of
         a flow with their CRPS and spread; MLflow has the discriminator's scores, accuracy and gradients by epoch
Paper:   names adversarial training among its suggestions for further work
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from lab.cli.study_command import run_study, settings_for
from lab.config import Config, network_key

QUESTION = "Does an adversary, or a flow, draw the enhancement that an image loss leaves out, and at what cost?"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialStudy(Config):
    """Does an adversary, or a flow, draw the enhancement that an image loss leaves out, and at what cost?"""

    methods: tuple[str, ...] = ("supervised", "adversarial", "flow")
    """Methods to compare."""
    weights: tuple[float, ...] = (0.01, 0.1)
    """Weights of the adversarial loss beside the image loss."""


def grid(settings: AdversarialStudy) -> dict[str, dict[str, Any]]:
    """Every method, the adversarial one with every weight."""
    found: dict[str, dict[str, Any]] = {}
    for method in settings.methods:
        if method == "adversarial":
            named = {f"adversarial, {weight:g}": {"adversarial.weight": weight} for weight in settings.weights}
        elif method == "flow":
            size = {name: getattr(settings.model, name) for name in ("width", "depth", "norm", "dropout")}
            network = {"residual_flow.model": network_key(settings.model.id), "model.id": "residual-flow"}
            named = {"flow": network | {f"residual_flow.{name}": value for name, value in size.items()}}
        else:
            named = {method: {}}
        found |= {label: {"train.method": method, **own} for label, own in named.items()}
    return found


def with_options(settings: AdversarialStudy) -> AdversarialStudy:
    """The settings with those of the methods that the grid varies, which need not be on the command line."""
    from lab.synthesis.methods.adversarial import AdversarialConfig  # late: torch takes seconds
    from lab.synthesis.networks.residual_flow import ResidualFlowConfig

    varied = {"adversarial": AdversarialConfig(), "residual_flow": ResidualFlowConfig()}
    return dataclasses.replace(settings, options={**varied, **settings.options})


def main() -> int:
    """Run the study, or continue it."""
    changes = {"study.objective": "val/contrast_pooled"}
    varied = {"train.method": "--methods", "method": "--methods", "adversarial.weight": "--weights"}
    settings = settings_for(AdversarialStudy, sys.argv[1:], varied=varied, changes=changes, demo={"train.epochs": 20})
    settings = with_options(settings)
    return run_study(
        settings, name="adversarial", question=QUESTION, grid=lambda: grid(settings), series="train.method"
    )


if __name__ == "__main__":
    sys.exit(main())
