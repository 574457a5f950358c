"""Reader of CSV tables as spreadsheet programs write them."""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.io.files import read_text_file

LARGEST = 2**26  # maximum bytes of a table
CASE_NAMES = ("case_id", "caseid", "case", "scan_id", "subject_id", "subjectid", "subject", "participant_id", "id")
PATIENT_NAMES = ("patient_id", "patientid", "patient", "subject_id", "subjectid", "subject", "participant_id")
"""Headers of the column with the scan's name (`CASE_NAMES`) or the patient's, the most specific first."""
BLANK = " \t\r\n\f\v\u00a0\u200b\ufeff"


@dataclass(frozen=True, kw_only=True)
class CsvRow:
    """One row of a table."""

    line: int
    cells: dict[str, str]  # cell by column, stripped of blanks
    fault: str | None = None  # why the cells cannot be trusted


@dataclass(frozen=True, kw_only=True)
class CsvTable:
    """A table with plain column names: " Case-ID" is `case_id`."""

    path: Path
    headers: dict[str, str]  # column -> header in the file
    rows: list[CsvRow]

    def column(self, names: Iterable[str]) -> str | None:
        """The first of several names that the table has."""
        return next((name for name in names if name in self.headers), None)


def read_table(path: Path) -> CsvTable:
    """A table with a header; its separator is a comma, semicolon, tab or bar, or that of a first line `sep=;`.

    Blank rows are skipped. Raises ValueError where the file is missing or not a table, has no rows, or has two columns
    of one name that differ.
    """
    text = read_text_file(path, LARGEST)
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
        raise ValueError(f"{path}: {'the table has no rows' if found else 'cannot be read as a CSV (it is empty)'}")
    return _table(path, found[0][1], found[1:])


def column_key(name: str) -> str:
    """A column's name without capitals, and with `_` for blanks, dots and dashes."""
    return re.sub(r"[\s_.-]+", "_", name.casefold()).strip("_")


def _table(path: Path, head: list[str], found: list[tuple[int, list[str]]]) -> CsvTable:
    head = [head[0] or "unnamed", *head[1:]]  # where pandas writes an index without a name
    names = [column_key(name) for name in head]
    headers = {name: written for name, written in zip(names[::-1], head[::-1]) if name}
    rows = []
    for line, cells in found:
        wide = [cell for cell in cells[len(head) :] if cell]
        fault = f"{len(cells)} cells where the header has {len(head)}; a cell that holds a separator needs quotes"
        filled: dict[str, str] = {}
        for name, cell in zip(names, [*cells, *[""] * len(head)]):
            if name and filled.setdefault(name, cell) != cell:
                raise ValueError(f"{path}, line {line}: column {headers[name]} stands twice, with other values")
        rows.append(CsvRow(line=line, cells=filled, fault=fault if wide else None))
    return CsvTable(path=path, headers={name: headers[name] for name in names if name}, rows=rows)
