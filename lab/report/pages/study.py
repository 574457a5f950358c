"""A study on one self-contained HTML page: question, findings, tables, figures, tests, cost, settings."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lab.report.figures.cost import short_number
from lab.report.figures.style import DPI, png
from lab.report.pages.style import STYLE
from lab.report.tables.comparisons import comparisons_html
from lab.report.tables.patient_table import PaperTable, as_html, model_name
from lab.report.tables.scorecard import scorecard_html
from lab.report.tables.spread import spread_html

COST_COLUMNS = {
    "parameters": "parameters",
    "train_seconds": "training (s)",
    "peak_memory_mb": "peak memory (MB)",
    "epochs": "epochs",
    "best_epoch": "best epoch",
    "state": "ended",
}


def report_page(
    *,
    title: str,
    question: str,
    phantom: bool,
    table: PaperTable,
    findings: Sequence[str],
    figures: Mapping[str, Figure | bytes],
    cohort: Mapping[str, object],
    settings: Mapping[str, object],
    trials: pd.DataFrame,
    tests: pd.DataFrame | None = None,
    names: Mapping[str, str] | None = None,
    alpha: float = 0.05,
    card: pd.DataFrame | None = None,
    effects: pd.DataFrame | None = None,
    spread: pd.DataFrame | None = None,
    patches: Sequence[PaperTable] = (),
    floor: float | None = None,
    threshold: float = 0.3,
) -> str:
    """The page as HTML text; all images are embedded and every text is escaped.

    `figures` maps a caption to a figure, in reading order; those given as PNG bytes are slices of patients and come
    first. `cohort` and `settings` are shown as lists of
    name and value (the cohort's digest among them). `trials` is the summary table (trial, label and the columns of
    `COST_COLUMNS` that are known), `tests` the paired tests with references, `names` maps their values of a and b to
    labels. `card`, `effects` and `spread` are what `lab.report.tables.scorecard`, `lab.stats.effects` and a study with
    seeds or folds give, `patches` the tables of a patch study, `floor` the MAE that noise leaves, `threshold` that of
    enhancement; sections without content are left out.
    """
    sections = {
        "Question": f'<p class="question">{escape(question)}</p>',
        "Findings": f"<ul>{''.join(f'<li>{escape(point)}</li>' for point in findings)}</ul>",
        "What was run": pairs_html(cohort),
        "Scores": as_html(table),
        "Enhancement": (
            "" if card is None else scorecard_html(card, phantom=phantom, floor=floor, threshold=threshold)
        ),
        "Patches": "".join(as_html(patch) for patch in patches),
        "Figures": _figures(figures),
        "Paired tests and effect sizes": comparisons_html(tests, effects, names or {}, alpha=alpha),
        "Spread over seeds and folds": ("" if spread is None or spread.empty else spread_html(spread, phantom=phantom)),
        "Cost": _cost(trials),
        "Settings": pairs_html(settings),
    }
    return document(title, sections, phantom=phantom)


def document(title: str, sections: Mapping[str, str], *, phantom: bool, style: str = "") -> str:
    """A whole page from the HTML of its sections, with links to those that have any, and the word phantom where due."""
    heading = f"{title} (phantom)" if phantom else title
    banner = (
        '<p class="phantom">Phantom: every patient in this report is simulated. Nothing here is evidence about real '
        "patients, and nothing is set beside published figures.</p>"
        if phantom
        else ""
    )
    sections = {name: content for name, content in sections.items() if content}
    links = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name in sections)
    body = "".join(
        f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>{content}</section>'
        for name, content in sections.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(heading)}</title><style>{STYLE}{style}</style></head>\n"
        f"<body><h1>{escape(heading)}</h1>{banner}<nav>{links}</nav>{body}</body></html>\n"
    )


def save_page(page: str, path: Path) -> Path:
    """Write the page; a kill in the middle leaves no half file. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)
    return path


def _figures(figures: Mapping[str, Figure | bytes]) -> str:
    """Slices of patients first, then what is drawn from numbers, each group with its heading where there are both."""
    slices = {caption: picture for caption, picture in figures.items() if isinstance(picture, bytes)}
    numbers = {caption: picture for caption, picture in figures.items() if caption not in slices}
    groups = {"Slices": slices, "Numbers": numbers} if slices and numbers else {"": figures}
    return "".join(
        (f"<h3>{name}</h3>" if name else "")
        + "".join(figure_html(caption, picture) for caption, picture in group.items())
        for name, group in groups.items()
    )


def figure_html(caption: str, picture: Figure | bytes, *, dpi: int | None = None) -> str:
    """A figure with its caption, embedded, as wide as its inches; PNG bytes in their own pixels, or at `dpi`."""
    data = picture if isinstance(picture, bytes) else png(picture)
    text = escape(caption, quote=True)
    known = dpi or not isinstance(picture, bytes)
    width = f' width="{96 * inches_wide(picture, dpi=dpi or DPI):.0f}"' if known else ""
    image = f'<img alt="{text}"{width} src="data:image/png;base64,{base64.b64encode(data).decode()}">'
    return f'<figure><div class="scroll">{image}</div><figcaption>{text}</figcaption></figure>'


def inches_wide(picture: Figure | bytes, *, dpi: int) -> float:
    """Width of a figure, or of PNG bytes at so many dots an inch."""
    if isinstance(picture, bytes):
        return int.from_bytes(picture[16:20], "big") / dpi  # a PNG begins with its size
    return float(picture.get_size_inches()[0])


def pairs_html(values: Mapping[str, object]) -> str:
    """Names and values as a list in columns."""
    rows = "".join(
        f"<div><dt>{escape(str(key))}</dt><dd>{escape(_value(value))}</dd></div>" for key, value in values.items()
    )
    return f"<dl>{rows}</dl>"


def _value(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value))
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _cost(trials: pd.DataFrame) -> str:
    columns = {column: name for column, name in COST_COLUMNS.items() if column in trials}
    if trials.empty or not columns:
        return "<p>No cost was recorded.</p>"
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns.values())
    rows = []
    for _, trial in trials.iterrows():
        cells = "".join(f"<td>{escape(_quantity(column, trial[column]))}</td>" for column in columns)
        rows.append(f'<tr><th scope="row">{escape(str(trial["label"]))}</th>{cells}</tr>')
    body = "".join(rows)
    return f'<div class="scroll"><table><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _quantity(column: str, value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return "-"
    if column == "parameters":
        return short_number(float(str(value)))
    if column in ("train_seconds", "peak_memory_mb"):
        return f"{float(str(value)):,.0f}"
    return model_name(value)


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")
