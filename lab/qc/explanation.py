"""Explanation of out-of-distribution (OOD) results in sentences: what was found and what was expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lab.qc.findings import Finding, finding
from lab.qc.hard_limits import Ranges
from lab.qc.metrics import format_metric, group_of, metric_kind

FAR = 3.0
"""SDs from the training patients' mean at which a second metric of a group is named."""
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
    """Findings about an OOD patient: the most convincing trial, then a suspect for each deviating group of metrics.

    Args:
        deviations: metric -> SDs from the training mean.
        values: metric -> value.
        tests: test beyond its limit -> score, the highest first.
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
    findings = _tried(outcomes, ordered, evidence)
    if findings and findings[0].certain:
        return findings
    groups = {group_of(name) for name in deviations}
    deviating = dict.fromkeys(test if test in groups else group_of(test) for test in tests if test not in outcomes)
    suspects: dict[str, list[str]] = {}
    for group in deviating:
        members = [name for name in ordered if group_of(name) == group]
        suspect = _suspect(group, members[0], deviations)
        if not (findings and suspect == "other contrast"):
            suspects.setdefault(suspect, members[:1] + [one for one in members[1:2] if abs(deviations[one]) > FAR])
    findings += [finding(suspect, evidence(names)) for suspect, names in suspects.items()]
    if len({"brain" if group in ("size", "shape") else group.split()[0] for group in deviating}) >= MANY:
        text = f"{len(deviating)} of {len(groups)} groups of metrics are unlike those of the training patients"
        findings.insert(0, finding("other cohort", text))
    return findings[:MOST] or [finding("strange", evidence(ordered[:2]))]


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


def _suspect(group: str, first: str, deviations: Mapping[str, float]) -> str:
    """Suspected cause of a deviating group, of which `first` is the most deviating metric."""
    kind = group.partition(" ")[0]
    above = deviations[first] > 0
    if kind == "size":
        return "large brain" if above else "small brain"
    if kind == "noise":
        return "noise" if above == first.startswith("white") else "blurred"
    if first.startswith("inu_"):
        return "shading"
    if first in ("p98:T1", "p998:T1", "vessels:T1", "dots:T1") and above:
        return "contrast agent"
    return "part missing" if kind == "shape" else "other contrast"
