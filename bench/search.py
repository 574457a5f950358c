"""Comparison of samplers and pruners for the search of mix weights: quality against cost, measured on the phantom.

    python bench/search.py [--networks 48] [--epochs 30] [--budget 20] [--repeats 40]

First, `networks` networks of the demo are trained on the phantom with weights of the mix loss drawn uniformly from the
range of `studies/mix_weights.py`. Their concordance of contrast on the validation patients, epoch by epoch, is kept in
a file under `mlruns/` and not computed twice. A Gaussian process over the three powers is fitted to these curves. On
this surrogate every sampler and pruner then searches `repeats` times, until it has spent the epochs of `budget`
unpruned trials. The score is how far its choice lies below the surrogate's highest value, in units of the drawn
networks' standard deviation. Measured figures are in bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lab  # noqa: F401 - before torch: its threads then wait without spinning, as in a study

# isort: split
import numpy as np
import optuna
import torch
from scipy.stats import qmc
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from lab.config import DEMO, LossConfig
from lab.data.batches import CaseStore
from lab.data.source import obtain
from lab.experiments.synthesis.trial import build_method
from lab.synthesis.device import choose, use_threads
from lab.synthesis.train import fit
from lab.tracking.store import RUNS

LOW, HIGH, ZERO = -2.0 - 1 / 3, 1.0, -2.0
TERMS = ("L1", "SSIM", "L1_enhancement")
WATCHED = "val/contrast_tumour"

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "quasi-random (Sobol)": lambda seed: optuna.samplers.QMCSampler(seed=seed, scramble=True),
    "TPE, 8 to start": lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=8),
    "TPE, 5 to start": lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=5),
    "Gaussian process": lambda seed: optuna.samplers.GPSampler(seed=seed, n_startup_trials=8),  # minutes a pruner
}
PRUNERS: dict[str, Callable[[int], optuna.pruners.BasePruner]] = {
    "none": lambda epochs: optuna.pruners.NopPruner(),
    "median": lambda epochs: optuna.pruners.MedianPruner(n_startup_trials=5),
    "median, from a third on": lambda epochs: optuna.pruners.MedianPruner(
        n_startup_trials=5, n_warmup_steps=epochs // 3
    ),
    "successive halving": lambda epochs: optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, epochs // 4)),
    "hyperband": lambda epochs: optuna.pruners.HyperbandPruner(min_resource=max(1, epochs // 4), max_resource=epochs),
}


def train_bank(networks: int, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers (N, 3) and validation curves (N, epochs) of networks of the demo."""
    file = Path(RUNS) / f"bench-search-{epochs}.json"
    bank: list[dict[str, list[float]]] = json.loads(file.read_text()) if file.exists() else []
    if len(bank) < networks:
        config = DEMO
        cohort = obtain(config.data, config.phantom, RUNS)
        split = cohort.split(config.data.split, config.data.split_seed)
        arithmetic = choose("cpu")
        use_threads(2)
        parts = {
            part: CaseStore(
                cohort, split.loc[split["split"] == part, "case_id"].tolist(), inputs=config.data.inputs, target="T1GD"
            )
            for part in ("train", "val")
        }
        draws = qmc.scale(qmc.Sobol(3, seed=0).random(networks), [LOW] * 3, [HIGH] * 3)
        for powers in draws[len(bank) :]:
            weights = [10**power if power > ZERO else 0.0 for power in powers]
            settings = torch_settings(epochs)
            loss = LossConfig(name="mix", mix_weights=tuple(weights) if any(weights) else (1.0, 0.0, 0.0))
            method = build_method(replace(config, loss=loss, train=settings), arithmetic)
            fitted = fit(method, parts["train"], parts["val"], settings, arithmetic=arithmetic)
            curve = [figures.get(WATCHED, 0.0) for figures in fitted.progress.history]
            bank.append({"powers": powers.tolist(), "curve": curve})
            file.write_text(json.dumps(bank))
            print(f"[{len(bank)}/{networks}] {np.round(weights, 3).tolist()}: {curve[-1]:.4f}", flush=True)
    chosen = bank[:networks]
    return np.array([entry["powers"] for entry in chosen]), np.array([entry["curve"] for entry in chosen])


def torch_settings(epochs: int):  # type: ignore[no-untyped-def]
    """The demo's training with this number of epochs."""
    return replace(DEMO.train, epochs=epochs, patience=epochs)


class StandIn:
    """Surrogate: the expected validation curve of a network with given weights."""

    def __init__(self, powers: np.ndarray, curves: np.ndarray) -> None:
        kernel = ConstantKernel(1.0) * RBF([1.0] * 3, (0.3, 30)) + WhiteKernel(0.1, (1e-3, 1))
        at = np.maximum(powers, ZERO)  # all powers below stand for weight 0, the same network
        self.process = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=3, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.process.fit(at, curves)
        self.noise = curves.std(axis=0) * np.sqrt(self.process.kernel_.k2.noise_level)
        grid = np.stack(np.meshgrid(*[np.linspace(ZERO, HIGH, 25)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        self.best = float(self.process.predict(grid)[:, -1].max())
        self.deviation = float(curves[:, -1].std())

    def mean(self, powers: list[float]) -> np.ndarray:
        """The expected curve."""
        return self.process.predict(np.maximum([powers], ZERO))[0]


def search(stand_in: StandIn, sampler: str, pruner: str, *, seed: int, epochs: int, budget: int) -> tuple[float, int]:
    """How far the search's choice truly lies below the highest value (in SDs), and the number of its trials."""
    rng = np.random.default_rng(seed)
    study = optuna.create_study(direction="maximize", sampler=SAMPLERS[sampler](seed), pruner=PRUNERS[pruner](epochs))
    spent, true = 0, {}
    while spent < budget * epochs:
        trial = study.ask()
        powers = [trial.suggest_float(f"log10 {term}", LOW, HIGH) for term in TERMS]
        mean = stand_in.mean(powers)
        curve = mean + stand_in.noise * rng.standard_normal()  # a network's random deviation is the same in all epochs
        true[trial.number] = float(mean[-1])
        state, value = optuna.trial.TrialState.COMPLETE, float(curve[-1])
        for epoch in range(epochs):
            spent += 1
            trial.report(float(curve[epoch]), epoch + 1)
            if epoch + 1 < epochs and trial.should_prune():
                state = optuna.trial.TrialState.PRUNED
                break
        study.tell(trial, value if state == optuna.trial.TrialState.COMPLETE else None, state=state)
    return (stand_in.best - true[study.best_trial.number]) / stand_in.deviation, len(study.trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--budget", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=40)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    powers, curves = train_bank(arguments.networks, arguments.epochs)
    stand_in = StandIn(powers, curves)
    share = np.sqrt(stand_in.process.kernel_.k2.noise_level)
    print(f"{WATCHED} of {len(curves)} networks: {curves[:, -1].min():.4f} to {curves[:, -1].max():.4f}, SD "
          f"{stand_in.deviation:.4f}; highest of the stand-in {stand_in.best:.4f}, luck {share:.2f} SD")  # fmt: skip
    print(f"{'sampler':<22}{'pruner':<26}{'regret (SD)':>14}{'standard error':>16}{'trials':>8}")
    for sampler in SAMPLERS:
        for pruner in PRUNERS:
            found = [
                search(stand_in, sampler, pruner, seed=seed, epochs=arguments.epochs, budget=arguments.budget)
                for seed in range(arguments.repeats)
            ]
            regret, trials = np.array(found).T
            error = regret.std(ddof=1) / np.sqrt(len(regret))
            print(f"{sampler:<22}{pruner:<26}{regret.mean():>14.3f}{error:>16.3f}{trials.mean():>8.1f}", flush=True)


if __name__ == "__main__":
    main()
