"""What is known of one figure of the scorecard, and how its numbers are written and ranked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lab.evaluation.pooling import Pooling

Direction = Literal["lower", "higher", "nearer to 0", "nearer to 1", "none"]
Place = Literal[
    "pooled",  # rows of the table of pooled figures
    "card",  # columns of the scorecard
    "boxes",
    "forest",
    "effects",  # tested and given with effect sizes
    "spread",  # over seeds and folds
    "study note",
    "trial note",
    "model card",
    "view",  # columns of a study's saved view
    "bars",  # bar charts of a saved view
    "trade",  # charts of a saved view, against the error
    "objective",
    "search",  # beside the objective, of each trial of a search
    "gate",  # in which a challenger may have to be better
]


@dataclass(frozen=True, kw_only=True)
class JudgedCase:
    """One prediction beside the true images, as a figure's `measure` gets it; arrays (X, Y, Z) in [-1, 1]."""

    prediction: NDArray[np.float32]
    t1: NDArray[np.float32]
    truth: NDArray[np.float32]
    flags: NDArray[np.uint8]
    """Bits of brain, tumour and expert label, as in a prepared case."""
    brain: NDArray[np.bool_]
    noise_sd: float
    """Of the true scan."""
    spacing_mm: float
    threshold: float
    """What image - T1 exceeds where it enhances."""


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """A figure: how it is computed, pooled, called and shown."""

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
    """Held against each definition of the true enhancement."""
    of_case: bool = True
    """A column of the per-patient table; else only a group of patients has it."""
    measure: Callable[[JudgedCase], float] | None = None
    """How it is computed for a case; None for those that `evaluate` computes together."""
    pooling: Pooling | None = None
    """How it is pooled over patients; None is the mean of the column."""
    shown: tuple[Place, ...] = ()
    shown_rule: tuple[Place, ...] = ()
    """Where it is shown against the paper's rule alone."""

    @property
    def head(self) -> str:
        """Title and unit: "bias (ml)"."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def hint(self) -> str:
        """Which way is better: "lower is better"; "" where neither is."""
        return "" if self.direction == "none" else f"{self.direction} is better"

    def text(self, value: float) -> str:
        """A value as it is shown: "0.71", "-1.2", "25"; "-" where there is none."""
        return number_text(value, self.decimals, percent=self.percent)

    def loss(self, value: float) -> float:
        """How far a value is from ideal: the lower, the better; NaN where no way is better."""
        return distance_to_ideal(value, self.direction)


def number_text(value: float, decimals: int, *, percent: bool = False, signed: bool = False) -> str:
    """A number as it is shown; "-" where there is none, and never "-0.00"."""
    if not np.isfinite(value):
        return "-"
    text = f"{float(value) * (100 if percent else 1):{'+' if signed else ''}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def distance_to_ideal(value: float, direction: Direction) -> float:
    """How far a value is from ideal: the lower, the better; NaN where no way is better."""
    distance = {"lower": value, "higher": -value, "nearer to 0": abs(value), "nearer to 1": abs(value - 1)}
    return distance.get(direction, float("nan"))


def best_of(values: Sequence[float], direction: Direction, digits: int) -> list[bool]:
    """Which values are the best to so many digits; none where all are the same or no way is better."""
    losses = [distance_to_ideal(round(float(value), digits), direction) for value in values]
    known = {loss for loss in losses if np.isfinite(loss)}
    return [len(known) > 1 and loss == min(known) for loss in losses]
