"""Hard limits: properties for which a patient is refused, whatever the training patients are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from lab.qc.findings import Finding, finding
from lab.qc.metrics import format_metric, group_of

Ranges = Callable[[str], tuple[float, float] | None]
"""Lowest and highest value of a metric among the training patients; None for a metric that they lack."""

BRAIN_ML = (600.0, 2300.0)
"""Plausible volumes of one whole brain (ml); a newborn's is smaller."""
LENGTH_TO_WIDTH = (0.8, 1.8)
"""Plausible ratios of length to width of a whole brain."""
SAME = 0.97
"""Rank correlation above which two sequences are the same scan, unless a training patient's reaches 0.9."""
NOISE_SNR, NOISE_WHITE = 2.3, 0.95
"""SNR below which, and ratio of neighbours' differences above which, a sequence is white noise."""
SOUND = 0.9
"""Share of the noise limits that training patients must not exceed for a patient to be refused for noise."""


def check_hard_limits(
    names: Sequence[str], sequences: Sequence[str], values: Mapping[str, float], range_of: Ranges
) -> list[Finding]:
    """Findings for metrics beyond the hard limits, unless training patients are beyond them too."""
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
    """Whether a sequence is about as rough as white noise while the training patients' are not."""
    names = [*(f"snr_{axis}:{sequence}" for axis in "xyz"), f"white:{sequence}"]
    known = [
        found for name in names if (found := range_of(name)) is not None and math.isfinite(values.get(name, math.nan))
    ]
    if len(known) < len(names):
        return False
    ratios = [*(NOISE_SNR / math.exp(values[name]) for name in names[:3]), math.exp(values[names[3]]) / NOISE_WHITE]
    sound = [*(NOISE_SNR / math.exp(found[0]) for found in known[:3]), math.exp(known[3][1]) / NOISE_WHITE]
    return min(ratios) > 1 and max(sound) <= SOUND
