"""A study on one self-contained HTML page: question, settings, table, findings, figures, tests, cost."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lab.report.cost import short_number
from lab.report.figures import png
from lab.report.findings import p_text
from lab.report.stats import asked
from lab.report.tables import PaperTable, as_html, metric_name, model_name

STYLE = """
:root { color-scheme: light; --ink: #222; --faint: #666; --line: #ddd; --shade: #f4f4f2; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1160px; padding: 1.2rem 1.2rem 3rem; background: white; color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .6rem 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 2px solid var(--ink); }
p { max-width: 76ch; margin: .5rem 0; }
small, .notes, figcaption, summary { color: var(--faint); }
.phantom { background: #fff3d6; border-left: 6px solid #e69f00; padding: .6rem .9rem; margin: .8rem 0;
  font-weight: 600; }
.question { font-size: 1.08rem; }
nav { font-size: .9rem; margin: .4rem 0 0; display: flex; flex-wrap: wrap; }
nav a { color: var(--accent); margin-right: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .84rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; font-size: .95rem; }
th, td { padding: .22rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
tbody th, td.text { text-align: left; font-weight: 400; }
thead th { border-bottom: 1px solid var(--ink); }
thead th[colspan] { text-align: center; border-bottom: 0; }
table.paper td:nth-child(3n+2), table.paper thead tr:first-child th { border-left: 1px solid var(--line); }
tr.first > * { border-top: 2px solid var(--faint); }
tr.rival { background: var(--shade); }
tr.published > * { color: var(--faint); font-style: italic; } tr.published th { padding-left: 1.4rem; }
td.best { font-weight: 700; } td.best small { font-weight: 400; }
td.small-p { font-weight: 700; }
.notes { font-size: .85rem; padding-left: 1.1rem; max-width: 90ch; }
dl { columns: 3 300px; column-gap: 2rem; margin: .4rem 0; font-size: .86rem; }
dl div { display: flex; gap: .6rem; justify-content: space-between; border-bottom: 1px solid var(--line);
  break-inside: avoid; padding: .12rem 0; }
dt { color: var(--faint); white-space: nowrap; } dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
figure { margin: 1.2rem 0 1.8rem; } figure img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: .88rem; margin-top: .3rem; max-width: 90ch; }
details { margin: .5rem 0; } summary { cursor: pointer; }
@media (max-width: 700px) { body { padding: .8rem .8rem 2rem; font-size: 15px; } h1 { font-size: 1.35rem; }
  figure img { max-width: none; width: 760px; }
  tbody th, table.paper thead td { position: sticky; left: 0; background: white; }
  tr.rival th { background: var(--shade); } }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  .scroll { overflow: visible; }
  table { font-size: 6.6pt; } th, td { padding: 1pt 2.5pt; } figure { break-inside: avoid; }
  figure img { max-height: 222mm; width: auto; } h2 { break-after: avoid; } tr { break-inside: avoid; } }
"""

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
) -> str:
    """The page as HTML text; all images are embedded and every text is escaped.

    `figures` maps a caption to a figure (or PNG bytes), in reading order. `cohort` and `settings` are shown as lists of
    name and value (the cohort's digest among them). `trials` is the summary table (trial, label and the columns of
    `COST_COLUMNS` that are known), `tests` the paired tests with references, `names` maps their values of a and b to
    labels.
    """
    heading = f"{title} (phantom)" if phantom else title
    banner = (
        '<p class="phantom">Phantom: every patient in this report is simulated. Nothing here is evidence about real '
        "patients, and nothing is set beside published figures.</p>"
        if phantom
        else ""
    )
    sections = {
        "Question": f'<p class="question">{escape(question)}</p>',
        "What was run": _pairs(cohort),
        "Findings": f"<ul>{''.join(f'<li>{escape(point)}</li>' for point in findings)}</ul>",
        "Scores": as_html(table),
        "Figures": "".join(_figure(caption, picture) for caption, picture in figures.items()),
        "Paired tests": _tests(tests, names or {}, alpha),
        "Cost": _cost(trials),
        "Settings": _pairs(settings),
    }
    links = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name in sections)
    body = "".join(
        f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>{content}</section>'
        for name, content in sections.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(heading)}</title><style>{STYLE}</style></head>\n"
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


def _figure(caption: str, picture: Figure | bytes) -> str:
    data = base64.b64encode(picture if isinstance(picture, bytes) else png(picture)).decode()
    text = escape(caption, quote=True)
    image = f'<img alt="{text}" src="data:image/png;base64,{data}">'
    return f'<figure><div class="scroll">{image}</div><figcaption>{text}</figcaption></figure>'


def _pairs(values: Mapping[str, object]) -> str:
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


def _tests(tests: pd.DataFrame | None, names: Mapping[str, str], alpha: float) -> str:
    """How many pairs differ on each metric, and every pair in a list that opens on a click."""
    metrics = [] if tests is None or tests.empty else list(dict.fromkeys(tests["metric"]))
    families = {} if tests is None else {metric: asked(tests, metric) for metric in metrics}
    if not any(len(family) for family in families.values()):
        return "<p>No paired test was made.</p>"
    parts = [
        "<p>Wilcoxon signed-rank tests, paired by patient: each network against each reference, which are the network "
        "that was chosen on validation patients and the trivial rivals. Within one metric the tests against one "
        f"reference are a family, corrected after Holm; a difference is claimed only below {alpha:g}. It is the median "
        "over patients of the first minus the reference. All pairs, uncorrected: tables/paired_tests.csv.</p>"
    ]
    head = "".join(f"<th>{name}</th>" for name in ("", "reference", "n", "difference", "p", "p (Holm)"))
    for metric, family in families.items():
        below = int((family["p_holm"] < alpha).sum())
        rows = []
        for test in family.itertuples():
            marked = " class=small-p" if test.p_holm < alpha else ""
            first, second = (escape(names.get(str(key), str(key))) for key in (test.row, test.against))
            rows.append(
                f'<tr><td class="text">{first}</td><td class="text">{second}</td><td>{test.n}</td>'
                f"<td>{test.difference:+.4f}</td><td>{escape(_p(test.p))}</td>"
                f"<td{marked}>{escape(_p(test.p_holm))}</td></tr>"
            )
        parts.append(
            f"<details><summary>{escape(metric_name(metric))}: {below} of {len(family)} tests find a difference"
            f'</summary><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
            "</div></details>"
        )
    return "".join(parts)


def _p(value: float) -> str:
    return p_text(value).replace("p = ", "").replace("p < ", "< ") if np.isfinite(value) else "too few"


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")
