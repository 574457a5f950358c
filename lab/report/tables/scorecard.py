"""Does the synthetic image enhance where the patient does? Pooled figures of every trial and rival, side by side."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd

from lab.evaluation.figures import DEFINITIONS, POOLED
from lab.evaluation.pooled import pooled
from lab.report.tables.card import CEILING, SHORT, Block, blocks, meanings, notes
from lab.report.tables.console import WIDTH
from lab.report.tables.patient_table import is_rival, plain_markdown, summarise

NARROWEST = 14
"""Characters that labels keep in a terminal."""
COLUMNS = ["trial", "label", "rival", "definition", "figure", "value", "low", "high", "n"]


def scorecard(
    patients: pd.DataFrame, *, ceiling: pd.DataFrame | None = None, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """The pooled figures of every trial and rival, one row a figure: the columns `COLUMNS`.

    `patients` is the long per-patient table; definition is "rule", "expert" or "" (figures that need no definition of
    truth, among them the checkerboard index of the true scans, "checkerboard_true"); low and high are the 95 %
    interval over patients. Rows follow the paper's table: trials grouped by loss, rivals last. `ceiling` is the
    per-patient table of the true scans judged as syntheses; they get a row against the expert's label, since even they
    do not reach it.
    """
    order = summarise(patients)
    parts = []
    for row in order.itertuples():
        own = patients[patients["trial"] == row.trial]
        figures = pooled(own, resamples=resamples, seed=seed)
        if "checkerboard_true" in own:
            truth = own["checkerboard_true"].dropna()
            level = {"definition": "", "figure": "checkerboard_true", "value": truth.mean(), "n": len(truth)}
            figures = pd.concat([figures, pd.DataFrame([level | {"low": np.nan, "high": np.nan}])], ignore_index=True)
        levels = [
            {"definition": definition, "figure": "dice_painted", "value": painted, "n": len(own)}
            for definition in DEFINITIONS
            if (painted := dice_painted(own, definition)) == painted
        ]
        figures = pd.concat([figures, pd.DataFrame(levels)], ignore_index=True) if levels else figures
        parts.append(figures.assign(trial=row.trial, label=row.label, rival=is_rival(row.trial)))
    if ceiling is not None and len(ceiling):
        figures = pooled(ceiling, resamples=resamples, seed=seed)
        figures = figures[figures["definition"] == "expert"]
        parts.append(figures.assign(trial=CEILING, label=CEILING, rival=True))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def dice_painted(patients: pd.DataFrame, definition: str) -> float:
    """The pooled Dice of an image that enhances everywhere in and near every tumour; NaN where it is not known."""
    if not {"ml_near", f"ml_{definition}"} <= set(patients):
        return float("nan")
    known = patients.dropna(subset=[f"ml_{definition}"])
    true, near = float(known[f"ml_{definition}"].sum()), float(known["ml_near"].sum())
    return 2 * true / (near + true) if near + true > 0 else float("nan")


def scorecard_html(card: pd.DataFrame, *, phantom: bool, floor: float | None = None, threshold: float = 0.3) -> str:
    """The card as an HTML fragment: a table for each block with its notes, then what the columns mean."""
    found = blocks(card, threshold=threshold)
    if not found:
        return "<p>Enhancement was not scored.</p>"
    parts = []
    for block in found:
        texts = "".join(f"<li>{escape(note)}</li>" for note in notes(block, card, mark="bold", floor=floor))
        parts.append(f'{_html_table(block, phantom)}<ul class="notes">{texts}</ul>')
    told = "".join(
        f"<li><b>{escape(title)}</b>: {escape(text)}</li>" for title, text in meanings(found).items() if text
    )
    return f'{"".join(parts)}<h3>What the columns mean</h3><ul class="notes meanings">{told}</ul>'


def scorecard_markdown(card: pd.DataFrame, *, phantom: bool, threshold: float = 0.3) -> str:
    """The card as Markdown, best figure of each column in bold."""
    found = blocks(card, threshold=threshold)
    lines = ["**Enhancement scorecard" + (", phantom (simulated patients)**" if phantom else "**"), ""]
    for block in found:
        lines += [f"*{plain_markdown(block.heading)}*", ""]
        lines.append("| | " + " | ".join(POOLED[figure].title for figure in block.figures) + " |")
        lines.append("|---|" + "---|" * len(block.figures))
        lines.append("| patients | " + " | ".join(f"n = {block.count(figure)}" for figure in block.figures) + " |")
        winners = {figure: block.best(figure) for figure in block.figures}
        for row in block.rows.itertuples():
            cells = []
            for figure in block.figures:
                value, interval = block.cell(row.trial, figure)
                value = f"**{value}**" if row.trial in winners[figure] else value
                cells.append(f"{value} ({interval})" if interval else value)
            lines.append(f"| {plain_markdown(str(row.label))} | " + " | ".join(cells) + " |")
        lines += ["", *(f"- {plain_markdown(note)}" for note in notes(block, card, mark="bold")), ""]
    lines += [f"- {plain_markdown(title)}: {plain_markdown(text)}" for title, text in meanings(found).items() if text]
    return "\n".join([*lines, ""])


def scorecard_text(card: pd.DataFrame, *, phantom: bool = False, threshold: float = 0.3) -> str:
    """The card for a terminal of 120 columns: each figure, marked where it is the column's best, over its interval."""
    found = blocks(card, threshold=threshold)
    lines = ["enhancement scorecard" + (", phantom (simulated patients)" if phantom else "")]
    for block in found:
        lines += ["", *_text_table(block)]
        for note in notes(block, card, mark="*"):
            lines += textwrap.wrap(note, WIDTH)
    return "\n".join(lines)


def _html_table(block: Block, phantom: bool) -> str:
    heads = "".join(
        f'<th scope="col">{escape(POOLED[figure].title)}<br><small>n&nbsp;=&nbsp;{block.count(figure)}</small></th>'
        for figure in block.figures
    )
    winners = {figure: block.best(figure) for figure in block.figures}
    body, previous = [], None
    for row in block.rows.itertuples():
        classes = (["rival"] if row.rival else []) + (["first"] if row.rival != previous else [])
        previous = row.rival
        cells = []
        for figure in block.figures:
            value, interval = block.cell(row.trial, figure)
            small = f"<br><small>{interval.replace(' ', '&nbsp;')}</small>" if interval else ""
            cells.append(f"<td{' class=best' if row.trial in winners[figure] else ''}>{value}{small}</td>")
        body.append(
            f'<tr class="{" ".join(classes)}"><th scope="row">{escape(str(row.label))}</th>{"".join(cells)}</tr>'
        )
    caption = escape(block.heading + (" (phantom: simulated patients)" if phantom else ""))
    return (
        f'<div class="scroll"><table class="card"><caption><span>{caption}</span></caption>'
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _text_table(block: Block) -> list[str]:
    """The block as aligned lines, in several tables below each other where one would be wider than the terminal."""
    columns = [_text_column(block, figure) for figure in block.figures]
    lines, start = textwrap.wrap(block.heading, WIDTH), 0
    while start < len(columns):
        end = start + 1
        while end < len(columns) and sum(column.width for column in columns[start : end + 1]) <= WIDTH - NARROWEST:
            end += 1
        lines += _text_part(block, columns[start:end])
        start = end
    return lines


@dataclass(frozen=True)
class _TextColumn:
    head: list[str]
    cells: list[tuple[str, str]]
    """Of each row: value with its mark, interval."""
    width: int


def _text_column(block: Block, figure: str) -> _TextColumn:
    best = block.best(figure)
    cells = []
    for trial in block.rows["trial"]:
        value, interval = block.cell(trial, figure)
        cells.append((value + ("*" if trial in best else " "), interval.replace(" to ", ",") + " "))
    head = [f"{word} " for word in textwrap.wrap(SHORT.get(figure, POOLED[figure].title), 9)]
    head.append(f"n={block.count(figure)} ")
    longest = max(len(text) for text in [*head, *(text for cell in cells for text in cell)])
    return _TextColumn(head, cells, longest + 1)


def _text_part(block: Block, columns: list[_TextColumn]) -> list[str]:
    """One table; labels that are too long go on in the row's second line."""
    taken = sum(column.width for column in columns)
    room = min(WIDTH - taken, max(22, *(len(str(label)) for label in block.rows["label"])))
    tallest = max(len(column.head) for column in columns)
    rule = "-" * (room + taken)
    lines = [rule]
    for line in range(-tallest, 0):
        heads = [column.head[line] if -line <= len(column.head) else "" for column in columns]
        lines.append(_joined("", heads, columns, room))
    previous = None
    for position, row in enumerate(block.rows.itertuples()):
        if row.rival != previous:
            lines.append(rule)
        previous = row.rival
        name = [*textwrap.wrap(str(row.label), room, max_lines=2, placeholder="…"), ""]
        for line in (0, 1):
            lines.append(_joined(name[line], [column.cells[position][line] for column in columns], columns, room))
    return [*lines, rule]


def _joined(label: str, texts: list[str], columns: list[_TextColumn], room: int) -> str:
    cells = (f"{text:>{column.width}}" for text, column in zip(texts, columns))
    return (f"{label:<{room}}" + "".join(cells)).rstrip()
