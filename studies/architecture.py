"""Which network synthesises the best post-contrast T1, and with which loss?

    python studies/architecture.py                       the embedded phantom, a few minutes on 2 cores
    python studies/architecture.py --data PATH           EGD, BraTS, a CSV of paths or a prepared cohort
    python studies/architecture.py --data PATH --search  the grid, then a guided search around its best trial
    ... --repeats 3 --folds 5                            several seeds, and every patient tested once
    ... --networks model-0 segresnet swin-unetr          MONAI's networks beside the paper's; --segresnet.init-filters
    ... --method adversarial                             each as the generator of a GAN; --adversarial.weight

Fixed:   cohort, split, optimiser, number of epochs, seed
Varied:  models 0-4 x {L1_brain, L2_brain, SSIM}: the fifteen trials of the paper's tables 2 and 6; with --search then
         width, depth, normalisation, dropout and learning rate of the best of them. The paper's networks share a width;
         that of others is chosen for about as many parameters as the first network has, and printed
Score:   brain MAE on the validation patients ranks the trials; test patients are scored at the end, with two baselines
Paper:   brain MAE 0.118-0.124 for all fifteen (EGD, 1 mm, width 64): the architecture hardly mattered
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from lab.cli.study_command import equal_widths, run_study, settings_for
from lab.config import Config, alias, network_key

if TYPE_CHECKING:
    import optuna

QUESTION = "Which network synthesises the best post-contrast T1, and with which loss?"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture(Config):
    """Which network synthesises the best post-contrast T1, and with which loss?"""

    networks: Annotated[tuple[str, ...], alias(aliases=("--models",))] = (
        "model-0",
        "model-1",
        "model-2",
        "model-3",
        "model-4",
    )
    """Networks to compare: `model-0` to `model-4` (or 0 to 4), `segresnet`, `dynunet`, `attention-unet`,
    `swin-unetr`, `place-unet`, `residual-flow`."""
    losses: tuple[str, ...] = ("L1_brain", "L2_brain", "SSIM")
    """Losses to train each network with."""


def grid(settings: Architecture, widths: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """Every network with every loss; by default the paper's trials. `widths` are each network's own settings."""
    networks = [network_key(name) for name in settings.networks]
    return {
        f"{name.replace('model-', 'model ')}, {loss}": {
            "model.id": name,
            **(widths or {}).get(name, {}),
            "loss.name": loss,
        }
        for loss in settings.losses
        for name in networks
    }


def search(trial: optuna.Trial, best: Config) -> dict[str, Any]:
    """A network drawn around the best of the grid."""
    found: dict[str, Any] = {}
    if best.model.id.startswith("model-"):
        width, depth = best.model.width, best.model.depth
        found = {
            "model.width": trial.suggest_categorical("width", sorted({max(4, width // 2), width, width * 3 // 2})),
            "model.depth": trial.suggest_int("depth", max(1, depth - 1), depth + 1),
            "model.norm": trial.suggest_categorical("norm", ["batch", "instance", "group"]),
            "model.dropout": trial.suggest_float("dropout", 0.0, 0.6),
        }
    rate = best.train.learning_rate
    return found | {"train.learning_rate": trial.suggest_float("learning_rate", rate / 10, rate * 10, log=True)}


def main() -> int:
    """Run the study, or continue it."""
    varied = {"model.id": "--networks", "loss.name": "--losses"}
    settings = settings_for(Architecture, sys.argv[1:], varied=varied)

    def trials() -> dict[str, dict[str, Any]]:
        return grid(settings, equal_widths(settings, settings.networks, sys.argv))

    return run_study(settings, name="architecture", question=QUESTION, grid=trials, search=search)


if __name__ == "__main__":
    sys.exit(main())
