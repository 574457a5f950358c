"""Out-of-distribution (OOD) detection: is a new patient like those that a model learned from?

Three kinds of tests look at the image quality metrics: each by itself; each group of them (the brain's size, the noise
of T1, how T1 and T2 relate ...) by the Mahalanobis distance under a shrunk covariance (Ledoit & Wolf, J Multivariate
Analysis 2004); and trials: would the patient be more ordinary with two sequences exchanged, or the head turned?

Each training patient is measured against the others. A limit is the end of a prediction interval for one more patient
(Student's t), and never nearer than what the training patients show themselves, with a margin; false alarms are shared
out among the tests (Bonferroni). The score of a patient is that of the strangest test, in units of its limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lab.qc.explanation import explain
from lab.qc.findings import OodResult, finding
from lab.qc.hard_limits import check_hard_limits
from lab.qc.metrics import exchange, group_of, kind_of, turn

VERSION = 2
"""Of the metrics and tests; a reference of another one is not read."""
LEAST_PATIENTS = 10
"""Training patients below which nobody is out of distribution; what breaks a hard limit is refused all the same."""
RARE = 0.005
"""Share of patients like the training ones that would be called unlike, were metrics Gaussian. They are not: 0.01 to
0.05 of held-out phantoms and glioma patients without a visible fault are, from 20 training patients on."""
WATCHED = ("volume", "asymmetry", "flattest", "vessels:T1", "dots:T1")
"""What a child's brain, a missing lobe, a missing slab and contrast agent move."""
SHARES = {"trials": 0.25, "watched": 0.35, "others": 0.4}
"""How the false alarms are shared out; within each part every test gets as many."""
MARGIN, SPARED = 1.2, 0.01
"""Limits are at least so many times the largest of the training patients' own, but for this share of many: faulty scans
among them must not blind a test."""
NEARLY = 1.1
"""The score up to which a patient counts as ordinary once the scans are exchanged or turned."""
COUNTED = 4.0
"""SDs by which one metric can speak for or against a trial."""


@dataclass(frozen=True, kw_only=True)
class OodReference:
    """The metrics of the training patients, D in number, and how far a patient like them may be from them."""

    patients: int
    sequences: tuple[str, ...]
    names: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    """(D,) lowest of the training patients (the 2.5 % quantile of many)."""
    high: np.ndarray
    limits: np.ndarray
    """(D,) SDs from the mean beyond which a patient is unlike; empty with too few patients, as all that follows."""
    precisions: dict[str, np.ndarray]
    """Group -> (k, k) inverse covariance of its metrics, in units of the SDs."""
    group_limits: dict[str, float]
    trials: dict[str, tuple[float, float, float]]
    """Trial -> mean gain of the training patients, the gain beyond which a patient is unlike, and the one from which on
    the trial certainly holds: the least that a training patient would show if it did."""
    distances: np.ndarray
    """(cases,) scores of the training patients, each without itself, rising."""

    def assess(self, values: Mapping[str, float]) -> OodResult:
        """How a patient with these metrics (`lab.qc.image_quality.measure`) compares."""
        wrong = check_hard_limits(self.names, self.sequences, values, self.range_of)
        if wrong:
            return OodResult(level="refused", findings=tuple(wrong))
        if self.patients < LEAST_PATIENTS:
            text = (
                f"the model learned from {self.patients} patients, too few to tell whether this one is like them "
                f"({LEAST_PATIENTS} are needed)"
            )
            return OodResult(level="unjudged", findings=(finding("too few", text),))
        row = np.array([[values[name] for name in self.names]], np.float64)
        scores = {name: float(score[0]) for name, score in self.scores(row).items()}
        distance = max(scores.values())
        tests = {name: scores[name] for name in sorted(scores, key=lambda name: -scores[name]) if scores[name] > 1}
        outcomes = {name: self._outcome(name, row) for name in tests if name in self.trials}
        deviations = dict(zip(self.names, ((row[0] - self.mean) / self.sd).tolist()))
        findings = explain(deviations, values, tests, outcomes, self.range_of) if tests else []
        return OodResult(
            level="refused" if any(one.certain for one in findings) else "unlike" if tests else "alike",
            distance=distance,
            percentile=float(np.searchsorted(self.distances, distance, side="left") / len(self.distances)),
            findings=tuple(findings),
            tests=tests,
        )

    def scores(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Test -> (N,) scores of values (N, D) in units of the test's limit."""
        deviations = (values - self.mean) / self.sd
        found = {name: np.abs(deviations[:, n]) / self.limits[n] for n, name in enumerate(self.names)}
        for name, places in _groups(self.names).items():
            found[name] = _distances(deviations[:, places], self.precisions[name]) / self.group_limits[name]
        for name, (usual, limit, _) in self.trials.items():
            found[name] = (_gains(values, self._try(name, values), self.mean, self.sd) - usual) / (limit - usual)
        return found

    def range_of(self, name: str) -> tuple[float, float] | None:
        """Lowest and highest value of the training patients; None of a metric that they do not have."""
        if name not in self.names:
            return None
        place = self.names.index(name)
        return float(self.low[place]), float(self.high[place])

    def _try(self, trial: str, values: np.ndarray) -> np.ndarray:
        places, signs = _trials(self.names, self.sequences)[trial]
        return values[:, places] * signs

    def _outcome(self, trial: str, row: np.ndarray) -> str:
        """`certain`: the trial makes a patient ordinary, or nearly, and gains what it would gain if it were what is
        wrong; `better`: it makes the patient more ordinary; `unclear`: hardly less so, which no training patient
        shows."""
        other = self._try(trial, row)
        gain = float(_gains(row, other, self.mean, self.sd)[0])
        left = max(score[0] for name, score in self.scores(other).items() if name not in self.trials)
        if gain >= self.trials[trial][2] and left <= NEARLY:
            return "certain"
        return "better" if gain > 0 else "unclear"

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}
        return {**plain, "version": VERSION, "precisions": {k: v.tolist() for k, v in self.precisions.items()}}

    @classmethod
    def read(cls, known: Mapping[str, Any]) -> OodReference:
        """From what `as_dict` gave. Raises ValueError where it is of another version, or something is missing."""
        try:
            if known.get("version") != VERSION:
                raise ValueError("it is of another version")
            return cls(
                **{name: np.array(known[name], np.float64) for name in ARRAYS},
                patients=int(known["patients"]),
                sequences=tuple(known["sequences"]),
                names=tuple(known["names"]),
                precisions={name: np.array(value, np.float64) for name, value in known["precisions"].items()},
                group_limits={name: float(value) for name, value in known["group_limits"].items()},
                trials={name: tuple(map(float, value)) for name, value in known["trials"].items()},  # type: ignore[misc]
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"its reference of training patients cannot be used ({error}): make a new one with "
                "`python -m lab calibrate`"
            ) from None


ARRAYS = ("mean", "sd", "low", "high", "limits", "distances")


def fit_reference(rows: pd.DataFrame | Sequence[Mapping[str, float]], patients: Sequence[str]) -> OodReference:
    """From the metrics of training cases, a row each, and the patient of each.

    Metrics that a training case does not have are left out. Raises ValueError where there is no patient, or where no
    metric is there in all.
    """
    table, owner = pd.DataFrame(rows).reset_index(drop=True).astype(float), np.asarray(patients, str)
    if len(table) != len(owner) or not len(owner):
        raise ValueError(f"{len(table)} rows of metrics for {len(owner)} patients")
    table = table.loc[:, np.isfinite(table).all(axis=0)]
    if not len(table.columns):
        raise ValueError("the training patients have no metric in common")
    names, values = tuple(map(str, table.columns)), table.to_numpy()
    sequences = tuple(dict.fromkeys(part for name in names for part in name.split(":")[1:]))
    count = len(np.unique(owner))
    mean, sd, precisions = _fit(values, names)
    limits: dict[str, Any] = {"limits": np.zeros(0), "group_limits": {}, "trials": {}, "distances": np.zeros(0)}
    if count >= LEAST_PATIENTS:
        limits = _limits(values, names, owner, sequences)
    return OodReference(
        patients=count,
        sequences=sequences,
        names=names,
        mean=mean,
        sd=sd,
        low=np.quantile(values, 0.025, axis=0, method="lower"),
        high=np.quantile(values, 0.975, axis=0, method="higher"),
        precisions=precisions,
        **limits,
    )


def _limits(values: np.ndarray, names: Sequence[str], owner: np.ndarray, sequences: Sequence[str]) -> dict[str, Any]:
    """The limits, from what the training patients show when each is compared with the others."""
    groups, trials, members = _groups(names), _trials(names, sequences), np.unique(owner)
    far = np.empty_like(values)
    lengths, gains = ({name: np.empty(len(values)) for name in tests} for tests in (groups, trials))
    for member in members:
        own = owner == member
        mean, sd, precisions = _fit(values[~own], names)
        deviations = (values[own] - mean) / sd
        far[own] = np.abs(deviations)
        for name, places in groups.items():
            lengths[name][own] = _distances(deviations[:, places], precisions[name])
        for name, (places, signs) in trials.items():
            gains[name][own] = _gains(values[own], values[own][:, places] * signs, mean, sd)
    watched = np.isin(names, WATCHED)
    counts = {"trials": len(trials), "watched": watched.sum(), "others": (~watched).sum() + len(groups)}
    rates = {name: RARE * share / max(1, counts[name]) for name, share in SHARES.items()}

    def beyond(rate: Any) -> Any:
        """SDs from the mean beyond which one more patient lies so rarely."""
        return stats.t.ppf(1 - rate, len(members) - 1) * np.sqrt(1 + 1 / len(members))

    two_sided = beyond(np.where(watched, rates["watched"], rates["others"]) / 2)
    limits = np.maximum(two_sided, MARGIN * _largest(far))
    scores, group_limits, trial_limits = [far / limits], {}, {}
    for name, length in lengths.items():
        gaussian = np.sqrt(stats.chi2.ppf(1 - rates["others"], len(groups[name])))  # a limit is no nearer
        interval = length.mean() + beyond(rates["others"]) * length.std(ddof=1)
        group_limits[name] = float(max(interval, gaussian, MARGIN * _largest(length)))
        scores.append(length[:, None] / group_limits[name])
    for name, gain in gains.items():
        usual = float(gain.mean())
        if usual < 0:  # else the training patients themselves do not tell one from the other
            limit = usual + max(beyond(rates["trials"]) * gain.std(ddof=1), MARGIN * float(_largest(gain - usual)))
            # exchanged or turned, a training patient gains what it loses now
            trial_limits[name] = (usual, float(limit), max(float(limit), -float(gain.max())))
            scores.append((gain[:, None] - usual) / (limit - usual))
    distances = np.sort(np.concatenate(scores, axis=1).max(axis=1))
    return {"limits": limits, "group_limits": group_limits, "trials": trial_limits, "distances": distances}


def _fit(values: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Mean and SD (D,) of values (N, D), and the precision of each group; no metric varies less than its least SD."""
    from sklearn.covariance import ledoit_wolf  # slow to import, and not needed to assess a patient

    least = np.array([kind_of(name).least_sd for name in names])
    mean = values.mean(axis=0)
    sd = np.maximum(values.std(axis=0, ddof=1), least) if len(values) > 1 else least
    deviations = (values - mean) / sd
    precisions = {}
    for name, places in _groups(names).items():
        covariance, _ = ledoit_wolf(deviations[:, places], assume_centered=True)
        precisions[name] = np.linalg.inv(covariance + np.diag(np.maximum(1 - np.diag(covariance), 1e-6)))
    return mean, sd, precisions


def _groups(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Group -> positions of its metrics; those of one metric only are left out."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(group_of(name), []).append(place)
    return {name: np.array(places) for name, places in groups.items() if len(places) > 1}


def _trials(names: Sequence[str], sequences: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Trial -> the metrics' places and signs, were it so."""
    found = {f"{a} and {b} swapped": exchange(names, a, b) for a, b in combinations(sequences, 2)}
    return found | {"upside down": turn(names, "z"), "back to front": turn(names, "y")}


def _distances(deviations: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """(N,) Mahalanobis distances of deviations (N, k), in SDs."""
    return np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", deviations, precision, deviations), 0))


def _gains(values: np.ndarray, other: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """(N,) summed deviations of values (N, D) as they are, minus those as they would be in a trial."""
    here, there = (np.minimum(np.abs((found - mean) / sd), COUNTED).sum(axis=1) for found in (values, other))
    return here - there


def _largest(found: np.ndarray) -> np.ndarray:
    """The largest of N along the first axis, but for a share of `SPARED`."""
    return np.sort(found, axis=0)[-1 - int(SPARED * len(found))]
