"""Feature selection: supervised ranking, then removal of features that correlate with a better one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, TransformerMixin


def anova(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """F statistic of a one-way analysis of variance per feature; values (cases, features), positive (cases,) bool."""
    ones, zeros = values[positive], values[~positive]
    within = ((ones - ones.mean(axis=0)) ** 2).sum(axis=0) + ((zeros - zeros.mean(axis=0)) ** 2).sum(axis=0)
    between = len(ones) * len(zeros) / len(values) * (ones.mean(axis=0) - zeros.mean(axis=0)) ** 2
    with np.errstate(over="ignore"):  # infinite if a feature equals the label
        return (len(values) - 2) * between / np.maximum(within, np.finfo(float).tiny)


def rank_auc(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """|AUC - 0.5| of every feature alone (Mann & Whitney 1947), in [0, 0.5]; robust to outliers."""
    ones = int(positive.sum())
    total = rankdata(values, axis=0)[positive].sum(axis=0)
    area = (total - ones * (ones + 1) / 2) / (ones * (len(values) - ones))
    return np.abs(area - 0.5)


RANKINGS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"anova": anova, "auc": rank_auc}
"""(values, label is 1) -> merit of every feature, higher is better."""


class Ranked(TransformerMixin, BaseEstimator):
    """Sorts the columns by merit, the best first; ties keep their order."""

    def __init__(self, ranking: str = "anova") -> None:
        self.ranking = ranking

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Ranked:
        """Fit on X (cases, features) without gaps and y (cases,) 0 or 1. Raises ValueError for an unknown ranking."""
        if self.ranking not in RANKINGS:
            raise ValueError(f"rankings are {', '.join(RANKINGS)}; got {self.ranking}")
        merit = RANKINGS[self.ranking](X.to_numpy(np.float64), np.asarray(y) == 1)
        # rounding errors must not decide between copies of one feature
        order = np.argsort(-np.round(merit, 12), kind="stable")
        self.columns_ = [str(X.columns[position]) for position in order]
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """X with the best column first."""
        return X[self.columns_]


class BestUncorrelated(TransformerMixin, BaseEstimator):
    """Selects, from columns in order of merit, the first `features` (None: all) without two that correlate.

    Greedy: take the best column, drop all whose absolute Pearson correlation with it is above the limit, repeat.
    """

    def __init__(self, features: int | None = None, correlation_limit: float = 1.0) -> None:
        self.features = features
        self.correlation_limit = correlation_limit

    def fit(self, X: pd.DataFrame, y: object = None) -> BestUncorrelated:
        """Fit on X (cases, features) without missing values, the best feature first."""
        values = X.to_numpy(np.float64)
        values = values - values.mean(axis=0)
        length = np.sqrt((values**2).sum(axis=0))
        values = values / np.where(length > 0, length, 1)
        left = np.ones(values.shape[1], bool)
        chosen: list[int] = []
        while left.any() and len(chosen) < (self.features or values.shape[1]):
            best = int(np.argmax(left))
            chosen.append(best)
            left[best] = False
            if self.correlation_limit < 1:
                left &= np.abs(values[:, best] @ values) <= self.correlation_limit
        self.columns_ = [str(X.columns[position]) for position in chosen]
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """X with the selected columns, the best first."""
        return X[self.columns_]
