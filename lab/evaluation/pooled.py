"""The enhancement scorecard of a whole group of patients, with confidence intervals.

A patient is drawn with all the
scans there are, since scans of one head are not independent. Equal seeds draw equal patients, whatever the trial.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab.evaluation.figures import TRUTHS, group_figures, pooling_of
from lab.evaluation.pooling import Pooling, Values
from lab.stats.bootstrap import RESAMPLES, patient_draws, percentile_interval

SHARED = ("enhancement_level", "ml_predicted", "ml_near")
"""Columns that both definitions of truth are held against."""


def pooled(patients: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Figures of one trial over its patients: columns `definition`, `figure`, `value`, `low`, `high`, `n`.

    `patients` has the columns of `lab.evaluation.evaluate.evaluate`, a row a scan. `low` and `high` are the 95 %
    percentile interval of `resamples` bootstrap draws (NaN for the limits of agreement), `n` the number of patients
    that count. Definitions without any truth (no expert label) are left out.
    """
    names, owner = np.unique(patients["patient_id"].astype(str).to_numpy(), return_inverse=True)
    weights = patient_draws(len(names), resamples, np.random.default_rng(seed))[:, owner]  # (1 + resamples, scans)
    rows = []
    for definition in (*TRUTHS, ""):
        if definition and patients.get(f"ml_{definition}", pd.Series(dtype=float)).isna().all():
            continue
        for figure in group_figures("pooled", truths=bool(definition)):
            pooling = pooling_of(figure)
            known, data = _columns(patients, columns_of(pooling, definition))
            with np.errstate(divide="ignore", invalid="ignore"):
                result = pooling.function(weights[:, known], data)
            low, high = percentile_interval(result) if pooling.interval else (np.nan, np.nan)
            counted = len(np.unique(owner[known]))
            rows.append((definition, figure, float(result[0]), low, high, counted))
    return pd.DataFrame(rows, columns=["definition", "figure", "value", "low", "high", "n"])


def point(patients: pd.DataFrame, definition: str, figure: str) -> float:
    """One pooled figure without its interval, against a definition of truth or "" for none; NaN where there is none."""
    pooling = pooling_of(figure)
    known, data = _columns(patients, columns_of(pooling, definition))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(pooling.function(np.ones((1, int(known.sum()))), data)[0])


def columns_of(pooling: Pooling, definition: str) -> dict[str, str]:
    """The columns of the per-patient table that are pooled, and what the pooling function calls them."""
    ending = f"_{definition}" if definition else ""
    return {name if name in SHARED else name + ending: name for name in pooling.columns}


def _columns(patients: pd.DataFrame, columns: dict[str, str]) -> tuple[NDArray[np.bool_], dict[str, Values]]:
    """Which scans have all of these figures, and the figures of those."""
    values = patients[list(columns)].to_numpy(np.float64)
    known = ~np.isnan(values).any(axis=1)
    return known, {name: values[known, i] for i, name in enumerate(columns.values())}
