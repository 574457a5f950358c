"""The classifier study from features to report: ours and the rivals on all splits, and the model for new patients."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import pandas as pd

from lab.config import ClassifierConfig, RadiomicsConfig
from lab.data.contract import Contract
from lab.experiments.radiomics.experiment import Arm, Material, gather, open_arm
from lab.experiments.radiomics.nested_run import TRIALS, log_trials, make_final, run_splits
from lab.experiments.radiomics.report import write_classifier_report
from lab.experiments.radiomics.results import draw_features, keep
from lab.radiomics.assess.importance import summarise_learning
from lab.radiomics.assess.outer_estimate import Outer
from lab.radiomics.baselines import OURS, baseline_datasets, baselines_left_out
from lab.radiomics.dataset import Dataset
from lab.radiomics.pipeline.fitted import Final
from lab.radiomics.pipeline.nested import SplitResult
from lab.radiomics.pipeline.split_result import suspicion
from lab.radiomics.pipeline.steps import frame
from lab.report.tables.patient_table import plural
from lab.tracking.artifacts import Tag
from lab.tracking.models.classifier import log_classifier
from lab.tracking.run import Run
from lab.tracking.store import clear_errors, connect

NAME = "classifier"
QUESTION = "Can T1, T2 and FLAIR tell tumours that are {event} from the others, better than size, age or one sequence?"


def run(settings: RadiomicsConfig, question: str = QUESTION) -> str:
    """Run or continue the study; returns the id of its run. `question` is what it asks where the label is enhancement.

    What was finished stays, split by split. Raises ValueError or an OSError where data or settings do not allow it.
    """
    started = time.monotonic()
    with clear_errors():
        material = gather(settings)
        connect()
    with clear_errors(goes_on="split"):
        arm, _ = nested_arm(material, question)
        with arm.parent.ending():
            write_classifier_report(arm.parent, seconds=time.monotonic() - started)
    return arm.parent.id


def nested_arm(material: Material, question: str = QUESTION) -> tuple[Arm, pd.DataFrame]:
    """The study's own part, without its report: the run with all tables on it, and the predictions of every method."""
    event = material.dataset.event
    asked = (question if event == "enhancing" else QUESTION).format(event=event)
    arm = open_arm(material, NAME, asked, source="studies/classifier.py")
    with arm.parent.ending(), arm.alone():
        methods = methods_of(arm)
        print(
            f"{plural(len(methods), 'method')} on {plural(len(arm.splits), 'split')}: {', '.join(methods)}", flush=True
        )
        results = run_splits(arm, methods)
        predictions = pd.concat([result.predictions for result in results], ignore_index=True)
        ours = [result for result in results if result.method == OURS]
        tables = {"importances": importances(ours), "settings": settings_table(ours)}
        if len(ours) > 1:
            tables["learning"] = learning(ours)
        suspected = suspicion(ours)
        found = keep(arm, predictions, tables, warnings=[suspected] if suspected else [])
        if not arm.settings.classifier.shuffle_labels:
            keep_final(arm, Outer.of(found.performance.iloc[0].to_dict()))
        draw_features(arm, tables["importances"])
    return arm, predictions


def methods_of(arm: Arm) -> dict[str, tuple[Dataset, ClassifierConfig]]:
    """Ours and the rivals, each with what it learns from; who cannot take part is said."""
    settings = arm.settings.classifier
    for method, reason in baselines_left_out(arm.dataset).items():
        print(f"  without {method}: {reason}", flush=True)
    rivals = {
        method: (dataset, dataclasses.replace(settings, **changes))
        for method, (dataset, changes) in baseline_datasets(arm.dataset).items()
    }
    return {OURS: (arm.dataset, settings), **rivals}


def importances(ours: Sequence[SplitResult]) -> pd.DataFrame:
    """Of each split the features chosen and what permuting them costs: repeat, fold, feature, importance."""
    return pd.concat(
        [result.chosen.assign(repeat=result.split.repeat, fold=result.split.fold) for result in ours], ignore_index=True
    )[["repeat", "fold", "feature", "importance"]]


def settings_table(ours: Sequence[SplitResult]) -> pd.DataFrame:
    """Of each split what the search chose: repeat, fold, inner_auc, threshold, seconds and the settings."""
    rows = [
        {
            "repeat": result.split.repeat,
            "fold": result.split.fold,
            "inner_auc": result.inner_auc,
            "threshold": result.threshold,
            "seconds": result.seconds,
            **result.params,
        }
        for result in ours
    ]
    return pd.DataFrame(rows)


def learning(ours: Sequence[SplitResult]) -> pd.DataFrame:
    """Mean AUC over splits at each size of the training set: n, mean, low, high, seeds (splits)."""
    tables = []
    for number, result in enumerate(ours):
        tested = int(result.predictions["test"].iloc[0])
        tables.append(result.learning.assign(seed=number, test=tested, place=range(len(result.learning))))
    curve = pd.concat(tables, ignore_index=True)
    curve["n"] = curve.groupby("place")["n"].transform("mean").round().astype(int)  # splits differ by a patient
    return summarise_learning(curve)


def keep_final(arm: Arm, outer: Outer | None) -> None:
    """The classifier for new patients as a run of its own, with its search and the model; tagged on the study's too.

    `outer` is how good such classifiers are on held-out patients; it goes into the model.
    """
    folder = arm.folder / "final"
    try:
        final = Final.load(folder)
    except (OSError, ValueError):
        print("  searching for and fitting the classifier for new patients on all of them", flush=True)
        final = make_final(arm, folder)
    if final.facts.outer != outer:
        final = dataclasses.replace(final, facts=dataclasses.replace(final.facts, outer=outer))
        final.save(folder)
    facts, dataset = final.facts, arm.dataset
    if facts.caution:
        print(f"  the classifier for new patients gives no verdict: {facts.caution}", flush=True)
    identity = {Tag.STUDY_KEY: arm.identity, Tag.ROLE: "final"}
    run = Run.open(arm.name, "final, on everybody", identity=identity, parent=arm.parent)
    if run.tags.get(Tag.STATE) != "finished":
        log_trials(arm, run, pd.read_csv(folder / TRIALS), "final")
        data = arm.settings.data
        example = frame(dataset, facts.combat).median(numeric_only=True).to_frame().T
        if facts.combat:
            example[facts.combat] = str(frame(dataset, facts.combat)[facts.combat].mode().iloc[0])
        uri = log_classifier(run, folder, Contract.of(arm.cohort, data.inputs, data.target), example)
        tags = {Tag.MODEL: uri, Tag.KIND: "classifier", Tag.EVENT: dataset.event, Tag.PHANTOM: dataset.phantom}
        tags |= {Tag.COHORT: arm.cohort.digest, Tag.SEED: arm.settings.classifier.seed, Tag.LABEL: OURS}
        run.describe(facts.params, tags)
        arm.parent.set_tags(tags)
        if not run.logged_steps("val/auc"):
            figures = {"val/auc": facts.inner_auc, "val/threshold": facts.threshold}
            if outer is not None:
                figures |= {"test/auc": outer.auc, "test/auc_low": outer.auc_low, "test/auc_high": outer.auc_high}
            run.log_metrics(figures)
    run.end("finished")
