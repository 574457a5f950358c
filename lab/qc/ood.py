"""Is a new patient like those that a model learned from? A reference of the training patients, and a judgement.

Three kinds of tests look at the measures of `lab.qc.image_quality`: each measure by itself; each aspect (the brain's
size, the grain of T1, how T1 and T2 relate ...) by the Mahalanobis distance under a shrunk covariance; and what is
tried out: would the patient be more ordinary with two sequences exchanged, or the head turned? How far is too far is
told by the training patients, each measured without itself, see `lab.qc.ood_fit`. The score of a patient is that of the
strangest test, in units of the test's limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.qc.explanation import explain
from lab.qc.hard_limits import Finding, certain, finding
from lab.qc.measures import aspect_of

LEAST_PATIENTS = 10
"""Training patients below which nobody is called unlike; what is certain is refused all the same."""
NEARLY = 1.1
"""The score up to which a patient counts as ordinary once the scans are exchanged or turned."""
COUNTED = 4.0
"""SDs by which one measure can speak for or against a trial."""
LEVELS = ("alike", "unlike", "refused", "unjudged")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What is thought of a patient."""

    level: str
    """`alike`; `unlike`: to be warned of; `refused`: certainly nothing a model may see; `unjudged`: too few training
    patients to tell."""
    distance: float
    """Score of the strangest test; beyond 1 a patient is unlike. NaN where nothing can be told."""
    percentile: float
    """Share of the training patients that score less, in [0, 1]."""
    reasons: tuple[str, ...]
    """Sentences for the user, the weightiest first; none where the patient is alike."""
    suspects: tuple[str, ...]
    """What each reason suspects: a key of `lab.qc.hard_limits.SUSPECTS`."""
    tests: dict[str, float]
    """Scores of the tests beyond their limits, the strangest first."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "level": self.level,
            "distance": None if np.isnan(self.distance) else round(self.distance, 3),
            "percentile": None if np.isnan(self.percentile) else round(self.percentile, 4),
            "reasons": list(self.reasons),
            "suspects": list(self.suspects),
            "tests": {name: round(score, 3) for name, score in self.tests.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Aspect:
    """The training patients' distribution of the measures that are judged together."""

    places: np.ndarray
    """(k,) positions among all D measures."""
    precision: np.ndarray
    """(k, k) inverse covariance in units of the SDs."""
    limit: float
    """The distance beyond which a patient is unlike."""

    def length(self, deviations: np.ndarray) -> np.ndarray:
        """(N,) distances of deviations (N, D) from the mean, in SDs."""
        part = deviations[:, self.places]
        return np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", part, self.precision, part), 0))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What the measures would be, were the scans given or turned differently."""

    places: np.ndarray
    """(D,) which measure takes the place of each."""
    signs: np.ndarray
    usual: float
    """Mean gain of the training patients, below 0."""
    limit: float
    """The gain beyond which a patient is unlike; below 0 where the training patients are all far from it."""
    sure: float = float("inf")
    """The gain from which on it certainly holds: the least that a training patient would show if it did. A model of
    0.3.0 does not know it, and refuses nobody for a trial."""

    def gain(self, values: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """(N,) summed deviations of values (N, D) as they are, minus those of the trial."""
        other = values[:, self.places] * self.signs
        here, there = (np.minimum(np.abs((found - mean) / sd), COUNTED).sum(axis=1) for found in (values, other))
        return here - there


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """The measures of the training patients, D in number, and how far a patient like them may be from them."""

    patients: int
    sequences: tuple[str, ...]
    names: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    """(D,) lowest of the training patients (the 2.5 % quantile of many)."""
    high: np.ndarray
    limits: np.ndarray
    """(D,) SDs from the mean beyond which a patient is unlike."""
    aspects: dict[str, Aspect]
    trials: dict[str, Trial]
    """Name of a finding -> what would be found if it held."""
    distances: np.ndarray
    """(cases,) of the training patients, each without itself, rising."""

    def judge(self, values: Mapping[str, float]) -> Judgement:
        """What to think of a patient with these measures (`lab.qc.image_quality.measure`)."""
        nonsense = certain(self.sequences, values, self.range_of)
        gaps = [name for name in self.names if not np.isfinite(values.get(name, np.nan))]
        if gaps and not nonsense:
            nonsense = [_unmeasurable(gaps, len(self.names))]
        if nonsense:
            return _untold("refused", nonsense)
        if self.patients < LEAST_PATIENTS:
            text = (
                f"the model learned from {self.patients} patients, too few to tell whether this one is like them "
                f"({LEAST_PATIENTS} are needed)"
            )
            return _untold("unjudged", [finding("too few", text)])
        row = np.array([[values[name] for name in self.names]], np.float64)
        scores = {name: float(score[0]) for name, score in self.scores(row).items()}
        distance = max(scores.values())
        beyond = {name: scores[name] for name in sorted(scores, key=lambda name: -scores[name]) if scores[name] > 1}
        findings = []
        if beyond:
            tried = {name: self._outcome(self.trials[name], row) for name in beyond if name in self.trials}
            findings = explain(self.deviations(row[0]), dict(zip(self.names, row[0])), beyond, tried, self)
        sure = any(one.certain for one in findings)
        return Judgement(
            level="refused" if sure else "unlike" if beyond else "alike",
            distance=distance,
            percentile=float(np.searchsorted(self.distances, distance, side="left") / len(self.distances)),
            reasons=tuple(one.text for one in findings),
            suspects=tuple(one.suspect for one in findings),
            tests=beyond,
        )

    def scores(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Test -> (N,) scores of values (N, D) in units of the test's limit."""
        deviations = (values - self.mean) / self.sd
        found = {name: np.abs(deviations[:, n]) / self.limits[n] for n, name in enumerate(self.names)}
        for name, aspect in self.aspects.items():
            found[name] = aspect.length(deviations) / aspect.limit
        for name, trial in self.trials.items():
            gain = trial.gain(values, self.mean, self.sd)
            found[name] = (gain - trial.usual) / (trial.limit - trial.usual)
        return found

    def deviations(self, values: np.ndarray) -> dict[str, float]:
        """Measure -> SDs of values (D,) from the training mean."""
        return dict(zip(self.names, ((values - self.mean) / self.sd).tolist()))

    def range_of(self, name: str) -> tuple[float, float] | None:
        """Lowest and highest value of the training patients; None of a measure that they do not have."""
        if name not in self.names:
            return None
        place = self.names.index(name)
        return float(self.low[place]), float(self.high[place])

    def _outcome(self, trial: Trial, row: np.ndarray) -> str:
        """`certain`: the trial makes a patient ordinary, or nearly, and gains what it would gain if it were what is
        wrong; `better`: it makes the patient more ordinary; `unclear`: hardly less so, which no training patient
        shows."""
        gain = float(trial.gain(row, self.mean, self.sd)[0])
        other = row[:, trial.places] * trial.signs
        left = {name: score[0] for name, score in self.scores(other).items() if name not in self.trials}
        if gain >= trial.sure and max(left.values()) <= NEARLY:
            return "certain"
        return "better" if gain > 0 else "unclear"

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "patients": self.patients,
            "sequences": list(self.sequences),
            "names": list(self.names),
            **{name: getattr(self, name).tolist() for name in ARRAYS},
            "aspects": {name: _plain(aspect) for name, aspect in self.aspects.items()},
            "trials": {name: _plain(trial) for name, trial in self.trials.items()},
        }

    @classmethod
    def read(cls, known: Mapping[str, Any]) -> Likeness:
        """From what `as_dict` gave. Raises ValueError where something is missing."""
        try:
            return cls(
                patients=int(known["patients"]),
                sequences=tuple(known["sequences"]),
                names=tuple(known["names"]),
                **{name: np.array(known[name], np.float64) for name in ARRAYS},
                aspects={name: Aspect(**_arrays(part)) for name, part in known["aspects"].items()},
                trials={name: Trial(**_arrays(part)) for name, part in known["trials"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"this is no reference of training patients ({error!r})") from None


ARRAYS = ("mean", "sd", "low", "high", "limits", "distances")


def _plain(part: Aspect | Trial) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(part).items()}


def _arrays(part: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: np.array(value, int if name == "places" else np.float64) if isinstance(value, list) else float(value)
        for name, value in part.items()
    }


def _unmeasurable(gaps: Sequence[str], count: int) -> Finding:
    where = ", ".join(dict.fromkeys(aspect_of(name) for name in gaps))
    text = (
        f"{len(gaps)} of {count} measures cannot be taken ({where}): a sequence has the same value nearly everywhere, "
        "or hardly any brain is there"
    )
    return finding("unmeasurable", text, sure=True)


def _untold(level: str, findings: Sequence[Finding]) -> Judgement:
    """A judgement without a distance."""
    return Judgement(
        level=level,
        distance=float("nan"),
        percentile=float("nan"),
        reasons=tuple(one.text for one in findings),
        suspects=tuple(one.suspect for one in findings),
        tests={},
    )
