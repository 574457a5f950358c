"""How far from the training patients may a patient be who is like them? Limits that few patients make wide.

Each training patient is measured against the others. A limit is the end of a prediction interval for one more patient
(Student's t over those distances), and never nearer than what the training patients show themselves, with a margin: so
a measure with heavy tails gets a wide limit, and it alone. The rate of false alarms is shared out among all tests
(Bonferroni), the greater part to the faults that do happen. Covariances are shrunk as Ledoit & Wolf do (J Multivariate
Analysis 2004), so that a dozen patients are enough for one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from lab.qc.measures import KINDS, aspect_of, exchanged, turned
from lab.qc.ood import LEAST_PATIENTS, Aspect, Likeness, Trial

RARE = 0.005
"""Share of patients like the training ones that would be called unlike, were measures Gaussian. They are not: 0.01 to
0.05 of held-out phantoms and glioma patients without a visible fault are, from 20 training patients on."""
SHARES = {"trials": 0.25, "expected": 0.35, "others": 0.4}
"""How it is shared out among exchanges and turns, the measures below, and all other measures and aspects."""
EXPECTED = ("volume", "mirror_gap", "flattest", "vessels:T1", "dots:T1")
"""What a child's brain, a missing lobe, a missing slab and contrast agent move."""
MARGIN = 1.2
"""Limits are at least so many times the largest of the training patients' own."""
SPARED = 0.01
"""Of many training patients this share may lie beyond it: faulty scans among them must not blind a test."""


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """Mean, SD and aspects of some cases; limits not settled."""

    mean: np.ndarray
    sd: np.ndarray
    aspects: dict[str, Aspect]


@dataclass(frozen=True, kw_only=True)
class _LeftOut:
    """Deviations (N, D), distances (N, aspects) and gains (N, trials) of N cases, each without its own patient."""

    deviations: np.ndarray
    lengths: np.ndarray
    gains: np.ndarray
    trials: dict[str, Trial]


@dataclass(frozen=True, kw_only=True)
class _Limits:
    """What `Likeness` says of the same names."""

    limits: np.ndarray
    aspects: dict[str, Aspect]
    trials: dict[str, Trial]
    distances: np.ndarray


def fit_likeness(rows: pd.DataFrame | Sequence[Mapping[str, float]], patients: Sequence[str]) -> Likeness:
    """From the measures of training cases, a row each, and the patient of each.

    Measures that a training case does not have are left out. Raises ValueError where there is no patient, or where no
    measure is there in all.
    """
    table = pd.DataFrame(rows).reset_index(drop=True).astype(float)
    owner = np.asarray(patients, str)
    if len(table) != len(owner) or not len(owner):
        raise ValueError(f"{len(table)} rows of measures for {len(owner)} patients")
    table = table.loc[:, np.isfinite(table).all(axis=0)]
    if not len(table.columns):
        raise ValueError("the training patients have no measure in common")
    names, values = tuple(map(str, table.columns)), table.to_numpy()
    sequences = tuple(dict.fromkeys(part for name in names for part in name.split(":")[1:]))
    count = len(np.unique(owner))
    fit = _fit(values, names)
    settled = _Limits(limits=np.zeros(0), aspects={}, trials={}, distances=np.zeros(0))
    if count >= LEAST_PATIENTS:
        settled = _settled(fit, _left_out(values, names, owner, sequences), names, count)
    return Likeness(
        patients=count,
        sequences=sequences,
        names=names,
        mean=fit.mean,
        sd=fit.sd,
        low=np.quantile(values, 0.025, axis=0, method="lower"),
        high=np.quantile(values, 0.975, axis=0, method="higher"),
        **vars(settled),
    )


def _left_out(values: np.ndarray, names: Sequence[str], owner: np.ndarray, sequences: Sequence[str]) -> _LeftOut:
    """Each case measured against the other patients."""
    trials = _trials(names, sequences)
    deviations = np.empty_like(values)
    lengths, gains = np.empty((len(values), len(_groups(names)))), np.empty((len(values), len(trials)))
    for member in np.unique(owner):
        own = owner == member
        others = _fit(values[~own], names)
        deviations[own] = (values[own] - others.mean) / others.sd
        for n, aspect in enumerate(others.aspects.values()):
            lengths[own, n] = aspect.length(deviations[own])
        for n, trial in enumerate(trials.values()):
            gains[own, n] = trial.gain(values[own], others.mean, others.sd)
    return _LeftOut(deviations=deviations, lengths=lengths, gains=gains, trials=trials)


def _settled(fit: _Fit, left_out: _LeftOut, names: Sequence[str], patients: int) -> _Limits:
    """The limits, from what the training patients show when left out."""
    rates = _rates(names, len(fit.aspects), len(left_out.trials))

    def beyond(rate: np.ndarray) -> np.ndarray:
        """SDs from the mean beyond which one more patient lies so rarely."""
        return stats.t.ppf(1 - rate, patients - 1) * np.sqrt(1 + 1 / patients)

    far = np.abs(left_out.deviations)
    limits = np.maximum(beyond(rates["measures"] / 2), MARGIN * _largest(far))
    aspects, trials, scores = {}, {}, [far / limits]
    for (name, aspect), lengths in zip(fit.aspects.items(), left_out.lengths.T):
        ordinary = np.sqrt(stats.chi2.ppf(1 - rates["aspects"], len(aspect.places)))  # none is nearer in a Gaussian
        interval = lengths.mean() + beyond(rates["aspects"]) * lengths.std(ddof=1)
        limit = float(max(interval, ordinary, MARGIN * _largest(lengths)))
        aspects[name] = dataclasses.replace(aspect, limit=limit)
        scores.append(lengths[:, None] / limit)
    for (name, trial), gains in zip(left_out.trials.items(), left_out.gains.T):
        usual = float(gains.mean())
        if usual < 0:  # else the training patients themselves do not tell one from the other
            interval = float(beyond(rates["trials"]) * gains.std(ddof=1))
            limit = max(usual + interval, usual + MARGIN * float(_largest(gains - usual)))
            # exchanged or turned, a training patient gains what it loses now
            trials[name] = dataclasses.replace(trial, usual=usual, limit=limit, sure=max(limit, -float(gains.max())))
            scores.append((gains[:, None] - usual) / (limit - usual))
    distances = np.sort(np.concatenate(scores, axis=1).max(axis=1))
    return _Limits(limits=limits, aspects=aspects, trials=trials, distances=distances)


def _fit(values: np.ndarray, names: Sequence[str]) -> _Fit:
    mean = values.mean(axis=0)
    floor = np.array([KINDS[name.split(":")[0]].floor for name in names])
    sd = np.maximum(values.std(axis=0, ddof=1) if len(values) > 1 else floor, floor)
    deviations = (values - mean) / sd

    def aspect(places: np.ndarray) -> Aspect:
        return Aspect(places=places, precision=_precision(deviations[:, places]), limit=0.0)

    return _Fit(mean=mean, sd=sd, aspects={name: aspect(places) for name, places in _groups(names).items()})


def _groups(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Aspect -> positions of its measures; those of one measure only are left out."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(aspect_of(name), []).append(place)
    return {name: np.array(places) for name, places in groups.items() if len(places) > 1}


def _trials(names: Sequence[str], sequences: Sequence[str]) -> dict[str, Trial]:
    """What is tried out; limits not settled."""
    found = {f"{a} and {b} swapped": exchanged(names, a, b) for a, b in combinations(sequences, 2)}
    found |= {"upside down": turned(names, "z"), "back to front": turned(names, "y")}
    return {name: Trial(places=places, signs=signs, usual=0.0, limit=0.0) for name, (places, signs) in found.items()}


def _rates(names: Sequence[str], aspects: int, trials: int) -> dict[str, np.ndarray]:
    """False alarms allowed to each measure (D,), each aspect and each trial."""
    expected = np.array([name in EXPECTED for name in names])
    others = RARE * SHARES["others"] / (np.count_nonzero(~expected) + aspects)
    return {
        "measures": np.where(expected, RARE * SHARES["expected"] / max(1, np.count_nonzero(expected)), others),
        "aspects": np.array(others),
        "trials": np.array(RARE * SHARES["trials"] / trials),
    }


def _largest(found: np.ndarray) -> np.ndarray:
    """The largest of N along the first axis, but for a share of `SPARED`."""
    return np.sort(found, axis=0)[-1 - int(SPARED * len(found))]


def _precision(deviations: np.ndarray) -> np.ndarray:
    """(k, k) inverse of the shrunk covariance of deviations (N, k); no measure varies less than its SD."""
    count, size = deviations.shape
    covariance = deviations.T @ deviations / count
    mean = np.trace(covariance) / size
    apart = ((covariance - mean * np.eye(size)) ** 2).sum() / size
    squares = deviations**2
    unsure = ((squares.T @ squares).sum() / count - (covariance**2).sum()) / (size * count)
    share = min(max(unsure, 0.0), apart) / apart if apart > 0 else 1.0
    shrunk = (1 - share) * covariance + share * mean * np.eye(size)
    return np.linalg.inv(shrunk + np.diag(np.maximum(1 - np.diag(shrunk), 1e-6)))
