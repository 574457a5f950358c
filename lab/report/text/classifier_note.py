"""The classifier in a minute: the note on its MLflow run, as Markdown, with the ROC picture on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab.radiomics.assess.assess import Assessment
from lab.report.tables.patient_table import plain_markdown
from lab.report.tables.performance import performance_markdown


def classifier_note(
    question: str,
    findings: Sequence[str],
    assessment: Assessment,
    *,
    phantom: bool,
    picture: str = "",
    links: Mapping[str, str] | None = None,
) -> str:
    """Answer, question, ROC, a short table and the other findings.

    The answer comes first, since MLflow folds a note after four lines. `picture` is the address of the ROC figure,
    `links` maps words to addresses.
    """
    name = "**Phantom: simulated patients, no evidence about real ones.** " if phantom else ""
    lines = [f"{name}{plain_markdown(findings[0])}", ""]
    lines += [f"![ROC]({picture})", ""] if picture else []
    lines += [f"*{plain_markdown(question)}*", ""]
    lines += [performance_markdown(assessment.performance, assessment.comparisons), "", ""]
    lines += [f"- {plain_markdown(point)}" for point in findings[1:]]
    if links:
        lines += ["", " · ".join(f"[{words}]({address})" for words, address in links.items())]
    lines += ["", "Under Artifacts: `report.html` (all of it on one page), `figures`, `tables`, `checklists`."]
    return "\n".join(lines)
