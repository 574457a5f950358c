"""The model card of a registered version, written from the tracking store alone."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from lab.io.files import plural
from lab.registry.candidate import Candidate
from lab.report.tables.gate import Verdict
from lab.report.tables.model_figures import EVERYBODY, evaluation_table
from lab.report.text.external_findings import external_summary
from lab.report.text.model_card import ModelCard, model_card, shortened_card
from lab.report.text.model_limits import classifier_limits, network_limits
from lab.report.text.model_trust import trust_lines, trust_table
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag, VersionTag
from lab.tracking.models.network import CALIBRATION
from lab.tracking.models.registered import Version, model_kind, read_model_file
from lab.tracking.run import Run

DESCRIPTION = 4900
"""Maximum length of a description that every database accepts."""
SHOWN = (
    "label",
    "model.id",
    "model.width",
    "model.depth",
    "model.norm",
    "loss.name",
    "classifier",
    "train.seed",
    "seed",
)


def log_card(candidate: Candidate, version: Version, attempts: list[dict[str, Any]]) -> None:
    """Write card and figures to the version's folder on its run, and the card to its description.

    `attempts` are those at the gate. Raises ValueError where the model or its figures are gone.
    """
    run, folder = candidate.run, artifacts.version_folder(version.name, version.number)
    run.log_table(candidate.figures, f"{folder}/{artifacts.MODEL_FIGURES}")
    text = model_card(read_card(candidate, version, attempts))
    place = f"{folder}/{artifacts.MODEL_CARD}"
    run.log_text(text, place)
    rest = f"artifact {place} of run {run.id}"
    version.describe(shortened_card(text, DESCRIPTION, rest))
    version.set_tags({VersionTag.CARD: rest})


def read_card(candidate: Candidate, version: Version, attempts: list[dict[str, Any]]) -> ModelCard:
    """Contents of the card. Raises ValueError where the model or its figures are gone."""
    run, contract, facts, figures = candidate.run, candidate.contract, candidate.facts, candidate.figures
    last = attempts[-1] if attempts else None
    known: dict[str, Any] = {}
    if candidate.is_classifier:
        limits, folds, split = classifier_limits(facts, figures), "", {}
        known = {"caution": candidate.caution, "external": bool(candidate.external)}
    else:
        calibration = json.loads(read_model_file(run, f"artifacts/{CALIBRATION}") or "{}")
        known = {"trust": trust_lines(calibration), "coverage": trust_table(calibration)}
        limits = network_limits(candidate.tested.patients, figures)
        folds = " ".join(candidate.tested.notes).replace("The candidate", "It")
        split = patients_in(run.read_table(artifacts.SPLIT) if folds else candidate.tested.split)
    forced = version.tags.get(VersionTag.FORCED) == "yes"
    return ModelCard(
        name=version.name,
        version=version.number,
        kind=model_kind(run),
        phantom=bool(contract["phantom"]),
        event=run.tags.get(Tag.EVENT, ""),
        inputs=contract["inputs"],
        target=contract["target"],
        about=about(run, facts),
        data=training_data(contract, facts, split),
        preparation=preparation(contract),
        evaluation=evaluation_table(figures),
        tested_on=tested_on(candidate, folds),
        limits=limits,
        verdict=Verdict.read(last) if last else None,
        held={"when": last["when"], "who": last["who"], "times": str(len(attempts))} if last else {},
        forced={key: version.tags[f"forced_{key}"] for key in ("reason", "by", "when")} if forced else {},
        software=[line.strip() for line in read_model_file(run, "requirements.txt").splitlines() if line.strip()],
        **known,
    )


def about(run: Run, facts: dict[str, Any]) -> dict[str, str]:
    """Description and origin of the model."""
    known = run.params | {key: run.tags[key] for key in ("label", "seed") if key in run.tags}
    dirty = " with uncommitted changes" if run.tags.get(Tag.GIT_DIRTY) == "True" else ""
    found = {name: str(known[name]) for name in SHOWN if name in known}
    if "train.seed" in found:
        found.pop("seed", None)
    if covariates := run.params.get("clinical.use", "()").strip("(),").replace("'", ""):
        found["clinical covariates"] = f"{covariates}, where they are known"
    if count := known.get("averaged"):
        found["classifier"] = f"average of the {count} best settings, the first of them {found['classifier']}"
    study = facts.get("study") or facts.get("experiment")
    found |= {"study": f"{study} ({facts.get('question', '')})"} if study else {}
    commit = run.tags.get(Tag.COMMIT, "unknown") + dirty
    return found | {"run": f"{run.id} ({run.name})", "commit": commit}


def training_data(contract: dict[str, Any], facts: dict[str, Any], split: dict[str, int]) -> dict[str, str]:
    """Cohort, number of patients, digest."""
    cohort = dict(facts.get("cohort", {}))
    if not cohort and facts:
        cohort = {"data": facts.get("dataset"), "patients": facts.get("patients"), "left out": facts.get("left_out")}
        cohort |= {f"patients that are {facts.get('event')}": facts.get("events"), "label": facts.get("label_rule")}
    cohort |= {f"patients in {part}": str(count) for part, count in split.items()}
    cohort["digest"] = contract.get("cohort_digest", "unknown")
    return {key: str(value) for key, value in cohort.items() if value is not None}


def patients_in(split: pd.DataFrame) -> dict[str, int]:
    """Number of patients in each part of a network's split."""
    counts = split.groupby("split")["patient_id"].nunique()
    return {part: int(counts[part]) for part in ("train", "val", "test") if part in counts}


def preparation(contract: dict[str, Any]) -> dict[str, Any]:
    """The contract in readable form."""
    how = contract["preparation"]
    grid = " x ".join(str(size) for size in contract.get("shape", ()))
    normalise = contract.get("normalise")
    others = f", inputs but the T1 then by {normalise['method']}" if normalise else ""
    known = how.get("known_scale")
    scale = f"mean {known[0]:g} and SD {known[1]:g}, as in all scans" if known else "z-score over the brain"
    return {
        "inputs, in this order": ", ".join(contract["inputs"]),
        "grid": f"{grid} voxels of {contract['spacing_mm']:g} mm, RAS",
        "brain mask": how.get("brain_mask", "unknown"),
        "intensities": f"{scale}, cut off at {how.get('clip_sigma', '?')} SD and scaled to [-1, 1]{others}",
        "enhancement": f"{contract['target']} - T1 > {how.get('enhancement_threshold', '?')} in these units; a patient "
        f"enhances from {how.get('enhancing_ml', '?')} ml on",
        "layout of the scans": contract.get("layout") or "unknown",
    }


def tested_on(candidate: Candidate, folds: str) -> str:
    """Description of the test patients; `folds` says by which networks, where there were several."""
    figures, facts = candidate.figures, candidate.facts
    count = int(figures.loc[figures["group"] == EVERYBODY, "n"].max())
    if candidate.is_classifier:
        folds_, repeats = facts.get("folds") or 0, facts.get("repeats") or 1
        how = f"{repeats} x {folds_}-fold cross-validation" if folds_ else "one split"
        text = f"{plural(count, 'patient')}, each judged by classifiers that had not seen it ({how}); the final one "
        text += "learned from all of them. 95 % intervals."
    else:
        once = "read once, after all choices were made"
        text = f"{plural(count, 'test patient')}, "
        text += f"of whom each was trained or validated on in the other folds. {folds}" if folds else f"{once}."
        text += " 95 % bootstrap intervals over patients."
    return f"{text} {external_summary(candidate.external)}"
