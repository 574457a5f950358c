"""Paired differences to a reference, with intervals and effect sizes, to complement the paired tests."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from lab.stats.predictions import Floats

COLUMNS = ["metric", "row", "label", "against", "against_label", "n", "mean_difference", "low", "high", "rank_biserial"]


def effects(
    patients: pd.DataFrame,
    *,
    against: Hashable | list[Hashable],
    metrics: Sequence[str],
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Differences of all trials and baselines to a reference (or to each of a list): a table with `COLUMNS`.

    `patients` is the long table with one row per trial and scan; scans of one patient are averaged first. The
    difference is row - against over the n patients with both; low and high are its 95 % percentile interval over
    `resamples` bootstrap samples of patients. Metrics without any value are left out. `row` and `against` are text.
    Raises ValueError for a reference that is not in the table.
    """
    trials = list(dict.fromkeys(patients["trial"]))
    references = against if isinstance(against, list) else [against]
    unknown = [reference for reference in references if reference not in trials]
    if unknown:
        raise ValueError(f"There is no trial {unknown[0]!r} to compare with; the table has {trials}.")
    labels = patients.drop_duplicates("trial")["label"].astype(str).tolist()
    who = "patient_id" if "patient_id" in patients else "case_id"
    numbered = patients.assign(trial=pd.Categorical(patients["trial"], categories=trials).codes)
    people = sorted(numbered[who].unique())
    samples = np.random.default_rng(seed).integers(len(people), size=(resamples, len(people)))
    weights = np.array([np.bincount(sample, minlength=len(people)) for sample in samples], np.float64)
    rows = []
    for metric in metrics:
        if metric not in patients or not patients[metric].notna().any():
            continue
        values = numbered.pivot_table(index=who, columns="trial", values=metric, aggfunc="mean", dropna=False)
        scores = values.reindex(index=people, columns=range(len(trials))).to_numpy(dtype=np.float64)
        for reference in map(trials.index, references):
            differences = scores - scores[:, [reference]]  # (patients, trials)
            counts = (~np.isnan(differences)).sum(axis=0)
            means = np.nansum(differences, axis=0) / np.where(counts, counts, np.nan)
            intervals, ranks = _intervals(differences, weights), rank_biserial(differences)
            for i, trial in enumerate(trials):
                if i != reference:
                    who_and_what = (metric, str(trial), labels[i], str(trials[reference]), labels[reference])
                    rows.append([*who_and_what, counts[i], means[i], *intervals[:, i], ranks[i]])
    return pd.DataFrame(rows, columns=COLUMNS)


def rank_biserial(differences: npt.ArrayLike) -> Floats:
    """Matched-pairs rank-biserial correlation (Kerby 2014) of each column of (patients, pairs), -1 to 1.

    Positive where most ranks belong to positive differences. NaN marks a patient without a value; zeros are dropped.
    Columns of zeros give 0, columns without any value NaN.
    """
    found = np.asarray(differences, dtype=np.float64)
    known = ~np.isnan(found)
    used = known & (found != 0)
    result = np.where(known.any(axis=0), 0.0, np.nan)
    some = used.any(axis=0)
    if some.any():
        ranks = np.nan_to_num(rankdata(np.where(used, np.abs(found), np.nan)[:, some], axis=0, nan_policy="omit"))
        result[some] = (ranks * np.sign(np.nan_to_num(found[:, some]))).sum(axis=0) / ranks.sum(axis=0)
    return result


def _intervals(differences: Floats, weights: Floats) -> Floats:
    """95 % percentile interval of each column's mean over its finite values, (2, trials); NaN for fewer than 2."""
    known = ~np.isnan(differences)
    with np.errstate(invalid="ignore"):
        means = weights @ np.nan_to_num(differences) / (weights @ known)  # (resamples, trials)
    found = np.full((2, differences.shape[1]), np.nan)
    usable = known.sum(axis=0) > 1
    if usable.any():
        found[:, usable] = np.nanpercentile(means[:, usable], [2.5, 97.5], axis=0)
    return found
