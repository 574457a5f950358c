"""The first steps of a pipeline: stable features, those that say something, no gaps, one scale.

Each learns from the training cases alone, takes a DataFrame with named columns and gives one. `PER_COLUMN` names what
it learned of each column of `columns_`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from lab.stats.icc import icc_3_1

StabilityTables = Mapping[str, pd.DataFrame]
"""Mask change -> features of some cases under it."""
FEWEST_CASES = 3
"""With fewer an ICC says nothing."""
MOSTLY = 0.95
"""A feature with one value in so many of the cases is near-constant; half may be missing."""
NORMAL_IQR = 1.349
"""Interquartile range of a standard normal."""


class StabilityFilter(TransformerMixin, BaseEstimator):
    """Drops features whose ICC(3,1) under changed tumour masks is below a threshold.

    Only cases that are in the training cases *and* in every table count. A feature that is missing in one of them goes.
    Columns that the tables lack, as a scanner's name, stay. `fit` raises ValueError where fewer than 3 cases count or
    no feature is left.
    """

    def __init__(self, tables: StabilityTables | None = None, threshold: float = 0.75) -> None:
        self.tables = tables
        self.threshold = threshold

    def fit(self, X: pd.DataFrame, y: object = None) -> StabilityFilter:
        """X (cases, features), indexed by case id."""
        tables = dict(self.tables or {})
        tables.setdefault("none", X[~X.index.duplicated()])
        cases = X.index.unique()
        names = X.select_dtypes("number").columns
        for table in tables.values():
            cases = cases.intersection(table.index)
            names = names.intersection(table.columns, sort=False)
        if len(cases) < FEWEST_CASES:
            raise ValueError(
                f"the stability filter needs {FEWEST_CASES} training cases with every changed mask, {len(cases)} have "
                "them: measure more cases (--classifier.stability-cases) or switch it off (--classifier.stability 0)"
            )
        ratings = np.stack([table.loc[cases, names].to_numpy(np.float64) for table in tables.values()], axis=1)
        icc, _, _ = icc_3_1(ratings)
        dropped = {name for name, value in zip(names, icc) if not value >= self.threshold}
        self.columns_ = [str(name) for name in X.columns if name not in dropped]
        if len(names) and len(dropped) == len(names):
            raise ValueError(f"no feature has an ICC of {self.threshold:g} or more: lower --classifier.stability")
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """The stable columns."""
        return X[self.columns_]


class Informative(TransformerMixin, BaseEstimator):
    """Drops features that are (nearly) constant or missing in half of the cases or more."""

    def fit(self, X: pd.DataFrame, y: object = None) -> Informative:
        """X (cases, features); raises ValueError where none is left."""
        values = finite(X)
        known = np.isfinite(values)
        usable = known.mean(axis=0) > 0.5
        values, known = values[:, usable], known[:, usable]
        # a value that most cases share is also the median
        common = (values == np.nanmedian(values, axis=0)).sum(axis=0) / known.sum(axis=0)
        spread = np.nanstd(values, axis=0) > 1e-10 * np.nanmax(np.abs(values), axis=0)
        kept = np.flatnonzero(usable)[(common < MOSTLY) & spread]
        if not kept.size:
            raise ValueError(f"none of the {X.shape[1]} features differs between the {len(X)} training cases")
        self.columns_ = [str(X.columns[position]) for position in kept]
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """The columns that say something."""
        return X[self.columns_]


class MedianImputer(TransformerMixin, BaseEstimator):
    """Puts the training cases' median where a value is missing or not finite."""

    PER_COLUMN = ("medians_",)

    def fit(self, X: pd.DataFrame, y: object = None) -> MedianImputer:
        """X (cases, features), each column with at least one value."""
        self.columns_ = [str(name) for name in X.columns]
        self.medians_ = np.nanmedian(finite(X), axis=0)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """No gaps."""
        found = X[self.columns_]
        values = finite(found)
        return pd.DataFrame(np.where(np.isfinite(values), values, self.medians_), found.index, self.columns_)


class Scaler(TransformerMixin, BaseEstimator):
    """To mean 0 and SD 1 ("standard"), or median 0 and interquartile range of a normal's ("robust"), cut at +-`clip`.

    The cut keeps one patient's extreme value, which textures of few voxels give, from deciding alone.
    """

    PER_COLUMN = ("centre_", "scale_")

    def __init__(self, kind: str = "standard", clip: float = 5.0) -> None:
        self.kind = kind
        self.clip = clip

    def fit(self, X: pd.DataFrame, y: object = None) -> Scaler:
        """X (cases, features) without gaps; raises ValueError for an unknown kind."""
        if self.kind not in ("standard", "robust"):
            raise ValueError(f"scalers are standard and robust; got {self.kind}")
        values = X.to_numpy(np.float64)
        self.columns_ = [str(name) for name in X.columns]
        self.centre_, self.scale_ = values.mean(axis=0), values.std(axis=0)
        if self.kind == "robust":
            low, self.centre_, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
            width = (high - low) / NORMAL_IQR
            # more than half of the cases may share a value: then the SD has to do
            self.scale_ = np.where(width > 1e-3 * self.scale_, width, self.scale_)
        self.scale_ = np.where(self.scale_ > 0, self.scale_, 1.0)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """In units of the training cases' spread, within +-clip."""
        found = X[self.columns_]
        values = (found.to_numpy(np.float64) - self.centre_) / self.scale_
        return pd.DataFrame(np.clip(values, -self.clip, self.clip), found.index, self.columns_)


def finite(X: pd.DataFrame) -> np.ndarray:
    """Values (cases, features), infinite ones as missing."""
    values = X.to_numpy(np.float64)
    return np.where(np.isinf(values), np.nan, values) if np.isinf(values).any() else values
