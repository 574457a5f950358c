"""Made data sets with as much to learn as a test asks for, and a random search in place of Optuna's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lab.radiomics.dataset import CLINICAL, Dataset


class RandomTrial:
    """Draws as Optuna's trial does."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.values: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        drawn = np.exp(self.rng.uniform(np.log(low), np.log(high))) if log else self.rng.uniform(low, high)
        self.values[name] = float(drawn)
        return self.values[name]

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        drawn = np.exp(self.rng.uniform(np.log(low), np.log(high + 1))) if log else self.rng.integers(low, high + 1)
        self.values[name] = min(int(drawn), high)
        return self.values[name]

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        self.values[name] = choices[int(self.rng.integers(len(choices)))]
        return self.values[name]


def random_search(objective: Callable[[Any], float], trials: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(trials):
        trial, begun = RandomTrial(rng), time.time()
        value = objective(trial)
        row = {"number": number, "value": value, "seconds": time.time() - begun, "started": int(begun * 1000)}
        rows.append(row | trial.values)
    return pd.DataFrame(rows)


def make_dataset(
    *,
    patients: int = 60,
    features: int = 40,
    effect: float = 1.5,
    informative: int = 3,
    scans: int = 1,
    seed: int = 0,
    perturbed: bool = False,
) -> Dataset:
    """Normal features of three sequences of which the first `informative` are `effect` SDs higher with label 1.

    Every patient has `scans` cases, alike but for a little noise. With `perturbed`, the last feature changes at random
    with the mask and the others hardly.
    """
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(patients) % 2, scans)
    values = np.repeat(rng.normal(size=(patients, features)), scans, axis=0)
    values += 0.1 * rng.normal(size=values.shape) * (scans > 1)
    values[:, :informative] += effect * label[:, None]
    names = [f"{('T1', 'T2', 'FLAIR')[n % 3]}_original_firstorder_F{n}" for n in range(features)]
    index = pd.Index([f"P{n // scans:03d}-{n % scans}" for n in range(patients * scans)], name="case_id")
    table = pd.DataFrame(
        {
            "patient_id": [name.split("-")[0] for name in index],
            "label": label,
            **dict.fromkeys(CLINICAL, np.nan),
            "age": rng.normal(60, 10, len(index)) + 5 * label,
            "sex": rng.choice(["M", "F"], len(index)),
            "tumour_ml": np.exp(rng.normal(3, 1, len(index))),
            "vendor": rng.choice(["A", "B"], len(index)),
        },
        index=index,
    )
    tables = {}
    if perturbed:
        noise = np.full(features, 0.05)
        noise[-1] = 3.0
        for change in ("dilate", "erode"):
            moved = values + noise * rng.normal(size=values.shape)
            tables[change] = pd.DataFrame(moved, index, names).iloc[: len(index) // 2]
    return Dataset(
        features=pd.DataFrame(values, index, names),
        table=table,
        event="enhancing",
        name="made up",
        phantom=True,
        digest="0" * 64,
        perturbed=tables,
    )
