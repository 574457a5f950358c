"""What may be wrong with a strange patient, in sentences that say what was found, what was expected and what to do.

Some faults can be tried out on the measures: sequences whose exchange makes a patient ordinary were swapped, a head
that is ordinary the other way up was turned. Others are told by what is strange: all grain and nothing else is noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Protocol

from lab.data.likeness_kinds import KINDS, aspect_of, said

MANY = 0.5
"""Share of the aspects beyond which the patient comes from elsewhere altogether."""
FAR = 3.0
"""SDs from the training patients' mean at which a measure is told as evidence."""
BRIGHT = 2.0
"""SDs from the mean at which a T1's brightest structures may be enhancing vessels."""
GROWN = 0.5
"""SDs above the mean volume from which on what is dark and has a bright rim is bone rather than air."""
BRAIN_ML = (600.0, 2300.0)
"""Volumes outside which a mask does not hold one whole brain, a newborn's apart."""
LENGTH_TO_WIDTH = (0.8, 1.8)
"""Proportions that no whole brain leaves."""
SAME = 0.97
"""Rank correlation of two sequences that are the same scan; 0.9 of training patients forbids to say so."""
NOISE_GRAIN, NOISE_WHITE = 0.43, 0.95
"""White noise alone: voxels jump by 0.5 of the width, and as much from the next as from the one after it."""
SOUND = 0.9
"""Share of these that training patients must stay below for a patient to be refused for noise."""
MOST = 4
"""Findings that are told."""

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


class Reference(Protocol):
    """What a diagnosis asks of the training patients' reference."""

    @property
    def sequences(self) -> tuple[str, ...]:
        """The sequences that were measured."""

    def range_of(self, name: str) -> tuple[float, float] | None:
        """Lowest and highest value of a measure; None of one that the training patients do not have."""


def certain(
    sequences: Sequence[str], values: Mapping[str, float], range_of: Callable[[str], tuple[float, float] | None]
) -> list[Finding]:
    """What is wrong for sure, whoever the training patients were."""
    findings = []
    for name, limits in (("volume", BRAIN_ML), ("length_to_width", LENGTH_TO_WIDTH)):
        found = float(values.get(name, float("nan")))
        shown = KINDS[name].shown(found)
        if not limits[0] <= float(shown) <= limits[1] and found == found:
            expected = f"{limits[0]:g} to {limits[1]:g} are possible"
            findings.append(_finding("no brain", f"{said(name, found)} ({expected})"))
    for a, b in map(sorted, combinations(sequences, 2)):
        name = f"correlation:{a}:{b}"
        known = range_of(name)
        if values.get(name, 0.0) > SAME and known is not None and known[1] < 0.9:
            text = f"{a} and {b} are nearly the same image (their ranks correlate {values[name]:+.3f})"
            findings.append(_finding("same scan", text))
    for sequence in sequences:
        if _is_noise(sequence, values, range_of):
            findings.append(_finding("nothing but noise", f"{sequence} is noise nearly everywhere"))
    return findings


def _is_noise(
    sequence: str, values: Mapping[str, float], range_of: Callable[[str], tuple[float, float] | None]
) -> bool:
    """Whether a sequence is about as rough as white noise and the training patients' are not."""
    limits = {f"grain_{axis}:{sequence}": NOISE_GRAIN for axis in "xyz"} | {f"white:{sequence}": NOISE_WHITE}
    for name, limit in limits.items():
        known = range_of(name)
        if known is None or not float(KINDS[name.split(":")[0]].shown(values.get(name, float("-inf")))) > limit:
            return False
        if float(KINDS[name.split(":")[0]].shown(known[1])) > SOUND * limit:
            return False
    return True


def explain(
    deviations: Mapping[str, float],
    values: Mapping[str, float],
    beyond: Mapping[str, float],
    mended_by: Sequence[str],
    like: Reference,
) -> list[Finding]:
    """Findings about an unlike patient, at least one.

    Args:
        deviations: measure -> SDs from the training mean.
        values: measure -> value.
        beyond: test -> score, of those beyond their limits, the strangest first.
        mended_by: of these the trials (exchanges, turns) that make the patient ordinary.
        like: the training patients.
    """
    tried = _tried(deviations, values, beyond, mended_by, like)
    if tried and tried[0].certain:
        return tried[:1]
    aspects = dict.fromkeys(aspect_of(name) for name in deviations)
    strange = {a: max((beyond[test] for test in beyond if _within(test, a)), default=0.0) for a in aspects}
    strange = {aspect: score for aspect, score in strange.items() if score}
    findings = [*tried, *(_of_dark(deviations, values, strange, like) or _of_brain(deviations, values, strange, like))]
    for sequence in like.sequences:
        findings += _of_sequence(sequence, deviations, values, strange, like)
    findings += _of_relations({finding.suspect for finding in findings}, deviations, values, strange, like)
    if not findings:
        strongest = sorted(deviations, key=lambda name: -abs(deviations[name]))
        findings = [_finding("strange", _evidence(strongest[:2], values, like))]
    if len(strange) > MANY * len(aspects):
        text = f"{len(strange)} of {len(aspects)} aspects are unlike those of the training patients"
        findings.insert(0, _finding("other cohort", text))
    return findings[:MOST]


def _within(test: str, aspect: str) -> bool:
    """Whether a test is of an aspect, or of a measure in it."""
    return test == aspect or (test.split(":")[0] in KINDS and aspect_of(test) == aspect)


def _tried(
    deviations: Mapping[str, float],
    values: Mapping[str, float],
    beyond: Mapping[str, float],
    mended_by: Sequence[str],
    like: Reference,
) -> list[Finding]:
    """The exchange of sequences, or the turn of the head, that makes the patient more ordinary; the best of them."""
    for test in (*mended_by, *beyond):
        names = test.split(" and ") if test.endswith(" swapped") else []
        if names:
            a, b = names[0], names[1].removesuffix(" swapped")
            text = f"{_evidence([_telling(a, b, deviations)], values, like)}: exchanged, {a} and {b} are {{}} the training patients'"
            suspect = "swapped"
        elif test in ("upside down", "back to front"):
            text = f"the head seems to lie {test}: turned, it is {{}} the training patients'"
            suspect = "turned"
        else:
            continue
        sure = test in mended_by
        return [_finding(suspect, text.format("like" if sure else "more like"), sure=sure and suspect == "swapped")]
    return []


def _telling(a: str, b: str, deviations: Mapping[str, float]) -> str:
    """The strangest measure of two sequences that another one would take the place of, were they exchanged."""
    theirs = [name for name in deviations if {a, b} & set(name.split(":")[1:])]
    return max(
        (name for name in theirs if name != f"correlation:{min(a, b)}:{max(a, b)}"),
        key=lambda name: abs(deviations[name]),
    )


def _of_dark(
    deviations: Mapping[str, float], values: Mapping[str, float], strange: Mapping[str, float], like: Reference
) -> list[Finding]:
    """Whether something in the mask is dark in every sequence: air, or bone under a bright scalp."""
    dark = {name: value for name, value in deviations.items() if name.startswith("where_dark")}
    if not dark or max(dark.values()) > 0 or median(dark.values()) > -FAR:
        return []
    if not any(aspect.startswith("relations") for aspect in strange):
        return []
    bright = max(value for name, value in deviations.items() if name.startswith("rim:")) > FAR / 2
    named = sorted(dark, key=lambda name: dark[name])[:2]
    return [
        _finding("skull" if bright and deviations["volume"] > GROWN else "part dark", _evidence(named, values, like))
    ]


def _of_brain(
    deviations: Mapping[str, float], values: Mapping[str, float], strange: Mapping[str, float], like: Reference
) -> list[Finding]:
    """What size and shape of the brain tell."""
    if not {"size", "shape"} & set(strange):
        return []
    formed = strange.get("shape", 0.0) > 0.5 * strange.get("size", 0.0)
    suspect = "part missing"
    if deviations["volume"] > FAR:
        suspect = "skull" if formed else "large brain"
    elif deviations["volume"] < -FAR / 2 and not formed:
        suspect = "small brain"
    first = ("shape",) if formed else ("size",)
    return [_finding(suspect, _evidence(_strongest(deviations, first, strange), values, like))]


def _of_sequence(
    sequence: str,
    deviations: Mapping[str, float],
    values: Mapping[str, float],
    strange: Mapping[str, float],
    like: Reference,
) -> list[Finding]:
    """What grain, histogram and layers of one sequence tell."""
    found = []
    if f"grain {sequence}" in strange:
        suspect = _of_grain(sequence, deviations)
        if suspect:
            named = _strongest(deviations, (f"grain {sequence}",), strange)
            found.append(_finding(suspect, _evidence(named, values, like)))
    aspects = (f"histogram {sequence}", f"layers {sequence}", f"dots {sequence}")
    if set(aspects) & set(strange):
        named = _strongest(deviations, aspects, strange)
        related = any(aspect.startswith("relations") and sequence in aspect for aspect in strange)
        bright = max(deviations.get(f"{kind}:{sequence}", 0.0) for kind in ("highest", "high_tail", "vessels"))
        suspect = "other contrast"
        if any(name.startswith("to_") for name in named):
            suspect = "shading"
        elif sequence == "T1" and bright > BRIGHT and not related and f"layers {sequence}" not in strange:
            suspect = "contrast agent"
        found.append(_finding(suspect, _evidence(named, values, like)))
    return found


def _of_grain(sequence: str, deviations: Mapping[str, float]) -> str:
    """What a strange grain means; "" where it only follows from a wider or narrower histogram."""
    low, middle, high = sorted(deviations.get(f"grain_{axis}:{sequence}", 0.0) for axis in "xyz")
    white = deviations.get(f"white:{sequence}", 0.0)
    if low > 0 and max(high, white) > FAR:
        return "noise"
    if middle - low > FAR:
        return "thick slices"
    if high < 0 and white < -FAR / 2:
        return "blurred"
    return ""


def _of_relations(
    known: set[str],
    deviations: Mapping[str, float],
    values: Mapping[str, float],
    strange: Mapping[str, float],
    like: Reference,
) -> list[Finding]:
    """What is left when sequences by themselves are ordinary but do not go together."""
    pairs = [aspect for aspect in strange if aspect.startswith("relations")]
    if not pairs or known & {"swapped", "other contrast", "noise", "skull", "part dark", "shading"}:
        return []
    return [_finding("other contrast", _evidence(_strongest(deviations, pairs, strange), values, like))]


def _strongest(deviations: Mapping[str, float], aspects: Sequence[str], strange: Mapping[str, float]) -> list[str]:
    """The two strangest measures of these aspects, as far as these are beyond the limit."""
    within = [name for name in deviations if aspect_of(name) in aspects and aspect_of(name) in strange]
    ordered = sorted(within, key=lambda name: -abs(deviations[name]))
    return ordered[:1] + [name for name in ordered[1:2] if abs(deviations[name]) > FAR]


def _evidence(names: Sequence[str], values: Mapping[str, float], like: Reference) -> str:
    """What was measured, each with the training patients' range."""
    told = []
    for name in names:
        shown, limits = KINDS[name.split(":")[0]].shown, like.range_of(name)
        assert limits is not None, name
        low, high = map(shown, limits)
        told.append(f"{said(name, values[name])} (training patients: {low if low == high else f'{low} to {high}'})")
    return ", ".join(told)


def _finding(suspect: str, text: str, sure: bool | None = None) -> Finding:
    advice = SUSPECTS[suspect]
    return Finding(
        suspect=suspect,
        text=f"{text}; {advice}" if advice[0].islower() and "?" not in advice else f"{text}: {advice}",
        certain=suspect in ("no brain", "same scan", "nothing but noise") if sure is None else sure,
    )
