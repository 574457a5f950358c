"""The tables of a classifier's page: performance, accuracy, comparisons and subgroups, as HTML and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np
import pandas as pd

from lab.report.tables.patient_table import plain_markdown
from lab.report.text.study_note import spaced_row
from lab.report.text.verdict import p_text

Cell = Callable[[pd.Series], str]

PERFORMANCE = (
    ("auc", "AUC", 2),
    ("auc_splits", "AUC, mean over splits", 2),
    ("ap", "average precision", 2),
    ("brier", "Brier", 3),
    ("scaled_brier", "scaled Brier", 2),
    ("slope", "calibration slope", 2),
    ("intercept", "calibration intercept", 2),
    ("in_the_large", "in the large", 2),
)
"""Columns of the table, their heads and digits."""
FIGURES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "accuracy": "accuracy",
}
BY = {"vendor": "vendor", "field_strength_t": "field strength", "grade": "grade"}
NOTES = (
    "AUC over patients: each patient's mean score over the repeats, with DeLong's interval on the logit scale, and "
    "below it that of the stratified bootstrap.",
    "Mean over splits with Nadeau and Bengio's corrected t interval, cut to [0, 1]; it judges the way of training, the "
    "AUC over patients these predictions.",
    "Calibration: slope 1, intercept 0 and in the large 0 are ideal; a scaled Brier score of 0 is no better than the "
    "prevalence.",
    "p: permutation test of the AUC, one-sided, predictions held fixed.",
)


def performance_html(performance: pd.DataFrame, *, judged: int = 1) -> str:
    """The table of `Assessment.performance`; all methods after the first `judged` are shaded as rivals."""
    heads = ["patients (events)", *(head for _, head, _ in PERFORMANCE), "p"]
    rows = []
    for place, (_, row) in enumerate(performance.iterrows()):
        cells = [f"{int(row['patients'])} <small>({int(row['events'])})</small>"]
        cells += [_performance_cell(row, name, digits) for name, _, digits in PERFORMANCE]
        cells.append(_p(row["p"]))
        rows.append(_row(str(row["method"]), cells, rival=place >= judged))
    notes = [*NOTES, *(f"{row['method']}: {row['note']}." for _, row in performance.iterrows() if row["note"])]
    return _table(["", *heads], rows, notes)


def accuracy_html(accuracy: pd.DataFrame, *, judged: int = 1) -> str:
    """The table of `Assessment.accuracy`: value, Wilson interval and counts."""
    if accuracy.empty:
        return "<p>No method has a threshold.</p>"
    rows = []
    for place, (method, part) in enumerate(accuracy.groupby("method", sort=False)):
        found = part.set_index("figure")
        cells = [
            _stacked(found.loc[name], 2, extra=f"{int(found.loc[name, 'hits'])} of {int(found.loc[name, 'n'])}")
            for name in FIGURES
        ]
        rows.append(_row(str(method), cells, rival=place >= judged))
    notes = [
        "Thresholds are chosen in each training set (Youden), never on test patients. A patient is called positive "
        "where the scores lie above their splits' thresholds on average. Wilson intervals.",
        "PPV and NPV hold at the prevalence of these patients only.",
    ]
    return _table(["", *FIGURES.values()], rows, notes)


def comparisons_html(comparisons: pd.DataFrame, *, alpha: float = 0.05) -> str:
    """The tables of `Assessment.comparisons`, one a reference."""
    if comparisons.empty:
        return "<p>There is no second method to compare with.</p>"
    heads = ["", "patients (events)", "AUC", "AUC against", "difference", "p", "p (Holm)"]
    tables = []
    for reference, family in comparisons.groupby("reference", sort=False):
        rows = []
        for _, row in family.iterrows():
            corrected = _p(row["p_holm"])
            cells = [
                f"{int(row['patients'])} <small>({int(row['events'])})</small>",
                _plain(row["auc_reference"], 2),
                _plain(row["auc_method"], 2),
                _stacked(row.rename({"difference": "value"}), 2, signed=True),
                _p(row["p"]),
                f"<strong>{corrected}</strong>" if row["p_holm"] < alpha else corrected,
            ]
            rows.append(_row(str(row["method"]), cells))
        notes = [f"{row['method']}: {row['note']}." for _, row in family.iterrows() if row["note"]]
        tables.append(_table(heads, rows, notes, caption=f"{reference}, against"))
    return "".join(tables) + _points(
        [
            "DeLong's test for correlated AUCs, two-sided, on the patients whom both methods have scored; Holm's "
            f"correction within the tests of one method; bold: below {alpha:g}.",
            "A pair that is not told apart is not shown to be equal: read the interval of the difference.",
        ]
    )


def subgroups_html(subgroups: pd.DataFrame) -> str:
    """The table of `Assessment.subgroups`: a row a group, a column a method."""
    if subgroups.empty:
        return "<p>Neither vendor nor field strength nor grade is known.</p>"
    methods = list(dict.fromkeys(subgroups["method"]))
    rows = []
    for (by, group), part in subgroups.groupby(["by", "group"], sort=False):
        found = part.set_index("method")
        first = found.iloc[0]
        cells = [f"{int(first['n'])} <small>({int(first['events'])})</small>"]
        for method in methods:
            one = found.loc[method]
            cells.append(_stacked(one.rename({"auc": "value"}), 2) if np.isfinite(one["auc"]) else escape(one["note"]))
        name = f"{BY.get(str(by), str(by))}: {group}" if group == "unknown" else str(group)
        rows.append(_row(name, cells))
    notes = ["AUC over patients with DeLong's interval. No test between groups: they differ in more than this."]
    return _table(["", "patients (events)", *methods], rows, notes)


def performance_markdown(performance: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """A short table for a note: AUC, its interval, the mean over splits, and the test against the first method."""
    tests = comparisons[comparisons["reference"] == performance["method"].iloc[0]].set_index("method")
    lines = [spaced_row(["", "patients", "AUC (DeLong)", "mean over splits", "first method against it"])]
    lines.append("|---" * 5 + "|")
    for place, (_, row) in enumerate(performance.iterrows()):
        mark = "**" if place == 0 else ""
        cells = [f"{mark}{plain_markdown(str(row['method']))}{mark}", str(int(row["patients"]))]
        cells += [_range(row, "auc"), _range(row, "auc_splits"), "-"]
        if row["method"] in tests.index:
            test = tests.loc[row["method"]]
            known = np.isfinite(test["p_holm"])
            cells[-1] = f"{test['difference']:+.2f}, {p_text(float(test['p_holm']))} (Holm)" if known else test["note"]
        lines.append(spaced_row(cells))
    return "\n".join(lines)


def _range(row: pd.Series, name: str) -> str:
    if not np.isfinite(row[name]):
        return "-"
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"


def _performance_cell(row: pd.Series, name: str, digits: int) -> str:
    extra = ""
    if name == "auc" and row["boot_low"] < row["boot_high"]:  # where all draws agree there is no interval to show
        extra = f"{row['boot_low']:.2f} to {row['boot_high']:.2f}"
    ends = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
    return _stacked(pd.Series(ends), digits, extra=extra)


def _stacked(row: pd.Series, digits: int, *, extra: str = "", signed: bool = False) -> str:
    """A figure over its interval."""
    if not np.isfinite(row["value"]):
        return "-"
    value, low, high = (round(float(row[name]), digits) + 0.0 for name in ("value", "low", "high"))  # never "-0.00"
    sign = "+" if signed else ""
    lines = [f"{value:{sign}.{digits}f}", f"<small>{low:.{digits}f} to {high:.{digits}f}</small>"]
    return "<br>".join([*lines, *([f"<small>{extra}</small>"] if extra else [])])


def _plain(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def _p(value: float) -> str:
    return escape(p_text(float(value)).removeprefix("p ").removeprefix("= ")) if np.isfinite(value) else "-"


def _row(name: str, cells: Sequence[str], *, rival: bool = False) -> str:
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    mark = ' class="rival"' if rival else ""
    return f'<tr{mark}><th scope="row">{escape(name)}</th>{body}</tr>'


def _table(heads: Sequence[str], rows: Sequence[str], notes: Sequence[str], *, caption: str = "") -> str:
    top = "".join(f'<th scope="col">{escape(head)}</th>' if head else "<td></td>" for head in heads)
    title = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
    return (
        f'<div class="scroll"><table class="card">{title}<thead><tr>{top}</tr></thead><tbody>{"".join(rows)}</tbody>'
        f"</table></div>{_points(notes)}"
    )


def _points(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


COLUMNS = {"auc": "AUC (DeLong)", "auc_splits": "mean over splits", "brier": "Brier", "slope": "calibration slope"}


def performance_text(performance: pd.DataFrame) -> str:
    """The table of `lab.radiomics.assess.assess.Assessment.performance`, a line a method."""
    table = pd.DataFrame({"": performance["method"], "patients": performance["patients"].astype(str)})
    for name, head in COLUMNS.items():
        table[head] = [_interval(row, name) for _, row in performance.iterrows()]
    widths = [max(len(str(head)), *(len(cell) for cell in table[head])) for head in table]
    lines = [[str(head) for head in table], *table.to_numpy().tolist()]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" if place == 0 else f"{cell:>{width}}" for place, (cell, width) in enumerate(row))
        for row in (list(zip(line, widths)) for line in lines)
    )


def _interval(row: pd.Series, name: str) -> str:
    value, low, high = (float(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:.2f} ({low:.2f} to {high:.2f})" if np.isfinite(value) else "-"
