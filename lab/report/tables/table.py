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
LABEL = (14, 22)
"""Width of labels in characters: the least in a wide table, and the usual one where there is room."""
HEAD = 9
"""Width in characters beyond which a head is wrapped in a terminal."""


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

    @property
    def hint(self) -> str:
        """Which direction is better: "lower is better"; "" where neither is."""
        return "" if self.direction == "none" else f"{self.direction} is better"

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
    """Style on a page: "rival" (shaded), "published" (faint), "first" (a line above); several with a space."""


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
        """The table as aligned text, marked cells with a star, small print in a second line.

        No line is longer than `width`: further columns go on in a second table below. None: no limit.
        """
        lines = textwrap.wrap(self.title, width or 10**6)
        columns = [_TextColumn(self, place) for place in range(1, len(self.columns))]
        start = 0
        while start < len(columns):
            end = start + 1
            while end < len(columns) and (
                width is None or sum(column.width for column in columns[start : end + 1]) <= width - LABEL[0]
            ):
                end += 1
            lines += _text_part(self, columns[start:end], width)
            start = end
        return "\n".join([*lines, *(line for note in self.notes_with("*") for line in textwrap.wrap(note, WIDTH))])


def plain_markdown(text: str) -> str:
    """Text with Markdown's markup escaped."""
    return text.replace("|", "\\|").replace("_", "\\_")


def _line(cells: Sequence[str], spaced: bool) -> str:
    return "| " + " | ".join(f"{cell} &emsp;" if spaced else cell for cell in cells) + " |"


class _TextColumn:
    """The lines of one column in a terminal: its head, and each row's value and small print."""

    def __init__(self, table: Table, place: int) -> None:
        column = table.columns[place]
        self.group = column.group
        self.left = column.decimals is None
        self.cells = []
        for row in table.rows:
            text, small, strong = table.cell(row, place)
            mark = "" if self.left else "*" if strong else " "
            below = "; ".join(small).replace(" to ", ",") if table.stacked else f"({'; '.join(small)})"
            self.cells.append((text + mark, below + mark.replace("*", " ") if small else ""))
        longest = max((len(text) for cell in self.cells for text in cell), default=0)
        room = " " if not self.left else ""
        self.head = [word + room for word in textwrap.wrap(column.short or column.head, max(HEAD, longest)) or [""]]
        if column.count:
            self.head.append(f"n={column.count}{room}")
        self.width = max([longest, *map(len, self.head)]) + (2 if self.left else 1)

    def place(self, text: str) -> str:
        """The text padded to the column's width."""
        return f"  {text:<{self.width - 2}}" if self.left else f"{text:>{self.width}}"


def _text_part(table: Table, columns: list[_TextColumn], width: int | None) -> list[str]:
    """One table; labels that are too long are wrapped into the row's second line."""
    taken = sum(column.width for column in columns)
    labels = ["  " * (row.kind == "published") + table.cell(row, 0)[0] for row in table.rows]
    wanted = max([LABEL[1] if width else 0, len(table.columns[0].head), *map(len, labels)])
    room = wanted if width is None else min(width - taken, wanted)
    rule = "-" * (room + taken)
    tallest = max((len(column.head) for column in columns), default=1)
    heads = [table.columns[0].head, *[""] * (tallest - 1)][::-1] if not table.counted() else [""] * tallest
    lines = [rule]
    if any(column.group for column in columns):
        lines.append((" " * room + _groups(columns)).rstrip())
    for line in range(-tallest, 0):
        texts = [column.place(column.head[line] if -line <= len(column.head) else "") for column in columns]
        lines.append((f"{heads[line]:<{room}}" + "".join(texts)).rstrip())
    kind = None
    for position, row in enumerate(table.rows):
        if "first" in row.kind.split() or kind is None:
            lines.append(rule)
        kind = row.kind
        name = [*textwrap.wrap(labels[position], room, max_lines=2, placeholder="…", drop_whitespace=False), "", ""]
        below = any(column.cells[position][1] for column in columns) or name[1]
        for line in (0, 1) if below else (0,):
            texts = [column.place(column.cells[position][line]) for column in columns]
            lines.append((f"{name[line]:<{room}}" + "".join(texts)).rstrip())
    return [*lines, rule]


def _groups(columns: list[_TextColumn]) -> str:
    """The heads of groups, each centred above its columns."""
    line, start = "", 0
    while start < len(columns):
        end = start
        while end < len(columns) and columns[end].group == columns[start].group:
            end += 1
        line += f"{columns[start].group:^{sum(column.width for column in columns[start:end])}}"
        start = end
    return line
