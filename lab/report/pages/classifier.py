"""Page of the classifier arm: question, findings, tables, figures and settings in one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from lab.radiomics.assess.assess import Assessment
from lab.radiomics.assess.external import ExternalTest
from lab.report.figures.classifier.all_figures import CAPTIONS
from lab.report.figures.style import DPI
from lab.report.pages.external import external_items
from lab.report.pages.html import Item, Page, Pairs, Pictures, Points, Text, page_html
from lab.report.tables.performance import (
    accuracy_table,
    delong_tables,
    performance_table,
    plain_table,
    subgroup_table,
)
from lab.report.text.checklists import checklist_items

FOLDED = 12
"""Number of rows from which a table is folded."""
AVERAGE = (
    "The classifier of each split averages the calibrated logits of its {} best settings. The table has the best one, "
    "tables/settings.csv all; inner_auc and threshold are those of the average."
)


@dataclass(frozen=True, kw_only=True)
class ClassifierRecord:
    """The content of a classifier experiment's page."""

    title: str
    question: str
    phantom: bool
    findings: Sequence[str]
    assessment: Assessment
    figures: Mapping[str, Figure | bytes]
    """By their names in `CAPTIONS` (another name is its own caption), also as stored PNG bytes."""
    run: Mapping[str, object]
    settings: Mapping[str, object] = field(default_factory=dict)
    software: Mapping[str, object] = field(default_factory=dict)
    chosen: pd.DataFrame | None = None
    """Settings that the search chose, a row per split: the best ones where several are averaged."""
    averaged: int = 1
    """How many settings our classifier averages in each split."""
    left_out: Mapping[str, str] | None = None
    """Case -> reason."""
    checklists: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Filled checklists by name."""
    external: Sequence[ExternalTest] = ()
    external_figures: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)
    """Figures of the external tests by slug and name."""


def classifier_page(record: ClassifierRecord) -> str:
    """The page as HTML text; sections without content are left out."""
    found, judged = record.assessment, len(record.assessment.judged)
    shown = sorted(record.figures, key=lambda name: [*CAPTIONS, name].index(name))
    pictures = {CAPTIONS.get(name, name): record.figures[name] for name in shown}
    nothing = {
        "accuracy": Text("No method has a threshold."),
        "comparisons": Text("There is no second method to compare with."),
        "subgroups": Text("Neither vendor nor field strength nor grade is known."),
    }
    chosen, left_out = record.chosen, record.left_out
    average = [Text(AVERAGE.format(record.averaged))] if record.averaged > 1 else []
    checklists = [item for name, table in record.checklists.items() for item in checklist_items(name, table)]
    sections: dict[str, Sequence[Item]] = {
        "Question": [Text(record.question, "question")],
        "Findings": [Points(record.findings)],
        "What was run": [Pairs(record.run)],
        "Performance": [performance_table(found.performance, judged=judged)],
        "At the threshold": [
            nothing["accuracy"] if found.accuracy.empty else accuracy_table(found.accuracy, judged=found.judged)
        ],
        "Comparisons": delong_tables(found.comparisons) or [nothing["comparisons"]],
        "External test": external_items(record.external, record.external_figures, found),
        "Figures": [Pictures(pictures, gallery=True, dpi=DPI)] if pictures else [],
        "Subgroups": [nothing["subgroups"] if found.subgroups.empty else subgroup_table(found.subgroups)],
        "Chosen settings": [] if chosen is None or chosen.empty else [*average, _folding(chosen, "splits")],
        "Left out": [] if left_out is None else [_left_out(left_out)],
        "Checklists": checklists,
        "Settings": [Pairs(record.settings)] if record.settings else [],
        "Software": [Pairs(record.software)] if record.software else [],
    }
    return page_html(Page(title=record.title, phantom=record.phantom, sections=sections))


def _left_out(left_out: Mapping[str, str]) -> Item:
    if not left_out:
        return Text("Nobody.")
    return _folding(pd.DataFrame(sorted(left_out.items()), columns=["case", "reason"]), "cases")


def _folding(table: pd.DataFrame, what: str) -> Item:
    """A table, folded where it is long."""
    return plain_table(table, folded=f"{len(table)} {what}" if len(table) >= FOLDED else "")
