"""Calibration of probabilities: logistic recalibration, Brier score and reliability."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from lab.stats.intervals import Estimate, Z, wilson
from lab.stats.predictions import Floats, Labels, checked_probabilities

CLIP = 1e-6  # probabilities are clipped to this distance from 0 and 1 before the logit
BINS, PER_BIN = 10, 10  # most bins of a reliability table; patients per bin below which there are fewer (2 at least)
STEPS = 100
NOT_KNOWN = Estimate(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True, kw_only=True)
class CalibrationEstimates:
    """Agreement of predicted probabilities with outcomes over a group of patients."""

    slope: Estimate  # 1 is ideal; below 1 predictions are too extreme, as after overfitting
    intercept: Estimate  # intercept of the same fit; 0 is ideal. Interpret it together with the slope
    in_the_large: Estimate  # intercept with the slope fixed at 1: above 0 the risks are too low on average
    brier: Estimate  # mean squared error in [0, 1]; 0 is ideal
    scaled_brier: Estimate  # 1 - Brier / Brier of the prevalence: 1 is ideal, 0 no better than the prevalence
    patients: int
    events: int
    clipped: int  # number of probabilities clipped to `CLIP` from 0 or 1 for their logit
    note: str  # why the slope has no estimate, or ""


def calibration(labels: ArrayLike, probabilities: ArrayLike) -> CalibrationEstimates:
    """Slope, intercept, calibration-in-the-large and Brier scores with intervals.

    Logistic recalibration, logit P(label = 1) = intercept + slope * logit(probability), by maximum likelihood with Wald
    intervals (Cox, Biometrika 1958; Van Calster et al., BMC Medicine 2019). Where it has no estimate `note` says why.
    The Brier score's interval is that of a mean (Bradley et al., Weather and Forecasting 2008), the scaled score's uses
    the delta method. Raises ValueError as `checked_probabilities`.
    """
    positive, values = checked_probabilities(labels, probabilities)
    x = logit(np.clip(values, CLIP, 1 - CLIP))
    ones = np.ones((x.size, 1))
    large = _estimates(*_logistic(ones, x, positive))[0]
    note = _unidentified(x, positive)
    if note:
        intercept = slope = NOT_KNOWN
    else:
        # fitted on standardised logits, for Newton's steps, then transformed back
        centre, scale = float(x.mean()), float(x.std())
        fitted, covariance = _logistic(np.column_stack([ones, (x - centre) / scale]), np.zeros(x.size), positive)
        turn = np.array([[1, -centre / scale], [0, 1 / scale]])
        intercept, slope = _estimates(turn @ fitted, turn @ covariance @ turn.T)
    brier, scaled = _brier(positive, values)
    return CalibrationEstimates(
        slope=slope,
        intercept=intercept,
        in_the_large=large,
        brier=brier,
        scaled_brier=scaled,
        patients=values.size,
        events=int(positive.sum()),
        clipped=int(((values < CLIP) | (values > 1 - CLIP)).sum()),
        note=note,
    )


def recalibrated(result: CalibrationEstimates, probabilities: ArrayLike) -> Floats:
    """Probabilities after recalibration with the fitted intercept and slope; NaN where these have no estimate."""
    x = logit(np.clip(np.asarray(probabilities, np.float64), CLIP, 1 - CLIP))
    return expit(result.intercept.value + result.slope.value * x)


def reliability_table(labels: ArrayLike, probabilities: ArrayLike, *, bins: int | None = None) -> pd.DataFrame:
    """Reliability table over quantile bins: columns predicted, observed, low, high, n, events.

    `predicted` is the mean probability of a bin, `observed` the share with label 1, with Wilson's interval. `bins` is
    by default one per 10 patients, from 2 to 10. Equal probabilities share a bin, so there may be fewer and unequal
    bins. Raises ValueError as `checked_probabilities` (one class is enough) and for fewer than one bin.
    """
    positive, values = checked_probabilities(labels, probabilities, both=False)
    count = min(max(values.size // PER_BIN, 2), BINS) if bins is None else bins
    if count < 1:
        raise ValueError(f"a reliability table needs at least one bin; got {bins}")
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1], method="higher"))
    member = np.searchsorted(edges, values, side="right")
    rows = []
    for number in np.unique(member):
        inside = member == number
        events, total = int(positive[inside].sum()), int(inside.sum())
        share = wilson(events, total)
        rows.append((float(values[inside].mean()), share.value, share.low, share.high, total, events))
    return pd.DataFrame(rows, columns=["predicted", "observed", "low", "high", "n", "events"])


def _unidentified(x: Floats, positive: Labels) -> str:
    """Why a logistic fit on x has no finite slope, or ""."""
    if np.ptp(x) == 0:
        return "all probabilities are equal: no slope can be fitted"
    low, high = x[~positive], x[positive]
    if low.max() <= high.min() or high.max() <= low.min():
        return "the classes are separated completely: the slope has no finite estimate"
    return ""


def _logistic(design: Floats, offset: Floats, positive: Labels) -> tuple[Floats, Floats]:
    """Maximum likelihood (P,) of logit P = offset + design (N, P) @ coefficients, and its covariance (P, P)."""

    def likelihood(coefficients: Floats) -> float:
        score = offset + design @ coefficients
        return float(np.where(positive, score, 0).sum() - np.logaddexp(0, score).sum())

    found = np.zeros(design.shape[1])
    for _ in range(STEPS):
        chance = expit(offset + design @ found)
        information = design.T @ (design * (chance * (1 - chance))[:, None])
        step = np.linalg.solve(information + 1e-14 * np.eye(len(found)), design.T @ (positive - chance))
        # halved until the likelihood does not fall: far from the maximum Newton's full step may overshoot
        while likelihood(found + step) < likelihood(found) - 1e-12 and np.abs(step).max() > 1e-12:
            step = step / 2
        found = found + step
        if np.abs(step).max() < 1e-10:
            break
    else:
        raise ValueError("the logistic recalibration did not converge: look for probabilities of exactly 0 or 1")
    chance = expit(offset + design @ found)
    return found, np.linalg.inv(design.T @ (design * (chance * (1 - chance))[:, None]))


def _estimates(coefficients: Floats, covariance: Floats) -> list[Estimate]:
    errors = np.sqrt(np.diag(covariance))
    return [
        Estimate(float(value), float(value - Z * se), float(value + Z * se), float(se), "Wald")
        for value, se in zip(coefficients, errors)
    ]


def _brier(positive: Labels, values: Floats) -> tuple[Estimate, Estimate]:
    """Brier and scaled Brier score, with standard errors from each patient's influence."""
    wrong = np.square(values - positive)
    score, prevalence = float(wrong.mean()), float(positive.mean())
    worst = prevalence * (1 - prevalence)
    influence = -(wrong - score) / worst + score * (1 - 2 * prevalence) * (positive - prevalence) / worst**2
    se, scaled_se = (float(part.std(ddof=1) / np.sqrt(values.size)) for part in (wrong, influence))
    scaled = 1 - score / worst
    return (
        Estimate(score, max(score - Z * se, 0.0), min(score + Z * se, 1.0), se, "normal"),
        Estimate(scaled, scaled - Z * scaled_se, min(scaled + Z * scaled_se, 1.0), scaled_se, "normal"),
    )
