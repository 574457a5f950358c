"""Do two trials differ beyond chance on the same patients? Paired Wilcoxon signed-rank tests, corrected after Holm.

The two trials of a pair are compared patient by patient, over the patients for whom both have a value. Scans of one
patient are averaged first, since they are not independent. P-values are two-sided: exact up to 50 patients, the normal
approximation beyond, or where ties call for it (SciPy's `wilcoxon`). Holm (1979) holds the chance of any false positive
among the pairs of one metric at the level that p_holm is read against; the metrics are separate families.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import wilcoxon

MIN_PAIRS = 6
"""Patients below which no two-sided signed-rank test can reach p < 0.05 (five give 0.0625 at best)."""

COLUMNS = ["metric", "a", "b", "n", "median_difference", "p", "p_holm", "note"]

Floats = npt.NDArray[np.float64]


def paired_tests(table: pd.DataFrame, *, metrics: Sequence[str] | None = None, by: str = "trial") -> pd.DataFrame:
    """Every pair of trials on every metric: columns metric, a, b, n, median_difference (a - b), p, p_holm, note.

    `table` has one row per trial and case: the column `by`, `case_id` (and `patient_id` where patients have several
    scans), and the metrics; an empty cell means that the case has no such value. With fewer than six patients the pair
    is reported with `note` "too few", p is empty, and it does not count in the correction. Raises ValueError for
    missing columns and for a case that occurs twice in a trial.
    """
    if metrics is None:
        metrics = [name for name in table.columns if str(name).startswith(("mae_", "mse_", "ssim_"))]
    missing = [name for name in (by, "case_id", *metrics) if name not in table.columns]
    if missing:
        raise ValueError(f"The per-patient table lacks the columns {missing}; it has {list(table.columns)}.")
    twice = table.duplicated([by, "case_id"])
    if twice.any():
        first = table.loc[twice, [by, "case_id"]].iloc[0]
        raise ValueError(f"The per-patient table holds case {first['case_id']} more than once for {by} {first[by]!r}.")
    patient = "patient_id" if "patient_id" in table.columns else "case_id"
    trials = list(dict.fromkeys(table[by]))
    pairs = list(itertools.combinations(range(len(trials)), 2))
    if not pairs or not metrics:
        return pd.DataFrame(columns=COLUMNS)
    # codes, since trials are numbers and names ("copy T1") in one column
    numbered = table.assign(**{by: pd.Categorical(table[by], categories=trials).codes})
    first_of, second_of = np.array(pairs).T
    results = []
    for metric in metrics:
        values = numbered.pivot_table(index=patient, columns=by, values=metric, aggfunc="mean", dropna=False)
        scores = values.reindex(columns=range(len(trials))).to_numpy(dtype=np.float64)  # (patients, trials)
        results.append(
            pd.DataFrame(
                {
                    "metric": metric,
                    "a": [trials[i] for i in first_of],
                    "b": [trials[i] for i in second_of],
                    **_test_columns(scores[:, first_of] - scores[:, second_of]),
                }
            )
        )
    return pd.concat(results, ignore_index=True)[COLUMNS]


def holm(p: npt.ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values of one family; NaN stays NaN and does not count."""
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted


def _test_columns(differences: Floats) -> dict[str, object]:
    """Tests of (patients, pairs) differences, one family; NaN marks a patient without a value."""
    n = (~np.isnan(differences)).sum(axis=0)
    enough = n >= MIN_PAIRS
    median = np.full(len(n), np.nan)
    if (n > 0).any():
        median[n > 0] = np.nanmedian(differences[:, n > 0], axis=0)
    p = np.full(len(n), np.nan)
    p[enough] = _signed_rank(differences[:, enough])
    return {"n": n, "median_difference": median, "p": p, "p_holm": holm(p), "note": np.where(enough, "", "too few")}


def _signed_rank(differences: Floats) -> Floats:
    """Two-sided p per column of (patients, pairs); zeros are dropped, as Wilcoxon did; p = 1 if none is left.

    Columns with the same patients and no ties go to SciPy in one call; the few others one at a time, since SciPy picks
    exact or approximate for all columns of a call together.
    """
    p = np.ones(differences.shape[1])
    used = np.nan_to_num(differences) != 0
    size = np.sort(np.where(used, np.abs(differences), np.nan), axis=0)  # NaN last
    tied = (np.diff(size, axis=0) == 0).any(axis=0)
    for pattern in np.unique(used[:, ~tied], axis=1).T:
        columns = np.flatnonzero(~tied & (used == pattern[:, None]).all(axis=0))
        if pattern.any():
            p[columns] = wilcoxon(differences[np.ix_(pattern, columns)], axis=0).pvalue
    for column in np.flatnonzero(tied):
        p[column] = wilcoxon(differences[used[:, column], column]).pvalue
    return p
