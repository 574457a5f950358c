"""Constructed predictions of four methods, and what is judged of them; for the tests of a classifier's report."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from scipy.stats import norm

from lab.radiomics.assess.assess import COLUMNS, Assessment, assess
from lab.radiomics.assess.external import ExternalTest
from lab.radiomics.baselines import OURS, VOLUME, WORC, synthetic

NETWORK = synthetic("model 1, L1_brain")


def predicted(method: str, *, effect: float, ones: int = 20, zeros: int = 20, repeats: int = 2) -> pd.DataFrame:
    """Every patient tested once a repeat in 4 folds."""
    rng = np.random.default_rng([len(method), ones, zeros])
    labels = np.repeat([1, 0], [ones, zeros])
    strength = rng.standard_normal(labels.size) + effect * labels - effect / 2
    rows = []
    for repeat in range(1, repeats + 1):
        scores = norm.cdf(strength + 0.4 * rng.standard_normal(labels.size))
        for number, (label, score) in enumerate(zip(labels, scores)):
            place = number if label else number - ones
            name = f"P{number:03d}"
            rows.append((method, repeat, 1 + place % 4, name, name, label, score, 0.5, 30, 10))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def all_predictions(*, ones: int = 20, zeros: int = 20) -> pd.DataFrame:
    """Ours, WORC, the volume and, on every third patient and in millilitres, the other arm."""
    few = predicted(NETWORK, effect=0.8, repeats=1, ones=ones, zeros=zeros).iloc[::3].assign(threshold=np.nan, fold=1)
    few["score"] = 20 * few["score"]
    effects = {VOLUME: 0.2, OURS: 2.0, WORC: 1.5}
    return pd.concat([*(predicted(name, effect=e, ones=ones, zeros=zeros) for name, e in effects.items()), few])


@cache
def judged_methods() -> tuple[pd.DataFrame, Assessment]:
    """Predictions and their assessment. Read only: tests share them."""
    table = all_predictions()
    groups = pd.DataFrame({"patient_id": table["patient_id"].unique()}, index=table["patient_id"].unique())
    groups["vendor"] = np.where(np.arange(len(groups)) % 4, "Siemens", "GE")
    return table, assess(table, resamples=100, permutations=200, groups=groups)


def external_result(
    effect: float,
    *,
    ones: int = 20,
    zeros: int = 20,
    name: str = "Elsewhere (scans)",
    far: int = 2,
    slug: str = "scans-1",
) -> ExternalTest:
    """A classifier's test on another cohort, two of whose cases were left out; `far` cases are out of distribution."""
    table = predicted(name, effect=effect, ones=ones, zeros=zeros, repeats=1).assign(fold=1)
    return ExternalTest(
        slug=slug,
        name=name,
        event="enhancing",
        digest="e" * 32,
        source="/data/scans",
        left_out={"P900": "no <mask>", "P901": "a patient of the training cohort, the same id"},
        shared=["P901"],
        heads_compared=True,
        training="Here (training scans)",
        training_patients=100,
        training_events=80,
        predictions=table.assign(low=0.1, high=0.9, novelty=0.5, far=np.arange(len(table)) < far, strangest=""),
        assessment=assess(table, main=name, resamples=100, permutations=200),
    )
