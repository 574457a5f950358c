"""Findings about a patient in words, with advice, and the result of out-of-distribution (OOD) detection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

LEVELS = ("alike", "unlike", "refused", "unjudged")
SUSPECTS = {
    "swapped": "check which file was given for which sequence",
    "turned": "check the header's orientation",
    "same scan": "give each sequence its own scan",
    "nothing but noise": "look at the scan: it shows no anatomy, or hardly any",
    "unmeasurable": "look at the scans",
    "no brain": "check the brain mask: it must hold one whole brain and nothing else",
    "part missing": "is part of the brain cut off by the field of view or by the mask, or without signal?",
    "small brain": "a child's brain, part of a brain, or wrong voxel sizes in the header?",
    "large brain": "skull or scalp in the brain mask (strip the skull), or wrong voxel sizes in the header?",
    "noise": "the signal-to-noise ratio is lower than in the training scans",
    "blurred": "the scan is smoother than the training scans: thick slices, motion, filtering or interpolation?",
    "contrast agent": "was it taken after contrast agent was given? A T1 without is needed",
    "other contrast": "is it the sequence that it is said to be, and no other variant of it?",
    "shading": "one side is brighter than the other: correct the bias field (N4)",
    "other cohort": "other scanners, registration or skull-stripping than in training? Predictions here are untested",
    "too few": "nothing is judged",
    "strange": "look at the scans; predictions here are untested",
}
"""Suspected cause -> advice."""
CERTAIN = ("no brain", "same scan", "nothing but noise", "unmeasurable")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One anomaly of a patient."""

    suspect: str
    """A key of `SUSPECTS`."""
    text: str
    certain: bool = False
    """Whether the patient must be refused."""


def finding(suspect: str, text: str, certain: bool | None = None) -> Finding:
    """A finding with its advice."""
    advice = SUSPECTS[suspect]
    return Finding(
        suspect=suspect,
        text=f"{text}; {advice}" if advice[0].islower() and "?" not in advice else f"{text}: {advice}",
        certain=suspect in CERTAIN if certain is None else certain,
    )


@dataclass(frozen=True, kw_only=True)
class OodResult:
    """OOD result of a patient, relative to the training patients."""

    level: str
    """`alike`; `unlike`: a warning; `refused`: must not reach a model; `unjudged`: too few training patients."""
    distance: float = float("nan")
    """Score of the most deviating test; above 1 a patient is unlike. NaN where there is none."""
    percentile: float = float("nan")
    """Share of the training patients with a lower score, in [0, 1]."""
    findings: tuple[Finding, ...] = ()
    """The most important first; none where the patient is alike."""
    tests: dict[str, float] = field(default_factory=dict)
    """Scores of the tests beyond their limits, the highest first."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """The findings as sentences for the user."""
        return tuple(one.text for one in self.findings)

    @property
    def suspects(self) -> tuple[str, ...]:
        """Suspected cause of each reason: a key of `SUSPECTS`."""
        return tuple(one.suspect for one in self.findings)

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
