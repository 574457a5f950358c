"""A table of new patients' clinical values, for networks that take some as covariates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.data.layouts.clinical import parse_clinical
from lab.data.layouts.subject import Subject
from lab.data.layouts.table import CASE_NAMES, PATIENT_NAMES, read_table
from lab.io.files import format_some

COVARIATES = ("age", "sex", "grade", "idh", "codeletion")


def with_clinical(
    subjects: Sequence[Subject], table: Path, *, say: Callable[[str], None], single: bool = False
) -> list[Subject]:
    """The subjects with the values of a CSV: a row for each case, with the columns `COVARIATES` in any order.

    An empty cell, and a patient without a row, leaves what the scans' layout knows. A `single` patient, given by paths,
    takes the only row. Raises ValueError where the table has none of the columns, no row that fits, two rows of one
    case, or a value that cannot be read.
    """
    found = read_table(table)
    columns = [name for name in COVARIATES if name in found.headers]
    case = found.column((*CASE_NAMES, *PATIENT_NAMES))
    if not columns or (case is None and not single):
        needed = f"{'' if single else 'case_id and '}one of {', '.join(COVARIATES)}"
        raise ValueError(f"--clinical {table}: columns {needed} are needed, found {', '.join(found.headers.values())}")
    if single and len(found.rows) != 1:
        raise ValueError(f"--clinical {table}: one patient needs one row, found {len(found.rows)}")
    values: dict[str, dict[str, Any]] = {}
    for row in found.rows:
        known, wrong = parse_clinical({name: row.cells[name] for name in columns})
        fault = row.fault or "; ".join(f"{what.what} {what.found}" for what in wrong)
        if fault:
            raise ValueError(f"--clinical {table}, line {row.line}: {fault}")
        whose = subjects[0].case_id if single or case is None else row.cells[case]
        if whose in values:
            raise ValueError(f"--clinical {table}, line {row.line}: {whose} has a row already")
        values[whose] = {name: value for name, value in known.items() if value is not None}
    missing = [subject.case_id for subject in subjects if subject.case_id not in values]
    if len(missing) == len(subjects):
        raise ValueError(
            f"--clinical {table}: no row is of these patients ({format_some(missing)}); its cases are "
            f"{format_some(list(values))}"
        )
    if missing:
        say(f"No row in {table}, so only what their scans' layout knows is used: {format_some(missing)}")
    return [replace(subject, **values.get(subject.case_id, {})) for subject in subjects]
