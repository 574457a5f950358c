"""Section of a classifier's page: its tests on external cohorts, beside the cross-validation on its own patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from lab.io.files import plural
from lab.radiomics.assess.assess import Assessment
from lab.radiomics.assess.external import ExternalTest
from lab.report.figures.style import DPI
from lab.report.pages.html import Item, Pictures, Text
from lab.report.tables.performance import accuracy_table, performance_table, plain_table
from lab.report.tables.table import Cell, Column, Row, Table

CAPTIONS = {
    "roc": "ROC with its band. The cross is the operating point at the threshold that training has chosen.",
    "calibration": "Calibration: predicted probabilities against what was observed.",
    "decision": "Decision curve: what acting on the probability would gain, against treating all or none.",
}
"""Name of a figure of `classifier_figures` -> caption, for the figures of an external test."""
HOW = (
    "The classifier that was fitted on all patients of the training cohort predicted every patient below once. "
    "Features, settings, calibration, threshold and ComBat come from training alone."
)
NOTES = (
    "Out of distribution: farther from the training cohort, by the Mahalanobis distance over the classifier's "
    "features, than 97.5 % of its own patients. Of patients like those in training, 2 or 3 in 100 are.",
    "At another prevalence than in training the probabilities are off, which calibration in the large shows; AUC, "
    "sensitivity and specificity do not depend on it.",
    "Nobody is in both cohorts: left out are patients with an id or a scan of the training cohort",
)
NOT_COMPARED = " (of {names} without a look at the heads, as the grid is another or there are no scans)"
PERFORMANCE_NOTE = "Columns and intervals as under Performance; with one prediction there is no mean over splits."
THRESHOLD_NOTE = "One threshold, chosen in training; that of the held-out patients is of their own splits."


def external_items(
    tests: Sequence[ExternalTest], figures: Mapping[str, Mapping[str, Figure]], assessment: Assessment
) -> list[Item]:
    """Cohorts, performance, figures at the threshold and pictures; `figures` by slug and name. Empty without a test.

    The first row of each table is the cross-validation of `assessment`.
    """
    if not tests:
        return []
    held_out = f"{assessment.main}, held-out patients of training"
    own = [table[table["method"] == assessment.main] for table in (assessment.performance, assessment.accuracy)]
    performance, accuracy = (table.assign(method=held_out) for table in own)
    performance = pd.concat([performance, *(one.assessment.performance for one in tests)], ignore_index=True)
    accuracy = pd.concat([accuracy, *(one.assessment.accuracy for one in tests)], ignore_index=True)
    items: list[Item] = [
        Text(HOW),
        cohorts_table(tests),
        replace(performance_table(performance, judged=len(performance)), notes=[PERFORMANCE_NOTE]),
        replace(accuracy_table(accuracy, judged=[one.name for one in tests]), notes=[THRESHOLD_NOTE]),
    ]
    for one in tests:
        drawn = figures.get(one.slug, {})
        pictures = {f"{one.name}. {CAPTIONS[name]}": figure for name, figure in drawn.items() if name in CAPTIONS}
        items += [Pictures(pictures, gallery=True, dpi=DPI)] if pictures else []
        if one.left_out:
            table = pd.DataFrame(sorted(one.left_out.items()), columns=["case", "reason"])
            items.append(plain_table(table, folded=f"{one.name}: {plural(len(table), 'case')} left out"))
    return items


def cohorts_table(tests: Sequence[ExternalTest]) -> Table:
    """Patients, prevalence, patients left out and out of distribution, a row per cohort, the training cohort first."""
    first = tests[0]
    share = Column(title=first.event, unit="%", decimals=0, percent=True)
    columns = [
        Column(title=""),
        Column(title="patients", decimals=0),
        share,
        Column(title="cases left out", decimals=0),
        Column(title="of them in training", decimals=0),
        Column(title="out of distribution", decimals=0),
    ]
    events = Cell(first.training_prevalence, (plural(first.training_events, "patient"),))
    rows = [Row(cells=[f"{first.training} (training)", first.training_patients, events, None, None, None])]
    for one in tests:
        prevalence = Cell(one.prevalence, (plural(one.events, "patient"),))
        far = Cell(one.far, (f"{100 * one.far / one.patients:.0f} %",))
        rows.append(Row(cells=[one.name, one.patients, prevalence, len(one.left_out), len(one.shared), far]))
    names = [one.name for one in tests if not one.heads_compared]
    both = NOTES[2] + (NOT_COMPARED.format(names=", ".join(names)) if names else ", or whose scans show the same head")
    return Table(columns=columns, rows=rows, notes=[*NOTES[:2], f"{both}."], stacked=True)
