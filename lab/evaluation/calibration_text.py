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
NO_CALIBRATION = "the network was not calibrated, so that nothing is known of how well it tells tumours that enhance"


def coverage_at(record: Mapping[str, Any], looks: int, level: float = NOMINAL) -> list[Mapping[str, Any]]:
    """Rows of a calibration, one per region: measured coverage of intervals of one level with this number of passes."""
    return [row for row in record.get("coverage", ()) if row["looks"] == looks and abs(row["level"] - level) < 1e-9]


def describe_coverage(rows: Sequence[Mapping[str, Any]], *, tumour_known: bool = True) -> str:
    """ "held on test patients: whole brain 92% (91% to 94%, n = 28), tumour ...", by region, from rows of one level.

    The text says so where nothing was measured. It also says so where the tumour mask is unknown (the test patients had
    one).
    """
    known = {row["region"]: row for row in rows if row["value"] is not None}
    if not known:
        return "what they hold was never measured: there were no test patients"
    told = ", ".join(f"{REGIONS[region]} {format_share(known.get(region))}" for region in NAMED)
    return f"held on test patients: {told}{'' if tumour_known else MASKED}"


def describe_doubt(probability: Mapping[str, Any]) -> str:
    """Why the probability of enhancement, and any verdict based on it, cannot be trusted; "" where it can.

    `probability` is the part of that name of a calibration. Its AUC is that of the enhancement level on test scans.
    """
    test = probability.get("test", {})
    what = "the probability that the tumour enhances"
    if not probability:
        return NO_CALIBRATION
    if "slope" not in probability:
        return f"{what} could not be fitted: {probability.get('missing', 'the calibration has none')}"
    if probability.get("flat"):
        return (
            f"{what} is nearly the same for everybody: by how much was drawn, the {probability['patients']} "
            "validation scans were not told apart"
        )
    if "auc" not in test:
        return f"{what} could not be judged: among the test scans fewer than two enhance, or fewer than two do not"
    if test["auc_low"] > CHANCE:
        return ""
    span = f"{test['auc']:.2f} ({test['auc_low']:.2f} to {test['auc_high']:.2f})"
    return f"{what} is not told apart from guessing: on {test['n']} test scans its AUC is {span}"


def enhancement_verdict(
    probability: Mapping[str, Any], chance: float | None, *, drawn: bool
) -> tuple[bool | None, str]:
    """Whether a tumour enhances, or None and the reason why no verdict is given.

    `probability` is the part of that name of a calibration, `chance` the patient's own probability (None without a
    tumour mask), `drawn` whether the predicted volume counts as enhancing. Where `chance` and `drawn` disagree there is
    no verdict.
    """
    if reason := describe_doubt(probability):
        return None, reason
    if chance is None:
        return None, "the tumour is not known: no mask of it lies in the brain"
    if (chance >= CHANCE) != drawn:
        volume = "enough for" if drawn else "too little for"
        return None, f"the volume drawn, {volume} enhancement, and the probability of {chance:.2f} disagree"
    return drawn, ""


def format_share(row: Mapping[str, Any] | None) -> str:
    """A measured share with its interval: "92% (91% to 94%, n = 28)"."""
    if row is None:
        return "not measured"
    span = "" if row["low"] is None else f"{row['low']:.0%} to {row['high']:.0%}, "
    return f"{row['value']:.0%} ({span}n = {row['n']})"
