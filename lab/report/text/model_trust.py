"""Calibration results for a model's card: intervals, probability of enhancement, OOD detection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.evaluation.calibration_text import REGIONS, describe_auc, describe_coverage, describe_doubt
from lab.evaluation.conformal import LEAST, NOMINAL
from lab.io.files import plural
from lab.report.tables.table import Column, Row, Table

NONE = "It was not calibrated: no intervals, no probability, and no detection of out-of-distribution scans."
COLUMNS = (
    Column(title="voxels"),
    Column(title="augmentations", decimals=0),
    Column(title=f"inside {NOMINAL:.0%} intervals", unit="%", decimals=0, percent=True),
    Column(title="mean half width (from -1 to 1)", decimals=3),
    Column(title="n", decimals=0),
)


def trust_table(record: Mapping[str, Any]) -> Table | None:
    """Coverage on test patients by region and number of augmentations; None where none was measured."""
    found = [row for row in record.get("coverage", []) if abs(row["level"] - NOMINAL) < 1e-9]
    rows = []
    for region, name in REGIONS.items():
        for row in (row for row in found if row["region"] == region):
            low, high = (float("nan") if row[end] is None else row[end] for end in ("low", "high"))
            share = COLUMNS[2].interval(row["value"], low, high)
            rows.append(Row(cells=[name, row["looks"], share, row["half_width"], row["n"]]))
    return Table(columns=COLUMNS, rows=rows) if rows else None


def trust_lines(record: Mapping[str, Any]) -> list[str]:
    """Sentences on the basis and the results of a calibration; one sentence that says so where there is none."""
    if not record:
        return [NONE]
    counts, known = record["patients"], record["probability"]
    few = max((entry["patients"] for entry in record["intervals"].values()), default=0) < LEAST
    lines = [
        f"Intervals by conformal risk control on {plural(counts['val'], 'validation patient')}, tried on "
        f"{plural(counts['test'], 'test patient')}{': too few to promise anything' * few}."
    ]
    if not record.get("coverage"):
        lines.append(f"Intervals are made for {NOMINAL:.0%} of the voxels; {describe_coverage(())}.")
    if "missing" in known:
        lines.append(f"No probability that a tumour enhances: {known['missing']}.")
    else:
        doubt = describe_doubt(known)
        lines.append(
            f"Probability that a tumour enhances: from {plural(known['patients'], 'validation scan')} "
            f"({known['events']} enhance, by {known['by']}); {describe_auc(known)}."
            + f" No verdict whether a tumour enhances: {doubt}."
            * bool(doubt)
        )
    if place := record.get("place"):
        lines.append(
            f"Enhancement is where the stated probability exceeds {place['threshold']:.2f}, chosen on "
            f"{plural(place['patients'], 'validation scan')} (kappa {place['kappa']:.2f} there, truth: {place['by']})."
        )
    if tumour := record.get("tumour"):
        lines.append(
            f"The tumour that it states (synthesize --tumour auto): mean Dice {tumour['dice']:.2f} with the masks of "
            f"{plural(tumour['patients'], tumour['of'] + ' scan')}, {tumour['lowest_tenth']:.2f} or less in one of ten."
        )
    if not record["strangers"]:
        return [*lines, "Detection of out-of-distribution scans was not measured: there were no test patients."]
    clean, *faults = record["strangers"]
    seen = ", ".join(f"{row['fault']} {row['seen']:.0%}" for row in faults if row["n"])
    lines.append(
        f"Out-of-distribution detection: of {plural(clean['n'], 'clean test scan')} {clean['warned']:.0%} are warned "
        f"of and {clean['refused']:.0%} refused; of injected faults are detected: {seen}."
    )
    return lines
