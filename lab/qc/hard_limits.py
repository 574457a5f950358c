"""What is wrong for sure with a patient, whoever the training patients were, and how a finding is put into words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from lab.qc.measures import KINDS, said

Ranges = Callable[[str], tuple[float, float] | None]
"""Lowest and highest value of a measure among the training patients; None of one that they do not have."""

BRAIN_ML = (600.0, 2300.0)
"""Volumes outside which a mask does not hold one whole brain, a newborn's apart."""
LENGTH_TO_WIDTH = (0.8, 1.8)
"""Proportions that no whole brain leaves."""
SAME = 0.97
"""Rank correlation of two sequences that are the same scan; 0.9 of training patients forbids to say so."""
NOISE_GRAIN, NOISE_WHITE = 0.43, 0.95
"""White noise alone: voxels jump by half a spread, and as much from the next as from the one after it."""
SOUND = 0.9
"""Share of these that training patients must stay below for a patient to be refused for noise."""

SUSPECTS = {
    "swapped": "check which file was given for which sequence",
    "turned": "check the header's orientation",
    "same scan": "give each sequence its own scan",
    "nothing but noise": "look at the scan: it shows no anatomy, or hardly any",
    "unmeasurable": "look at the scans",
    "no brain": "check the brain mask: it must hold one whole brain and nothing else",
    "skull": "is skull or scalp left in the brain mask? Strip the skull, or correct the mask",
    "part missing": "is part of the brain missing, cut off by the field of view or by the brain mask?",
    "part dark": "has part of the brain no signal, or does the brain mask reach into air?",
    "small brain": "a child's brain, or wrong voxel sizes in the header? The model has seen no such brain",
    "large brain": "skull in the brain mask, or wrong voxel sizes in the header? The model has seen no such brain",
    "noise": "a low signal-to-noise ratio hides faint detail, and the model has seen no such noise",
    "blurred": "the scan is smoother than those that the model learned from: moved, filtered or interpolated?",
    "thick slices": "thick slices that were interpolated? The model learned from finer ones in this direction",
    "contrast agent": "was it taken after contrast agent was given? A T1 without is needed",
    "other contrast": "is it the sequence that it is said to be, and no other variant of it?",
    "shading": "one side is brighter than the other: correct the bias field (N4)",
    "other cohort": "other scanners, another registration or another skull-stripping than in training? "
    "What the model draws here has not been tested",
    "too few": "nothing is judged",
    "strange": "look at the scans; what the model draws here has not been tested",
}
"""What may be wrong -> what to do about it."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is strange about a patient."""

    suspect: str
    """A key of `SUSPECTS`."""
    text: str
    certain: bool = False
    """No model may see such a patient."""


def finding(suspect: str, text: str, sure: bool | None = None) -> Finding:
    """A finding with what to do about it."""
    advice = SUSPECTS[suspect]
    return Finding(
        suspect=suspect,
        text=f"{text}; {advice}" if advice[0].islower() and "?" not in advice else f"{text}: {advice}",
        certain=suspect in ("no brain", "same scan", "nothing but noise") if sure is None else sure,
    )


def certain(sequences: Sequence[str], values: Mapping[str, float], range_of: Ranges) -> list[Finding]:
    """What is wrong for sure, whoever the training patients were, as long as none of them was so."""
    findings = []
    for name, limits in (("volume", BRAIN_ML), ("length_to_width", LENGTH_TO_WIDTH)):
        found, known = float(values.get(name, float("nan"))), range_of(name)
        usual = known is not None and known[0] <= found <= known[1]
        if math.isfinite(found) and not usual and not limits[0] <= float(KINDS[name].shown(found)) <= limits[1]:
            expected = f"{limits[0]:g} to {limits[1]:g} are possible"
            findings.append(finding("no brain", f"{said(name, found)} ({expected})"))
    for a, b in map(sorted, combinations(sequences, 2)):
        name = f"correlation:{a}:{b}"
        known = range_of(name)
        if values.get(name, 0.0) > SAME and known is not None and known[1] < 0.9:
            text = f"{a} and {b} are nearly the same image (their ranks correlate {values[name]:+.3f})"
            findings.append(finding("same scan", text))
    for sequence in sequences:
        if _is_noise(sequence, values, range_of):
            findings.append(finding("nothing but noise", f"{sequence} is noise nearly everywhere"))
    return findings


def _is_noise(sequence: str, values: Mapping[str, float], range_of: Ranges) -> bool:
    """Whether a sequence is about as rough as white noise and the training patients' are not."""
    limits = {f"grain_{axis}:{sequence}": NOISE_GRAIN for axis in "xyz"} | {f"white:{sequence}": NOISE_WHITE}
    for name, limit in limits.items():
        known = range_of(name)
        if known is None or not float(KINDS[name.split(":")[0]].shown(values.get(name, float("-inf")))) > limit:
            return False
        if float(KINDS[name.split(":")[0]].shown(known[1])) > SOUND * limit:
            return False
    return True
