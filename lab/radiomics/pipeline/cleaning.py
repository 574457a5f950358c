"""First steps of the pipeline: stability filter, filter of uninformative features, imputation, scaling.

Each step is fitted on training cases alone and maps a DataFrame with named columns to another. `columns_` holds its
output columns; `PER_COLUMN` names the fitted attributes that have one value per column of `columns_`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from lab.stats.agreement import icc_3_1

StabilityTables = Mapping[str, pd.DataFrame]  # mask perturbation -> features of some cases under it
FEWEST_CASES = 3  # least number of cases for a useful ICC
MOSTLY = 0.95  # a feature is near-constant if this share of the cases has one value
NORMAL_IQR = 1.349  # interquartile range of a standard normal distribution


class StabilityFilter(TransformerMixin, BaseEstimator):
    """Drops features whose ICC(3,1) under perturbed tumour masks is below a threshold, or missing in a case.

    The ICC is that of the training cases that are in every table. Columns that the tables lack, such as the scanner's,
    stay. `fit` raises ValueError if fewer than 3 cases are usable or no feature is left.
    """

    def __init__(self, tables: StabilityTables | None = None, threshold: float = 0.75) -> None:
        self.tables = tables
        self.threshold = threshold

    def fit(self, X: pd.DataFrame, y: object = None) -> StabilityFilter:
        """Fit on X (cases, features), indexed by case id."""
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
        """X with the stable columns."""
        return X[self.columns_]


class Informative(TransformerMixin, BaseEstimator):
    """Drops features that are (nearly) constant, or missing in at least half of the cases."""

    def fit(self, X: pd.DataFrame, y: object = None) -> Informative:
        """Fit on X (cases, features). Raises ValueError if no feature is left."""
        values = finite(X)
        known = np.isfinite(values)
        usable = known.mean(axis=0) > 0.5
        values, known = values[:, usable], known[:, usable]
        # a value shared by most cases is also the median
        common = (values == np.nanmedian(values, axis=0)).sum(axis=0) / known.sum(axis=0)
        spread = np.nanstd(values, axis=0) > 1e-10 * np.nanmax(np.abs(values), axis=0)
        kept = np.flatnonzero(usable)[(common < MOSTLY) & spread]
        if not kept.size:
            raise ValueError(f"none of the {X.shape[1]} features differs between the {len(X)} training cases")
        self.columns_ = [str(X.columns[position]) for position in kept]
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """X with the informative columns."""
        return X[self.columns_]


class MedianImputer(TransformerMixin, BaseEstimator):
    """Replaces missing and non-finite values by the median of the training cases."""

    PER_COLUMN = ("medians_",)

    def fit(self, X: pd.DataFrame, y: object = None) -> MedianImputer:
        """Fit on X (cases, features); each column needs at least one value."""
        self.columns_ = [str(name) for name in X.columns]
        self.medians_ = np.nanmedian(finite(X), axis=0)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """X without missing values."""
        found = X[self.columns_]
        values = finite(found)
        return pd.DataFrame(np.where(np.isfinite(values), values, self.medians_), found.index, self.columns_)


class Scaler(TransformerMixin, BaseEstimator):
    """Scales to mean 0 and SD 1 ("standard") or to median 0 and a normal's IQR ("robust"), and clips at +-`clip`.

    Clipping keeps one patient's extreme value, which textures of few voxels produce, from deciding alone.
    """

    PER_COLUMN = ("centre_", "scale_")

    def __init__(self, kind: str = "standard", clip: float = 5.0) -> None:
        self.kind = kind
        self.clip = clip

    def fit(self, X: pd.DataFrame, y: object = None) -> Scaler:
        """Fit on X (cases, features) without missing values. Raises ValueError for an unknown kind."""
        if self.kind not in ("standard", "robust"):
            raise ValueError(f"scalers are standard and robust; got {self.kind}")
        values = X.to_numpy(np.float64)
        self.columns_ = [str(name) for name in X.columns]
        self.centre_, self.scale_ = values.mean(axis=0), values.std(axis=0)
        if self.kind == "robust":
            low, self.centre_, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
            width = (high - low) / NORMAL_IQR
            # the IQR is 0 if half of the cases share a value: the SD replaces it
            self.scale_ = np.where(width > 1e-3 * self.scale_, width, self.scale_)
        self.scale_ = np.where(self.scale_ > 0, self.scale_, 1.0)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """X in units of the training cases' spread, within +-clip."""
        found = X[self.columns_]
        values = (found.to_numpy(np.float64) - self.centre_) / self.scale_
        return pd.DataFrame(np.clip(values, -self.clip, self.clip), found.index, self.columns_)


def finite(X: pd.DataFrame) -> np.ndarray:
    """Values (cases, features) with infinite ones as NaN."""
    values = X.to_numpy(np.float64)
    return np.where(np.isinf(values), np.nan, values) if np.isinf(values).any() else values
