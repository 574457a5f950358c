"""Do the samples of a network that draws several images differ where it does not know the truth?

The spread is a map of half the mean absolute difference between two samples, in normalised units. A network that draws
one image has none, and its cells are empty.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lab.evaluation.figure_spec import FigureSpec, JudgedCase
from lab.io.case_file import TUMOUR


def mean_spread(case: JudgedCase, region: NDArray[np.bool_]) -> float:
    """Mean spread in a region (X, Y, Z); NaN for an empty one, or without samples."""
    return float(case.spread[region].mean()) if case.spread is not None and region.any() else float("nan")


def enhancing(case: JudgedCase) -> NDArray[np.bool_]:
    """Where the true scan enhances by the paper's rule, inside the tumour."""
    return case.brain & ((case.flags & TUMOUR) != 0) & (case.truth - case.t1 > case.threshold)


def crps(case: JudgedCase) -> float:
    """Continuous ranked probability score of the brain (Gneiting and Raftery 2007): E|x - y| - E|x - x'| / 2."""
    spread = mean_spread(case, case.brain)
    if np.isnan(spread):
        return spread
    return float(np.abs(case.prediction - case.truth)[case.brain].mean()) - spread


def spread_ratio(case: JudgedCase) -> float:
    """Mean spread where the true scan enhances over that in the rest of the brain; NaN without spread there."""
    inside = enhancing(case)
    elsewhere = mean_spread(case, case.brain & ~inside)
    return mean_spread(case, inside) / elsewhere if elsewhere > 0 else float("nan")


SAMPLE_FIGURES = {
    "crps_brain": FigureSpec(
        title="CRPS, brain", decimals=3, direction="lower", measure=crps, shown=("pooled", "card"),
        meaning="of samples: MAE less half the difference between two; that of a single image is its MAE",
    ),
    "spread_enhancing": FigureSpec(
        title="spread in enhancement", decimals=3, direction="none", shown=("pooled",),
        measure=lambda case: mean_spread(case, enhancing(case)),
    ),
    "spread_elsewhere": FigureSpec(
        title="spread elsewhere", decimals=3, direction="none", shown=("pooled",),
        measure=lambda case: mean_spread(case, case.brain & ~enhancing(case)),
    ),
    "spread_ratio": FigureSpec(
        title="spread ratio", decimals=2, direction="higher", measure=spread_ratio, shown=("pooled", "card"),
        meaning="difference between two samples where the tumour enhances by the rule, over that in the rest of the "
        "brain; 1 = they say nothing of enhancement",
    ),
}  # fmt: skip
