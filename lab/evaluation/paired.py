"""Is one synthesis better than another on the same patients? A paired bootstrap over patients.

Every draw takes the same patients of both, with all their scans, and the difference is taken within the draw, so that
what makes a patient easy or hard for both falls out. The interval is the expanded percentile interval (Hesterberg, The
American Statistician 2015): plain percentiles are too narrow where patients are few, as a z interval is beside a t.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from lab.evaluation.figures import pooling_of, shown_in, split_truth
from lab.evaluation.pooled import columns_of
from lab.evaluation.pooling import PoolingFunction, mean
from lab.stats.bootstrap import expanded_interval, patient_draws

RESAMPLES = 4000


class Paired(NamedTuple):
    """A figure of two syntheses on the same patients, compared."""

    first: float
    second: float
    difference: float
    """first - second."""
    low: float
    high: float
    n: int
    """Patients that count: both have what the figure is made of."""


def compare_scores(
    first: pd.DataFrame, second: pd.DataFrame, score: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> Paired:
    """A score of the gate for two tables of `lab.evaluation.evaluate` on their common cases, with its interval.

    `score` is of `shown_in("gate")`. Raises ValueError for another, and where it is defined for no common case.
    """
    known = shown_in("gate")
    if score not in known:
        raise ValueError(f"there is no score {score!r}; known are {', '.join(known)}")
    name, truth = split_truth(score)
    pooling = pooling_of(name)
    return compare(first, second, columns_of(pooling, truth), pooling.function, resamples=resamples, seed=seed)


def compare_means(
    first: pd.DataFrame, second: pd.DataFrame, column: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> Paired:
    """The mean over scans of one column of two tables on their common cases, with the difference's interval.

    Raises ValueError where no common case has it.
    """
    return compare(first, second, {column: "value"}, mean("value").function, resamples=resamples, seed=seed)


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    columns: dict[str, str],
    function: PoolingFunction,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """A figure of two tables of patients (a row a `case_id`) on their common cases, with the difference's interval.

    `columns` are those of the tables and what `function` calls them. Equal seeds draw equal patients. Raises ValueError
    where no common case has all columns.
    """
    one, other = (table.set_index("case_id") for table in (first, second))
    cases = [case for case in one.index if case in other.index]
    owners = one.loc[cases, "patient_id"].astype(str).to_numpy()
    sides = [table.loc[cases, list(columns)].to_numpy(np.float64) for table in (one, other)]
    known = ~np.isnan(np.concatenate(sides, axis=1)).any(axis=1)
    if not known.any():
        raise ValueError(f"{', '.join(columns)}: defined for none of the {len(cases)} common cases")
    names, owner = np.unique(owners[known], return_inverse=True)
    weights = patient_draws(len(names), resamples, np.random.default_rng(seed))[:, owner]  # (1 + resamples, cases)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn, beside = (
            function(weights, {name: side[known, i] for i, name in enumerate(columns.values())}) for side in sides
        )
    low, high = expanded_interval(drawn - beside, len(names))
    return Paired(float(drawn[0]), float(beside[0]), float(drawn[0] - beside[0]), low, high, len(names))
