"""A WORC experiment as an MLflow run: the same patients and splits as our own classifier, WORC's words kept."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pandas as pd

from lab.config import RadiomicsConfig
from lab.experiments.radiomics.experiment import Arm, Material, gather, open_arm
from lab.experiments.radiomics.report import write_classifier_report
from lab.experiments.radiomics.results import keep
from lab.io.pool import count_cores
from lab.radiomics.baselines import WORC
from lab.radiomics.worc.run import FULL, QUICK, WorcFailed, WorcResult, WorcSettings, run_worc
from lab.radiomics.worc.settings import Route
from lab.stats.auc import auc
from lab.stats.predictions import one_per_patient
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run
from lab.tracking.store import clear_errors, connect

NAME = "worc"
QUESTION = "How well does WORC tell tumours that are {event} from the others, by T1, T2 and FLAIR?"
NOT_RESULTS = ("workers", "timeout_s")


def preset(*, quick: bool, search: int | None, route: Route = "features", seed: int = 0) -> WorcSettings:
    """WORC's full search or a twentieth of it, with another number of workflows where one is given."""
    chosen = QUICK if quick else FULL
    count = chosen.search if search is None else search
    ensemble = max(1, min(chosen.ensemble, count))
    return dataclasses.replace(chosen, search=count, ensemble=ensemble, route=route, seed=seed)


def run(settings: RadiomicsConfig, worc: WorcSettings) -> str:
    """Run or continue a WORC experiment; returns the id of its run.

    Raises ValueError with WORC's own reason where it fails, ValueError or an OSError where data or settings do not
    allow a start.
    """
    started = time.monotonic()
    with clear_errors():
        material = gather(without_ours(settings))
        connect()
    with clear_errors(goes_on="split"):
        arm, _ = worc_arm(material, worc)
        with arm.parent.ending():
            write_classifier_report(arm.parent, seconds=time.monotonic() - started)
    return arm.parent.id


def without_ours(settings: RadiomicsConfig) -> RadiomicsConfig:
    """The settings as WORC has them: it searches in its own way and needs no features of changed masks."""
    default = type(settings.classifier)()
    ours = {name: getattr(default, name) for name in ("trials", "inner_folds", "classifiers", "combat")}
    return dataclasses.replace(
        settings, classifier=dataclasses.replace(settings.classifier, **ours, stability=0.0, stability_cases=0)
    )


def worc_arm(material: Material, worc: WorcSettings) -> tuple[Arm, pd.DataFrame]:
    """WORC's own part, without its report: the run with all tables on it, and the predictions."""
    worc = dataclasses.replace(worc, workers=material.settings.classifier.workers or count_cores())
    own = {f"worc.{k}": v for k, v in dataclasses.asdict(worc).items() if k not in NOT_RESULTS}
    question = QUESTION.format(event=material.dataset.event)
    arm = open_arm(material, NAME, question, source="radiomics/run_worc.py", own=own)
    with arm.parent.ending():
        count = f"{len(arm.splits)} split{'s' * (len(arm.splits) > 1)}"
        print(f"WORC on {count}, {worc.search} workflows each, an ensemble of the best {worc.ensemble}", flush=True)
        result = trained(arm, worc)
        arm.parent.log_folder(result.log, f"worc/{result.log.name}")
        log_splits(arm, result)
        used = result.chosen.rename(columns={"splits": "selected", "members": "importance"})
        tables = {"worc_features": used, "worc_workflows": result.workflows}
        keep(arm, result.predictions, tables, main=WORC)
    return arm, result.predictions


def trained(arm: Arm, worc: WorcSettings) -> WorcResult:
    """WORC's result. Raises ValueError with its reason where it has failed: that is no trouble of the store."""
    sequences = arm.settings.data.inputs

    def say(line: str) -> None:
        print(f"  {line}", flush=True)

    try:
        with arm.alone():
            return run_worc(arm.dataset, arm.splits, arm.folder, worc, cohort=arm.cohort, sequences=sequences, say=say)
    except WorcFailed as error:
        raise ValueError(str(error)) from error


def log_splits(arm: Arm, result: WorcResult) -> None:
    """One split as a run below the experiment's; a split that is logged stays as it is."""
    best = result.workflows.groupby(["repeat", "fold"]).first()
    for split in arm.splits:
        identity = {Tag.STUDY_KEY: arm.identity, Tag.ROLE: "split", Tag.SPLIT: split.name}
        source = "radiomics/run_worc.py"
        run = Run.open(arm.name, split.name, identity=identity, parent=arm.parent, source=source)
        place = (split.repeat, split.fold)
        part = result.predictions.set_index(["repeat", "fold"]).loc[[place]].reset_index()
        patients = one_per_patient(part["patient_id"], part["label"], part["score"])
        chosen: dict[str, Any] = best.loc[place].drop(["rank", "inner_score", "parameters"]).to_dict()
        run.describe(chosen, {Tag.LABEL: WORC, Tag.PHANTOM: arm.dataset.phantom})
        run.log_table(part, artifacts.PREDICTIONS)
        if not run.logged_steps("test/auc"):
            seconds = result.seconds.set_index(["repeat", "fold"]).loc[place, "seconds"]
            figures = {"test/auc": auc(patients["label"], patients["score"]), "cost/seconds": float(seconds)}
            run.log_metrics(figures | {"val/f1_weighted": float(best.loc[place, "inner_score"])})
        run.end("finished")
