"""OOD detection: Mahalanobis distance of a patient from the training patients, over the features the classifier reads.

The covariance is Ledoit & Wolf's (J Multivariate Analysis 2004), which exists even with more features than patients.
Reference distances of training cases are measured without their own patient: in-sample distances would be too short.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.covariance import LedoitWolf

FAR = 0.975  # a patient is OOD if this share of the training cases is nearer
OUTLYING_SD, NAMED = 3.0, 3  # SDs from the training mean beyond which a feature is named, and how many are named


@dataclass(frozen=True, kw_only=True)
class MahalanobisDistance:
    """The distribution of the training cases over F features."""

    features: tuple[str, ...]
    mean: np.ndarray  # (F,), in the features' own units
    sd: np.ndarray
    precision: np.ndarray  # (F, F) inverse covariance of the features in units of their SD
    reference: np.ndarray  # (cases,) distances of training cases from the others, ascending

    def distances(self, cases: pd.DataFrame) -> np.ndarray:
        """(cases,) Mahalanobis distances in SDs; the cases must have all features, without missing values."""
        return _lengths(self.deviations(cases), self.precision)

    def percentiles(self, cases: pd.DataFrame) -> np.ndarray:
        """(cases,) share of the training cases that are nearer, in [0, 1]."""
        return np.searchsorted(self.reference, self.distances(cases), side="left") / len(self.reference)

    def deviations(self, cases: pd.DataFrame) -> np.ndarray:
        """(cases, F) SDs from the training mean."""
        return (cases[list(self.features)].to_numpy(np.float64) - self.mean) / self.sd

    def outlying(self, cases: pd.DataFrame) -> list[str]:
        """For each case, at most three features beyond 3 SDs in words, the farthest first; or ""."""
        texts = []
        for row in self.deviations(cases):
            order = np.argsort(-np.abs(row), kind="stable")[:NAMED]
            texts.append("; ".join(f"{self.features[n]} {row[n]:+.1f} SD" for n in order if abs(row[n]) > OUTLYING_SD))
        return texts


def fit_distance(cases: pd.DataFrame, patients: np.ndarray) -> MahalanobisDistance:
    """Fit on training cases (cases, features) without missing values. Raises ValueError with fewer than 3 patients."""
    names = np.asarray(patients, str)
    if np.unique(names).size < 3:
        raise ValueError(f"a training distribution needs 3 patients; there are {np.unique(names).size}")
    values = cases.to_numpy(np.float64)
    reference = np.empty(len(values))
    for patient in np.unique(names):
        own = names == patient
        mean, sd, precision = _distribution(values[~own])
        reference[own] = _lengths((values[own] - mean) / sd, precision)
    mean, sd, precision = _distribution(values)
    return MahalanobisDistance(
        features=tuple(map(str, cases.columns)), mean=mean, sd=sd, precision=precision, reference=np.sort(reference)
    )


def _distribution(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean, sd = values.mean(axis=0), values.std(axis=0)
    sd = np.where(sd > 0, sd, 1.0)
    return mean, sd, LedoitWolf(assume_centered=True).fit((values - mean) / sd).precision_


def _lengths(deviations: np.ndarray, precision: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", deviations, precision, deviations), 0))
