"""A table of new patients' clinical values, for networks that take some as covariates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.config import COVARIATES
from lab.data.layouts.clinical import CLINICAL
from lab.data.layouts.subject import Subject
from lab.data.layouts.table import CASE_NAMES, PATIENT_NAMES, read_table
from lab.io.files import format_some


def with_clinical(
    subjects: Sequence[Subject], table: Path, *, say: Callable[[str], None], single: bool = False
) -> list[Subject]:
    """The subjects with the values of a CSV: a row for each case or patient, with any of the columns `COVARIATES`.

    An empty cell, and a patient without a row, leaves what the scans' layout knows. A `single` patient, given by paths,
    takes the only row. Raises ValueError where the table has none of the columns, no row that fits, two rows of one
    case, or a value that cannot be understood.
    """
    found, what = read_table(table), f"--clinical {table}"
    columns = [name for name in COVARIATES if name in found.headers]
    case, patient = found.column(CASE_NAMES), found.column(PATIENT_NAMES)
    if not columns or not (case or patient or single):
        needed = f"{'' if single else 'case_id and '}any of {', '.join(COVARIATES)}"
        raise ValueError(f"{what}: columns {needed} are needed, found {', '.join(found.headers.values())}")
    if single and len(found.rows) != 1:
        raise ValueError(
            f"{what}: one row is needed for one patient, found {len(found.rows)}; keep the patient's alone"
        )
    named = [subject.case_id if case or single else subject.patient_id for subject in subjects]
    values: dict[str, dict[str, Any]] = {}
    for row in found.rows:
        whose = named[0] if single else row.cells[case or str(patient)]
        if whose in values:
            raise ValueError(f"{what}, line {row.line}: {whose} has a row already; keep one")
        try:
            if row.fault:
                raise ValueError(row.fault)
            values[whose] = read_values({name: row.cells[name] for name in columns})
        except ValueError as error:
            raise ValueError(f"{what}, line {row.line}: {error}") from None
    missing = [subject.case_id for subject, name in zip(subjects, named) if name not in values]
    if len(missing) == len(subjects):
        raise ValueError(
            f"{what}: its rows are of {format_some(list(values))}, the scans of {format_some(missing)}; write the "
            "names of the scans' cases into the column case_id"
        )
    if missing:
        say(f"No row in {table}, so only what their scans' layout knows is used: {format_some(missing)}")
    return [replace(subject, **values.get(name, {})) for subject, name in zip(subjects, named)]


def read_values(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The values by covariate that are not empty. Raises ValueError for one that cannot be understood."""
    known: dict[str, Any] = {}
    for name, value in cells.items():
        try:
            known[name] = CLINICAL[name](value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}; correct it, or leave it empty where it is unknown") from None
    return {name: value for name, value in known.items() if value is not None}
