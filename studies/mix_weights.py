"""Which weights of the mix loss buy the most enhancement for the least fidelity?

    python studies/mix_weights.py                          the embedded phantom, some minutes on 2 cores
    python studies/mix_weights.py --data PATH              EGD, BraTS, a CSV of paths or a prepared cohort
    python studies/mix_weights.py --data PATH --trials 61  a longer search; an earlier one is continued

Fixed:   cohort, split, model 0, optimiser, number of epochs
Varied:  first the published mix, w1 L1 + w2 SSIM + w3 L1_enhancement with (1, 1, 1); then a guided search over the
         weights, each 0 or between 0.01 and 10; then the winner and (1, 1, 1) with the same other seeds (--repeats)
Score:   Lin's concordance of synthetic and true contrast over the voxels in and near the validation patients' tumours
         guides the search and stops trials that fall behind; a front shows its cost in brain MAE. Test patients are
         scored at the end
Paper:   (1, 1, 1) alone: brain MAE 0.122, SSIM 0.740, coarse enhancement, also in tumours that do not enhance; the
         paper names tuning of the weights first among its suggestions for further work
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from lab.cli.study_command import run_study, settings_for
from lab.config import Config

if TYPE_CHECKING:
    import optuna

QUESTION = "Which weights of the mix loss buy the most enhancement for the least fidelity?"
TERMS = ("L1", "SSIM", "L1_enhancement")
ZERO = -2.0  # powers at or below this stand for weight 0: each term is left out in a tenth of the drawn range


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixWeights(Config):
    """Which weights of the mix loss buy the most enhancement for the least fidelity?"""


def grid(_: MixWeights) -> dict[str, dict[str, Any]]:
    """The published mix."""
    return {"mix 1 : 1 : 1": {"loss.mix_weights": (1.0, 1.0, 1.0)}}


def search(trial: optuna.Trial, _: Config) -> dict[str, Any]:
    """Three weights on a logarithmic scale, whose lowest part stands for 0."""
    powers = [trial.suggest_float(f"log10 {term}", ZERO - 1 / 3, 1.0) for term in TERMS]
    weights = tuple(10**power if power > ZERO else 0.0 for power in powers)
    if not any(weights):
        weights = (1.0, 0.0, 0.0)  # without any term there is no loss: stands for L1 alone
    return {"loss.mix_weights": weights}


def main() -> int:
    """Run the study, or continue it."""
    changes = {"loss.name": "mix", "study.search": True, "study.repeats": 3, "study.objective": "val/contrast_pooled"}
    varied = {"loss.name": "another study, studies/losses.py", "loss.mix-weights": "--trials, for a longer search"}
    settings = settings_for(MixWeights, sys.argv[1:], varied=varied, changes=changes, demo={"train.epochs": 30})
    return run_study(settings, name="mix_weights", question=QUESTION, grid=lambda: grid(settings), search=search)


if __name__ == "__main__":
    sys.exit(main())
