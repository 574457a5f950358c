"""ComBat harmonisation of scanner effects, fitted on training cases and applied to others.

Johnson, Li & Rabinovic, Biostatistics 2007 (parametric empirical Bayes); Fortin et al., NeuroImage 2018 (MRI). Unlike
common implementations it protects no covariates: protecting the label, which is unknown for a new patient, leaks it.
In return, if scanners see different shares of the label, ComBat removes part of the label's effect too.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from lab.radiomics.pipeline.cleaning import finite

FEWEST = 3  # least number of training cases for which the effect of a batch is estimated
CONVERGED, STEPS = 1e-4, 500


class ComBat(TransformerMixin, BaseEstimator):
    """Removes location and scale effects of the batches in the column `batch`, and drops that column.

    A case whose batch had fewer than 3 training cases stays unchanged, with a warning: a wrong correction is worse than
    none. Missing values stay missing, and features that are constant within batches unchanged.
    """

    PER_COLUMN = ("mean_", "sd_", "shift_", "ratio_")

    def __init__(self, batch: str = "vendor") -> None:
        self.batch = batch

    def fit(self, X: pd.DataFrame, y: object = None) -> ComBat:
        """Fit on X (cases, features and the batch column). Raises ValueError without two batches of 3 cases."""
        labels = self._labels(X)
        counts = labels.value_counts()
        self.batches_ = sorted(str(name) for name in counts.index[counts >= FEWEST])
        if len(self.batches_) < 2:
            raise ValueError(
                f"ComBat needs two or more of {self.batch} with {FEWEST} training cases each; found "
                f"{', '.join(f'{name}: {count}' for name, count in counts.items()) or 'none'}: switch it off"
            )
        used = labels.isin(self.batches_).to_numpy()
        features = X.drop(columns=self.batch)
        self.columns_ = [str(name) for name in features.columns]
        values = finite(features)[used]  # (cases, features)
        member = np.array([self.batches_.index(label) for label in labels[used]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a column may be all NaN in a batch
            self._estimate(values, member)
        return self

    def _estimate(self, values: np.ndarray, member: np.ndarray) -> None:
        sizes = np.bincount(member)
        means = np.stack([np.nanmean(values[member == b], axis=0) for b in range(len(sizes))])  # (batches, features)
        self.mean_ = (sizes / sizes.sum()) @ means
        self.sd_ = np.sqrt(np.nanmean((values - means[member]) ** 2, axis=0))
        usable = np.isfinite(self.mean_) & (self.sd_ > 1e-10 * np.nanmax(np.abs(values), axis=0))
        self.mean_ = np.where(usable, self.mean_, 0.0)
        self.sd_ = np.where(usable, self.sd_, 1.0)
        standard = (values - self.mean_) / self.sd_
        self.shift_, self.ratio_ = np.zeros_like(means), np.ones_like(means)
        for number in range(len(sizes)):
            own = standard[member == number]
            ready = usable & (np.isfinite(own).sum(axis=0) >= 2) & (np.nanvar(own, axis=0) > 0)
            if ready.sum() >= 2:
                self.shift_[number, ready], self.ratio_[number, ready] = empirical_bayes(own[:, ready])

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """The features without batch effects."""
        labels = self._labels(X)
        unknown = ~labels.isin(self.batches_)
        if unknown.any():
            which = f"{self.batch} {', '.join(sorted(set(labels[unknown].fillna('missing'))))}"
            text = f"ComBat: {which} had fewer than {FEWEST} training cases; such cases stay as they are"
            warnings.warn(text, stacklevel=2)
        features = X[self.columns_]
        values = features.to_numpy(np.float64, copy=True)
        for number, name in enumerate(self.batches_):
            rows = (labels == name).to_numpy(bool, na_value=False)
            standard = (values[rows] - self.mean_) / self.sd_
            standard = (standard - self.shift_[number]) / np.sqrt(self.ratio_[number])
            values[rows] = standard * self.sd_ + self.mean_
        return pd.DataFrame(values, features.index, self.columns_)

    def _labels(self, X: pd.DataFrame) -> pd.Series:
        if self.batch not in X.columns:
            raise ValueError(f"ComBat needs the column {self.batch}, which is not there")
        return X[self.batch].astype("string")


def empirical_bayes(standard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift and variance ratio (features,) of one batch from its standardised cases (cases, features); NaN is allowed.

    Both are shrunk towards their distribution over features: a normal prior for shifts and an inverse gamma prior for
    variances, fitted by moments (Johnson 2007, section 3.2).
    """
    count = np.isfinite(standard).sum(axis=0)
    shift, ratio = np.nanmean(standard, axis=0), np.nanvar(standard, axis=0, ddof=1)
    prior_shift, prior_spread = shift.mean(), shift.var(ddof=1)
    spread = max(ratio.var(ddof=1), np.finfo(float).tiny)
    shape = 2 + ratio.mean() ** 2 / spread
    rate = ratio.mean() * (shape - 1)
    first_shift = shift
    for _ in range(STEPS):
        new_shift = (prior_spread * count * first_shift + ratio * prior_shift) / (prior_spread * count + ratio)
        rest = np.nansum((standard - new_shift) ** 2, axis=0)
        new_ratio = (rate + rest / 2) / (shape + count / 2 - 1)
        moved = max(
            (np.abs(new_shift - shift) / np.maximum(np.abs(shift), 1e-12)).max(),
            (np.abs(new_ratio - ratio) / ratio).max(),
        )
        shift, ratio = new_shift, new_ratio
        if moved < CONVERGED:
            break
    return shift, ratio
