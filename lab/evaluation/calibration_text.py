"""Text about a network's calibration on its own test patients, shown beside its results for a new patient.

No interval is named without its measured coverage, and no verdict is given where the AUC was not shown to be above 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.evaluation.conformal import NOMINAL

REGIONS = {
    "everywhere": "whole brain",
    "brain": "brain away from the tumour",
    "tumour": "tumour and 3 mm round it",
    "enhancing": "inside true enhancement",
}
"""Region in which coverage is measured -> its name in text."""
NAMED = ("everywhere", "tumour", "enhancing")
"""Regions named in the one-line text."""
MASKED = "; all with the tumour's mask, which is missing here"
CHANCE = 0.5


def coverage_at(record: Mapping[str, Any], looks: int, level: float = NOMINAL) -> list[Mapping[str, Any]]:
    """Rows of a calibration, one per region: measured coverage of intervals of one level with `looks` augmentations."""
    return [row for row in record.get("coverage", ()) if row["looks"] == looks and abs(row["level"] - level) < 1e-9]


def describe_coverage(rows: Sequence[Mapping[str, Any]], *, tumour_known: bool = True) -> str:
    """ "coverage on test patients: whole brain 92% (91% to 94%, n = 28), tumour ...", from rows of one level.

    The text says so where nothing was measured, and where the tumour mask is unknown (the test patients had one).
    """
    known = {row["region"]: row for row in rows if row["value"] is not None}
    if not known:
        return "coverage was not measured: there were no test patients"
    parts = ", ".join(f"{REGIONS[region]} {format_share(known.get(region))}" for region in NAMED)
    return f"coverage on test patients: {parts}{'' if tumour_known else MASKED}"


def describe_auc(probability: Mapping[str, Any]) -> str:
    """The test AUC and Brier score of the probability of enhancement."""
    test = probability.get("test", {})
    if "auc" not in test:
        return "AUC not measured: fewer than two test scans enhance, or fewer than two do not"
    return (
        f"AUC {test['auc']:.2f} ({test['auc_low']:.2f} to {test['auc_high']:.2f}) on {test['n']} test scans, "
        f"Brier score {test['brier']:.2f} (prevalence alone: {test['brier_prevalence']:.2f})"
    )


def describe_doubt(probability: Mapping[str, Any]) -> str:
    """Why the probability of enhancement, and any verdict based on it, cannot be trusted; "" where it can.

    `probability` is the part of that name of a calibration. Its AUC is that of the enhancement level on test scans.
    """
    test = probability.get("test", {})
    if not probability:
        return "the network was not calibrated, so its AUC for enhancing tumours is unknown"
    if "slope" not in probability:
        return f"there is no probability of enhancement: {probability.get('missing', 'the calibration has none')}"
    if probability.get("flat"):
        return "the predicted enhancement level does not rank enhancing validation scans above the others"
    if "auc" not in test:
        return "the probability of enhancement could not be tested: too few test scans of a class"
    if test["auc_low"] > CHANCE:
        return ""
    span = f"{test['auc']:.2f} ({test['auc_low']:.2f} to {test['auc_high']:.2f})"
    return f"the probability of enhancement is not shown to be better than chance: AUC {span} on {test['n']} test scans"


def enhancement_verdict(
    probability: Mapping[str, Any], chance: float | None, *, predicted: bool
) -> tuple[bool | None, str]:
    """Whether a tumour enhances, or None and the reason why no verdict is given.

    `probability` is the part of that name of a calibration, `chance` the patient's own probability (None without a
    tumour mask), `predicted` whether the predicted volume counts as enhancing. Where they disagree there is no verdict.
    """
    if reason := describe_doubt(probability):
        return None, reason
    if chance is None:
        return None, "the tumour is not known: no mask of it lies in the brain"
    if (chance >= CHANCE) != predicted:
        volume = "enough for" if predicted else "too little for"
        return None, f"the predicted volume ({volume} enhancement) and the probability of {chance:.2f} disagree"
    return predicted, ""


def format_share(row: Mapping[str, Any] | None) -> str:
    """A measured share with its interval: "92% (91% to 94%, n = 28)"."""
    if row is None:
        return "not measured"
    span = "" if row["low"] is None else f"{row['low']:.0%} to {row['high']:.0%}, "
    return f"{row['value']:.0%} ({span}n = {row['n']})"
