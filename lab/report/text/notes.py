"""MLflow notes in Markdown, on a study's parent run and on each trial."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import pandas as pd

from lab.evaluation.figures import FIGURES, group_figures, shown_in, spec_of
from lab.report.tables.patient_table import TRIVIAL, summarise
from lab.report.tables.table import Cell, Column, Row, Table, plain_markdown

PHANTOM = "**Phantom: simulated patients, no evidence about real ones.** "


def study_note(
    question: str,
    findings: Sequence[str],
    patients: pd.DataFrame,
    *,
    validation: Mapping[Hashable, float],
    best: Hashable | None,
    phantom: bool,
    comparison: str = "",
    card: pd.DataFrame | None = None,
) -> str:
    """Answer, question, findings and a short table.

    The answer comes first, since MLflow folds a note after four lines. `patients` is the long per-patient table,
    `validation` maps values of its column `trial` to the brain MAE on validation patients, which ranks the rows,
    baselines last; `best` is in bold; `comparison` is the sentence on published figures. With a `card`
    (`lab.report.tables.scorecard.scorecard`) the table also has its figures, against the expert label where there is
    one, else against the paper's rule.
    """
    rows = summarise(patients)
    rows = rows.assign(validation=rows["trial"].map(validation))
    rows = rows.sort_values(["rival", "validation"], kind="stable")
    truth, scores = _pooled_figures(card)
    means = [name for name in shown_in("study note") if name in FIGURES]
    pooled = group_figures("study note", truths=True) if scores else ()
    columns = [Column(title=""), Column(title="val MAE brain", decimals=4)]
    columns += [Column.of(spec_of(name), title=f"test {spec_of(name).title}".replace(",", "")) for name in means]
    columns += [Column.of(FIGURES[name], title=f"{FIGURES[name].title}, {truth}") for name in pooled]
    body = []
    for row in rows.to_dict("records"):
        cells: list[Cell | float] = [row["validation"]]
        cells += [column.spread(row[f"{name}_mean"], row[f"{name}_sd"]) for column, name in zip(columns[2:], means)]
        cells += [scores.get((row["trial"], name), math.nan) for name in pooled]
        body.append(Row(cells=[Cell(row["label"], strong=row["trial"] == best), *cells]))
    lines = [f"{PHANTOM * phantom}{plain_markdown(findings[0])}", "", f"*{plain_markdown(question)}*", ""]
    lines += [Table(columns=columns, rows=body).markdown(spaced=True, titled=False), "", ""]
    lines += [f"- {plain_markdown(point)}" for point in findings[1:]]
    lines += [f"- {comparison}"] if comparison else []
    lines += ["", "Under Artifacts: `report.html` (all of it on one page), `figures`, `tables`."]
    return "\n".join(lines)


def trial_note(
    label: str,
    figures: Mapping[str, float],
    baselines: Mapping[str, Mapping[str, float]],
    *,
    phantom: bool,
    best: bool,
    artifacts: Sequence[str],
) -> str:
    """Answer, a short table of the network beside the baselines, and the artifacts to open.

    `figures`, and those of each of `baselines`, are means over the test patients by column of the per-patient table;
    missing or NaN is shown as "-". The answer comes first, since MLflow folds a note after four lines. `artifacts` are
    names of files or folders of the run, each with an optional description: "slices.png: two patients".
    """
    columns = {label: figures} | {name: baselines.get(name, {}) for name in TRIVIAL}

    def shown(name: str) -> list[str]:
        return [spec_of(name).text(known.get(name, math.nan)) for known in columns.values()]

    rows = [Row(cells=[f"{spec_of(name).head}: {spec_of(name).hint}", *shown(name)]) for name in shown_in("trial note")]
    heads = [Column(title=head) for head in ("mean over test patients", *columns)]
    own, *others = shown("mae_brain")
    beside = ", ".join(f"{name} {text}" for name, text in zip(TRIVIAL, others) if text != "-")
    who = f"**{plain_markdown(label)}**" + ", best of its study on validation patients" * best
    answer = f"{PHANTOM * phantom}{who}: test MAE brain {own}" + (f" ({beside})." if beside else ".")
    lines = [answer, "", Table(columns=heads, rows=rows).markdown(spaced=True, titled=False)]
    if artifacts:
        lines += ["", "Under Artifacts: " + ", ".join(_file(artifact) for artifact in artifacts) + "."]
    return "\n".join(lines)


def _pooled_figures(card: pd.DataFrame | None) -> tuple[str, dict[tuple[Hashable, str], float]]:
    """The definition of truth shown, and the pooled figures against it by trial and figure."""
    for truth in ("expert", "rule"):
        part = card[card["definition"] == truth] if card is not None else pd.DataFrame()
        if len(part) and part["value"].notna().any():
            return truth, {(row.trial, row.figure): float(row.value) for row in part.itertuples()}
    return "", {}


def _file(artifact: str) -> str:
    """A file's name as code, followed by its description."""
    name, _, words = artifact.partition(": ")
    return f"`{name}`" + (f" ({plain_markdown(words)})" if words else "")
