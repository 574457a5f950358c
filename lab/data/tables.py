"""Reading what people type into tables: a CSV of paths, and the patient data of any layout. Unknown is `None`."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SUFFIXES = (".nii.gz", ".nii")
UNKNOWN = {"", "-1", "-1.0", "unknown", "nan", "na", "n/a", "none", "not reported"}
GRADES = {"I": 1, "II": 2, "III": 3, "IV": 4}
VENDORS = {"siemens": "Siemens", "philips": "Philips", "ge": "GE", "toshiba": "Toshiba", "canon": "Canon"}


def _text(value: Any) -> str | None:
    text = "" if value is None else str(value).strip()
    return None if text.casefold() in UNKNOWN else text


def parse_number(value: Any) -> float | None:
    """A positive finite number, or `None` for what stands for unknown (EGD writes -1). Raises ValueError."""
    text = _text(value)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    return number if math.isfinite(number) and number > 0 else None


def parse_grade(value: Any) -> int | None:
    """WHO grade 1-4, written in Arabic or Roman figures. Raises ValueError."""
    text = _text(value)
    if text is None:
        return None
    number = GRADES.get(text.upper()) or parse_number(text)
    if number not in (1, 2, 3, 4):
        raise ValueError(f"{text!r} is not a WHO grade (1-4)")
    return int(number)


def _parse_flag(value: Any, yes: set[str], no: set[str], what: str) -> int | None:
    text = _text(value)
    if text is None:
        return None
    word = text.casefold().replace("-", "").replace(" ", "").removesuffix(".0")
    if word in yes | {"1", "true", "yes"}:
        return 1
    if word in no | {"0", "false", "no"}:
        return 0
    raise ValueError(f"{text!r} is not {what}")


def parse_idh(value: Any) -> int | None:
    """IDH status: 1 mutant, 0 wild type. Raises ValueError."""
    return _parse_flag(value, {"mutant", "mutated", "mut"}, {"wildtype", "wt"}, "an IDH status (mutant, wild type)")


def parse_codeletion(value: Any) -> int | None:
    """1p/19q status: 1 codeleted, 0 intact. Raises ValueError."""
    return _parse_flag(value, {"codeleted", "codel"}, {"intact", "noncodel", "noncodeleted"}, "a 1p/19q status")


def parse_bool(value: Any) -> bool | None:
    """Yes or no in any usual spelling. Raises ValueError."""
    flag = _parse_flag(value, {"y", "t"}, {"n", "f"}, "yes or no")
    return None if flag is None else bool(flag)


def parse_sex(value: Any) -> str | None:
    """`M` or `F`; another answer stays as it is written."""
    text = _text(value)
    if text is None:
        return None
    return {"m": "M", "male": "M", "f": "F", "female": "F"}.get(text.casefold(), text)


def parse_vendor(value: Any) -> str | None:
    """Short name of a scanner's maker: `Philips Medical Systems` is `Philips`."""
    text = _text(value)
    if text is None:
        return None
    return VENDORS.get(text.casefold().split()[0], text)


def _parse_label(value: Any) -> int | None:
    number = parse_number(value)
    if number is not None and number != int(number):
        raise ValueError(f"{value!r} is not a whole number")
    return None if number is None else int(number)


COLUMNS: dict[str, Callable[[Any], Any]] = {
    "enhancing_label": _parse_label,
    "skull_stripped": parse_bool,
    "grade": parse_grade,
    "age": parse_number,
    "sex": parse_sex,
    "idh": parse_idh,
    "codeletion": parse_codeletion,
    "vendor": parse_vendor,
    "field_strength_t": parse_number,
}


def _is_scan(folder: Path, column: str, cell: str | None) -> bool:
    """Whether a cell of a column names a NIfTI file, or a folder where the column is a sequence's."""
    text = (cell or "").strip()
    sequence = column.strip().upper().startswith(("T1", "T2", "FLAIR"))
    return text.endswith(SUFFIXES) or bool(text and sequence and (folder / text).is_dir())


def read_rows(path: Path) -> Iterator[tuple[dict[str, Path], dict[str, Any]]]:
    """Rows of a CSV of scans: paths by column name, and what is known of the patient.

    Columns, in any order and case: `case_id`; `patient_id` (else the case id); those of `COLUMNS` (`skull_stripped` is
    yes where it is missing); every other column whose cells end in .nii or .nii.gz is a sequence, `MASK` the tumour
    mask; a column T1..., T2... or FLAIR may also name folders, each with one DICOM series. Paths are relative to the
    CSV's folder. Raises ValueError naming the row.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            table = list(csv.DictReader(file, delimiter=max(",;\t", key=head.count)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a CSV ({error})") from None
    if not table:
        raise ValueError(f"{path}: the table has no rows")
    columns = {name.strip().casefold(): name for name in table[0] if name}
    if "case_id" not in columns:
        raise ValueError(f"{path}: no column case_id (found {', '.join(columns)})")
    others = [name for key, name in columns.items() if key not in {"case_id", "patient_id", *COLUMNS}]
    sequences = [name for name in others if any(_is_scan(path.parent, name, row[name]) for row in table)]
    if not sequences:
        raise ValueError(
            f"{path}: no column holds paths of .nii or .nii.gz files, or of folders with a DICOM series (columns: "
            f"{', '.join(columns)})"
        )
    for number, row in enumerate(table, start=2):
        case_id = (row[columns["case_id"]] or "").strip()
        if not case_id:
            raise ValueError(f"{path}, line {number}: case_id is empty")
        patient_id = (row.get(columns.get("patient_id", "")) or "").strip() or case_id
        known: dict[str, Any] = {"case_id": case_id, "patient_id": patient_id}
        for key in COLUMNS.keys() & columns.keys():
            try:
                known[key] = COLUMNS[key](row[columns[key]])
            except ValueError as error:
                raise ValueError(f"{path}, line {number}, {columns[key]}: {error}") from None
        known["skull_stripped"] = known.get("skull_stripped") is not False
        cells = {name: (row[name] or "").strip() for name in sequences}
        yield {name.strip(): path.parent / cell for name, cell in cells.items() if cell}, known
