"""Confidence intervals of proportions, over cross-validation splits, and of an AUC by sample size."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm, t

from lab.stats.predictions import Floats

CONFIDENCE = 0.95  # level of every interval
TAILS = (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2)  # quantiles at its ends
Z = float(norm.ppf(TAILS[1]))  # 1.96


class Estimate(NamedTuple):
    """A figure with its interval."""

    value: float
    low: float
    high: float
    se: float = float("nan")  # standard error, on the figure's own scale; NaN where the interval needs none
    method: str = ""  # name of the interval for a legend: "DeLong", "bootstrap"


def wilson(hits: int, total: int) -> Estimate:
    """A proportion with Wilson's score interval (JASA 1927); NaN of none; ValueError unless 0 <= hits <= total."""
    if not 0 <= hits <= total:
        raise ValueError(f"a proportion needs 0 <= hits <= total; got {hits} of {total}")
    if total == 0:
        return Estimate(np.nan, np.nan, np.nan, method="Wilson")
    share = hits / total
    centre = share + Z**2 / (2 * total)
    reach = Z * np.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    low, high = (centre - reach) / (1 + Z**2 / total), (centre + reach) / (1 + Z**2 / total)
    # exactly 0 and 1 at the ends, which rounding would miss
    return Estimate(share, 0.0 if hits == 0 else float(low), 1.0 if hits == total else float(high), method="Wilson")


def corrected_t(values: ArrayLike, *, train: float, test: float, bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate:
    """Mean over J splits with the corrected resampled t interval of Nadeau & Bengio (Machine Learning 2003).

    `values` (J,) holds one figure per split; `train` and `test` are the (mean) numbers of patients of a split. Training
    sets overlap, so the variance of the mean is (1/J + test/train) times that of the values. The interval is clipped to
    `bounds`, the figure's range. Raises ValueError for fewer than 2 splits, missing or impossible values, empty sets.
    """
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or found.size < 2:
        raise ValueError(f"the corrected t interval needs at least 2 splits; got values of shape {found.shape}")
    if not ((found >= bounds[0]) & (found <= bounds[1])).all():
        raise ValueError(f"every split needs a value in [{bounds[0]:g}, {bounds[1]:g}]; got {found}")
    mean = float(found.mean())
    se = float(corrected_se(found[:, None], train=train, test=test)[0])
    reach = t_of(found.size) * se
    low, high = max(mean - reach, bounds[0]), min(mean + reach, bounds[1])
    return Estimate(mean, low, high, se, "Nadeau-Bengio")


def corrected_se(values: Floats, *, train: float, test: float) -> Floats:
    """Standard error of the mean over splits, corrected for their overlap: (J, G) values -> (G,)."""
    if train <= 0 or test <= 0:
        raise ValueError(f"a split needs patients to train and to test on; got {train} and {test}")
    return np.sqrt((1 / len(values) + test / train) * values.var(axis=0, ddof=1))


def t_of(count: int) -> float:
    """Quantile of Student's t for a two-sided interval of a mean over `count` splits or patients."""
    return float(t.ppf(TAILS[1], count - 1))


def hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    """Expected standard error of an AUC (Radiology 1982). Raises ValueError for an empty class or an impossible AUC."""
    if min(positives, negatives) < 1 or not 0 <= area <= 1:
        raise ValueError(f"both classes and an AUC in [0, 1] are needed; got {positives}, {negatives} and {area:g}")
    both_positive = area / (2 - area) - area**2
    both_negative = 2 * area**2 / (1 + area) - area**2
    spread = area * (1 - area) + (positives - 1) * both_positive + (negatives - 1) * both_negative
    return float(np.sqrt(max(spread, 0.0) / (positives * negatives)))


def half_width(area: float, positives: int, negatives: int) -> float:
    """Half the expected width of an AUC's interval."""
    return Z * hanley_mcneil(area, positives, negatives)


def detectable(positives: int, negatives: int) -> float:
    """The least AUC that a two-sided test against 0.5 detects with 80 % power (Obuchowski 1998); NaN where none is."""
    needed = Z * hanley_mcneil(0.5, positives, negatives)

    def missing(area: float) -> float:
        return needed + float(norm.ppf(0.8)) * hanley_mcneil(area, positives, negatives) - (area - 0.5)

    return float("nan") if missing(1.0) > 0 else float(brentq(missing, 0.5, 1.0))
