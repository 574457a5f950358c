"""The model card in Markdown: intended use, training data, performance and limits of a registered model.

After Mitchell et al., "Model cards for model reporting" (FAT* 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.report.tables.gate import Verdict, verdict_markdown
from lab.report.tables.table import Table

NOT_FOR_DIAGNOSIS = "**For research only, not for diagnosis.** No decision on a patient may rest on it."
PHANTOM = (
    "> **PHANTOM.** This model learned from simulated patients and was tested on simulated patients. No figure below "
    "says anything about people, and what it gives for a patient means nothing."
)
PURPOSE = {
    "network": (
        "Research on how much of a gadolinium scan can be had without gadolinium. From {inputs} of an adult with a "
        "glioma it draws a synthetic {target}, and from that where and how much the tumour enhances."
    ),
    "classifier": (
        "Research on whether scans without contrast agent tell that a tumour is {event}. From radiomic features of "
        "{inputs} inside the tumour mask of an adult with a glioma it gives a probability."
    ),
}
OUT_OF_SCOPE = (
    "Diagnosis, grading, planning of treatment, follow-up, and deciding against a contrast agent.",
    "Other sequences, or scans that cannot be prepared as written below.",
    "Other diseases (metastases, lymphoma, inflammation, stroke), children, and scans after surgery, unless the "
    "training data below had them.",
    "Hospitals, scanners and protocols unlike those of the training data: it was not tested there.",
)
LICENCE = (
    "The code is under the Apache License 2.0. The weights were made from the data named above, whose terms of use go "
    "on to hold for them: read these before passing the model on."
)
LEAST_NEEDED = ("Versions", "Licence", "How to load it", "Out of scope", "Training data", "Intended use", "Gate")
"""Sections that a shortened card drops, in this order."""
ALWAYS = ("| patients |", "|---|", "| all patients |")
"""Rows of the table of figures that stay in a shortened card."""
LOADING = {
    "network": (
        "python -m lab synthesize --model {uri} --t1 T1.nii.gz --t2 T2.nii.gz --flair FLAIR.nii.gz --out DIR",
        "python -m lab serve --model {uri}  # patients by path or as arrays, over HTTP",
    ),
    "classifier": (
        "python -m lab classify --model {uri} --t1 T1.nii.gz --t2 T2.nii.gz --flair FLAIR.nii.gz --mask MASK.nii.gz",
        "mlflow.pyfunc.load_model({uri!r})  # takes a table of features, a row a patient",
    ),
}


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
    words = {"inputs": listed(card.inputs), "target": card.target, "event": card.event or "enhancing"}
    uri = f"models:/{card.name}/{card.version}"
    parts = [f"# Model card: {card.name}, version {card.version}{' (phantom)' if card.phantom else ''}"]
    parts += [PHANTOM] if card.phantom else []
    parts += [_forced(card)] if card.forced else []
    parts += [f"> **NO VERDICT.** {card.caution[0].upper()}{card.caution[1:]}."] if card.caution else []
    parts += [NOT_FOR_DIAGNOSIS]
    parts += ["## Intended use", PURPOSE[card.kind].format(**words), _pairs(card.about)]
    parts += ["## Out of scope", _list(OUT_OF_SCOPE)]
    parts += ["## Training data", _pairs(card.data)]
    parts += ["Images are prepared so, for training and for new patients:", _pairs(card.preparation)]
    parts += ["## Evaluation", card.tested_on, card.evaluation.markdown(titled=False)]
    parts += (
        ["## Uncertainty", _list(card.trust), card.coverage.markdown(titled=False) if card.coverage else ""]
        if card.trust
        else []
    )
    parts += ["## Limits measured", _list(card.limits)]
    parts += ["## Gate", _gate(card)]
    parts += ["## Licence", LICENCE]
    parts += ["## Versions", ", ".join(card.software) or "The package does not say."]
    lines = [line.format(uri=uri) for line in LOADING[card.kind]]
    parts += ["## How to load it", "```\n" + "\n".join(lines) + "\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


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
        own = [row for row in rows if not row.startswith("|") or row.startswith(ALWAYS)]
        kept["Evaluation"] = "\n".join(own)
    for name in ("", *LEAST_NEEDED):
        if kept.pop(name, None) is not None:
            gone.append(f'"{name}"')
        ending = f"\n\n*Shortened, without {', '.join(gone) or 'its end'}; the whole card: {rest}.*\n"
        short = "\n\n## ".join([head, *kept.values()]) + ending
        if len(short) <= length:
            return short
    short = short[: length - len(ending)]
    return short[: short.rfind("\n\n")] + ending


def listed(words: Sequence[str]) -> str:
    """ "T1, T2 and FLAIR"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _gate(card: ModelCard) -> str:
    if card.verdict is None:
        return "No gate was held for this version: it has not been proposed as champion, or became it without one."
    result = "passed" if card.verdict.passed else "refused"
    told = f"Held {card.held['when']} by {card.held['who']}, against {card.verdict.against}: **{result}**."
    if card.held["times"] != "1":
        told += f" The gate was held {card.held['times']} times for this version, and every time is another chance."
    return f"{told}\n\n{verdict_markdown(card.verdict)}"


def _forced(card: ModelCard) -> str:
    return (
        f"> **FORCED.** The gate refused this version; {card.forced['by']} made it champion all the same on "
        f"{card.forced['when']}: {card.forced['reason']}"
    )


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _pairs(pairs: Mapping[str, Any]) -> str:
    return _list([f"{key}: {value}" for key, value in pairs.items()])
