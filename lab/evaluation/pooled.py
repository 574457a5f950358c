"""The enhancement scorecard of a whole group of patients, with confidence intervals.

A figure is a function of weights: how often each patient counts. With ones it is the figure itself; with the counts of
draws with replacement, a row of weights a draw, it is the bootstrap, all draws at once. A patient is drawn with all the
scans there are, since scans of one head are not independent. Equal seeds draw equal patients, whatever the trial.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lab.evaluation.enhancement import DEFINITIONS, SUMS
from lab.stats.agreement import concordance_of_sums, kappa

Values = NDArray[np.float64]
Figure = Callable[[Values, dict[str, Values]], Values]
"""Weights (draws, scans) and columns (scans,) -> values (draws,)."""

LEVEL = 95
AGREEMENT = 1.96
"""Standard deviations between the mean difference and a limit of agreement (Bland & Altman 1986)."""


def pooled(patients: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Figures of one trial over its patients: columns `definition`, `figure`, `value`, `low`, `high`, `n`.

    `patients` has the columns of `lab.evaluation.evaluate.evaluate`, a row a scan. `low` and `high` are the 95 %
    percentile interval of `resamples` bootstrap draws (NaN for the limits of agreement), `n` the number of patients
    that count. Definitions without any truth (no expert label) are left out.
    """
    names, owner = np.unique(patients["patient_id"].astype(str).to_numpy(), return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    weights = np.concatenate([np.ones((1, len(names))), draws])[:, owner]  # (1 + draws, scans)
    rows = []
    for definition in (*DEFINITIONS, ""):
        if definition and patients.get(f"ml_{definition}", pd.Series(dtype=float)).isna().all():
            continue
        ending = f"_{definition}" if definition else ""
        for figure, (columns, function) in (BY_DEFINITION if definition else OVERALL).items():
            known, data = _columns(patients, columns, ending)
            with np.errstate(divide="ignore", invalid="ignore"):
                result = function(weights[:, known], data)
            low, high = (np.nan, np.nan) if figure in POINTS else _interval(result)
            counted = len(np.unique(owner[known]))
            rows.append((definition, figure, float(result[0]), low, high, counted))
    return pd.DataFrame(rows, columns=["definition", "figure", "value", "low", "high", "n"])


def point(patients: pd.DataFrame, definition: str, figure: str) -> float:
    """One pooled figure without its interval, against a definition of truth or "" for none; NaN where there is none."""
    columns, function = (BY_DEFINITION if definition else OVERALL)[figure]
    known, data = _columns(patients, columns, f"_{definition}" if definition else "")
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(function(np.ones((1, int(known.sum()))), data)[0])


def _columns(
    patients: pd.DataFrame, columns: tuple[str, ...], ending: str
) -> tuple[NDArray[np.bool_], dict[str, Values]]:
    """Which scans have all of these figures, and the figures of those."""
    values = patients[[name if name in SHARED else name + ending for name in columns]].to_numpy(np.float64)
    known = ~np.isnan(values).any(axis=1)
    return known, {name: values[known, i] for i, name in enumerate(columns)}


def concordance(x: ArrayLike, y: ArrayLike) -> float:
    """Lin's concordance correlation, 2 cov / (var x + var y + (mean x - mean y)^2) with 1/n (Biometrics 1989).

    1 only where y equals x; unlike a correlation it falls with bias and scale. NaN where both are one constant.
    """
    data = {"x": np.asarray(x, np.float64), "y": np.asarray(y, np.float64)}
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(_concordance("x", "y")(np.ones((1, data["x"].size)), data)[0])


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve: how often a score with label 1 exceeds one with label 0, ties counting half.

    NaN where there is only one class.
    """
    data = {"score": np.asarray(scores, np.float64), "label": np.asarray(labels, np.float64)}
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(_auc("score", "label")(np.ones((1, data["score"].size)), data)[0])


def _interval(result: Values) -> tuple[float, float]:
    """Percentiles of the draws in which the figure exists, NaN where it does not exist itself."""
    draws = result[1:][np.isfinite(result[1:])]
    if np.isnan(result[0]) or not draws.size:
        return np.nan, np.nan
    low, high = np.percentile(draws, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def _mean(name: str) -> Figure:
    return lambda weights, data: weights @ data[name] / weights.sum(axis=1)


def _share(part: dict[str, float], whole: dict[str, float]) -> Figure:
    """Sum over patients of some columns, each times a factor, over the sum of others."""

    def share(weights: Values, data: dict[str, Values]) -> Values:
        above, below = (sum(factor * data[name] for name, factor in side.items()) for side in (part, whole))
        return (weights @ above) / (weights @ below)

    return share


def _auc(score: str, label: str) -> Figure:
    def area(weights: Values, data: dict[str, Values]) -> Values:
        positive = data[label] > 0.5
        high, low = data[score][positive][:, None], data[score][~positive][None, :]
        wins = (high > low) + 0.5 * (high == low)
        ones, zeros = weights[:, positive], weights[:, ~positive]
        return ((ones @ wins) * zeros).sum(axis=1) / (ones.sum(axis=1) * zeros.sum(axis=1))

    return area


def _concordance(first: str, second: str) -> Figure:
    def agree(weights: Values, data: dict[str, Values]) -> Values:
        share = weights / weights.sum(axis=1, keepdims=True)
        x, y = (data[name] - (data[name].mean() if data[name].size else 0.0) for name in (first, second))
        apart = (data[first].mean() - data[second].mean()) if x.size else 0.0
        mean_x, mean_y = share @ x, share @ y
        covariance = share @ (x * y) - mean_x * mean_y
        variances = share @ (x * x) - mean_x**2 + share @ (y * y) - mean_y**2
        return 2 * covariance / (variances + (mean_x - mean_y + apart) ** 2)

    return agree


def _limit(name: str, side: int) -> Figure:
    """A limit of agreement; the standard deviation has n - 1."""

    def limit(weights: Values, data: dict[str, Values]) -> Values:
        total = weights.sum(axis=1)
        mean = weights @ data[name] / total
        squares = weights @ np.square(data[name] - data[name].mean()) if data[name].size else total
        spread = np.sqrt(np.maximum(squares - total * (mean - data[name].mean()) ** 2, 0) / (total - 1))
        return mean + side * AGREEMENT * spread

    return limit


def _kappa(weights: Values, data: dict[str, Values]) -> Values:
    overlap, drawn, true, whole = (weights @ data[name] for name in ("overlap_ml", "ml_predicted", "ml", "ml_near"))
    return kappa(overlap, drawn, true, whole)


def _contrast(weights: Values, data: dict[str, Values]) -> Values:
    return concordance_of_sums(*(weights @ data[name] for name in SUMS))


SHARED = ("enhancement_level", "ml_predicted", "ml_near")
"""Columns that both definitions of truth are held against."""
POINTS = ("bias_loa_low", "bias_loa_high")
BY_DEFINITION: dict[str, tuple[tuple[str, ...], Figure]] = {
    "auc": (("enhancement_level", "enhances"), _auc("enhancement_level", "enhances")),
    "dice": (("dice",), _mean("dice")),
    "dice_pooled": (
        ("overlap_ml", "ml", "ml_predicted"),
        _share({"overlap_ml": 2}, {"ml": 1, "ml_predicted": 1}),
    ),
    "kappa": (("overlap_ml", "ml_predicted", "ml", "ml_near"), _kappa),
    "sensitivity_pooled": (("overlap_ml", "ml"), _share({"overlap_ml": 1}, {"ml": 1})),
    "precision_pooled": (("overlap_ml", "ml_predicted"), _share({"overlap_ml": 1}, {"ml_predicted": 1})),
    "concordance": (("ml_predicted", "ml"), _concordance("ml_predicted", "ml")),
    "bias_ml": (("bias_ml",), _mean("bias_ml")),
    "bias_loa_low": (("bias_ml",), _limit("bias_ml", -1)),
    "bias_loa_high": (("bias_ml",), _limit("bias_ml", 1)),
    "lesions_found": (("found", "lesions"), _share({"found": 1}, {"lesions": 1})),
    "lesions_false": (("false",), _mean("false")),
    "hallucinated_ml": (("hallucinated_ml",), _mean("hallucinated_ml")),
    "contrast": (("contrast",), _mean("contrast")),
    "cnr": (("cnr",), _mean("cnr")),
}
"""Figure -> the columns it is made of (without `_rule` or `_expert`), and how; in the order of the table."""
OVERALL: dict[str, tuple[tuple[str, ...], Figure]] = {
    "contrast_concordance": (SUMS, _contrast),
    **{name: ((name,), _mean(name)) for name in ("mae_balanced", "midline_ml_false", "checkerboard", "sharpness")},
}
