"""The enhancement scorecard of a group of patients, with bootstrap confidence intervals.

The bootstrap draws patients with all their scans, since scans of one head are not independent. Equal seeds draw equal
patients, whatever the trial.

Two models are compared on the same patients: every draw takes the same patients of both, and the difference is taken
within the draw, which removes what makes a patient easy or hard for both. The interval is the expanded percentile
interval (Hesterberg, The American Statistician 2015), since plain percentiles are too narrow for few patients.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab.evaluation.figure_spec import Pooling, PoolingFunction, Values, mean
from lab.evaluation.figures import TRUTHS, group_figures, pooling_of, shown_in, split_truth
from lab.evaluation.place.voxel_counts import COUNTS, read_counts
from lab.stats.bootstrap import RESAMPLES, expanded_interval, patient_draws, percentile_interval

PAIRED_RESAMPLES = 4000
SHARED = ("enhancement_level", "probability_level", "ml_predicted", "ml_near")
"""Columns without a suffix, which both definitions of truth use."""


def pooled(patients: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Figures of one trial over its patients: columns `definition`, `figure`, `value`, `low`, `high`, `n`.

    `patients` has the columns of `lab.evaluation.evaluate.evaluate`, a row per scan. `low` and `high` are the 95 %
    percentile interval of `resamples` bootstrap draws (NaN for the limits of agreement), `n` the number of patients
    with the figure. Definitions without any truth (no expert label) are left out.
    """
    names, owner = np.unique(patients["patient_id"].astype(str).to_numpy(), return_inverse=True)
    weights = patient_draws(len(names), resamples, np.random.default_rng(seed))[:, owner]  # (1 + resamples, scans)
    rows = []
    for definition in (*TRUTHS, ""):
        if definition and patients.get(f"ml_{definition}", pd.Series(dtype=float)).isna().all():
            continue
        for figure in group_figures("pooled", truths=bool(definition)):
            pooling = pooling_of(figure)
            columns = columns_of(pooling, definition)
            if not set(columns) <= set(patients):  # of a study that ended before the figure was there
                continue
            known, data = _columns(patients, columns)
            with np.errstate(divide="ignore", invalid="ignore"):
                result = pooling.function(weights[:, known], data)
            low, high = percentile_interval(result) if pooling.interval else (np.nan, np.nan)
            counted = len(np.unique(owner[known]))
            rows.append((definition, figure, float(result[0]), low, high, counted))
    return pd.DataFrame(rows, columns=["definition", "figure", "value", "low", "high", "n"])


def point(patients: pd.DataFrame, definition: str, figure: str) -> float:
    """One pooled figure without its interval, for a definition of truth or "" for none; NaN where it is missing."""
    pooling = pooling_of(figure)
    known, data = _columns(patients, columns_of(pooling, definition))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(pooling.function(np.ones((1, int(known.sum()))), data)[0])


def columns_of(pooling: Pooling, definition: str) -> dict[str, str]:
    """The columns of the per-patient table that are pooled, and their names in the pooling function."""
    ending = f"_{definition}" if definition else ""
    return {name if name in SHARED else name + ending: name for name in pooling.columns}


def _columns(patients: pd.DataFrame, columns: dict[str, str]) -> tuple[NDArray[np.bool_], dict[str, Values]]:
    """Which scans have all of these figures, and the figures of those; voxel counts are (scans, bins, 2)."""
    own = patients[list(columns)]
    known = own.notna().all(axis=1).to_numpy()
    return known, _values(own[known], columns)


def _values(patients: pd.DataFrame, columns: dict[str, str]) -> dict[str, Values]:
    return {
        name: read_counts(patients[column], column.partition("_")[0])
        if column in COUNTS
        else patients[column].to_numpy(np.float64)
        for column, name in columns.items()
    }


class Paired(NamedTuple):
    """A figure of two models on the same patients, compared."""

    first: float
    second: float
    difference: float
    """first - second."""
    low: float
    high: float
    n: int
    """Number of patients for whom both have the figure."""


def compare_scores(
    first: pd.DataFrame, second: pd.DataFrame, score: str, *, resamples: int = PAIRED_RESAMPLES, seed: int = 0
) -> Paired:
    """A pooled figure of two tables of `lab.evaluation.evaluate` on their common cases, with its interval.

    `score` is one shown in the gate or in the tables of where it enhances, as `kappa_expert`. Raises ValueError for
    another, and where no common case has it.
    """
    known = (*shown_in("gate"), *shown_in("place"))
    if score not in known:
        raise ValueError(f"there is no score {score!r}; known are {', '.join(known)}")
    name, truth = split_truth(score)
    pooling = pooling_of(name)
    return compare(first, second, columns_of(pooling, truth), pooling.function, resamples=resamples, seed=seed)


def compare_means(
    first: pd.DataFrame, second: pd.DataFrame, column: str, *, resamples: int = PAIRED_RESAMPLES, seed: int = 0
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
    resamples: int = PAIRED_RESAMPLES,
    seed: int = 0,
) -> Paired:
    """A figure of two tables of patients (a row per `case_id`) on their common cases, with the difference's interval.

    `columns` maps the tables' columns to their names in `function`. Equal seeds draw equal patients. Raises ValueError
    where no common case has all columns.
    """
    one, other = (table.set_index("case_id") for table in (first, second))
    cases = [case for case in one.index if case in other.index]
    owners = one.loc[cases, "patient_id"].astype(str).to_numpy()
    sides = [table.loc[cases, list(columns)] for table in (one, other)]
    known = np.all([side.notna().all(axis=1) for side in sides], axis=0)
    if not known.any():
        raise ValueError(f"{', '.join(columns)}: defined for none of the {len(cases)} common cases")
    names, owner = np.unique(owners[known], return_inverse=True)
    weights = patient_draws(len(names), resamples, np.random.default_rng(seed))[:, owner]  # (1 + resamples, cases)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn, beside = (function(weights, _values(side[known], columns)) for side in sides)
    low, high = expanded_interval(drawn - beside, len(names))
    return Paired(float(drawn[0]), float(beside[0]), float(drawn[0] - beside[0]), low, high, len(names))
