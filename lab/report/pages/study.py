"""Page of a study in one self-contained HTML file: question, findings, tables, figures, tests, cost, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from lab.io.files import plural
from lab.report.pages.html import Item, Page, Pairs, Pictures, Points, Text, page_html
from lab.report.tables.comparisons import methods, paired_test_tables
from lab.report.tables.patient_table import model_name
from lab.report.tables.performance import plain_table
from lab.report.tables.scorecard import meanings, scorecard_tables
from lab.report.tables.spread import spread_summary
from lab.report.tables.table import Column, Row, Table

COST_COLUMNS = {
    "parameters": "parameters",
    "train_seconds": "training (s)",
    "seconds_per_volume": "a volume (s)",
    "peak_memory_mb": "peak memory (MB)",
    "epochs": "epochs",
    "best_epoch": "best epoch",
    "state": "ended",
}


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """The content of a study's page; a part that is empty or None is left out or reported as missing."""

    study: str
    question: str
    phantom: bool
    findings: Sequence[str]
    cohort: Mapping[str, object]
    settings: Mapping[str, object]
    scores: Table
    """The table in the paper's shape."""
    patches: Sequence[Table] = ()
    card: pd.DataFrame | None = None
    """Result of `lab.report.tables.scorecard.scorecard`."""
    against: Table | None = None
    """Every trial beside the strongest baseline."""
    tests: pd.DataFrame | None = None
    """Result of `lab.report.tables.paired_tests.paired_tests` with references."""
    effects: pd.DataFrame | None = None
    """Result of `lab.stats.effects.effects`."""
    spread: pd.DataFrame | None = None
    """One row per trial, seed and fold."""
    trials: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Trial, label and those of `COST_COLUMNS` that are known."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Value of the column `trial`, as text -> label."""
    slices: Mapping[str, bytes] = field(default_factory=dict)
    """Caption -> PNG of a patient."""
    figures: Mapping[str, Figure | bytes] = field(default_factory=dict)
    """Caption -> figure, in reading order."""
    floor: float | None = None
    """The noise floor of the MAE."""
    search: pd.DataFrame = field(default_factory=pd.DataFrame)
    """The trials of the guided search."""
    importances: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Each setting of the search and its share of the variation between trials (fANOVA)."""
    threshold: float = 0.3
    """Threshold of enhancement, in normalised units."""


def study_page(report: StudyReport) -> str:
    """The page as HTML text; all images are embedded."""
    no_spread = report.spread is None or report.spread.empty
    sections: dict[str, list[Item]] = {
        "Question": [Text(report.question, "question")],
        "Findings": [Points(report.findings)],
        "What was run": [Pairs(report.cohort)],
        "Scores": [report.scores],
        "Enhancement": _enhancement(report),
        "Patches": list(report.patches),
        "Figures": _figures(report),
        "Paired tests and effect sizes": _tests(report),
        "Spread over seeds and folds": [] if no_spread else [spread_summary(report.spread, phantom=report.phantom)],
        "Guided search": _search(report.search, report.importances),
        "Cost": [_cost(report.trials)],
        "Settings": [Pairs(report.settings)],
    }
    return page_html(Page(title=f"Study {report.study}", phantom=report.phantom, sections=sections))


def _enhancement(report: StudyReport) -> list[Item]:
    if report.card is None:
        return []
    tables = scorecard_tables(report.card, phantom=report.phantom, floor=report.floor, threshold=report.threshold)
    if not tables:
        return [Text("Enhancement was not scored.")]
    tables += [] if report.against is None else [report.against]
    return [*tables, Points(meanings(report.card), "notes meanings", "What the columns mean")]


def _figures(report: StudyReport) -> list[Item]:
    """Slices of patients first, then figures of numbers, each group with a heading where there are both."""
    both = bool(report.slices and report.figures)
    groups = {"Slices": report.slices, "Numbers": report.figures}
    return [Pictures(pictures, name if both else "") for name, pictures in groups.items() if pictures]


def _tests(report: StudyReport) -> list[Item]:
    tables = paired_test_tables(report.tests, report.effects, report.names)
    if not tables:
        return [Text("No paired test was made.")]
    return [*map(Text, methods(report.effects)), *tables]


def _search(trials: pd.DataFrame, importances: pd.DataFrame) -> list[Item]:
    """The importance of every setting, and the trials, folded."""
    shares = [] if importances.empty else [plain_table(importances.rename(columns={"share": "importance (fANOVA)"}))]
    return [*shares, plain_table(trials, folded=plural(len(trials), "trial"))] if len(trials) else []


def _cost(trials: pd.DataFrame) -> Item:
    columns = {column: name for column, name in COST_COLUMNS.items() if column in trials}
    if trials.empty or not columns:
        return Text("No cost was recorded.")
    rows = [
        Row(cells=[str(trial["label"]), *(_quantity(column, trial[column]) for column in columns)])
        for trial in trials.to_dict("records")
    ]
    return Table(columns=[Column(title=""), *(Column(title=name, decimals=0) for name in columns.values())], rows=rows)


def _quantity(column: str, value: object) -> str | None:
    if value is None or value is pd.NA or value != value:
        return None
    if column == "parameters":
        return short_number(float(str(value)))
    if column == "seconds_per_volume":
        return f"{float(str(value)):.2g}"
    if column in ("train_seconds", "peak_memory_mb"):
        return f"{float(str(value)):,.0f}"
    return model_name(value)


def short_number(value: float) -> str:
    """A number as on an axis: 950, 1.5k, 20M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
