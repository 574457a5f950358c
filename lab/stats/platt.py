"""Platt scaling: probabilities from a classifier's scores, fitted on cases that it was not trained on.

Platt, Advances in Large Margin Classifiers 1999: targets are shrunk from 0 and 1 as by one more case of each class, so
complete separation still gives a finite slope.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

WEAK = 100.0  # inverse strength of the ridge penalty on the slope of standardised scores
FLATTEST = 1e-3  # minimum slope, per SD of the scores


@dataclass(frozen=True, kw_only=True)
class Line:
    """logit P(label = 1) = intercept + slope * score, slope > 0."""

    slope: float
    intercept: float

    def logits(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated logits of scores, any shape."""
        return self.intercept + self.slope * np.asarray(scores, np.float64)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of scores, any shape."""
        return expit(self.logits(scores))


def platt(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> Line:
    """Fit of the line to labels (N,) 0 or 1 and scores (N,), weighted by `weights` (N,).

    A falling line is replaced by a nearly flat one at the prevalence: a failed cross-validation must not invert a
    classifier. Raises ValueError where a class is missing.
    """
    positive = np.asarray(labels) == 1
    counts = np.ones(positive.size) if weights is None else np.asarray(weights, np.float64)
    ones, zeros = counts[positive].sum(), counts[~positive].sum()
    if not (ones and zeros):
        raise ValueError("a calibration needs cases with label 1 and with 0")
    centre = float(np.average(scores, weights=counts))
    spread = float(np.sqrt(np.average((scores - centre) ** 2, weights=counts))) or 1.0
    standard = (np.asarray(scores, np.float64) - centre) / spread
    target = np.where(positive, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    model = LogisticRegression(C=WEAK, max_iter=1000, tol=1e-8)
    twice = np.repeat([1, 0], positive.size)
    model.fit(np.tile(standard, 2)[:, None], twice, np.concatenate([counts * target, counts * (1 - target)]))
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope < FLATTEST:
        slope, intercept = FLATTEST, float(np.log((ones + 1) / (zeros + 1)))
    return Line(slope=slope / spread, intercept=intercept - slope * centre / spread)
