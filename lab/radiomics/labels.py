"""Binary labels of the cases: enhancement, grade, mutations, or a column of the user's own table."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lab.config import DataConfig
from lab.data.case import NO_CONTRAST, UNKNOWN_ENHANCEMENT, has_target
from lab.data.cohort import Cohort, is_cohort, open_cohort
from lab.data.layouts.clinical import CODELETED, INTACT, MUTANT, WILDTYPE, parse_flag
from lab.data.layouts.find import find_subjects
from lab.data.layouts.table import CASE_NAMES, PATIENT_NAMES, CsvTable, column_key, read_table
from lab.io.files import canonical

ROUNDING = 1 + 1e-6  # a volume equal to the threshold must not fall below it by rounding, as in the preparation
NOT_SEEN = "neither a scan with contrast agent nor the mask says it"
YES_OR_MORE = MUTANT | CODELETED | {"methylated", "high", "enhancing", "enhances"}
NO_OR_LESS = WILDTYPE | INTACT | {"unmethylated", "notmethylated", "low", "nonenhancing", "notenhancing"}


class Labels(NamedTuple):
    """Labels of a cohort's cases."""

    values: pd.Series  # 0 or 1 by case id; cases without a label are absent
    event: str  # name of label 1, as in "48 enhancing"
    missing: dict[str, str]  # case id -> reason why it has no label


def read_labels(
    cohort: Cohort,
    which: str,
    *,
    file: Path | None = None,
    enhancing_ml: float = 0.5,
    say: Callable[[str], None] = print,
) -> Labels:
    """Labels of a cohort's cases: `which` is a key of `LABELS`, or a column of `file` (CSV with case_id or patient_id).

    A cell is 1, 0, yes, no, mutant, wild type or the like. A case has no label if its cell is not understood or if rows
    of one id disagree; `say` reports these, and ids that match no case. `expert` and `rule` are 1 from `enhancing_ml`
    on. Raises ValueError or OSError for an unknown label, an unusable file, and if all cases have the same label.
    """
    if file is None and which not in LABELS:
        raise ValueError(f"--label {which}: known are {', '.join(LABELS)}; name the CSV of another column: --labels")
    labels = LABELS[which](cohort, enhancing_ml) if file is None else _column(cohort, which, file, say)
    if labels.values.nunique() < 2:
        found = f"all {len(labels.values)} are {labels.values.max()}" if len(labels.values) else "no case has one"
        why = next(iter(labels.missing.values()), "")
        raise ValueError(f"--label {which}: cases of both classes are needed, {found}{f' ({why})' if why else ''}")
    return labels


def without_missing_target(data: DataConfig, label: str | None = None, *, file: Path | None = None) -> DataConfig:
    """The settings without the scan with contrast agent (`target`) where patients lack it and the label needs none.

    `label` and `file` are those of `read_labels`, None for features without a label. For a label that is not read from
    that scan one patient without it is enough: then nobody's is read. Enhancement is read from it, unless no patient
    has it and the masks label enhancing tumour. Raises ValueError where nothing says it, and as `find_subjects`.
    """
    path = data.path
    if path is None or not has_target(data):
        return data
    bare = dataclasses.replace(data, target=NO_CONTRAST)
    if is_cohort(path):
        return data if has_target(dataclasses.replace(data, target=open_cohort(path).manifest["target"])) else bare
    subjects = find_subjects(path, data.layout, labels=None, say=lambda _: None)
    there = [canonical(data.target) in subject.images for subject in subjects if subject.fault is None]
    if all(there):
        return data
    if file is not None or label not in OF_CONTRAST:
        return bare
    if any(there):
        return data
    stated = find_subjects(path, data.layout, labels=data.labels, say=lambda _: None)
    if label == "rule" or all(subject.enhancing_label is None for subject in stated):
        what = f"no patient in {path} has {data.target}, and no mask labels enhancing tumour"
        raise ValueError(f"--label {label}: {what}; take grade, idh, codeletion or a column of --labels")
    return bare


def _enhancement(cohort: Cohort, enhancing_ml: float) -> Labels:
    known = cohort.index["enhancing_by"] != UNKNOWN_ENHANCEMENT
    return _known(cohort.index["enhancing"].astype("Int64").where(known), "enhancing", NOT_SEEN)


def _volume(column: str, what: str) -> Callable[[Cohort, float], Labels]:
    def labels(cohort: Cohort, enhancing_ml: float) -> Labels:
        volume = cohort.index[column]
        return _known((volume * ROUNDING >= enhancing_ml).where(volume.notna()), "enhancing", f"no {what}")

    return labels


def _grade(cohort: Cohort, enhancing_ml: float) -> Labels:
    grade = cohort.index["grade"]
    return _known((grade == 4).where(grade.isin((2, 3, 4))), "grade IV", "grade unknown")


def _status(column: str, event: str) -> Callable[[Cohort, float], Labels]:
    return lambda cohort, _: _known(cohort.index[column], event, f"{column} unknown")


LABELS: dict[str, Callable[[Cohort, float], Labels]] = {
    "enhancement": _enhancement,
    "expert": _volume("label_enhancing_ml", "expert label of enhancing tumour"),
    "rule": _volume("rule_enhancing_ml", "volume by the rule"),
    "grade": _grade,
    "idh": _status("idh", "IDH-mutant"),
    "codeletion": _status("codeletion", "1p/19q-codeleted"),
}
OF_CONTRAST = ("enhancement", "rule")  # labels that are read from the scan with contrast agent
LABELS_OF_INDEX = ("grade", "idh", "codeletion")  # labels from clinical columns of the cohort


def _known(values: pd.Series, event: str, reason: str) -> Labels:
    there = values.notna()
    return Labels(values[there].astype(int), event, dict.fromkeys(values.index[~there], reason))


def _column(cohort: Cohort, which: str, file: Path, say: Callable[[str], None]) -> Labels:
    table = read_table(file)
    name = column_key(which)
    keys = [key for key in dict.fromkeys((*CASE_NAMES, *PATIENT_NAMES)) if key in table.headers and key != name]
    if not keys or name not in table.headers:
        columns = ", ".join(table.headers.values())
        raise ValueError(f"{file}: columns case_id or patient_id, and {which}, are needed; found {columns}")
    key, own, of = find_ids(table, cohort, keys)
    report_unknown(file, [row.cells[key] for row in table.rows], own, of, say)
    found: dict[str, dict[int, int]] = {}
    odd: dict[str, str] = {}
    for row in table.rows:
        if row.cells[key] not in of:
            continue
        known, where = of[row.cells[key]], f"({file.name}, line {row.line})"
        if row.fault:
            odd[known] = f"{row.fault} {where}"
            continue
        try:
            value = parse_flag(row.cells[name], YES_OR_MORE, NO_OR_LESS, "0, 1, yes, no or the like")
        except ValueError as error:
            odd[known] = f"{which} of {row.cells[key]}: {error} {where}"
            continue
        if value is not None:
            found.setdefault(known, {}).setdefault(value, row.line)
    if len(odd) > max(1, len(table.rows) // 10):
        raise ValueError(f"{file}: {next(iter(odd.values()))}, and {len(odd) - 1} more; empty is unknown")
    for known, lines in found.items():
        if len(lines) > 1:
            odd[known] = f"{key} {known} occurs more than once, with {which} 0 and 1 (lines {lines[0]} and {lines[1]})"
    if odd:
        say(f"{len(odd)} without a label: {'; '.join(list(odd.values())[:3])}")
    values = own.map({known: next(iter(lines)) for known, lines in found.items() if known not in odd})
    missing = {case: odd.get(known, f"no {which} in {file.name}") for case, known in own[values.isna()].items()}
    return Labels(values.dropna().astype(int), which, {str(case): why for case, why in missing.items()})


def find_ids(table: CsvTable, cohort: Cohort, keys: Sequence[str]) -> tuple[str, pd.Series, dict[str, str]]:
    """The one of several columns that names most of a cohort's cases or patients, and what it names.

    The column; by case id the name in the cohort (of case or patient); and the name in the cohort by that in the table.
    """
    cases, patients = pd.Series(cohort.index.index, cohort.index.index), cohort.index["patient_id"].astype(str)
    ids = {key: [row.cells[key] for row in table.rows] for key in keys}
    tried = [(key, own, matched(ids[key], own)) for key in keys for own in _ordered(key, cases, patients)]
    return max(tried, key=lambda one: len(one[2]))


def _ordered(key: str, cases: pd.Series, patients: pd.Series) -> tuple[pd.Series, pd.Series]:
    return (patients, cases) if key in PATIENT_NAMES and key not in CASE_NAMES else (cases, patients)


def matched(written: list[str], own: pd.Series) -> dict[str, str]:
    """Ids in a table -> ids of the cohort, equal or, if unambiguous, but for capitals and zeros (12.0 is 0012)."""
    known = set(own)
    loosely: dict[str, set[str]] = {}
    for one in known:
        loosely.setdefault(_loose(one), set()).add(one)
    taken = known.intersection(written)
    found = {one: one for one in taken}
    for one in set(written) - taken:
        meant = loosely.get(_loose(one), set())
        if len(meant) == 1 and not meant & taken:
            found[one] = next(iter(meant))
    return found


def _loose(name: str) -> str:
    return re.sub(r"\d+", lambda digits: digits[0].lstrip("0") or "0", re.sub(r"^(\d+)\.0+$", r"\1", name).casefold())


def report_unknown(
    file: Path, written: list[str], own: pd.Series, of: dict[str, str], say: Callable[[str], None]
) -> None:
    """Report ids that match no case, or only loosely. Raises ValueError if none matches."""
    unknown = [one for one in dict.fromkeys(written) if one and one not in of]
    there, some = (", ".join(map(repr, ids[:3])) for ids in (sorted(set(own)), unknown))
    if not of:
        raise ValueError(f"{file}: none of its ids ({some} ...) is in the cohort ({there} ...)")
    if unknown:
        say(f"{file}: {len(unknown)} of {len(set(written))} ids are not in the cohort (as {some}; it has {there})")
    loose = [f"{one!r} for {known!r}" for one, known in of.items() if one != known]
    if loose:
        say(f"{file}: {len(loose)} ids are taken for others (capitals, zeros): {', '.join(sorted(loose)[:3])}")
