"""How the enhancement scorecard is laid out: one block for each definition of truth, one for what needs none."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lab.evaluation.figures import DEFINITIONS, POOLED, definition_words
from lab.report.tables.patient_table import plural

ENHANCEMENT = (
    "auc", "kappa", "dice_pooled", "sensitivity_pooled", "precision_pooled", "concordance", "bias_ml", "lesions_found",
    "lesions_false", "hallucinated_ml", "contrast",
)  # fmt: skip
OTHER = ("contrast_concordance", "mae_balanced", "midline_ml_false", "checkerboard", "sharpness")

CEILING = "true scan"
"""Row of the true scan itself, judged by the rule as a synthesis is: what a perfect one would score."""

SHORT = {
    "sensitivity_pooled": "sensit.", "precision_pooled": "precis.", "concordance": "concord.",
    "hallucinated_ml": "halluc. ml", "checkerboard": "checkers", "contrast_concordance": "contrast concord.",
}  # fmt: skip
"""Heads of columns for a terminal, where the title is too long."""


@dataclass(frozen=True)
class Figure:
    """One pooled figure with its 95 % interval and the number of patients behind it."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Block:
    """A table of the scorecard: a row for each trial and rival, a column for each figure."""

    heading: str
    definition: str
    """"rule", "expert", or "" for figures that need no definition of truth."""
    figures: tuple[str, ...]
    rows: pd.DataFrame
    """Columns trial, label, rival; in the order of the card."""
    cells: dict[tuple[Hashable, str], Figure]

    def cell(self, trial: Hashable, figure: str) -> tuple[str, str]:
        """The figure and its interval as text: ("0.71", "0.52 to 0.86"); empty where there is none."""
        name, found = POOLED[figure], self.cells.get((trial, figure))
        if found is None:
            return "-", ""
        known = np.isfinite(found.low) and np.isfinite(found.high)
        return name.text(found.value), f"{name.text(found.low)} to {name.text(found.high)}" if known else ""

    def best(self, figure: str) -> set[Hashable]:
        """Trials whose figure is the best to the digits shown; none where all rows are the same."""
        name = POOLED[figure]
        digits = name.decimals + (2 if name.percent else 0)
        known = {
            trial: name.loss(round(self.cells[trial, figure].value, digits))
            for trial in self.rows["trial"]
            if trial != CEILING and (trial, figure) in self.cells and np.isfinite(self.cells[trial, figure].value)
        }
        losses = set(known.values())
        return {trial for trial, loss in known.items() if loss == min(losses)} if len(losses) > 1 else set()

    def count(self, figure: str) -> str:
        """The number of patients behind a column, as "30", or "12-15" where rows differ; "" where there is none."""
        counts = {found.n for (_, column), found in self.cells.items() if column == figure}
        if not counts:
            return ""
        return str(min(counts)) if len(counts) == 1 else f"{min(counts)}-{max(counts)}"


def blocks(card: pd.DataFrame, *, threshold: float = 0.3) -> list[Block]:
    """The card's tables: one for each definition of truth that has data, then the figures that need none."""
    found = []
    for definition in (*DEFINITIONS, ""):
        part = card[card["definition"] == definition]
        wanted = ENHANCEMENT if definition else OTHER
        figures = tuple(name for name in wanted if part.loc[part["figure"] == name, "value"].notna().any())
        if not figures:
            continue
        heading = (
            f"Truth: {definition_words(definition, threshold=threshold)}"
            if definition
            else "The contrast, the midline, and how the images look"
        )
        cells = {
            (row.trial, row.figure): Figure(float(row.value), float(row.low), float(row.high), int(row.n))
            for row in part.itertuples()
        }
        rows = part[["trial", "label", "rival"]].drop_duplicates("trial").reset_index(drop=True)
        found.append(Block(heading, definition, figures, rows, cells))
    return found


def own_pattern(card: pd.DataFrame) -> float:
    """The checkerboard index of the true scans themselves; NaN where it was not measured."""
    found = card.loc[card["figure"] == "checkerboard_true", "value"].dropna()
    return float(found.iloc[0]) if len(found) else float("nan")


def notes(block: Block, card: pd.DataFrame, *, mark: str, floor: float | None = None) -> list[str]:
    """The sentences under a block: how to read a cell, who was counted, and what bounds the figures."""
    lines = [
        f"95 % interval (bootstrap over patients) with each figure; {mark}: best of its "
        "column; whether it differs from others is for the paired tests to say."
    ]
    if block.definition:
        lines.append(_who(block))
        if {"hallucinated_ml", "lesions_false"} & set(block.figures):
            lines.append("An image that shows no enhancement hallucinates none: read these columns beside sensitivity.")
        painted = card.loc[(card["figure"] == "dice_painted") & (card["definition"] == block.definition), "value"]
        if len(painted):
            lines.append(
                f"Painting all of every tumour and its surroundings bright would have a Dice of {painted.max():.2f}."
            )
        if CEILING in set(block.rows["trial"]):
            lines.append("True scan: T1GD itself, judged by the rule as a synthesis is; what a perfect synthesis has.")
        return lines
    own = own_pattern(card)
    if own == own:
        text = POOLED["checkerboard_true"].text(own)
        lines.append(f"The true scans themselves have a checkerboard index of {text}; a model's is read against that.")
    if floor is not None:
        lines.append(
            f"No model can have an MAE below {floor:.3f} over brain tissue: the noise of T1GD, mean over patients."
        )
    return lines


def meanings(found: list[Block]) -> dict[str, str]:
    """What every column of these blocks means, by its title."""
    shown = dict.fromkeys(figure for block in found for figure in block.figures)
    told = {POOLED[figure].title: (POOLED[figure].meaning, POOLED[figure].hint) for figure in shown}
    return {title: "; ".join(part for part in parts if part) for title, parts in told.items()}


def _who(block: Block) -> str:
    counts = {figure: block.count(figure) for figure in block.figures}
    everyone, silent, enhancing = (counts.get(name, "") for name in ("bias_ml", "hallucinated_ml", "contrast"))
    words = [f"n = {plural(int(everyone), 'patient')}" if everyone.isdigit() else f"n = {everyone} patients"]
    if silent:
        words.append(f"hallucinated ml: the {silent} who do not enhance")
    if enhancing:
        words.append(f"contrast shown: the {enhancing} who enhance")
    return "; ".join(words) + "."
