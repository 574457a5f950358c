"""Optuna as the search of a classifier's settings: a short one in memory, the same for the same seed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import optuna
import pandas as pd

STARTUP = 8
"""Trials at random before the sampler learns, the same as in the studies of networks."""


def tune(objective: Callable[[Any], float], trials: int, seed: int) -> pd.DataFrame:
    """Maximise `objective` over a number of trials: columns number, value, started (ms), seconds, and the settings.

    It lives in memory: a search takes seconds and is kept once it is done, by whoever asked for it. Settings that a
    trial did not draw are missing in its row.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # an error is raised, and shown once
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    rows: list[dict[str, Any]] = []

    def timed(trial: optuna.Trial) -> float:
        started = time.time()
        value = objective(trial)
        seconds = time.time() - started
        rows.append(
            {"number": trial.number, "value": value, "started": int(1000 * started), "seconds": seconds, **trial.params}
        )
        return value

    study.optimize(timed, n_trials=trials)
    return pd.DataFrame(rows)
