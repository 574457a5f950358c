"""Which of the paper's five networks synthesises the best post-contrast T1, and with which loss?

    python studies/architecture.py                       the embedded phantom, a few minutes on 2 cores
    python studies/architecture.py --data PATH           EGD, BraTS, a CSV of paths or a prepared cohort
    python studies/architecture.py --data PATH --search  the grid, then a guided search round its best trial
    ... --repeats 3 --folds 5                            several seeds, and every patient tested once

Fixed:   cohort, split, optimiser, number of epochs, seed
Varied:  models 0-4 x {L1_brain, L2_brain, SSIM}: the fifteen trials of the paper's tables 2 and 6; with --search then
         width, depth, normalisation, dropout and learning rate of the best of them
Score:   brain MAE on the validation patients ranks the trials; test patients are scored at the end, beside two rivals
Paper:   brain MAE 0.118-0.124 for all fifteen (EGD, 1 mm, width 64): the architecture hardly mattered
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from lab.cli.study_command import explain, plain, settings_for
from lab.config import Config

if TYPE_CHECKING:
    import optuna

QUESTION = "Which of the paper's five networks synthesises the best post-contrast T1, and with which loss?"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture(Config):
    """Which of the paper's five networks synthesises the best post-contrast T1, and with which loss?"""

    models: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Networks to compare."""
    losses: tuple[str, ...] = ("L1_brain", "L2_brain", "SSIM")
    """Losses to train each of them with."""


def grid(settings: Architecture) -> dict[str, dict[str, Any]]:
    """The paper's trials: every model with every loss."""
    return {
        f"model {model}, {loss}": {"model.id": model, "loss.name": loss}
        for loss in settings.losses
        for model in settings.models
    }


def search(trial: optuna.Trial, best: Config) -> dict[str, Any]:
    """A network round the best of the grid."""
    width, depth = best.model.width, best.model.depth
    return {
        "model.width": trial.suggest_categorical("width", sorted({max(4, width // 2), width, width * 3 // 2})),
        "model.depth": trial.suggest_int("depth", max(1, depth - 1), depth + 1),
        "model.norm": trial.suggest_categorical("norm", ["batch", "instance", "group"]),
        "model.dropout": trial.suggest_float("dropout", 0.0, 0.6),
        "train.learning_rate": trial.suggest_float(
            "learning_rate", best.train.learning_rate / 10, best.train.learning_rate * 10, log=True
        ),
    }


def main() -> int:
    """Run the study, or go on with it."""
    varied = {"model.id": "--models", "loss.name": "--losses"}
    settings = settings_for(Architecture, sys.argv[1:], varied=varied)

    def work() -> None:
        from lab.experiments.synthesis.study import (  # after --help has answered: torch and mlflow take seconds
            Study,
            run,
        )

        run(Study(name="architecture", question=QUESTION, grid=grid(settings), search=search), plain(settings))

    return explain(work)


if __name__ == "__main__":
    sys.exit(main())
