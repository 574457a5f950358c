"""A table for pages, notes, cards and terminals: its columns, its rows, and its output formats.

`Table.markdown`, `Table.text` and `Table.csv` write it here; `lab.report.pages.html` writes it as HTML. A cell is a
word, a number that its column rounds, or a `Cell` with small print (an interval, a count).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lab.evaluation.figure_spec import Direction, FigureSpec, best_of, number_text, title_with_unit

WIDTH = 120
"""Characters of a terminal line."""
LABEL = 40
"""Longest label of a row in a terminal, in characters."""


@dataclass(frozen=True)
class Cell:
    """A value with small print beside or below it."""

    value: str | float | None
    small: tuple[str, ...] = ()
    strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """Content of a column and the format of its numbers."""

    title: str
    unit: str = ""
    """In brackets behind the title: "ml", "%"."""
    decimals: int | None = None
    """None: text, aligned left."""
    direction: Direction = "none"
    percent: bool = False
    """Shown as a percentage: 0.25 as 25."""
    signed: bool = False
    """A plus before numbers above 0."""
    group: str = ""
    """Head above the column, shared with neighbours of the same group."""
    count: str = ""
    """Number of patients behind the column: "30", or "12-15" where rows differ."""
    short: str = ""
    """Title for a terminal, where the title is long."""

    @classmethod
    def of(cls, spec: FigureSpec, **changes: Any) -> Column:
        """The column of a figure."""
        known = {name: getattr(spec, name) for name in ("title", "unit", "decimals", "direction", "percent", "short")}
        return cls(**(known | changes))

    @property
    def head(self) -> str:
        """Title and unit."""
        return title_with_unit(self.title, self.unit)

    def show(self, value: object) -> str:
        """A value as text: "0.71", "-1.2", "25"; words unchanged; "-" for a missing value, never "-0.00"."""
        if value is None or value is pd.NA or value != value:
            return "-"
        if not isinstance(value, (int, float, np.number)) or self.decimals is None:
            return str(value)
        return number_text(float(value), self.decimals, percent=self.percent, signed=self.signed)

    def interval(self, value: float, low: float, high: float, *small: str, strong: bool = False) -> Cell:
        """A value with its interval, "0.52 to 0.86", in small print; more small print after it."""
        known = np.isfinite(low) and np.isfinite(high) and np.isfinite(value)
        span = (f"{self.show(low)} to {self.show(high)}",) if known else ()
        return Cell(value, (*span, *(text for text in small if text)), strong)

    def spread(self, mean: float, sd: float, *, strong: bool = False) -> Cell:
        """A mean with its standard deviation in small print."""
        return Cell(mean, (self.show(sd),) if np.isfinite(mean) else (), strong)

    def best(self, values: Sequence[float]) -> list[bool]:
        """Which values are the best to the digits shown; none where all are equal or no direction is better."""
        return best_of(values, self.direction, (self.decimals or 0) + (2 if self.percent else 0))


@dataclass(frozen=True, kw_only=True)
class Row:
    """The cells of a row, in the order of the columns; the first one names it."""

    cells: Sequence[Cell | str | float | None]
    kind: str = ""
    """Style on a page: "baseline" (shaded), "published" (faint), "first" (a line above); several with a space."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A complete table."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""
    notes: Sequence[str] = ()
    """Sentences below it; {best} in them is replaced by the mark of the best: "bold" or "*"."""
    stacked: bool = False
    """Small print stands below its value instead of in brackets behind it."""
    numbers: pd.DataFrame | None = None
    """Content of the CSV file, where it is more than the cells."""
    style: str = ""
    """Class of the page's style sheet."""
    folded: str = ""
    """On a page the table is folded behind this text."""

    def cell(self, row: Row, place: int) -> tuple[str, tuple[str, ...], bool]:
        """Text, small print, and whether it is marked, of one cell."""
        value = row.cells[place]
        found = value if isinstance(value, Cell) else Cell(value)
        return self.columns[place].show(found.value), found.small, found.strong

    def counted(self) -> bool:
        """Whether any column has the number of patients behind it."""
        return any(column.count for column in self.columns)

    def notes_with(self, mark: str) -> list[str]:
        """The notes, with `mark` as the mark of the best."""
        return [note.replace("{best}", mark) for note in self.notes]

    def csv(self) -> str:
        """The numbers, unrounded, as CSV text."""
        numbers = self.numbers
        if numbers is None:
            values = [[cell.value if isinstance(cell, Cell) else cell for cell in row.cells] for row in self.rows]
            numbers = pd.DataFrame(values, columns=[column.head for column in self.columns])
        return numbers.to_csv(index=False, float_format="%.6g")

    def markdown(self, *, spaced: bool = False, titled: bool = True) -> str:
        """The table as Markdown, marked cells in bold; `spaced` pads cells, since MLflow shows tables without space.

        If `titled`, the title stands above the table and the notes below.
        """
        heads = [plain_markdown(f"{column.head} {column.group}".strip()) for column in self.columns]
        lines = [_line(heads, spaced), "|" + "---|" * len(heads)]
        if self.counted():
            counts = [f"n = {column.count}" if column.count else "" for column in self.columns[1:]]
            lines.append(_line(["patients", *counts], spaced))
        for row in self.rows:
            cells = []
            for place in range(len(self.columns)):
                text, small, strong = self.cell(row, place)
                text = f"**{plain_markdown(text)}**" if strong else plain_markdown(text)
                cells.append(f"{text} ({plain_markdown('; '.join(small))})" if small else text)
            lines.append(_line([f"*{cell}*" for cell in cells] if row.kind == "published" else cells, spaced))
        if not titled:
            return "\n".join(lines)
        top = [f"**{plain_markdown(self.title)}**", ""] if self.title else []
        below = ["", *(f"- {plain_markdown(note)}" for note in self.notes_with("bold"))] if self.notes else []
        return "\n".join([*top, *lines, *below, ""])

    def text(self, width: int | None = WIDTH) -> str:
        """The table as aligned text, marked cells with a star, small print in brackets behind its value.

        No line is longer than `width`: further columns go on in a second table below. None: no limit.
        """
        wide = width or 10**6
        labels = [("  " * (row.kind == "published") + self.cell(row, 0)[0])[:LABEL] for row in self.rows]
        columns = {}
        for place, column in enumerate(self.columns[1:], start=1):
            cells = []
            for row in self.rows:
                text, small, strong = self.cell(row, place)
                cells.append(text + "*" * strong + f" ({'; '.join(small)})" * bool(small))
            longest = max(map(len, cells), default=0)
            head = " ".join(filter(None, (column.group.partition(",")[0], column.short or column.head)))
            padded = [cell.ljust(longest) if column.decimals is None else cell for cell in cells]
            columns[head + f", n={column.count}" * bool(column.count)] = padded
        lines = pd.DataFrame(columns, index=labels).to_string(line_width=wide).splitlines()
        notes = (line for note in self.notes_with("*") for line in textwrap.wrap(note, wide))
        return "\n".join([*textwrap.wrap(self.title, wide), *(line.rstrip(" \\") for line in lines), *notes])


def plain_markdown(text: str) -> str:
    """Text with Markdown's markup escaped."""
    return text.replace("|", "\\|").replace("_", "\\_")


def _line(cells: Sequence[str], spaced: bool) -> str:
    return "| " + " | ".join(f"{cell} &emsp;" if spaced else cell for cell in cells) + " |"
