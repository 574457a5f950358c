"""The enhancement scorecard of a whole group of patients, with confidence intervals.

A figure is a function of weights: how often each patient counts. With ones it is the figure itself; with the counts of
draws with replacement, a row of weights a draw, it is the bootstrap, all draws at once. A patient is drawn with all the
scans there are, since scans of one head are not independent. Equal seeds draw equal patients, whatever the trial.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab.evaluation.enhancement import DEFINITIONS, SUMS
from lab.stats.agreement import concordance, concordance_of_sums, kappa
from lab.stats.auc import weighted_auc
from lab.stats.bootstrap import RESAMPLES, patient_draws, percentile_interval

Values = NDArray[np.float64]
Figure = Callable[[Values, dict[str, Values]], Values]
"""Weights (draws, scans) and columns (scans,) -> values (draws,)."""

AGREEMENT = 1.96
"""Standard deviations between the mean difference and a limit of agreement (Bland & Altman 1986)."""


def pooled(patients: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Figures of one trial over its patients: columns `definition`, `figure`, `value`, `low`, `high`, `n`.

    `patients` has the columns of `lab.evaluation.evaluate.evaluate`, a row a scan. `low` and `high` are the 95 %
    percentile interval of `resamples` bootstrap draws (NaN for the limits of agreement), `n` the number of patients
    that count. Definitions without any truth (no expert label) are left out.
    """
    names, owner = np.unique(patients["patient_id"].astype(str).to_numpy(), return_inverse=True)
    weights = patient_draws(len(names), resamples, np.random.default_rng(seed))[:, owner]  # (1 + resamples, scans)
    rows = []
    for definition in (*DEFINITIONS, ""):
        if definition and patients.get(f"ml_{definition}", pd.Series(dtype=float)).isna().all():
            continue
        ending = f"_{definition}" if definition else ""
        for figure, (columns, function) in (BY_DEFINITION if definition else OVERALL).items():
            known, data = _columns(patients, columns, ending)
            with np.errstate(divide="ignore", invalid="ignore"):
                result = function(weights[:, known], data)
            low, high = (np.nan, np.nan) if figure in POINTS else percentile_interval(result)
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


def _mean(name: str) -> Figure:
    return lambda weights, data: weights @ data[name] / weights.sum(axis=1)


def _share(part: dict[str, float], whole: dict[str, float]) -> Figure:
    """Sum over patients of some columns, each times a factor, over the sum of others."""

    def share(weights: Values, data: dict[str, Values]) -> Values:
        above, below = (sum(factor * data[name] for name, factor in side.items()) for side in (part, whole))
        return (weights @ above) / (weights @ below)

    return share


def _auc(score: str, label: str) -> Figure:
    return lambda weights, data: weighted_auc(data[label] > 0.5, data[score], weights)


def _concordance(first: str, second: str) -> Figure:
    return lambda weights, data: concordance(data[first], data[second], weights)


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
