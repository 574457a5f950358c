"""AUC with its intervals (bootstrap and DeLong), DeLong's test, permutation test, and subgroups.

DeLong's interval is on the logit scale by default, which keeps it inside (0, 1) and its coverage near 95 % for few
patients or a high AUC (Pepe 2003). `scale="plain"` gives the interval of other software, clipped to [0, 1].
"""

from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from lab.stats.bootstrap import RESAMPLES, bootstrap
from lab.stats.intervals import Estimate, Z
from lab.stats.predictions import Floats, Labels, checked

MIN_CLASS = 5  # minimum number of patients of each class for a subgroup's AUC
NO_VARIANCE = 1e-24  # less variance of AUCs is rounding error: one differing pair among a million patients gives more


class Difference(NamedTuple):
    """Comparison of two AUCs on the same patients."""

    first: float
    second: float
    difference: float  # first - second
    low: float
    high: float
    z: float
    p: float  # two-sided; NaN where DeLong's variance is zero although the AUCs differ


class Null(NamedTuple):
    """An AUC with its distribution under permuted labels."""

    auc: float
    p: float  # one-sided p-value
    aucs: Floats  # (permutations,) AUCs under the null


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve in [0, 1]; ties count half. Raises ValueError as `lab.stats.predictions.checked`."""
    positive, values = checked(labels, scores)
    return float(_rank_area(rankdata(values), positive[None])[0])


def delong(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """AUCs (K,) of K scores on the same patients and their covariance (K, K); `scores` is (N,) or (K, N).

    DeLong, DeLong & Clarke-Pearson (Biometrics 1988), by midranks (Sun & Xu, IEEE Signal Processing Letters 2014).
    Raises ValueError as `checked`, and where a class has fewer than two patients.
    """
    rows = np.atleast_2d(np.asarray(scores, np.float64))
    positive, _ = checked(labels, rows[0])
    for row in rows[1:]:
        checked(labels, row)
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        raise ValueError(f"DeLong's variance needs two patients of each class; {m} have label 1 and {n} have 0")
    high, low = rows[:, positive], rows[:, ~positive]  # (K, m), (K, n)
    together = rankdata(np.concatenate([high, low], axis=1), axis=1)
    of_positive = (together[:, :m] - rankdata(high, axis=1)) / n  # share of the negatives that each positive beats
    of_negative = 1 - (together[:, m:] - rankdata(low, axis=1)) / m
    covariance = np.atleast_2d(np.cov(of_positive)) / m + np.atleast_2d(np.cov(of_negative)) / n
    return of_positive.mean(axis=1), covariance


def delong_interval(labels: ArrayLike, scores: ArrayLike, *, scale: Literal["logit", "plain"] = "logit") -> Estimate:
    """The AUC with DeLong's interval, on the logit scale or plain and clipped to [0, 1].

    Where the variance is zero (complete separation, or constant scores) DeLong's interval would be a point; Newcombe's
    score interval (`score_interval`) replaces it and `method` is "Newcombe". Raises ValueError as `delong`.
    """
    areas, covariance = delong(labels, scores)
    area, variance = float(areas[0]), float(covariance[0, 0])
    if variance < NO_VARIANCE:
        positives = int(np.asarray(labels, np.float64).sum())
        low, high = score_interval(area, positives, np.size(labels) - positives)
        return Estimate(area, low, high, 0.0, "Newcombe")
    se = float(np.sqrt(variance))
    if scale == "plain":
        return Estimate(area, max(area - Z * se, 0.0), min(area + Z * se, 1.0), se, "DeLong, plain")
    reach = Z * se / (area * (1 - area))
    return Estimate(area, float(expit(logit(area) - reach)), float(expit(logit(area) + reach)), se, "DeLong")


def score_interval(area: float, positives: int, negatives: int) -> tuple[float, float]:
    """Score interval of an AUC from its value and the class sizes alone: method 5 of Newcombe (Stat Med 2006).

    It inverts the variance of Hanley & McNeil (1982), so it has a width even at an AUC of 0 or 1.
    """
    half = (positives + negatives) / 2 - 1

    def beyond(candidate: float, found: float) -> float:
        spread = 1 + half * ((1 - candidate) / (2 - candidate) + candidate / (1 + candidate))
        return (candidate - found) ** 2 - Z**2 * candidate * (1 - candidate) * spread / (positives * negatives)

    def lower(found: float) -> float:
        return 0.0 if found <= 0 else float(brentq(beyond, 0.0, found * (1 - 1e-9), args=(found,)))

    return lower(area), 1 - lower(1 - area)


def delong_test(labels: ArrayLike, first: ArrayLike, second: ArrayLike) -> Difference:
    """DeLong's two-sided test for the difference in AUC of two scores on the same patients.

    Scores that rank all pairs alike give a difference of 0 and p = 1. Where a difference other than 0 has no variance
    (one score separates completely, the other is constant) z, p and interval are NaN. Raises ValueError as `delong`.
    """
    if np.shape(first) != np.shape(second):
        raise ValueError(f"two scores of the same patients are needed; got {np.shape(first)}, {np.shape(second)}")
    areas, covariance = delong(labels, np.stack([np.asarray(first, np.float64), np.asarray(second, np.float64)]))
    difference = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance < NO_VARIANCE:
        same = abs(difference) < 1e-12
        z, p, reach = (0.0, 1.0, 0.0) if same else (np.nan, np.nan, np.nan)
    else:
        z, reach = float(difference / np.sqrt(variance)), Z * float(np.sqrt(variance))
        p = float(2 * norm.sf(abs(z)))
    low, high = np.clip([difference - reach, difference + reach], -1, 1)
    return Difference(float(areas[0]), float(areas[1]), difference, float(low), float(high), z, p)


def bootstrap_auc(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The AUC with the percentile interval of a bootstrap over patients, stratified by class."""
    positive, values = checked(labels, scores)
    return bootstrap(partial(weighted_auc, positive, values), positive, rng=rng, resamples=resamples)


def weighted_auc(positive: Labels, scores: Floats, weights: Floats) -> Floats:
    """AUC of each draw, (draws, N) weights -> (draws,); ties count half."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    ones = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)  # (draws, different scores)
    zeros = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    below = np.cumsum(zeros, axis=1) - zeros / 2
    return (ones * below).sum(axis=1) / (ones.sum(axis=1) * zeros.sum(axis=1))


def auc_of_counts(positive: Floats, negative: Floats) -> Floats:
    """AUC of counts of the two classes in bins of rising score, (..., bins) -> (...); a bin's members count as ties."""
    below = np.cumsum(negative, axis=-1) - negative / 2
    return (positive * below).sum(axis=-1) / (positive.sum(axis=-1) * negative.sum(axis=-1))


def permutation_null(
    labels: ArrayLike, scores: ArrayLike, *, rng: np.random.Generator, permutations: int = 2000
) -> Null:
    """Permutation test of an AUC against chance: p = (1 + null AUCs as high) / (1 + permutations).

    It tests fixed predictions. A test of the whole pipeline needs retraining on shuffled labels. Raises ValueError as
    `checked`.
    """
    positive, values = checked(labels, scores)
    ranks = rankdata(values)
    found = float(_rank_area(ranks, positive[None])[0])
    aucs = _rank_area(ranks, rng.permuted(np.tile(positive, (permutations, 1)), axis=1))
    return Null(found, float(1 + (aucs >= found - 1e-12).sum()) / (1 + permutations), aucs)


def subgroup_auc(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, *, least: int = MIN_CLASS) -> pd.DataFrame:
    """AUC within each group (vendor, field strength, grade): columns group, n, events, auc, low, high, note.

    Intervals are DeLong's (see `delong_interval`). A group with fewer than `least` patients of either class is "too
    few" and has no AUC; patients without a group are "unknown". Raises ValueError as `checked`.
    """
    positive, values = checked(labels, scores)
    found = pd.Series(groups).reset_index(drop=True)
    if len(found) != positive.size:
        raise ValueError(f"there are {len(found)} groups for {positive.size} patients")
    names = found.astype(object).where(found.notna(), "unknown").astype(str).to_numpy()
    rows = []
    for name in sorted(set(names), key=lambda name: (name == "unknown", name)):
        member = names == name
        events, count = int(positive[member].sum()), int(member.sum())
        if min(events, count - events) < max(least, 2):
            rows.append((name, count, events, np.nan, np.nan, np.nan, "too few"))
            continue
        value, low, high, _, method = delong_interval(positive[member], values[member])
        rows.append((name, count, events, value, low, high, "" if method == "DeLong" else f"interval: {method}"))
    return pd.DataFrame(rows, columns=["group", "n", "events", "auc", "low", "high", "note"])


def _rank_area(ranks: Floats, positive: Labels) -> Floats:
    """AUC of each row of labels (rows, N) from the midranks (N,) of the scores."""
    ones = positive.sum(axis=1)
    return (positive @ ranks - ones * (ones + 1) / 2) / (ones * (positive.shape[1] - ones))
