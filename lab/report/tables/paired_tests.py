"""Paired Wilcoxon signed-rank tests between trials on the same patients, corrected after Holm.

The two trials of a pair are compared over the patients for whom both have a value. Scans of one patient are averaged
first, since they are not independent. P-values are two-sided: exact up to 50 patients, the normal approximation beyond,
or where ties require it (SciPy's `wilcoxon`). Holm (1979) controls the family-wise error at the level that p_holm is
compared with; the metrics are separate families.

Families: 15 networks and 2 baselines make 136 pairs, and a correction for all of them hides every difference, since 12
patients give no p below 0.0005. A study compares the networks only with a few references: the network chosen on
validation patients, and each baseline. Every reference has its own family, as in many-to-one comparisons (Dunnett
1955).
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import wilcoxon

from lab.evaluation.figures import shown_in
from lab.report.tables.patient_table import lower_is_better
from lab.stats.effects import rank_biserial
from lab.stats.multiple_tests import holm

MIN_PAIRS = 6
"""Fewest patients with which a two-sided signed-rank test can reach p < 0.05 (five give 0.0625 at best)."""

COLUMNS = ["metric", "a", "b", "n", "median_difference", "rank_biserial", "p", "against", "p_holm", "note"]

Floats = npt.NDArray[np.float64]


def paired_tests(
    table: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    by: str = "trial",
    against: Sequence[Hashable] | None = None,
) -> pd.DataFrame:
    """Every pair of trials on every metric: the columns `COLUMNS`; differences and rank_biserial are of a - b.

    `against` names the references (values of `by`), for instance the best network and the baselines. A pair belongs to
    the family of its reference, named in the column `against`; of two references the later one counts. Other pairs keep
    their p without correction: their `against` and `p_holm` are empty. Without references all pairs of a metric are one
    family. `metrics` are by default all errors and SSIMs, and those with data of `shown_in("effects")`.

    `table` has one row per trial and case: the column `by`, `case_id` (and `patient_id` where patients have several
    scans), and the metrics; an empty cell is a missing value. With fewer than six patients the pair has the `note` "too
    few", p is empty, and it does not count in the correction. Raises ValueError for missing columns, a case that occurs
    twice in a trial, and a reference that is not in the table.
    """
    if metrics is None:
        errors = [name for name in table.columns if str(name).startswith(("mae_", "mse_", "ssim_"))]
        effects = shown_in("effects")
        metrics = [*errors, *(name for name in effects if name in table and name not in errors)]
        metrics = [name for name in metrics if name not in effects or table[name].notna().any()]
    missing = [name for name in (by, "case_id", *metrics) if name not in table.columns]
    if missing:
        raise ValueError(f"The per-patient table lacks the columns {missing}; it has {list(table.columns)}.")
    twice = table.duplicated([by, "case_id"])
    if twice.any():
        first = table.loc[twice, [by, "case_id"]].iloc[0]
        raise ValueError(f"The per-patient table holds case {first['case_id']} more than once for {by} {first[by]!r}.")
    patient = "patient_id" if "patient_id" in table.columns else "case_id"
    trials = list(dict.fromkeys(table[by]))
    unknown = [name for name in against or () if name not in trials]
    if unknown:
        raise ValueError(f"There is no {by} {unknown[0]!r} to test against; the table has {trials}.")
    pairs = list(itertools.combinations(range(len(trials)), 2))
    if not pairs or not metrics:
        return pd.DataFrame(columns=COLUMNS)
    # codes, since trials are numbers and names ("copy T1") in one column
    numbered = table.assign(**{by: pd.Categorical(table[by], categories=trials).codes})
    first_of, second_of = np.array(pairs).T
    families = np.array([_family(trials[i], trials[j], against) for i, j in pairs])
    named = ["" if against is None or family < 0 else against[family] for family in families]
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
                    **_test_columns(scores[:, first_of] - scores[:, second_of], families),
                    "against": named,
                }
            )
        )
    return pd.concat(results, ignore_index=True)[COLUMNS]


def p_text(p: float) -> str:
    """A p value as "p = 0.03" or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def p_value(value: float) -> str:
    """A p value without "p": a number, "< 0.001", or "-" where it is missing."""
    return p_text(float(value)).removeprefix("p ").removeprefix("= ") if np.isfinite(value) else "-"


def asked(tests: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The tests of the study's families on one metric: columns row, against, n, difference, p, p_holm, better.

    `row` is compared with `against`; difference is the median of row - against. `better` says whether the ranks favour
    `row`: the test is of ranks, and a median can be 0 where most patients have a volume of 0. Values of a and b become
    text.
    """
    chosen = tests[(tests["metric"] == metric) & (tests["against"].astype(str) != "")]
    turned = chosen["a"].astype(str) == chosen["against"].astype(str)
    difference = chosen["median_difference"].where(~turned, -chosen["median_difference"]).astype(float)
    ranks = chosen["rank_biserial"].where(~turned, -chosen["rank_biserial"]).astype(float)
    return pd.DataFrame(
        {
            "row": chosen["a"].where(~turned, chosen["b"]).astype(str),
            "against": chosen["against"].astype(str),
            "n": chosen["n"],
            "difference": difference,
            "p": chosen["p"].astype(float),
            "p_holm": chosen["p_holm"].astype(float),
            "better": (ranks < 0) == lower_is_better(metric),
        }
    ).reset_index(drop=True)


def _family(a: Hashable, b: Hashable, against: Sequence[Hashable] | None) -> int:
    """Number of a pair's family, -1 for none: that of the last reference in it."""
    if against is None:
        return 0
    return max((position for position, name in enumerate(against) if name in (a, b)), default=-1)


def _test_columns(differences: Floats, families: npt.NDArray[np.int64]) -> dict[str, object]:
    """Tests of (patients, pairs) differences, corrected within each family; NaN marks a patient without a value."""
    n = (~np.isnan(differences)).sum(axis=0)
    enough = n >= MIN_PAIRS
    median = np.full(len(n), np.nan)
    if (n > 0).any():
        median[n > 0] = np.nanmedian(differences[:, n > 0], axis=0)
    p = np.full(len(n), np.nan)
    p[enough] = _signed_rank(differences[:, enough])
    corrected = np.full(len(n), np.nan)
    for family in np.unique(families[families >= 0]):
        corrected[families == family] = holm(p[families == family])
    note = np.where(enough, "", "too few")
    ranks = rank_biserial(differences)
    return {"n": n, "median_difference": median, "rank_biserial": ranks, "p": p, "p_holm": corrected, "note": note}


def _signed_rank(differences: Floats) -> Floats:
    """Two-sided p per column of (patients, pairs); zeros are dropped, as Wilcoxon did; p = 1 if none is left.

    Columns with the same patients and no ties go to SciPy in one call, the others one at a time, since SciPy picks
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
