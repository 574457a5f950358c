"""Features from a user's own table, as pyradiomics, PREDICT or `radiomics/extract.py` write them: a row a case."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lab.data.case import UNKNOWN_ENHANCEMENT
from lab.data.cohort import COLUMNS, Cohort
from lab.data.layouts.clinical import CLINICAL, UNKNOWN, parse_clinical
from lab.data.layouts.table import CASE_NAMES, PATIENT_NAMES, CsvTable, column_key, read_table
from lab.io.files import format_some, plural, regular_sha256
from lab.radiomics.features.cohort_features import CohortFeatures
from lab.radiomics.labels import find_ids, report_unknown

MORE_IDS = ("name", "patient_name", "subject_name", "pid", "key", "filename", "file", "image", "index")
NO_FEATURES = {
    *CASE_NAMES, *PATIENT_NAMES, *MORE_IDS, *CLINICAL, "mask", "label", "labels", "class", "target", "outcome", "event",
    "diagnosis", "split", "fold", "set",
}  # fmt: skip
"""Columns that are no features, whatever they hold: ids, clinical values, and what may be the answer."""
VOLUME = re.compile(r"(^|_)shape_(mesh|voxel)?volume$")  # cubic millimetres
TEXT = 0.1  # share of cells that are no numbers above which a column is text


def table_cohort(path: Path) -> Cohort:
    """The cases of a feature table as a cohort without images: ids, patients and clinical columns. Raises ValueError.

    Patients are those of a column such as `patient_id`, otherwise every case is one.
    """
    table = read_table(path)
    case = next((name for name in _id_columns(table) if name in table.headers), None)
    if case is None:
        found = ", ".join(list(table.headers.values())[:8])
        raise ValueError(f"{path}: no column with the cases' ids, such as case_id (found {found}, ...)")
    patient = table.column(name for name in PATIENT_NAMES if name != case)
    volume = next((name for name in table.headers if VOLUME.search(name)), None)
    rows = []
    for row in table.rows:
        known, _ = parse_clinical({name: row.cells[name] for name in CLINICAL if name in table.headers})
        given = row.cells[case] or f"line-{row.line}"
        ml = None if volume is None else _numbers([row.cells[volume]])[0].iloc[0] / 1000
        whose = row.cells[patient] if patient else ""
        rows.append({"case_id": given, "patient_id": whose or given, "tumour_ml": ml, "enhancing": False, **known})
    index = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    _check_once(path, index["case_id"].tolist(), [row.line for row in table.rows])
    index = index.assign(enhancing=False, enhancing_by=UNKNOWN_ENHANCEMENT).set_index("case_id")
    counts = {"used": len(index), "left_out": 0}
    manifest = {"phantom": False, "channels": [], "counts": counts, "digest": regular_sha256(path)[:32], "target": ""}
    return Cohort(path, index, manifest)


def read_features(
    path: Path,
    cohort: Cohort,
    *,
    label: str = "",
    columns: Sequence[str] | None = None,
    say: Callable[[str], None] = print,
) -> CohortFeatures:
    """The numeric columns of a table for the cases of a cohort; `label`, the column of the label, is no feature.

    Left out are diagnostics, text, constant columns and those known in half of the cases or fewer; `say` reports how
    many. With `columns`, the features of another table, these are taken, whatever they hold. Cells that are not finite
    numbers are NaN. Raises ValueError where ids or features are missing or ids repeat.
    """
    table = read_table(path)
    key, own, of = find_ids(table, cohort, _id_columns(table))
    report_unknown(path, [row.cells[key] for row in table.rows], own, of, say)
    rows = {of[row.cells[key]]: row for row in table.rows if row.cells[key] in of and not row.fault}
    known = [row for row in table.rows if row.cells[key] in of]
    _check_once(path, [of[row.cells[key]] for row in known], [row.line for row in known])
    cases = [str(case) for case, name in own.items() if name in rows]
    lines = [rows[own[case]] for case in cases]
    values, dropped = {}, {"diagnostics": 0, "text": 0, "mostly empty": 0, "constant": 0}
    answers: list[str] = []
    wanted = None if columns is None else {column_key(name): name for name in columns}
    for name, header in table.headers.items():
        if wanted is not None:
            if name in wanted:
                values[wanted[name]] = _numbers([row.cells[name] for row in lines])[0].to_numpy(np.float64)
            continue
        if name in NO_FEATURES or name.startswith("unnamed") or name == column_key(label):
            answers += [header] if name not in (*CASE_NAMES, *PATIENT_NAMES, *MORE_IDS) else []
            continue
        numbers, text = _numbers([row.cells[name] for row in lines])
        why = (
            "diagnostics" if name.startswith("diagnostics") else "text" if text > TEXT
            else "mostly empty" if numbers.notna().mean() <= 0.5 else "constant" if numbers.nunique() < 2 else ""
        )  # fmt: skip
        if why:
            dropped[why] += 1
        else:
            values[header] = numbers.to_numpy(np.float64)
    missing_columns = [name for name in columns or () if name not in values]
    if missing_columns:
        raise ValueError(f"{path}: no column {format_some(missing_columns)}, which the classifier learns from")
    values = values if columns is None else {name: values[name] for name in columns}
    if not values:
        raise ValueError(f"{path}: no column holds numbers that differ between the {plural(len(cases), 'case')}")
    left = ", ".join(f"{count} {why}" for why, count in dropped.items() if count)
    left += (", " if left else "") + f"no features: {format_some(answers)}" if answers else ""
    say(f"{path}: {plural(len(values), 'feature')} of {plural(len(cases), 'case')}{f' ({left})' if left else ''}")
    features = pd.DataFrame(values, index=pd.Index(cases, name="case_id"))
    odd = {of[row.cells[key]]: f"line {row.line}: {row.fault}" for row in known if row.fault}
    missing = {str(case): f"{path.name}: {odd.get(name, 'no row')}" for case, name in own.items() if name not in rows}
    return CohortFeatures(features, missing)


def _id_columns(table: CsvTable) -> list[str]:
    """Columns that may hold the ids, the most specific first."""
    unnamed = [name for name in table.headers if name.startswith("unnamed")]
    return [name for name in dict.fromkeys((*CASE_NAMES, *PATIENT_NAMES, *MORE_IDS, *unnamed)) if name in table.headers]


def _check_once(path: Path, ids: list[str], lines: list[int]) -> None:
    """Raises ValueError where an id has two rows."""
    first: dict[str, int] = {}
    for name, line in zip(ids, lines):
        if first.setdefault(name, line) != line:
            raise ValueError(f"{path}: {name} has two rows (lines {first[name]} and {line}); one row a case is needed")


def _numbers(cells: list[str]) -> tuple[pd.Series, float]:
    """Cells as numbers, NaN where they hold no finite one, and the share of known cells that are text."""
    text = pd.Series(cells, dtype=object).str.strip()
    plain = text.where(~text.str.fullmatch(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?"), text.str.replace(",", "."))
    values = pd.to_numeric(plain, errors="coerce")  # its last digit may be wrong, float's is not
    values = plain.where(values.notna()).map(float, na_action="ignore").astype(float)
    known = ~text.str.casefold().isin(UNKNOWN - {"-1", "-1.0", "-9", "-99", "-999", "-9999", "9999"})
    wrong = values.isna() & known
    return values.where(np.isfinite(values)), float(wrong.sum() / max(1, known.sum()))
