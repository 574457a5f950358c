"""What can so many patients show at all? The width of an AUC's interval, and the smallest AUC told from chance.

Hanley & McNeil, Radiology 1982; the power of the test against 0.5 as in Obuchowski, Statistics in Medicine 1998.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from lab.stats.intervals import CONFIDENCE, z_of


def hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    """Standard error of an AUC in [0, 1] that this many patients of each class would give.

    Raises ValueError for an empty class or an area outside [0, 1].
    """
    if min(positives, negatives) < 1 or not 0 <= area <= 1:
        raise ValueError(
            f"needs patients of both classes and an AUC in [0, 1]; got {positives}, {negatives} and {area:g}"
        )
    both_positive = area / (2 - area) - area**2
    both_negative = 2 * area**2 / (1 + area) - area**2
    spread = area * (1 - area) + (positives - 1) * both_positive + (negatives - 1) * both_negative
    return float(np.sqrt(max(spread, 0.0) / (positives * negatives)))


def half_width(area: float, positives: int, negatives: int, *, level: float = CONFIDENCE) -> float:
    """Half the width of the interval to be expected round an AUC."""
    return z_of(level) * hanley_mcneil(area, positives, negatives)


def detectable(positives: int, negatives: int, *, power: float = 0.8, level: float = CONFIDENCE) -> float:
    """The smallest AUC that a two-sided test tells from 0.5 with this power; NaN where not even 1 would be."""
    needed = z_of(level) * hanley_mcneil(0.5, positives, negatives)

    def missing(area: float) -> float:
        return needed + float(norm.ppf(power)) * hanley_mcneil(area, positives, negatives) - (area - 0.5)

    return float("nan") if missing(1.0) > 0 else float(brentq(missing, 0.5, 1.0))
