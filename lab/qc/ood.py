"""Out-of-distribution (OOD) detection: comparison of a new patient with the training patients.

There are three kinds of tests on the image quality metrics: each metric by itself; each group of metrics (the brain's
size, the noise of T1, how T1 and T2 relate ...) by the Mahalanobis distance under a shrunk covariance (Ledoit & Wolf, J
Multivariate Analysis 2004); and trials, which test whether the patient is more ordinary with two sequences exchanged or
the head turned.

Each training patient is compared with the others. A limit is the end of a prediction interval for one more patient
(Student's t), and at least the training patients' own largest statistic with a margin; the tests share the rate of
false alarms (Bonferroni). A patient's score is that of the most deviating test, in units of its limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lab.qc.findings import OodResult, finding
from lab.qc.hard_limits import check_hard_limits
from lab.qc.metrics import exchange, group_of, metric_kind, turn

VERSION = 2
"""Version of metrics and tests; references of another version are refused."""
LEAST_PATIENTS = 10
"""Minimum number of training patients for the tests; hard limits hold with fewer, too."""
RARE = 0.005
"""Nominal share of in-distribution patients called unlike, for Gaussian metrics. Metrics are not Gaussian: 0.01 to 0.05
of held-out phantoms and glioma patients without a visible fault are, from 20 training patients on."""
WATCHED = ("volume", "asymmetry", "flattest", "vessels:T1", "dots:T1")
"""Metrics that a child's brain, a missing lobe, a missing slab and contrast agent change."""
SHARES = {"trials": 0.25, "watched": 0.35, "others": 0.4}
"""Share of the false alarms for each part of the tests; within a part every test gets the same."""
MARGIN, SPARED = 1.2, 0.01
"""A limit is at least `MARGIN` times the training patients' largest statistic, leaving out the highest `SPARED` share:
faulty scans among them must not blind a test."""
NEARLY = 1.1
"""Maximum score of an ordinary patient once the scans are exchanged or turned."""
COUNTED = 4.0
"""Maximum SDs that one metric contributes to a trial."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Mean, SD and covariance of D metrics over some patients."""

    sequences: tuple[str, ...]
    names: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    precisions: dict[str, np.ndarray]
    """Group -> (k, k) inverse covariance of its metrics, in units of the SDs."""

    def deviations(self, values: np.ndarray) -> np.ndarray:
        """Values (N, D) in SDs from the mean."""
        return (values - self.mean) / self.sd

    def statistics(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Test -> (N,) distance of values (N, D) from the mean; of a trial, by how much it reduces the distance."""
        deviations = self.deviations(values)
        found = dict(zip(self.names, np.abs(deviations).T))
        for name, places in _groups(self.names).items():
            part = deviations[:, places]
            found[name] = np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", part, self.precisions[name], part), 0))
        for name in _trials(self.names, self.sequences):
            other = self.deviations(self.try_out(name, values))
            here, there = (np.minimum(np.abs(one), COUNTED).sum(axis=1) for one in (deviations, other))
            found[name] = here - there
        return found

    def try_out(self, trial: str, values: np.ndarray) -> np.ndarray:
        """Values (N, D) after a trial: sequences exchanged, or the head turned."""
        places, signs = _trials(self.names, self.sequences)[trial]
        return values[:, places] * signs


@dataclass(frozen=True, kw_only=True)
class OodReference:
    """Statistics of the training patients, and the limits for a new patient."""

    patients: int
    fit: Fit
    low: np.ndarray
    """(D,) lowest of the training patients (the 2.5 % quantile of many)."""
    high: np.ndarray
    limits: dict[str, tuple[float, float]]
    """Test -> usual statistic, and the limit beyond which a patient is unlike; empty with too few patients."""
    certain: dict[str, float]
    """Trial -> the gain at which it is certain: the least gain of a training patient with this fault."""
    distances: np.ndarray
    """(cases,) leave-one-out scores of the training patients, ascending."""

    def assess(self, values: Mapping[str, float]) -> OodResult:
        """OOD result of a patient with these metrics (`lab.qc.image_quality.measure`)."""
        names = self.fit.names
        wrong = check_hard_limits(names, self.fit.sequences, values, self.range_of)
        if wrong:
            return OodResult(level="refused", findings=tuple(wrong))
        if self.patients < LEAST_PATIENTS:
            text = (
                f"the model learned from {self.patients} patients, too few for out-of-distribution detection "
                f"({LEAST_PATIENTS} are needed)"
            )
            return OodResult(level="unjudged", findings=(finding("too few", text),))
        row = np.array([[values[name] for name in names]], np.float64)
        scores = self._scores(row)
        distance = max(scores.values())
        tests = {name: score for name, score in sorted(scores.items(), key=lambda item: -item[1]) if score > 1}
        outcomes = {name: self._outcome(name, row) for name in tests if name in self.certain}
        deviations = dict(zip(names, self.fit.deviations(row)[0].tolist()))
        from lab.qc.explanation import explain_ood  # for the few scans that are unlike those of training

        findings = explain_ood(deviations, values, tests, outcomes, self.range_of) if tests else []
        return OodResult(
            level="refused" if any(one.certain for one in findings) else "unlike" if tests else "alike",
            distance=distance,
            percentile=float(np.searchsorted(self.distances, distance, side="left") / len(self.distances)),
            findings=tuple(findings),
            tests=tests,
        )

    def range_of(self, name: str) -> tuple[float, float] | None:
        """Lowest and highest value of the training patients; None for a metric that they lack."""
        if name not in self.fit.names:
            return None
        place = self.fit.names.index(name)
        return float(self.low[place]), float(self.high[place])

    def _scores(self, row: np.ndarray) -> dict[str, float]:
        """Test -> score of one patient (1, D), in units of the test's limit."""
        found = self.fit.statistics(row)
        return {name: float(found[name][0] - usual) / (limit - usual) for name, (usual, limit) in self.limits.items()}

    def _outcome(self, trial: str, row: np.ndarray) -> str:
        """`certain`: the trial makes a patient (nearly) ordinary, and gains as much as for a patient with this fault;
        `better`: it makes the patient more ordinary; `unclear`: hardly less ordinary, as for no training patient."""
        gain = float(self.fit.statistics(row)[trial][0])
        others = self._scores(self.fit.try_out(trial, row))
        if gain >= self.certain[trial] and max(others[name] for name in others if name not in self.certain) <= NEARLY:
            return "certain"
        return "better" if gain > 0 else "unclear"

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        found = {**vars(self), **vars(self.fit), "version": VERSION}
        del found["fit"]
        plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}
        return {**plain, "precisions": {name: value.tolist() for name, value in self.fit.precisions.items()}}

    @classmethod
    def read(cls, known: Mapping[str, Any]) -> OodReference:
        """The reference from the values of `as_dict`. Raises ValueError for another version or missing values."""
        try:
            if known.get("version") != VERSION:
                raise ValueError("it is of another version")
            arrays = {name: np.array(known[name], np.float64) for name in ("mean", "sd", "low", "high", "distances")}
            fit = Fit(
                sequences=tuple(known["sequences"]),
                names=tuple(known["names"]),
                mean=arrays.pop("mean"),
                sd=arrays.pop("sd"),
                precisions={name: np.array(value, np.float64) for name, value in known["precisions"].items()},
            )
            limits = {name: (float(usual), float(limit)) for name, (usual, limit) in known["limits"].items()}
            certain = {name: float(value) for name, value in known["certain"].items()}
            return cls(patients=int(known["patients"]), fit=fit, limits=limits, certain=certain, **arrays)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"its reference of training patients cannot be used ({error}): make a new one with "
                "`python -m lab calibrate`"
            ) from None


def fit_reference(rows: pd.DataFrame | Sequence[Mapping[str, float]], patients: Sequence[str]) -> OodReference:
    """Reference from the metrics of the training cases, one row each, and the patient of each case.

    Metrics that a training case lacks are left out. Raises ValueError for no patient and for no common metric.
    """
    table, owner = pd.DataFrame(rows).reset_index(drop=True).astype(float), np.asarray(patients, str)
    if len(table) != len(owner) or not len(owner):
        raise ValueError(f"{len(table)} rows of metrics for {len(owner)} patients")
    table = table.loc[:, np.isfinite(table).all(axis=0)]
    if not len(table.columns):
        raise ValueError("the training patients have no metric in common")
    names, values = tuple(map(str, table.columns)), table.to_numpy()
    members = np.unique(owner)
    limits: dict[str, tuple[float, float]] = {}
    certain: dict[str, float] = {}
    distances = np.zeros(0)
    if len(members) >= LEAST_PATIENTS:
        left_out: dict[str, np.ndarray] = {}
        for member in members:
            own = owner == member
            for name, found in _fit(values[~own], names).statistics(values[own]).items():
                left_out.setdefault(name, np.empty(len(values)))[own] = found
        limits, certain = _limits(left_out, names, len(members))
        scores = [(left_out[name] - usual) / (limit - usual) for name, (usual, limit) in limits.items()]
        distances = np.sort(np.max(scores, axis=0))
    return OodReference(
        patients=len(members),
        fit=_fit(values, names),
        low=np.quantile(values, 0.025, axis=0, method="lower"),
        high=np.quantile(values, 0.975, axis=0, method="higher"),
        limits=limits,
        certain=certain,
        distances=distances,
    )


def _limits(
    left_out: Mapping[str, np.ndarray], names: tuple[str, ...], patients: int
) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
    """Usual statistic and limit of each test, and the certain gain of each trial, from leave-one-out statistics."""
    groups = _groups(names)
    kinds = dict.fromkeys(left_out, "trials") | dict.fromkeys([*names, *groups], "others")
    kinds |= dict.fromkeys(set(names) & set(WATCHED), "watched")
    counts = Counter(kinds.values())
    limits: dict[str, tuple[float, float]] = {}
    certain: dict[str, float] = {}
    for name, found in left_out.items():
        kind, usual, least = kinds[name], 0.0, -np.inf
        rate = RARE * SHARES[kind] / counts[kind]
        beyond, two_sided = stats.t.ppf([1 - rate, 1 - rate / 2], patients - 1) * np.sqrt(1 + 1 / patients)
        if kind == "trials":
            usual = float(found.mean())
            if usual >= 0:
                continue  # the training patients do not distinguish the two
        elif name in groups:
            least = np.sqrt(stats.chi2.ppf(1 - rate, len(groups[name])))
        else:
            least = two_sided
        largest = np.sort(found)[-1 - int(SPARED * len(found))]
        limit = max(least, found.mean() + beyond * found.std(ddof=1), usual + MARGIN * (largest - usual))
        limits[name] = (usual, float(limit))
        if kind == "trials":  # with this fault, a training patient gains what it loses without
            certain[name] = max(float(limit), -float(found.max()))
    return limits, certain


def _fit(values: np.ndarray, names: tuple[str, ...]) -> Fit:
    """Fit to values (N, D); no SD is below the metric's minimum."""
    from sklearn.covariance import ledoit_wolf  # slow to import, and not needed to assess a patient

    least = np.array([metric_kind(name).least_sd for name in names])
    mean = values.mean(axis=0)
    sd = np.maximum(values.std(axis=0, ddof=1), least) if len(values) > 1 else least
    precisions = {}
    groups = _groups(names) if len(values) > 1 else {}
    for name, places in groups.items():
        covariance, _ = ledoit_wolf((values[:, places] - mean[places]) / sd[places], assume_centered=True)
        precisions[name] = np.linalg.inv(covariance + np.diag(np.maximum(1 - np.diag(covariance), 1e-6)))
    sequences = tuple(dict.fromkeys(part for name in names for part in name.split(":")[1:]))
    return Fit(sequences=sequences, names=names, mean=mean, sd=sd, precisions=precisions)


@lru_cache(maxsize=8)
def _groups(names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Group -> positions of its metrics; groups of a single metric are left out."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(group_of(name), []).append(place)
    return {name: np.array(places) for name, places in groups.items() if len(places) > 1}


@lru_cache(maxsize=8)
def _trials(names: tuple[str, ...], sequences: tuple[str, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Trial -> source indices and signs of the metrics."""
    found = {f"{a} and {b} swapped": exchange(names, a, b) for a, b in combinations(sequences, 2)}
    return found | {"upside down": turn(names, "z"), "back to front": turn(names, "y")}
