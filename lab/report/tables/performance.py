"""The tables of a classifier's page, from those of `Assessment`: performance, accuracy, comparisons and subgroups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lab.io.files import plural
from lab.radiomics.baselines import REMARKS, WORC
from lab.report.tables.paired_tests import p_text, p_value
from lab.report.tables.table import Cell, Column, Row, Table

METHOD, PATIENTS = Column(title=""), Column(title="patients", decimals=0)
AUC = Column(title="AUC", decimals=2)
PERFORMANCE = {
    "auc": AUC,
    "auc_splits": Column(title="AUC, mean over splits", decimals=2, short="over splits"),
    "ap": Column(title="average precision", decimals=2),
    "brier": Column(title="Brier", decimals=3),
    "scaled_brier": Column(title="scaled Brier", decimals=2),
    "slope": Column(title="calibration slope", decimals=2),
    "intercept": Column(title="calibration intercept", decimals=2),
    "in_the_large": Column(title="in the large", decimals=2),
}
SUMMARY = ("auc", "auc_splits", "brier", "slope")
"""Columns of the short table."""
ACCURACY = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "accuracy": "accuracy",
}
DIFFERENCE = Column(title="difference", decimals=2, signed=True)
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
OWN_THRESHOLD = "Thresholds are chosen in each training set (Youden), never on test patients."
WORC_THRESHOLD = (
    f"{WORC}: its own threshold, 0.5 whatever the prevalence; below it, where there are folds, Youden's on the scores "
    "that a split's training patients have in the other folds."
)
THRESHOLD_NOTES = (
    "A patient is called positive where the scores lie above their splits' thresholds on average. Wilson intervals.",
    "PPV and NPV hold at the prevalence of these patients only.",
)


def performance_table(performance: pd.DataFrame, *, judged: int = 1) -> Table:
    """All figures with their intervals; methods after the first `judged` are shaded as baselines."""
    rows = []
    for place, row in enumerate(performance.to_dict("records")):
        # a bootstrap whose samples all agree has no interval
        boot = f"{row['boot_low']:.2f} to {row['boot_high']:.2f}" if row["boot_low"] < row["boot_high"] else ""
        cells = [_interval(row, name, boot if name == "auc" else "") for name in PERFORMANCE]
        rows.append(_row(row["method"], [_patients(row), *cells, p_value(row["p"])], shaded=place >= judged))
    notes = [*NOTES, *(f"{row['method']}: {row['note']}." for _, row in performance.iterrows() if row["note"])]
    notes += [f"{method}: {REMARKS[method]}." for method in performance["method"] if method in REMARKS]
    columns = [METHOD, PATIENTS, *PERFORMANCE.values(), Column(title="p")]
    return Table(columns=columns, rows=rows, notes=notes, stacked=True)


def accuracy_table(accuracy: pd.DataFrame, *, judged: Sequence[str] = ()) -> Table:
    """Accuracy at each method's thresholds: value, Wilson interval and counts; others than the `judged` are shaded."""
    rows = []
    methods = list(dict.fromkeys(accuracy["method"].astype(str)))
    by_worc = [method for method in methods if method.startswith(WORC)]
    notes = [OWN_THRESHOLD] * (len(by_worc) < len(methods)) + [WORC_THRESHOLD] * bool(by_worc) + [*THRESHOLD_NOTES]
    columns = [Column(title=title, decimals=2) for title in ACCURACY.values()]
    for method, part in accuracy.groupby("method", sort=False):
        found = part.set_index("figure").to_dict("index")
        cells = [
            AUC.interval(one["value"], one["low"], one["high"], f"{one['hits']:.0f} of {one['n']:.0f}")
            for one in map(found.__getitem__, ACCURACY)
        ]
        rows.append(_row(str(method), cells, shaded=not str(method).startswith((*judged, methods[0]))))
    return Table(columns=[METHOD, *columns], rows=rows, notes=notes, stacked=True)


def delong_tables(comparisons: pd.DataFrame, *, alpha: float = 0.05) -> list[Table]:
    """DeLong's tests, a table per reference."""
    heads = [Column(title="AUC", decimals=2), Column(title="AUC against", decimals=2), DIFFERENCE]
    columns = [METHOD, PATIENTS, *heads, Column(title="p"), Column(title="p (Holm)")]
    notes = (
        "DeLong's test for correlated AUCs, two-sided, on the patients whom both methods have scored; Holm's "
        f"correction within the tests of one method; {{best}}: below {alpha:g}.",
        "No difference shown is not equality: read the interval of the difference.",
    )
    tables = []
    for reference, family in comparisons.groupby("reference", sort=False):
        rows = []
        for row in family.to_dict("records"):
            difference = DIFFERENCE.interval(row["difference"], row["low"], row["high"])
            corrected = Cell(p_value(row["p_holm"]), strong=row["p_holm"] < alpha)
            cells = [_patients(row), row["auc_reference"], row["auc_method"], difference, p_value(row["p"]), corrected]
            rows.append(_row(row["method"], cells))
        own = [f"{row['method']}: {row['note']}." for _, row in family.iterrows() if row["note"]]
        tables.append(
            Table(columns=columns, rows=rows, title=f"{reference}, against", notes=[*own, *notes], stacked=True)
        )
    return tables


def subgroup_table(subgroups: pd.DataFrame) -> Table:
    """The AUC, a row per group and a column per method."""
    methods = list(dict.fromkeys(subgroups["method"]))
    rows = []
    for (by, group), part in subgroups.groupby(["by", "group"], sort=False):
        found = part.set_index("method").to_dict("index")
        first = found[methods[0]]
        cells = [
            AUC.interval(one["auc"], one["low"], one["high"]) if np.isfinite(one["auc"]) else one["note"]
            for one in map(found.__getitem__, methods)
        ]
        patients = Cell(first["n"], (plural(int(first["events"]), "event"),))
        name = f"{BY.get(str(by), str(by))}: {group}" if group == "unknown" else str(group)
        rows.append(_row(name, [patients, *cells]))
    notes = ["AUC over patients with DeLong's interval. No test between groups: they differ in more than this."]
    columns = [METHOD, PATIENTS, *(Column(title=method, decimals=2) for method in methods)]
    return Table(columns=columns, rows=rows, notes=notes, stacked=True)


def summary_table(performance: pd.DataFrame, comparisons: pd.DataFrame) -> Table:
    """A short table for a note and the terminal: the main figures, and the test of the first method against each."""
    tests = comparisons[comparisons["reference"] == performance["method"].iloc[0]].set_index("method")
    rows = []
    for place, row in enumerate(performance.to_dict("records")):
        against = "-"
        if row["method"] in tests.index:
            test = tests.loc[row["method"]]
            known = np.isfinite(test["p_holm"])
            against = f"{test['difference']:+.2f}, {p_text(float(test['p_holm']))}" if known else str(test["note"])
        cells = [row["patients"], *(_interval(row, name) for name in SUMMARY), against]
        rows.append(Row(cells=[Cell(row["method"], strong=place == 0), *cells]))
    columns = [METHOD, PATIENTS, *map(PERFORMANCE.__getitem__, SUMMARY), Column(title="first against it (Holm)")]
    return Table(columns=columns, rows=rows)


def plain_table(table: pd.DataFrame, *, folded: str = "") -> Table:
    """A data frame as a table; numbers have four significant digits."""
    numbers = [pd.api.types.is_numeric_dtype(table[name]) for name in table]
    columns = [Column(title=str(name), decimals=0 if number else None) for name, number in zip(table, numbers)]
    rows = [Row(cells=[_plain(value) for value in row]) for row in table.astype(object).itertuples(index=False)]
    return Table(columns=columns, rows=rows, style="plain", folded=folded)


def _interval(row: dict[str, float], name: str, *small: str) -> Cell:
    return PERFORMANCE[name].interval(row[name], row[f"{name}_low"], row[f"{name}_high"], *small)


def _patients(row: dict[str, float]) -> Cell:
    return Cell(row["patients"], (plural(int(row["events"]), "event"),))


def _row(name: str, cells: Sequence[Cell | str | float | None], *, shaded: bool = False) -> Row:
    return Row(cells=[name, *cells], kind="baseline" if shaded else "")


def _plain(value: object) -> str | None:
    if pd.isna(value):
        return None
    return f"{value:.4g}" if isinstance(value, float) else str(value)
