"""Layout of scans listed in a CSV: one row per scan, with the paths of its sequences.

Columns, in any order and capitals: `case_id` (or another of `CASE_NAMES`); `patient_id` (default: the case id);
`skull_stripped` (default: yes), `enhancing_label`, those of `clinical.CLINICAL`; any other column with cells that end
in .nii or .nii.gz is a sequence, `MASK` the tumour mask; a column T1..., T2... or FLAIR may also name folders, each
with one DICOM series. Paths are relative to the CSV's folder.
"""

from pathlib import Path
from typing import Any

from lab.data.layouts.clinical import CLINICAL, UNKNOWN, parse_bool, parse_clinical, parse_label
from lab.data.layouts.copies import NIFTI, choose_files
from lab.data.layouts.subject import Layout, Subject
from lab.data.layouts.table import CASE_NAMES, PATIENT_NAMES, CsvRow, CsvTable, read_table


def find_rows(files: list[Path]) -> list[Subject]:
    """Rows of the one table as subjects, with a fault where unusable. Raises ValueError for an unreadable table."""
    (path,) = files
    table = read_table(path)
    patient = table.column(PATIENT_NAMES)
    case = table.column(CASE_NAMES) or patient
    if case is None:
        raise ValueError(f"{path}: no column case_id (found {', '.join(table.headers)})")
    own = {case, patient, "enhancing_label", "skull_stripped", *CLINICAL}
    sequences = [
        name
        for name in table.headers
        if name not in own and any(_is_scan(path.parent, name, row.cells[name]) for row in table.rows)
    ]
    if not sequences:
        what = "no column holds paths of .nii or .nii.gz files, or of folders with a DICOM series"
        raise ValueError(f"{path}: {what} (columns: {', '.join(table.headers)})")
    return [_subject(table, row, case, patient, sequences) for row in table.rows]


def _subject(table: CsvTable, row: CsvRow, case: str, patient: str | None, sequences: list[str]) -> Subject:
    case_id = row.cells[case] or f"line-{row.line}"
    fault = row.fault if row.cells[case] else f"{table.headers[case]} is empty"
    known, remarks = parse_clinical({name: row.cells[name] for name in CLINICAL if name in table.headers})
    for name, parse in (("enhancing_label", parse_label), ("skull_stripped", parse_bool)):
        try:  # settings of how the scans are read are not guessed
            known[name] = parse(row.cells.get(name))
        except ValueError as error:
            fault = fault or f"{name}: {error}"
    known["skull_stripped"] = known.get("skull_stripped") is not False
    whose = row.cells[patient] if patient is not None and patient != case else ""
    given = whose.casefold() not in UNKNOWN
    cells = {name: row.cells[name] for name in sequences if row.cells[name].casefold() not in UNKNOWN}
    odd = next((cell for cell in cells.values() if not cell.isprintable()), None)
    if odd is not None:
        fault = fault or f"the path {odd!r} holds a character that no file name has"
    parts: dict[str, Any] = {}
    if fault is not None:
        fault = f"{table.path}, line {row.line}: {fault}"
    else:
        parts = choose_files([(table.headers[name], table.path.parent / cell) for name, cell in cells.items()])
        fault = f"case {case_id}: {parts['fault']}" if "fault" in parts else None
    parts |= {"fault": fault, "remarks": (*parts.get("remarks", ()), *remarks)}
    return Subject(case_id=case_id, patient_id=whose if given else case_id, patient_given=given, **parts, **known)


def _is_scan(folder: Path, column: str, cell: str) -> bool:
    """Whether a cell names a NIfTI file, or, in a sequence's column, a folder."""
    if NIFTI.search(cell):
        return True
    if not cell or not column.startswith(("t1", "t2", "flair")):
        return False
    try:
        return (folder / cell).is_dir()
    except (OSError, ValueError):
        return False  # not a path, such as a remark of 300 letters


LAYOUT = Layout(
    title="scans listed in a CSV",
    example="patient-1",
    files={name: f"{{id}}/{name.lower()}.nii.gz" for name in ("T1", "T2", "FLAIR", "T1GD", "MASK")},
    find=find_rows,
    label_books=lambda case_id: ("tumour",),
    table=True,
)
