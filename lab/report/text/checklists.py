"""Checklists CLEAR and METRICS, filled from a run's facts as far as these go; the other items stay open.

CLEAR: Kocak et al., Insights into Imaging 2023, 58 items. METRICS: Kocak et al., Insights into Imaging 2024, 30 items.
Both CC BY 4.0; the questions are short paraphrases of their items, in their order and numbers. They were checked
against CLEAR's table and the authors' METRICS calculator, which has the weights to three decimals.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

import pandas as pd

from lab.io.files import plural
from lab.radiomics.baselines import CLINICAL, VOLUME
from lab.report.tables.table import Column, Row, Table
from lab.stats.intervals import detectable

LISTS = {"CLEAR": "clear.csv", "METRICS": "metrics.csv"}
PAPERS = {
    "CLEAR": "Kocak et al., Insights into Imaging 2023, 14:75, doi 10.1186/s13244-023-01415-8",
    "METRICS": "Kocak et al., Insights into Imaging 2024, 15:8, doi 10.1186/s13244-023-01572-w",
}
FOR_THE_AUTHORS = "open: for the authors"


class MetricsScore(NamedTuple):
    """The METRICS score as far as the run answers it; all in percent of the weight that applies."""

    answered: int
    """Number of applicable items with yes or no."""
    applicable: int
    of_answered: float
    """Weight with yes over the weight of answered items."""
    lowest: float
    """Score if all open items are no."""
    highest: float
    """Score if all open items are yes."""


def fill(name: str, facts: Mapping[str, Any]) -> pd.DataFrame:
    """A list ("CLEAR" or "METRICS") filled from facts: columns item, section, question, status, answer (and weight).

    Facts are those of `lab.experiments.radiomics.results.facts`, and the user's: `mask_source`, `automatic_masks`,
    `code`. A missing fact leaves its items open. `status` is "yes", "no", "n/a" or "open". Raises ValueError for
    another list.
    """
    if name not in LISTS:
        raise ValueError(f"there is no checklist {name!r}; there are: {', '.join(LISTS)}")
    known = _derived(facts) | {key: value for key, value in facts.items() if value is not None}
    with files("lab.report.text").joinpath(LISTS[name]).open(encoding="utf-8") as file:
        table = pd.read_csv(file, keep_default_na=False)
    answers = [_answer(str(row.answer), str(row.needs), str(row.otherwise), known) for row in table.itertuples()]
    table["status"], table["answer"] = zip(*answers)
    weight = ["weight"] if "weight" in table else []
    return table[["item", "section", "question", *weight, "status", "answer"]]


def metrics_score(table: pd.DataFrame) -> MetricsScore:
    """The score of a filled METRICS list: weight with yes over weight that applies, with bounds for the open items."""
    weights = table["weight"].astype(float)
    yes, no, unknown = (float(weights[table["status"] == status].sum()) for status in ("yes", "no", "open"))
    applicable = yes + no + unknown
    return MetricsScore(
        answered=int(table["status"].isin(("yes", "no")).sum()),
        applicable=int((table["status"] != "n/a").sum()),
        of_answered=100 * yes / (yes + no) if yes + no else math.nan,
        lowest=100 * yes / applicable,
        highest=100 * (yes + unknown) / applicable,
    )


def checklist_summary(name: str, table: pd.DataFrame) -> str:
    """One sentence: the number of items that the run answers, and the METRICS score so far."""
    counts = table["status"].value_counts()
    names = {"yes": "yes", "no": "no", "open": "open for the authors", "n/a": "not applicable"}
    text = f"{name}, {len(table)} items: {', '.join(f'{counts.get(key, 0)} {word}' for key, word in names.items())}."
    if "weight" in table:
        score = metrics_score(table)
        text += (
            f" Partial score: {score.of_answered:.0f} % of the weight of the {score.answered} items that the run "
            f"answers; the whole list will give {score.lowest:.0f} to {score.highest:.0f} %, as the authors answer."
        )
    return text


def checklist_markdown(name: str, table: pd.DataFrame, *, phantom: bool) -> str:
    """The filled list as a Markdown page."""
    lines = [f"# {name}, as far as the run can answer", ""]
    lines += ["**Phantom: simulated patients, no evidence about real ones.**", ""] if phantom else []
    lines += [checklist_summary(name, table), "", source(name), ""]
    for section, rows in table.groupby("section", sort=False):
        lines += [f"## {section}", "", _table(rows).markdown(), ""]
    return "\n".join(lines)


def checklist_items(name: str, table: pd.DataFrame) -> list[Table]:
    """The filled list as a folded table of a page."""
    return [dataclasses.replace(_table(table), notes=[source(name)], folded=checklist_summary(name, table))]


def source(name: str) -> str:
    """Source of the items."""
    return f"Items after {PAPERS[name]} (CC BY 4.0), in short words of our own."


def _table(items: pd.DataFrame) -> Table:
    shown = items[["item", "question", "status", "answer"]].astype(str)
    rows = [Row(cells=row, kind=row[2].replace("/", "")) for row in shown.itertuples(index=False, name=None)]
    columns = [Column(title=title) for title in ("no.", "item", "status", "answer")]
    return Table(columns=columns, rows=rows, style="checklist")


def _answer(answer: str, needs: str, otherwise: str, known: Mapping[str, Any]) -> tuple[str, str]:
    """Status and answer of an item: its text with the facts inserted, if they are known."""
    if not answer and not needs:
        return "open", FOR_THE_AUTHORS
    try:
        holds = bool(known[needs]) if needs else True
        text = (answer if holds else otherwise).format_map({key: _text(value) for key, value in known.items()})
    except KeyError:
        return "open", FOR_THE_AUTHORS
    if not text:
        return "open", FOR_THE_AUTHORS
    if text == "n/a":
        return "n/a", "does not apply"
    return ("yes" if holds else "no"), text


def _derived(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts that follow from others."""
    found: dict[str, Any] = {"end_to_end": False, "flowchart": False}
    if facts.get("folds") == 0:
        found["splitting"] = "one split into training and test patients"
    elif {"folds", "repeats"} <= facts.keys():
        found["splitting"] = f"{plural(int(facts['repeats']), 'repeat')} of {facts['folds']} outer folds, nested"
    if "rivals" in facts:
        baselines = [str(baseline) for baseline in facts["rivals"]]
        found["single"] = [name for name in baselines if name.endswith(" only")]
        found["non_radiomic"] = [name for name in baselines if name in (VOLUME, CLINICAL)]
        found["clinical"] = {CLINICAL, VOLUME} <= set(baselines)
    elsewhere = facts.get("external_test")
    found["externally"] = f" Externally: on {_text(elsewhere)}." if elsewhere else ""
    if {"trials", "inner_folds"} <= facts.keys():
        inside = f"judged by a cross-validation of {facts['inner_folds']} folds inside it."
        found["search"] = f"{facts['trials']} trials by Optuna in each training set, {inside}"
        found["choice"] = "In each training set the settings that did best in its inner cross-validation."
        if (several := int(facts.get("average", 1))) > 1:
            found["choice"] = f"In each training set the average of the {several} settings that did best inside it."
    if "stability" in facts:
        robust = f"Features with an ICC below {facts['stability']:g} out, then selection"
        found["reduction"] = robust if facts["stability"] else "Selection of features"
    if {"patients", "events"} <= facts.keys():
        events, others = int(facts["events"]), int(facts["patients"]) - int(facts["events"])
        smallest = detectable(events, others) if min(events, others) > 0 else math.nan
        least = f"an AUC of {smallest:.2f} or more" if math.isfinite(smallest) else "no AUC"
        found["power"] = f"So many patients show {least} to differ from 0.5 with 80 % power."
    return found


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
