"""A study in a minute: the note on its parent run, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import pandas as pd

from lab.evaluation.figures import POOLED
from lab.report.tables.patient_table import PaperTable, cell, plain_markdown

SHOWN = ("mae_brain", "mae_tumour", "ssim_brain")
SCORES = {"dice_pooled": "Dice", "auc": "AUC", "hallucinated_ml": "hallucinated ml"}


def study_note(
    question: str,
    findings: Sequence[str],
    table: PaperTable,
    *,
    validation: Mapping[Hashable, float],
    best: Hashable | None,
    phantom: bool,
    card: pd.DataFrame | None = None,
) -> str:
    """Answer, question, findings and a short table.

    The answer comes first, since MLflow folds a note after four lines. `validation` maps values of the column `trial`
    to the brain MAE on validation patients, by which the rows are ranked, rivals last; `best` is in bold. With a `card`
    (`lab.report.tables.scorecard.scorecard`) the table has Dice, AUC and hallucinated ml too, against the expert label
    where there is one, else against the paper's rule.
    """
    rows = table.rows.assign(validation=table.rows["trial"].map(validation))
    rows = rows.sort_values(["rival", "validation"], kind="stable")
    name = "**Phantom: simulated patients, no evidence about real ones.** " if phantom else ""
    lines = [f"{name}{plain_markdown(findings[0])}", "", f"*{plain_markdown(question)}*", ""]
    definition, scores = _enhancement(card)
    heads = ["", "val MAE brain", "test MAE brain", "test MAE tumour", "test SSIM brain"]
    heads += [f"{name} ({definition})" for name in SCORES.values() if scores]
    lines += [spaced_row(heads), "|---" * len(heads) + "|"]
    for _, row in rows.iterrows():
        mark = "**" if row["trial"] == best else ""
        value = f"{row['validation']:.4f}" if row["validation"] == row["validation"] else "-"
        cells = [value, *(cell(row[f"{column}_mean"], row[f"{column}_sd"], column) for column in SHOWN)]
        cells += [POOLED[figure].text(scores.get((row["trial"], figure), math.nan)) for figure in SCORES if scores]
        lines.append(spaced_row([f"{mark}{plain_markdown(row['label'])}{mark}", *cells]))
    lines += ["", "", *(f"- {plain_markdown(point)}" for point in findings[1:])]
    lines += [f"- {table.comparison.sentence}"]
    lines += ["", "Under Artifacts: `report.html` (all of it on one page), `figures`, `tables`."]
    return "\n".join(lines)


def _enhancement(card: pd.DataFrame | None) -> tuple[str, dict[tuple[Hashable, str], float]]:
    """The definition of truth that is shown, and the pooled figures against it by trial and figure."""
    for definition in ("expert", "rule"):
        part = card[card["definition"] == definition] if card is not None else pd.DataFrame()
        if len(part) and part["value"].notna().any():
            return definition, {(row.trial, row.figure): float(row.value) for row in part.itertuples()}
    return "", {}


def spaced_row(cells: Sequence[str]) -> str:
    """Cells with room to their right, since MLflow shows tables without any."""
    return "| " + " | ".join(f"{cell} &emsp;" for cell in cells) + " |"
