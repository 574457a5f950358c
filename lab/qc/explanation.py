"""What may be wrong with a strange patient, in sentences that say what was found, what was expected and what to do.

Some faults can be tried out on the measures: sequences whose exchange makes a patient ordinary were swapped, a head
that is ordinary the other way up was turned. Others are told by what is strange: all grain and nothing else is noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Protocol

from lab.qc.hard_limits import Finding, finding
from lab.qc.measures import KINDS, aspect_of, said

MANY = 4
"""Kinds of aspects (brain, histograms, layers, grain, relations, dots) that are strange together in another cohort."""
FAR = 3.0
"""SDs from the training patients' mean at which a measure is told as evidence."""
BRIGHT = 2.0
"""SDs from the mean at which a T1's brightest structures may be enhancing vessels."""
GROWN = 0.5
"""SDs above the mean volume from which on what is dark and has a bright rim is bone rather than air."""
OUTCOMES = ("certain", "better", "unclear")
"""Of a trial, the weightiest first."""
MOST = 4
"""Findings that are told."""


class Reference(Protocol):
    """What a diagnosis asks of the training patients' reference."""

    @property
    def sequences(self) -> tuple[str, ...]:
        """The sequences that were measured."""

    def range_of(self, name: str) -> tuple[float, float] | None:
        """Lowest and highest value of a measure; None of one that the training patients do not have."""


def explain(
    deviations: Mapping[str, float],
    values: Mapping[str, float],
    beyond: Mapping[str, float],
    tried: Mapping[str, str],
    like: Reference,
) -> list[Finding]:
    """Findings about an unlike patient, at least one.

    Args:
        deviations: measure -> SDs from the training mean.
        values: measure -> value.
        beyond: test -> score, of those beyond their limits, the strangest first.
        tried: of these the trials (exchanges, turns) -> `certain`, `better` or `unclear`, see `Likeness`.
        like: the training patients.
    """
    alternative = _alternative(deviations, values, tried, like)
    if alternative and alternative[0].certain:
        return alternative
    aspects = dict.fromkeys(aspect_of(name) for name in deviations)
    strange = {a: max((beyond[test] for test in beyond if _within(test, a)), default=0.0) for a in aspects}
    strange = {aspect: score for aspect, score in strange.items() if score}
    findings = [
        *alternative,
        *(_of_dark(deviations, values, strange, like) or _of_brain(deviations, values, strange, like)),
    ]
    for sequence in like.sequences:
        findings += _of_sequence(sequence, deviations, values, strange, like)
    findings += _of_relations({one.suspect for one in findings}, deviations, values, strange, like)
    if not findings:
        strongest = sorted(deviations, key=lambda name: -abs(deviations[name]))
        findings = [finding("strange", _evidence(strongest[:2], values, like))]
    kinds = {"brain" if aspect in ("size", "shape") else aspect.split()[0] for aspect in strange}
    if len(kinds) >= MANY:
        text = f"{len(strange)} of {len(aspects)} aspects are unlike those of the training patients"
        findings.insert(0 if len(kinds) > MANY else min(len(findings), MOST - 1), finding("other cohort", text))
    return findings[:MOST]


def _within(test: str, aspect: str) -> bool:
    """Whether a test is of an aspect, or of a measure in it."""
    return test == aspect or (test.split(":")[0] in KINDS and aspect_of(test) == aspect)


def _alternative(
    deviations: Mapping[str, float], values: Mapping[str, float], tried: Mapping[str, str], like: Reference
) -> list[Finding]:
    """The exchange of sequences, or the turn of the head, that speaks most for itself; at most one."""
    for test in sorted(tried, key=lambda test: OUTCOMES.index(tried[test])):
        outcome = tried[test]
        likely = {"certain": "like", "better": "more like", "unclear": "nearly as much like"}[outcome]
        if test.endswith(" swapped"):
            a, b = test.removesuffix(" swapped").split(" and ")
            evidence = _evidence([_telling(a, b, deviations)], values, like)
            text = f"{evidence}: exchanged, {a} and {b} are {likely} the training patients'"
            return [finding("swapped", text, sure=outcome == "certain")]
        if outcome != "unclear":
            return [finding("turned", f"the head seems to lie {test}: turned, it is {likely} the training patients'")]
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
    bright = max((value for name, value in deviations.items() if name.startswith("rim:")), default=0.0) > FAR / 2
    named = sorted(dark, key=lambda name: dark[name])[:2]
    return [
        finding(
            "skull" if bright and deviations.get("volume", 0.0) > GROWN else "part dark", _evidence(named, values, like)
        )
    ]


def _of_brain(
    deviations: Mapping[str, float], values: Mapping[str, float], strange: Mapping[str, float], like: Reference
) -> list[Finding]:
    """What size and shape of the brain tell."""
    if not {"size", "shape"} & set(strange):
        return []
    formed = strange.get("shape", 0.0) > 0.5 * strange.get("size", 0.0)
    suspect = "part missing"
    if deviations.get("volume", 0.0) > FAR:
        suspect = "skull" if formed else "large brain"
    elif deviations.get("volume", 0.0) < -FAR / 2 and not formed:
        suspect = "small brain"
    first = ("shape",) if formed else ("size",)
    return [finding(suspect, _evidence(_strongest(deviations, first, strange), values, like))]


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
            found.append(finding(suspect, _evidence(named, values, like)))
    aspects = (f"histogram {sequence}", f"layers {sequence}", f"dots {sequence}")
    if set(aspects) & set(strange):
        named = _strongest(deviations, aspects, strange)
        related = any(aspect.startswith("relations") and sequence in aspect for aspect in strange)
        bright = max(deviations.get(f"{kind}:{sequence}", 0.0) for kind in ("highest", "high_tail", "vessels", "dots"))
        suspect = "other contrast"
        if any(name.startswith("to_") for name in named):
            suspect = "shading"
        elif sequence == "T1" and bright > BRIGHT and not related and f"layers {sequence}" not in strange:
            suspect = "contrast agent"
        found.append(finding(suspect, _evidence(named, values, like)))
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
    return [finding("other contrast", _evidence(_strongest(deviations, pairs, strange), values, like))]


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
