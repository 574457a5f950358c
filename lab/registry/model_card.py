"""The model card of a registered version, written from the tracking store and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from lab.experiments.synthesis.record import FACTS
from lab.registry.classifier_gate import FACTS as CLASSIFIER_FACTS
from lab.registry.classifier_gate import held_out, study_of
from lab.registry.folds import read_tested
from lab.registry.shared_patients import TESTED, holds
from lab.report.tables.gate import Verdict
from lab.report.tables.model_figures import EVERYBODY, classifier_figures, evaluation_rows, network_figures
from lab.report.tables.patient_table import plural
from lab.report.text.model_card import ModelCard, model_card, shortened
from lab.report.text.model_limits import classifier_caution, classifier_limits, network_limits
from lab.report.text.model_trust import trust_lines, trust_table
from lab.tracking import runs
from lab.tracking.models.download import fetched
from lab.tracking.models.network import CALIBRATION
from lab.tracking.models.registered import CLASSIFIER, kind_of, location, model_contract
from lab.tracking.store import connect, store_trouble

CARD, FIGURES, GATE = "model_card.md", "figures.csv", "gate.json"
DESCRIPTION = 4900
"""Characters of a description that every database takes."""
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
COMMIT = "mlflow.source.git.commit"


def figures_of(source: Run) -> pd.DataFrame:
    """Figures by group of patients: group, figure, truth, value, low, high, n.

    Raises ValueError for a run that was never scored on test patients.
    """
    if kind_of(source) == CLASSIFIER:
        held_out(source, "it")
        return classifier_figures(*of_main(source, "performance", "subgroups"))
    if not holds(source.info.run_id, TESTED):
        raise ValueError(
            f"run {source.info.run_id} ({source.info.run_name}) was never scored on test patients (no {TESTED}); run "
            "its study to the end"
        )
    return network_figures(read_tested(source, "it").patients)


def of_main(source: Run, *names: str) -> list[pd.DataFrame]:
    """Tables of a classifier's study, with the rows of the method that it judges."""
    study, main = study_of(source), study_facts(source)["main"]
    tables = [runs.read_table(study, f"tables/{name}.csv") for name in names]
    return [table[table["method"] == main].reset_index(drop=True) for table in tables]


def keep_card(source: Run, version: ModelVersion, folder: str, figures: pd.DataFrame) -> str:
    """Write card and figures to the version's folder on its run, the card into its description too; returns its text.

    `figures` are those of `figures_of`.
    """
    runs.log_table(source.info.run_id, figures, f"{folder}/{FIGURES}")
    text = model_card(read_card(source, version, folder, figures))
    place = f"{folder}/{CARD}"
    runs.log_text(source.info.run_id, text, place)
    rest = f"artifact {place} of run {source.info.run_id}"
    connect().update_model_version(version.name, version.version, shortened(text, DESCRIPTION, rest))
    connect().set_model_version_tag(version.name, version.version, "model_card", rest)
    return text


def read_card(source: Run, version: ModelVersion, folder: str, figures: pd.DataFrame) -> ModelCard:
    """All that the card says. Raises ValueError where the model or its figures are gone."""
    run_id, kind, tags = source.info.run_id, kind_of(source), version.tags
    contract, facts = model_contract(source), study_facts(source)
    attempts: list[dict[str, Any]] = []
    if runs.has_file(run_id, f"{folder}/{GATE}"):
        attempts = json.loads(runs.read_text(run_id, f"{folder}/{GATE}"))
    last = attempts[-1] if attempts else None
    split = tested_split(source)
    known: dict[str, Any] = {}
    if kind == CLASSIFIER:
        limits, folds = classifier_limits(facts, figures), ""
        known = {"caution": classifier_caution(figures)}
    else:
        calibration = calibration_of(source)
        known = {"trust": trust_lines(calibration), "coverage": trust_table(calibration)}
        own = read_tested(source, "it")
        limits, folds = network_limits(own.patients, figures), " ".join(own.notes)
    return ModelCard(
        name=version.name,
        version=str(version.version),
        kind=kind,
        phantom=bool(contract["phantom"]),
        event=source.data.tags.get("event", ""),
        inputs=contract["inputs"],
        target=contract["target"],
        about=about(source, facts),
        data=training_data(contract, facts, split),
        preparation=preparation(contract),
        evaluation=evaluation_rows(figures),
        tested_on=tested_on(kind, figures, facts, folds),
        limits=limits,
        verdict=Verdict.read(last) if last else None,
        held={"when": last["when"], "who": last["who"], "times": str(len(attempts))} if last else {},
        forced={key: tags[f"forced_{key}"] for key in ("reason", "by", "when")} if tags.get("forced") == "yes" else {},
        software=requirements(source),
        **known,
    )


def calibration_of(source: Run) -> dict[str, Any]:
    """What was measured of a network on its own patients; empty where nothing was."""
    try:
        with fetched(f"{location(source)}/artifacts/{CALIBRATION}") as path:
            return dict(json.loads(path.read_text()))
    except (MlflowException, OSError) as error:
        if isinstance(error, MlflowException) and store_trouble(error):
            raise
        return {}


def study_facts(source: Run) -> dict[str, Any]:
    """What the study's run says of itself; empty where it is gone."""
    if kind_of(source) == CLASSIFIER:
        return dict(json.loads(runs.read_text(study_of(source), CLASSIFIER_FACTS)))
    parent = source.data.tags.get(runs.PARENT)
    if parent is None or not holds(parent, FACTS):
        return {}
    return dict(json.loads(runs.read_text(parent, FACTS)))


def about(source: Run, facts: dict[str, Any]) -> dict[str, str]:
    """What the model is and where it comes from."""
    known = source.data.params | {key: source.data.tags[key] for key in ("label", "seed") if key in source.data.tags}
    dirty = " with uncommitted changes" if source.data.tags.get("git_dirty") == "True" else ""
    found = {name: str(known[name]) for name in SHOWN if name in known}
    if "train.seed" in found:
        found.pop("seed", None)
    study = facts.get("study") or facts.get("experiment")
    found |= {"study": f"{study} ({facts.get('question', '')})"} if study else {}
    return found | {
        "run": f"{source.info.run_id} ({source.info.run_name})",
        "commit": source.data.tags.get(COMMIT, "unknown") + dirty,
    }


def training_data(contract: dict[str, Any], facts: dict[str, Any], split: dict[str, int]) -> dict[str, str]:
    """Cohort, number of patients, digest."""
    cohort = dict(facts.get("cohort", {}))
    if not cohort and facts:
        cohort = {"data": facts.get("dataset"), "patients": facts.get("patients"), "left out": facts.get("left_out")}
        cohort |= {f"patients that are {facts.get('event')}": facts.get("events"), "label": facts.get("label_rule")}
    cohort |= {f"patients in {part}": str(count) for part, count in split.items()}
    cohort["digest"] = contract.get("cohort_digest", "unknown")
    return {key: str(value) for key, value in cohort.items() if value is not None}


def tested_split(source: Run) -> dict[str, int]:
    """Patients in each part of a network's split; empty for a classifier, which is cross-validated."""
    run_id = source.info.run_id
    if kind_of(source) == CLASSIFIER or not runs.has_file(run_id, "split.csv"):
        return {}
    counts = runs.read_table(run_id, "split.csv").groupby("split")["patient_id"].nunique()
    return {part: int(counts[part]) for part in ("train", "val", "test") if part in counts}


def preparation(contract: dict[str, Any]) -> dict[str, Any]:
    """The frozen contract for people."""
    how = contract["preparation"]
    grid = " x ".join(str(size) for size in contract.get("shape", ()))
    return {
        "inputs, in this order": ", ".join(contract["inputs"]),
        "grid": f"{grid} voxels of {contract['spacing_mm']:g} mm, RAS",
        "brain mask": how.get("brain_mask", "unknown"),
        "intensities": f"z-score over the brain, cut off at {how.get('clip_sigma', '?')} SD and scaled to [-1, 1]",
        "enhancement": f"{contract['target']} - T1 > {how.get('enhancement_threshold', '?')} in these units; a patient "
        f"enhances from {how.get('enhancing_ml', '?')} ml on",
        "layout of the scans": contract.get("layout") or "unknown",
    }


def tested_on(kind: str, figures: pd.DataFrame, facts: dict[str, Any], folds: str) -> str:
    """Who was tested; `folds` says by which networks, where there were several."""
    everybody = figures.loc[figures["group"] == EVERYBODY, "n"].max()
    if kind == CLASSIFIER:
        count, repeats = facts.get("folds") or 0, facts.get("repeats") or 1
        how = f"{repeats} x {count}-fold cross-validation" if count else "one split"
        return (
            f"{plural(int(everybody), 'patient')}, each judged by classifiers that had not seen it ({how}); the final "
            "one learned from all of them. 95 % intervals. No other hospital's patients were tested."
        )
    choices = "read once, after all choices were made"
    if folds:
        choices = "of whom each was trained or validated on in the other folds"
    return (
        f"{plural(int(everybody), 'test patient')}, {choices}. {folds}{' ' if folds else ''}95 % bootstrap intervals "
        "over patients. No other hospital's patients were tested."
    )


def requirements(source: Run) -> list[str]:
    """Pinned packages of the model."""
    try:
        with fetched(f"{location(source)}/requirements.txt") as path:
            lines = path.read_text().splitlines()
    except (MlflowException, OSError) as error:
        if isinstance(error, MlflowException) and store_trouble(error):
            raise
        return []
    return [line.strip() for line in lines if line.strip()]
