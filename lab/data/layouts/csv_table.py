"""Tables that people make: a CSV as any spreadsheet program writes it -> rows, and the rows of a CSV of scans."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.data.layouts.clinical import CLINICAL, UNKNOWN, parse_bool, parse_clinical, parse_label
from lab.data.layouts.subject import Remark
from lab.io.files import read_text

SUFFIXES = (".nii.gz", ".nii")
LARGEST = 2**26
"""Bytes of a table."""
CASE_NAMES = ("case_id", "caseid", "case", "scan_id", "subject_id", "subjectid", "subject", "participant_id", "id")
PATIENT_NAMES = ("patient_id", "patientid", "patient", "subject_id", "subjectid", "subject", "participant_id")
"""Headers of the column that names a scan, or its patient, the surest first."""
BLANK = " \t\r\n\f\v\u00a0\u200b\ufeff"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table."""

    line: int
    cells: dict[str, str]
    """Cell by column, without blanks round it."""
    fault: str | None = None
    """Why the cells cannot be trusted."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table whose columns are known by plain names: " Case-ID" is `case_id`."""

    path: Path
    headers: dict[str, str]
    """Column -> how the file writes it."""
    rows: list[Row]

    def column(self, names: Iterable[str]) -> str | None:
        """The first of several names that the table has."""
        return next((name for name in names if name in self.headers), None)


def read_table(path: Path) -> Table:
    """A table with a header; its separator is a comma, semicolon, tab or bar, or what a first line `sep=;` says.

    Blank rows are passed over. Raises ValueError where the file is missing or no table, has no rows, or has two columns
    of one name that differ.
    """
    text = read_text(path, LARGEST)
    try:
        text = text.lstrip("\r\n" + BLANK[-1])
        first, _, rest = text.partition("\n")
        said = re.match(r'"?sep=(.)', first, flags=re.IGNORECASE)
        head, _, _ = (rest if said else text).partition("\n")
        bare = re.sub(r'"[^"]*"', "", head)
        separator = said[1] if said else max(",;\t|", key=bare.count)
        lines = io.StringIO(rest if said else text, newline=None)
        reader = csv.reader(lines, delimiter=separator, strict=True)
        found, line = [], 2 if said else 1
        for cells in reader:
            found.append((line, [cell.strip(BLANK) for cell in cells]))
            line = reader.line_num + (2 if said else 1)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a CSV (line {line}: {error}; look for a stray quote)") from None
    found = [(line, cells) for line, cells in found if any(cells)]
    if len(found) < 2:
        raise ValueError(
            f"{path}: the table has no rows" if found else f"{path}: cannot be read as a CSV (it is empty)"
        )
    return _table(path, found[0][1], found[1:])


def plain(name: str) -> str:
    """A column's name without capitals, and with `_` for blanks, dots and dashes."""
    return re.sub(r"[\s_.-]+", "_", name.casefold()).strip("_")


def _table(path: Path, head: list[str], found: list[tuple[int, list[str]]]) -> Table:
    names = [plain(name) for name in head]
    headers = {name: written for name, written in zip(names[::-1], head[::-1]) if name}
    rows = []
    for line, cells in found:
        wide = [cell for cell in cells[len(head) :] if cell]
        fault = f"{len(cells)} cells where the header has {len(head)}; a cell that holds a separator needs quotes"
        filled: dict[str, str] = {}
        for name, cell in zip(names, [*cells, *[""] * len(head)]):
            if name and filled.setdefault(name, cell) != cell:
                raise ValueError(f"{path}, line {line}: column {headers[name]} stands twice, with other values")
        rows.append(Row(line=line, cells=filled, fault=fault if wide else None))
    return Table(path=path, headers={name: headers[name] for name in names if name}, rows=rows)


@dataclass(frozen=True, kw_only=True)
class ScanRow:
    """A row of a CSV of scans."""

    case_id: str
    patient_id: str
    patient_given: bool
    """Whether a column of its own names the patient, and not as unknown."""
    paths: dict[str, Path]
    """File, or folder with a DICOM series, by the name of its column."""
    known: dict[str, Any]
    """`skull_stripped`, `enhancing_label`, and what `clinical.CLINICAL` has."""
    fault: str | None = None
    remarks: list[Remark] = field(default_factory=list)


def read_rows(path: Path) -> list[ScanRow]:
    """The rows of a CSV of scans.

    Columns, in any order and capitals: `case_id` (or another of `CASE_NAMES`); `patient_id` (else the case id);
    `skull_stripped` (yes where it is missing), `enhancing_label`, those of `clinical.CLINICAL`; any other column whose
    cells end in .nii or .nii.gz is a sequence, `MASK` the tumour mask; a column T1..., T2... or FLAIR may also name
    folders, each with one DICOM series. Paths are relative to the CSV's folder. A row that cannot be used has a fault.
    Raises ValueError where the table as a whole cannot be read.
    """
    table = read_table(path)
    patient = table.column(PATIENT_NAMES)
    case = table.column(CASE_NAMES) or patient
    if case is None:
        raise ValueError(f"{path}: no column case_id (found {', '.join(table.headers)})")
    others = [
        name for name in table.headers if name not in {case, patient, "enhancing_label", "skull_stripped", *CLINICAL}
    ]
    sequences = [name for name in others if any(_is_scan(path.parent, name, row.cells[name]) for row in table.rows)]
    if not sequences:
        raise ValueError(
            f"{path}: no column holds paths of .nii or .nii.gz files, or of folders with a DICOM series (columns: "
            f"{', '.join(table.headers)})"
        )
    return [_scan_row(table, row, case, patient, sequences) for row in table.rows]


def _scan_row(table: Table, row: Row, case: str, patient: str | None, sequences: list[str]) -> ScanRow:
    case_id = row.cells[case] or f"line-{row.line}"
    fault = row.fault if row.cells[case] else f"{table.headers[case]} is empty"
    known, remarks = parse_clinical({name: row.cells[name] for name in CLINICAL if name in table.headers})
    try:  # what decides how the scans are read is not guessed
        known["enhancing_label"] = parse_label(row.cells.get("enhancing_label"))
        known["skull_stripped"] = parse_bool(row.cells.get("skull_stripped")) is not False
    except ValueError as error:
        name = "skull_stripped" if "enhancing_label" in known else "enhancing_label"
        fault = fault or f"{name}: {error}"
    whose = row.cells[patient] if patient is not None and patient != case else ""
    given = whose.casefold() not in UNKNOWN
    cells = {name: row.cells[name] for name in sequences if row.cells[name].casefold() not in UNKNOWN}
    odd = next((cell for cell in cells.values() if not cell.isprintable()), None)
    if odd is not None:
        fault = fault or f"the path {odd!r} holds a character that no file name has"
    return ScanRow(
        case_id=case_id,
        patient_id=whose if given else case_id,
        patient_given=given,
        paths={} if fault else {table.headers[name]: table.path.parent / cell for name, cell in cells.items()},
        known=known,
        fault=f"{table.path}, line {row.line}: {fault}" if fault else None,
        remarks=remarks,
    )


def _is_scan(folder: Path, column: str, cell: str) -> bool:
    """Whether a cell of a column names a NIfTI file, or a folder where the column is a sequence's."""
    if cell.casefold().endswith(SUFFIXES):
        return True
    if not cell or not column.startswith(("t1", "t2", "flair")):
        return False
    try:
        return (folder / cell).is_dir()
    except (OSError, ValueError):
        return False  # no path at all, such as a remark of 300 letters
