"""Bootstrap over patients, for the figures of both arms.

A figure is a function of weights: how often each patient counts. Weights of 1 give the figure itself; the counts of
draws with replacement, one row per draw, give its bootstrap distribution, all draws at once.
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import norm

from lab.stats.intervals import CONFIDENCE, TAILS, Estimate, t_of
from lab.stats.predictions import Floats, Labels

RESAMPLES = 2000

Figure = Callable[[Floats], Floats]  # weights (draws, patients), how often each patient counts -> values (draws,)


def patient_draws(patients: int, resamples: int, rng: np.random.Generator) -> Floats:
    """How often each patient counts, (1 + resamples, patients): once each, then drawn with replacement."""
    counts = rng.multinomial(patients, np.full(patients, 1 / patients), size=resamples)
    return np.concatenate([np.ones((1, patients)), counts]).astype(np.float64)


def stratified_draws(positive: Labels, resamples: int, rng: np.random.Generator) -> Floats:
    """How often each patient counts, (resamples, N): drawn with replacement within each class, which keeps its size."""
    weights = np.zeros((resamples, positive.size))
    for group in (positive, ~positive):
        count = int(group.sum())
        if count:
            weights[:, group] = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    return weights


def bootstrap(
    figure: Figure,
    positive: Labels,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Estimate:
    """A figure with the percentile interval of a bootstrap over patients, stratified by class.

    Where all draws agree, as at an AUC of 1, the interval is an uninformative point. Raises ValueError for fewer than
    100 draws.
    """
    if resamples < 100:
        raise ValueError(f"percentiles of {resamples} draws say nothing; draw at least 100, better 2000")
    value = float(figure(np.ones((1, positive.size)))[0])
    draws = figure(stratified_draws(positive, resamples, rng))
    low, high = np.quantile(draws, TAILS)
    return Estimate(value, float(low), float(high), float(draws.std(ddof=1)), "bootstrap")


def percentile_interval(values: Floats) -> tuple[float, float]:
    """Percentile interval of a figure's finite draws; the first entry is the figure itself, and NaN gives NaN."""
    found = values[1:][np.isfinite(values[1:])]
    if np.isnan(values[0]) or not found.size:
        return np.nan, np.nan
    low, high = np.percentile(found, [50 - 50 * CONFIDENCE, 50 + 50 * CONFIDENCE])
    return float(low), float(high)


def expanded_interval(values: Floats, patients: int) -> tuple[float, float]:
    """Expanded percentile interval (Hesterberg, The American Statistician 2015); the first entry is the figure itself.

    Plain percentiles are too narrow for few patients, as a z interval is compared with a t interval. NaN for a single
    patient, and for a figure that is NaN in the sample or in more than half of the draws.
    """
    found = values[1:][np.isfinite(values[1:])]
    if patients < 2 or not np.isfinite(values[0]) or found.size < 0.5 * (values.size - 1):
        return np.nan, np.nan
    reach = np.sqrt(patients / (patients - 1)) * t_of(patients)
    tail = 100 * norm.cdf(-reach)
    low, high = np.percentile(found, [tail, 100 - tail])
    return float(low), float(high)
