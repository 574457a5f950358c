"""What is to be predicted, as 0 or 1 for each case: enhancement, grade, or a column of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lab.data.cohort import Cohort

ROUNDING = 1 + 1e-6
"""A volume of exactly the threshold must not fall below it by its last digit, as in the preparation."""


class Labels(NamedTuple):
    """Who has what label."""

    values: pd.Series
    """0 or 1 by case id; cases without a label are absent."""
    event: str
    """Label 1 in words that fit "48 enhancing"."""
    missing: dict[str, str]
    """Case id -> why it has no label."""


def read_labels(cohort: Cohort, which: str, *, file: Path | None = None, enhancing_ml: float = 0.5) -> Labels:
    """The labels of a cohort's cases: a key of `LABELS`, or a column of `file` (CSV with case_id or patient_id).

    `expert` and `rule` hold an enhancing volume of `enhancing_ml` millilitres or more against less. Raises ValueError
    or an OSError for an unknown label, a file that does not have it, values other than 0 and 1, and where all cases
    with a label have the same.
    """
    if file is not None:
        labels = _column(cohort, which, file)
    elif which in LABELS:
        labels = LABELS[which](cohort, enhancing_ml)
    else:
        raise ValueError(
            f"--label {which}: known are {', '.join(LABELS)}; for a column of your own name its CSV: --labels"
        )
    if labels.values.nunique() < 2:
        found = (
            f"all {len(labels.values)} are {int(labels.values.iloc[0])}" if len(labels.values) else "no case has one"
        )
        why = next(iter(labels.missing.values()), "")
        raise ValueError(f"--label {which}: cases of both classes are needed, {found}{f' ({why})' if why else ''}")
    return labels


def _enhancement(cohort: Cohort, enhancing_ml: float) -> Labels:
    return Labels(cohort.index["enhancing"].astype(int), "enhancing", {})


def _volume(column: str, what: str) -> Callable[[Cohort, float], Labels]:
    def labels(cohort: Cohort, enhancing_ml: float) -> Labels:
        volume = cohort.index[column]
        return _known((volume * ROUNDING >= enhancing_ml).where(volume.notna()), "enhancing", f"no {what}")

    return labels


def _grade(cohort: Cohort, enhancing_ml: float) -> Labels:
    grade = cohort.index["grade"]
    return _known((grade == 4).where(grade.isin((2, 3, 4))), "grade IV", "grade unknown")


LABELS: dict[str, Callable[[Cohort, float], Labels]] = {
    "enhancement": _enhancement,
    "expert": _volume("label_enhancing_ml", "expert label of enhancing tumour"),
    "rule": _volume("rule_enhancing_ml", "volume by the rule"),
    "grade": _grade,
}


def _known(values: pd.Series, event: str, reason: str) -> Labels:
    there = values.notna()
    return Labels(values[there].astype(int), event, dict.fromkeys(values.index[~there], reason))


def _column(cohort: Cohort, which: str, file: Path) -> Labels:
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as a CSV ({error})") from None
    key = next((name for name in ("case_id", "patient_id") if name in table), None)
    if key is None or which not in table:
        columns = ", ".join(table.columns)
        raise ValueError(f"{file}: columns case_id or patient_id, and {which}, are needed; found {columns}")
    twice = table.loc[table[key].duplicated(), key]
    if len(twice):
        raise ValueError(f"{file}: {key} {twice.iloc[0]} occurs more than once")
    wrong = table[~table[which].str.strip().isin(("0", "1", ""))]
    if len(wrong):
        row = wrong.iloc[0]
        raise ValueError(f"{file}: {which} of {row[key]} is {row[which]!r}; it must be 0, 1 or empty (unknown)")
    given = pd.to_numeric(table.set_index(key)[which].str.strip(), errors="coerce")
    own = cohort.index.index if key == "case_id" else pd.Index(cohort.index["patient_id"].astype(str))
    values = pd.Series(given.reindex(own).to_numpy(), index=cohort.index.index)
    return _known(values, which, f"no {which} in {file.name}")
