"""Explanation of out-of-distribution (OOD) results in sentences: what was found and what was expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from lab.qc.findings import Finding, finding
from lab.qc.hard_limits import Ranges
from lab.qc.metrics import format_metric, group_of, metric_kind

FAR = 3.0
"""SDs from the training patients' mean at which a metric is evidence."""
GROWN = 0.5
"""SDs above the mean brain volume beyond which a dark part with a bright rim is bone rather than air."""
BRIGHT = 2.0
"""SDs from the mean at which a T1's brightest structures may be enhancing vessels."""
MANY, MOST = 5, 4
"""Kinds of deviating groups that suggest another cohort, and maximum number of findings."""
OUTCOMES = {"certain": "like", "better": "more like", "unclear": "nearly as much like"}
"""Outcome of a trial, the strongest first -> how the changed scans compare with the training patients'."""


def explain_ood(
    deviations: Mapping[str, float],
    values: Mapping[str, float],
    tests: Mapping[str, float],
    outcomes: Mapping[str, str],
    range_of: Ranges,
) -> list[Finding]:
    """Findings about an OOD patient, the most deviating first; at least one.

    Args:
        deviations: metric -> SDs from the training mean.
        values: metric -> value.
        tests: test beyond its limit -> score.
        outcomes: trial beyond its limit -> `certain`, `better` or `unclear`, see `lab.qc.ood.OodReference`.
        range_of: range of a metric among the training patients.
    """

    def evidence(names: Sequence[str]) -> str:
        shown = []
        for name in names:
            limits = range_of(name)
            assert limits is not None, name
            low, high = map(metric_kind(name).shown, limits)
            known = low if low == high else f"{low} to {high}"
            shown.append(f"{format_metric(name, values[name])} (training patients: {known})")
        return ", ".join(shown)

    ordered = sorted(deviations, key=lambda name: -abs(deviations[name]))
    groups = {group_of(name) for name in deviations}
    scores: dict[str, float] = {}
    for test, score in tests.items():
        group = test if test in groups else group_of(test) if test in deviations else "trials"
        scores[group] = max(score, scores.get(group, 0.0))
    strange = sorted(scores.keys() & groups, key=lambda one: -scores[one])
    findings = _tried(outcomes, ordered, evidence)
    if findings and findings[0].certain:
        return findings
    suspects: dict[str, list[str]] = {}
    air = _air(deviations, strange)
    if air:
        suspects[air[0]] = air[1]
    for group in strange:
        members = [name for name in ordered if group_of(name) == group]
        suspect = _suspect(group, members, deviations, scores)
        if suspect and not (air and group in ("size", "shape")) and not group.startswith("relations"):
            suspects.setdefault(suspect, members[:1] + [one for one in members[1:2] if abs(deviations[one]) > FAR])
    known = {*suspects, *(one.suspect for one in findings)}
    related = [name for name in ordered if group_of(name) in strange and group_of(name).startswith("relations")]
    if related and not known & {"swapped", "other contrast", "noise", "skull", "part dark", "shading"}:
        suspects["other contrast"] = related[:2]
    findings += [finding(suspect, evidence(names)) for suspect, names in suspects.items()]
    if not findings:
        findings = [finding("strange", evidence(ordered[:2]))]
    kinds = {"brain" if group in ("size", "shape") else group.split()[0] for group in strange}
    if len(kinds) >= MANY:
        text = f"{len(strange)} of {len(groups)} groups of metrics are unlike those of the training patients"
        findings.insert(0, finding("other cohort", text))
    return findings[:MOST]


def _tried(outcomes: Mapping[str, str], ordered: Sequence[str], evidence: Callable[..., str]) -> list[Finding]:
    """The most convincing trial, sequences exchanged or the head turned, as at most one finding."""
    for trial in sorted(outcomes, key=lambda trial: list(OUTCOMES).index(outcomes[trial])):
        likely = OUTCOMES[outcomes[trial]]
        if trial.endswith(" swapped"):
            a, b = trial.removesuffix(" swapped").split(" and ")
            pair = f"correlation:{min(a, b)}:{max(a, b)}"  # the same either way
            telling = next(name for name in ordered if {a, b} & set(name.split(":")[1:]) and name != pair)
            text = f"{evidence([telling])}: exchanged, {a} and {b} are {likely} the training patients'"
            return [finding("swapped", text, certain=outcomes[trial] == "certain")]
        if outcomes[trial] != "unclear":
            return [finding("turned", f"the head seems to lie {trial}: turned, it is {likely} the training patients'")]
    return []


def _air(deviations: Mapping[str, float], strange: Sequence[str]) -> tuple[str, list[str]] | None:
    """Suspect and evidence where a part of the mask is dark in all sequences: air, or bone under a bright scalp."""
    dark = sorted((name for name in deviations if name.startswith("where_dark")), key=lambda name: deviations[name])
    if not any(group.startswith("relations") for group in strange):
        return None
    if deviations[dark[-1]] > 0 or median(deviations[name] for name in dark) > -FAR:
        return None
    bright = max((value for name, value in deviations.items() if name.startswith("cnr:")), default=0.0) > FAR / 2
    return "skull" if bright and deviations.get("volume", 0.0) > GROWN else "part dark", dark[:2]


def _suspect(
    group: str, members: Sequence[str], deviations: Mapping[str, float], scores: Mapping[str, float]
) -> str | None:
    """Suspected cause of a deviating group from its metrics, the most deviating first; None where it has none."""
    kind, _, sequence = group.partition(" ")
    if kind in ("size", "shape"):
        formed = scores.get("shape", 0.0) > 0.5 * scores.get("size", 0.0)
        if deviations.get("volume", 0.0) > FAR:
            return "skull" if formed else "large brain"
        return "small brain" if deviations.get("volume", 0.0) < -FAR / 2 and not formed else "part missing"
    if kind == "noise":
        roughest, middle, smoothest = sorted(deviations.get(f"snr_{axis}:{sequence}", 0.0) for axis in "xyz")
        white = deviations.get(f"white:{sequence}", 0.0)
        if smoothest < 0 and max(-roughest, white) > FAR:
            return "noise"
        if smoothest - middle > FAR:
            return "thick slices"
        return "blurred" if roughest > 0 and white < -FAR / 2 else None
    if any(name.startswith("inu_") for name in members[:2]):
        return "shading"
    related = any(other.startswith("relations") and sequence in other for other in scores)
    bright = max(deviations.get(f"{one}:{sequence}", 0.0) for one in ("p998", "p98", "vessels", "dots"))
    agent = sequence == "T1" and bright > BRIGHT and not related and f"layers {sequence}" not in scores
    return "contrast agent" if agent else "other contrast"
