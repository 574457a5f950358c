"""The model card in Markdown: intended use, training data, performance and limits of a registered model.

After Mitchell et al., "Model cards for model reporting" (FAT* 2019). Its text is `templates/model_card.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.io.files import enumerated
from lab.report.pages.html import template
from lab.report.tables.gate import Verdict, verdict_markdown
from lab.report.tables.table import Table

LEAST_NEEDED = ("Versions", "Licence", "How to load it", "Out of scope", "Training data", "Intended use", "Gate")
"""Sections that a shortened card drops, in this order."""
ALWAYS = ("| patients |", "|---|", "| all patients |", "| external, ")
"""Rows of the table of figures that stay in a shortened card."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The content of the card, as read from the tracking store."""

    name: str
    version: str
    kind: str
    """"network" or "classifier"."""
    phantom: bool
    event: str
    """The event that a classifier predicts, "" for a network."""
    inputs: Sequence[str]
    target: str
    about: Mapping[str, str]
    """Label, architecture, loss, seed, run."""
    data: Mapping[str, str]
    """Cohort, patients, digest."""
    preparation: Mapping[str, Any]
    evaluation: Table
    """The table of figures."""
    tested_on: str
    """The test patients, in a sentence or two."""
    external: bool = False
    """Whether it was tested on other cohorts."""
    trust: Sequence[str] = ()
    """Sentences on its uncertainty; empty for a classifier, whose figures include it."""
    coverage: Table | None = None
    """Measured coverage of the intervals on test patients."""
    limits: Sequence[str]
    verdict: Verdict | None
    """Result of the last gate; None where there was none."""
    held: Mapping[str, str] = field(default_factory=dict)
    """Time and author of the last gate, and the number of gates."""
    caution: str = ""
    """Warning for a classifier whose AUC was not shown to exceed chance."""
    forced: Mapping[str, str] = field(default_factory=dict)
    """reason, by, when; empty where the gate was not overridden."""
    software: Sequence[str]
    """Pinned requirements."""


def model_card(card: ModelCard) -> str:
    """The card as Markdown. The card of a phantom model says so first."""
    inputs = enumerated(card.inputs)
    text = template("model_card.md").render(
        card=card,
        inputs=inputs,
        uri=f"models:/{card.name}/{card.version}",
        points=lambda lines: "\n".join(f"- {line}" for line in lines),
        pairs=lambda known: "\n".join(f"- {key}: {value}" for key, value in known.items()),
        verdict_markdown=verdict_markdown,
    )
    return text.strip() + "\n"


def shortened_card(text: str, length: int, rest: str) -> str:
    """The text if it fits `length`; else without groups of patients, then without the least needed sections, then cut.

    A shortened text says so and names `rest`, the place of the full text.
    """
    if len(text) <= length:
        return text
    head, *sections = text.strip().split("\n\n## ")
    kept = {section.partition("\n")[0]: section for section in sections}
    gone = ["figures by group"] if "Evaluation" in kept else []
    if gone:
        rows = kept["Evaluation"].split("\n")
        kept["Evaluation"] = "\n".join(row for row in rows if not row.startswith("|") or row.startswith(ALWAYS))
    for name in ("", *LEAST_NEEDED):
        if kept.pop(name, None) is not None:
            gone.append(f'"{name}"')
        ending = f"\n\n*Shortened, without {', '.join(gone) or 'its end'}; the whole card: {rest}.*\n"
        short = "\n\n## ".join([head, *kept.values()]) + ending
        if len(short) <= length:
            return short
    short = short[: length - len(ending)]
    return short[: short.rfind("\n\n")] + ending
