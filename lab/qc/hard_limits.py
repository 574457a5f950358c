"""Hard limits: what is certainly wrong with a patient, whoever the training patients were."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from lab.qc.findings import Finding, finding
from lab.qc.metrics import format_metric, group_of

Ranges = Callable[[str], tuple[float, float] | None]
"""Lowest and highest value of a metric among the training patients; None of one that they do not have."""

BRAIN_ML = (600.0, 2300.0)
"""Volumes outside which a mask does not hold one whole brain, a newborn's apart."""
LENGTH_TO_WIDTH = (0.8, 1.8)
"""Proportions that no whole brain leaves."""
SAME = 0.97
"""Rank correlation of two sequences that are the same scan; 0.9 of training patients forbids to say so."""
NOISE_SNR, NOISE_WHITE = 2.3, 0.95
"""White noise alone: voxels jump by half a spread, and as much from the next as from the one after it."""
SOUND = 0.9
"""Share of these that training patients must keep clear of for a patient to be refused for noise."""


def check_hard_limits(
    names: Sequence[str], sequences: Sequence[str], values: Mapping[str, float], range_of: Ranges
) -> list[Finding]:
    """What is certainly wrong with metrics of these names, as long as no training patient was so."""
    findings = []
    for name, limits in (("volume", BRAIN_ML), ("length_to_width", LENGTH_TO_WIDTH)):
        found, known = float(values.get(name, math.nan)), range_of(name)
        usual = known is not None and known[0] <= found <= known[1]
        if math.isfinite(found) and not usual and not limits[0] <= float(f"{math.exp(found):.3g}") <= limits[1]:
            text = f"{format_metric(name, found)} ({limits[0]:g} to {limits[1]:g} are possible)"
            findings.append(finding("no brain", text))
    for a, b in map(sorted, combinations(sequences, 2)):
        name = f"correlation:{a}:{b}"
        known = range_of(name)
        if values.get(name, 0.0) > SAME and known is not None and known[1] < 0.9:
            text = f"{a} and {b} are nearly the same image (their ranks correlate {values[name]:+.3f})"
            findings.append(finding("same scan", text))
    for sequence in sequences:
        if _is_noise(sequence, values, range_of):
            findings.append(finding("nothing but noise", f"{sequence} is noise nearly everywhere"))
    gaps = [name for name in names if not math.isfinite(values.get(name, math.nan))]
    if gaps and not findings:
        groups = ", ".join(dict.fromkeys(map(group_of, gaps)))
        why = "a sequence has the same value nearly everywhere, or hardly any brain is there"
        findings.append(finding("unmeasurable", f"{len(gaps)} of {len(names)} metrics are missing ({groups}): {why}"))
    return findings


def _is_noise(sequence: str, values: Mapping[str, float], range_of: Ranges) -> bool:
    """Whether a sequence is about as rough as white noise and the training patients' are not."""
    names = [*(f"snr_{axis}:{sequence}" for axis in "xyz"), f"white:{sequence}"]
    known = [
        found for name in names if (found := range_of(name)) is not None and math.isfinite(values.get(name, math.nan))
    ]
    if len(known) < len(names):
        return False
    ratios = [*(NOISE_SNR / math.exp(values[name]) for name in names[:3]), math.exp(values[names[3]]) / NOISE_WHITE]
    sound = [*(NOISE_SNR / math.exp(found[0]) for found in known[:3]), math.exp(known[3][1]) / NOISE_WHITE]
    return min(ratios) > 1 and max(sound) <= SOUND
