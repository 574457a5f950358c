"""Calibration results for a model's card: intervals, probability of enhancement, OOD scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.evaluation.calibration_text import REGIONS, describe_coverage, describe_doubt
from lab.evaluation.conformal import LEAST, NOMINAL
from lab.io.files import plural
from lab.report.tables.table import Cell, Column, Row, Table

NONE = "It was not calibrated: no intervals, no probability, and scans unlike its training patients' go unnoticed."


def trust_table(record: Mapping[str, Any], *, level: float = NOMINAL) -> Table | None:
    """Coverage on test patients by region and number of passes; None where none was measured."""
    found = [row for row in record.get("coverage", []) if abs(row["level"] - level) < 1e-9]
    if not found:
        return None
    rows = []
    for region, name in REGIONS.items():
        for row in (row for row in found if row["region"] == region):
            span = () if row["low"] is None else (f"{row['low']:.0%} to {row['high']:.0%}",)
            rows.append(Row(cells=[name, row["looks"], Cell(f"{row['value']:.0%}", span), row["half_width"], row["n"]]))
    columns = [
        Column(title="voxels"),
        Column(title="looks", decimals=0),
        Column(title=f"inside {level:.0%} intervals"),
        Column(title="mean half width (from -1 to 1)", decimals=3),
        Column(title="n", decimals=0),
    ]
    return Table(columns=columns, rows=rows)


def trust_lines(record: Mapping[str, Any]) -> list[str]:
    """Sentences on the basis and the results of a calibration; one sentence that says so where there is none."""
    if not record:
        return [NONE]
    counts, least = record["patients"], max((entry["patients"] for entry in record["intervals"].values()), default=0)
    lines = [
        f"Intervals by conformal risk control on {plural(counts['val'], 'validation patient')}, tried on "
        f"{plural(counts['test'], 'test patient')}" + (": too few to promise anything." if least < LEAST else ".")
    ]
    if not record.get("coverage"):
        lines.append(f"Intervals are made for {NOMINAL:.0%} of the voxels; {describe_coverage(())}.")
    lines.append(_probability(record["probability"]))
    return [*lines, _strangers(record["strangers"])]


def _probability(found: Mapping[str, Any]) -> str:
    if "missing" in found:
        return f"No probability that a tumour enhances: {found['missing']}."
    text = (
        f"The probability that a tumour enhances comes from {plural(found['patients'], 'validation scan')} "
        f"({found['events']} enhance, by {found['by']})"
    )
    test = found.get("test", {})
    if found.get("flat"):
        text += ", whom the drawn level did not tell apart: it is nearly the same for everybody"
    none = " The network gives no verdict whether a tumour enhances." if describe_doubt(found) else ""
    if "auc" not in test:
        return f"{text}; on test scans it could not be judged.{none}"
    return (
        f"{text}; on {test['n']} test scans its AUC is {test['auc']:.2f} ({test['auc_low']:.2f} to "
        f"{test['auc_high']:.2f}) and its Brier score {test['brier']:.2f}, that of the prevalence alone being "
        f"{test['brier_prevalence']:.2f}.{none}"
    )


def _strangers(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "How well strange scans are noticed was not measured: there were no test patients."
    clean, faults = rows[0], rows[1:]
    told = ", ".join(f"{row['fault']} {row['seen']:.0%}" for row in faults if row["n"])
    return (
        f"Of {plural(clean['n'], 'clean test scan')} {clean['warned']:.0%} are warned of as unlike those of training "
        f"and {clean['refused']:.0%} refused. Of test scans with an injected fault are noticed: {told}."
    )
