"""HTML pages: the items of a section, and the jinja2 templates that write them. Every text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from matplotlib.figure import Figure

from lab.report.figures.style import DPI, png
from lab.report.tables.table import Table

WIDE = 7.2
"""Width in inches from which a figure of a gallery has a line of its own."""


@dataclass(frozen=True)
class Text:
    """A paragraph; `style` is a class of the style sheet."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Points:
    """A list of sentences, or of terms and their meanings."""

    points: Sequence[str | tuple[str, str]]
    style: str = ""
    heading: str = ""


@dataclass(frozen=True)
class Pairs:
    """Names and values as a list in columns."""

    values: Mapping[str, object]

    def shown(self) -> dict[str, str]:
        """The values as text."""
        return {str(key): _value(value) for key, value in self.values.items()}


@dataclass(frozen=True)
class Pictures:
    """Captions and figures (or stored PNG bytes) below each other, or two abreast in a `gallery`."""

    figures: Mapping[str, Figure | bytes]
    heading: str = ""
    gallery: bool = False
    dpi: int | None = None
    """Dots per inch of PNG bytes; None shows them at one pixel per pixel."""

    def shown(self) -> list[dict[str, object]]:
        """Caption, PNG in base 64, width on the page (0: its own), and whether it needs a line of its own."""
        found = []
        for caption, picture in self.figures.items():
            data = picture if isinstance(picture, bytes) else png(picture)
            inches = _inches(picture, self.dpi or DPI)
            width = round(96 * inches) if self.dpi or not isinstance(picture, bytes) else 0
            image = base64.b64encode(data).decode()
            found.append({"caption": caption, "image": image, "width": width, "wide": inches > WIDE})
        return found


Item: TypeAlias = Text | Points | Pairs | Pictures | Table


@dataclass(frozen=True, kw_only=True)
class Page:
    """A self-contained page: headings and their items; a section without content is left out."""

    title: str
    phantom: bool
    sections: Mapping[str, Sequence[Item]] = field(default_factory=dict)


def page_html(page: Page) -> str:
    """The page as HTML text with embedded images and style, links to its sections, and the word phantom where due."""
    sections = {name: items for name, items in page.sections.items() if items}
    return template("page.html").render(page=page, sections=sections)


def item_html(item: Item) -> str:
    """One item as an HTML fragment."""
    return str(template("items.html").module.item(item))  # type: ignore[attr-defined]


def anchor(name: str) -> str:
    """A section's name in a link."""
    return name.lower().replace(" ", "-")


def heads(table: Table) -> list[tuple[str, int]]:
    """The heads above a table's columns and how many columns each spans; empty where there are none."""
    if not any(column.group for column in table.columns):
        return []
    return [(name, len(list(run))) for name, run in groupby(column.group for column in table.columns[1:])]


def template(name: str) -> Template:
    """A template of `lab/report/templates`; HTML is escaped, Markdown is not."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    escaped = select_autoescape(["html"])
    loader = PackageLoader("lab.report")
    found = Environment(
        loader=loader, autoescape=escaped, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.globals |= {"anchor": anchor, "heads": heads}
    found.filters["kind"] = lambda item: type(item).__name__
    return found


def _inches(picture: Figure | bytes, dpi: int) -> float:
    """Width of a figure, or of PNG bytes at `dpi` dots per inch."""
    if isinstance(picture, bytes):
        return int.from_bytes(picture[16:20], "big") / dpi  # width in the header of a PNG
    return float(picture.get_size_inches()[0])


def _value(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value))
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
