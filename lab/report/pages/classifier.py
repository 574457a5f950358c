"""The classifier arm on one self-contained HTML page: what was asked, what was found, and all that it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd
from matplotlib.figure import Figure

from lab.radiomics.assess.assess import Assessment
from lab.report.figures.classifier.all_figures import CAPTIONS
from lab.report.figures.style import DPI
from lab.report.pages.study import document, figure_html, inches_wide, pairs_html
from lab.report.tables.performance import accuracy_html, comparisons_html, performance_html, subgroups_html
from lab.report.text.checklists import as_html

WIDE = 7.2
"""Inches from which a figure has a line of its own."""
FOLDED = 12
"""Rows from which a table folds away."""
STYLE = """
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 540px), 1fr)); gap: 0 1.6rem; }
.gallery > div { min-width: 0; } .gallery .wide { grid-column: 1 / -1; }
table.checklist td.text { white-space: normal; text-align: left; min-width: 9rem; max-width: 34rem; }
table.checklist td:first-child { color: var(--faint); }
table.checklist td.text:nth-child(3) { min-width: 3.2rem; }
table.checklist tr.open td { color: var(--faint); } table.checklist tr.no td:nth-child(3) { font-weight: 700; }
table.checklist tbody td.text:first-child { position: static; }
table.card tbody th { vertical-align: top; line-height: 1.3; }
table.plain td.text { white-space: normal; text-align: left; min-width: 7rem; max-width: 40rem; }
summary { line-height: 1.4; max-width: 104ch; }
@media (max-width: 700px) { figure img { width: 620px; } }
"""


def classifier_page(
    *,
    title: str,
    question: str,
    phantom: bool,
    findings: Sequence[str],
    run: Mapping[str, object],
    assessment: Assessment,
    figures: Mapping[str, Figure | bytes],
    chosen: pd.DataFrame | None = None,
    left_out: Mapping[str, str] | None = None,
    checklists: Mapping[str, pd.DataFrame] | None = None,
    settings: Mapping[str, object] | None = None,
    software: Mapping[str, object] | None = None,
    alpha: float = 0.05,
) -> str:
    """The page as HTML text; all images are embedded and every text is escaped.

    `run`, `settings` and `software` are shown as lists of name and value. `figures` are by their names in
    `lab.report.figures.classifier.all_figures.CAPTIONS` (another name is its own caption), also as stored PNG bytes at
    150 dots an inch. `chosen` has a row a split, `left_out` maps a case to its reason, `checklists` a list's name to
    its filled table. Sections without content are left out.
    """
    judged = len(assessment.judged)
    shown = [name for name in CAPTIONS if name in figures] + [name for name in figures if name not in CAPTIONS]
    sections = {
        "Question": f'<p class="question">{escape(question)}</p>',
        "Findings": f"<ul>{''.join(f'<li>{escape(point)}</li>' for point in findings)}</ul>",
        "What was run": pairs_html(run),
        "Performance": performance_html(assessment.performance, judged=judged),
        "At the threshold": accuracy_html(assessment.accuracy, judged=judged),
        "Comparisons": comparisons_html(assessment.comparisons, alpha=alpha),
        "Figures": _gallery({CAPTIONS.get(name, name): figures[name] for name in shown}),
        "Subgroups": subgroups_html(assessment.subgroups),
        "Chosen settings": "" if chosen is None or chosen.empty else _folding(chosen, "splits"),
        "Left out": _left_out(left_out),
        "Checklists": "".join(as_html(name, table) for name, table in (checklists or {}).items()),
        "Settings": pairs_html(settings) if settings else "",
        "Software": pairs_html(software) if software else "",
    }
    return document(title, sections, phantom=phantom, style=STYLE)


def _gallery(figures: Mapping[str, Figure | bytes]) -> str:
    """Figures two abreast where there is room; a wide one has a line of its own."""
    parts = []
    for caption, picture in figures.items():
        wide = "wide" if inches_wide(picture, dpi=DPI) > WIDE else "narrow"
        parts.append(f'<div class="{wide}">{figure_html(caption, picture, dpi=DPI)}</div>')
    return f'<div class="gallery">{"".join(parts)}</div>' if parts else ""


def _left_out(left_out: Mapping[str, str] | None) -> str:
    if left_out is None:
        return ""
    if not left_out:
        return "<p>Nobody.</p>"
    return _folding(pd.DataFrame(sorted(left_out.items()), columns=["case", "reason"]), "cases")


def _folding(table: pd.DataFrame, what: str) -> str:
    """A table, behind a line to click on where it is long."""
    heads = "".join(
        f'<th scope="col"{"" if pd.api.types.is_numeric_dtype(table[name]) else " class=text"}>{escape(str(name))}</th>'
        for name in table
    )
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.itertuples(index=False))
    html = (
        f'<div class="scroll"><table class="plain"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )
    return html if len(table) < FOLDED else f"<details><summary>{len(table)} {what}</summary>{html}</details>"


def _cell(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return "<td>-</td>"
    if isinstance(value, str):
        return f'<td class="text">{escape(value)}</td>'
    return f"<td>{value:.4g}</td>" if isinstance(value, float) else f"<td>{escape(str(value))}</td>"
