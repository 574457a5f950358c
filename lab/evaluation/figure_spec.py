"""Specification of a scorecard figure: how it is computed, pooled over patients, written and ranked.

A pooling function takes weights, the number of times that each scan counts. Weights of one give the figure itself; a
row of weights per bootstrap draw gives all draws at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lab.evaluation.enhancement import SUMS
from lab.stats.agreement import concordance_of_sums, kappa, weighted_concordance
from lab.stats.auc import weighted_auc

Direction = Literal["lower", "higher", "nearer to 0", "nearer to 1", "none"]
Place = Literal[
    "pooled",  # rows of the table of pooled figures
    "card",  # columns of the scorecard
    "place",  # columns of its tables on where the image enhances
    "boxes",
    "forest",
    "effects",  # tested and reported with effect sizes
    "spread",  # over seeds and folds
    "study note",
    "trial note",
    "model card",
    "view",  # columns of a study's saved view
    "bars",  # bar charts of a saved view
    "trade",  # charts of a saved view, against the error
    "objective",
    "search",  # logged beside the objective for each trial of a search
    "gate",  # figures in which a challenger may have to beat the champion
]


Values = NDArray[np.float64]
PoolingFunction = Callable[[Values, dict[str, Values]], Values]
"""Weights (draws, scans) and columns (scans,) -> values (draws,)."""
AGREEMENT = 1.96
"""Standard deviations between the mean difference and a limit of agreement (Bland & Altman 1986)."""


@dataclass(frozen=True)
class Pooling:
    """The columns of the per-patient table that a pooled figure needs, and its function."""

    columns: tuple[str, ...]
    """Names without the suffix `_rule` or `_expert`."""
    function: PoolingFunction
    words: str
    """Description for tables: "mean over patients"."""
    interval: bool = True
    """Whether a bootstrap interval of it is meaningful."""


def mean(name: str) -> Pooling:
    """The mean over patients of a column."""
    return Pooling(
        (name,), lambda weights, data: weights @ data[name] / weights.sum(axis=1), "mean over patients who have it"
    )


def share(part: dict[str, float], whole: dict[str, float]) -> Pooling:
    """Sum over patients of some columns, each times a factor, over the sum of others."""

    def pooled_share(weights: Values, data: dict[str, Values]) -> Values:
        above, below = (sum(factor * data[name] for name, factor in side.items()) for side in (part, whole))
        return (weights @ above) / (weights @ below)

    return Pooling(tuple(dict.fromkeys([*part, *whole])), pooled_share, "of sums over patients")


def auc_of(score: str, label: str) -> Pooling:
    """Area under the ROC curve of a score column for a label column; ties count half."""
    return Pooling(
        (score, label),
        lambda weights, data: weighted_auc(data[label] > 0.5, data[score], weights),
        "over pairs of patients",
    )


def concordance_of(first: str, second: str) -> Pooling:
    """Lin's concordance correlation of two columns."""
    return Pooling(
        (first, second), lambda weights, data: weighted_concordance(data[first], data[second], weights), "over patients"
    )


def limit_of_agreement(name: str, side: int) -> Pooling:
    """The lower (-1) or upper (1) limit of agreement; the standard deviation has n - 1."""

    def limit(weights: Values, data: dict[str, Values]) -> Values:
        total = weights.sum(axis=1)
        center = weights @ data[name] / total
        squares = weights @ np.square(data[name] - data[name].mean()) if data[name].size else total
        deviation = np.sqrt(np.maximum(squares - total * (center - data[name].mean()) ** 2, 0) / (total - 1))
        return center + side * AGREEMENT * deviation

    return Pooling((name,), limit, "over patients", interval=False)


KAPPA = Pooling(
    ("overlap_ml", "ml_predicted", "ml", "ml_near"),
    lambda weights, data: kappa(*(weights @ data[name] for name in ("overlap_ml", "ml_predicted", "ml", "ml_near"))),
    "of volumes summed over patients",
)
CONTRAST = Pooling(
    SUMS,
    lambda weights, data: concordance_of_sums(*(weights @ data[name] for name in SUMS)),
    "of sums over the voxels of all patients",
)


@dataclass(frozen=True, kw_only=True)
class JudgedCase:
    """One prediction beside the true images, the argument of a figure's `measure`; arrays (X, Y, Z) in [-1, 1]."""

    prediction: NDArray[np.float32]
    probability: NDArray[np.float32] | None
    """Stated probability of enhancement in [0, 1], where there is one."""
    tumour: NDArray[np.float32] | None = None
    """Stated probability of tumour in [0, 1], where there is one."""
    core: NDArray[np.float32] | None = None
    """Stated probability of the tumour's core, where there is one."""
    t1: NDArray[np.float32]
    truth: NDArray[np.float32]
    flags: NDArray[np.uint8]
    """Bits of brain, tumour and expert label, as in a prepared case."""
    brain: NDArray[np.bool_]
    spread: NDArray[np.float32] | None = None
    """Half the mean absolute difference between two samples, where the network draws several."""
    noise_sd: float
    """Standard deviation of the true scan's noise."""
    spacing_mm: float
    threshold: float
    """Enhancement is image - T1 above this."""
    enhancing_ml: float
    """A patient with less than this does not enhance."""


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """A figure: how it is computed, pooled, named and shown."""

    title: str
    decimals: int
    direction: Direction
    unit: str = ""
    """Empty for shares, counts and normalised image units."""
    percent: bool = False
    """Shown as a percentage: 0.25 as 25."""
    short: str = ""
    """Title for a terminal, where the title is long."""
    meaning: str = ""
    """A few words for the line under a table."""
    truths: bool = False
    """Whether it is compared with each definition of the true enhancement."""
    of_case: bool = True
    """Whether it is a column of the per-patient table; else only a group of patients has it."""
    measure: Callable[[JudgedCase], float] | None = None
    """Its function of a case; None for figures that `evaluate` computes together."""
    pooling: Pooling | None = None
    """Pooling over patients; None is the mean of the column."""
    shown: tuple[Place, ...] = ()
    shown_rule: tuple[Place, ...] = ()
    """Places that show it for the paper's rule alone."""

    def __post_init__(self) -> None:
        """Raises ValueError for a column of the scorecard without a pooled value."""
        if "card" in self.shown and "pooled" not in self.shown:
            raise ValueError(f"the figure {self.title!r} is shown in 'card', which needs 'pooled' too")

    @property
    def head(self) -> str:
        """Title and unit: "bias (ml)"."""
        return title_with_unit(self.title, self.unit)

    @property
    def hint(self) -> str:
        """Which direction is better: "lower is better"; "" where neither is."""
        return "" if self.direction == "none" else f"{self.direction} is better"

    def text(self, value: float) -> str:
        """A formatted value: "0.71", "-1.2", "25"; "-" for a missing one."""
        return number_text(value, self.decimals, percent=self.percent)

    def loss(self, value: float) -> float:
        """Distance of a value from ideal, lower is better; NaN where no direction is better."""
        return distance_to_ideal(value, self.direction)


def title_with_unit(title: str, unit: str) -> str:
    """ "bias (ml)", "bias (rule, ml)", "AUC"."""
    if not unit:
        return title
    return f"{title[:-1]}, {unit})" if title.endswith(")") else f"{title} ({unit})"


def number_text(value: float, decimals: int, *, percent: bool = False, signed: bool = False) -> str:
    """A formatted number; "-" for a missing one, and never "-0.00"."""
    if not np.isfinite(value):
        return "-"
    text = f"{float(value) * (100 if percent else 1):{'+' if signed else ''}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def distance_to_ideal(value: float, direction: Direction) -> float:
    """Distance of a value from ideal, lower is better; NaN where no direction is better."""
    distance = {"lower": value, "higher": -value, "nearer to 0": abs(value), "nearer to 1": abs(value - 1)}
    return distance.get(direction, float("nan"))


def best_of(values: Sequence[float], direction: Direction, digits: int) -> list[bool]:
    """Which values are the best after rounding to `digits`; none where all are equal or no direction is better."""
    losses = [distance_to_ideal(round(float(value), digits), direction) for value in values]
    known = {loss for loss in losses if np.isfinite(loss)}
    return [len(known) > 1 and loss == min(known) for loss in losses]
