"""The classifier study: our classifier and the baselines on all splits, and the model for new patients."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from lab.config import ClassifierConfig, RadiomicsConfig
from lab.data.contract import Contract
from lab.experiments.radiomics.experiment import Experiment, ExperimentData, load_data, open_experiment
from lab.experiments.radiomics.external_test import run_external_test
from lab.experiments.radiomics.nested_run import described, log_trials, make_final, run_splits
from lab.experiments.radiomics.report import conduct
from lab.experiments.radiomics.results import draw_features, left_out_baselines, save_results
from lab.experiments.radiomics.voxel_boosting import boosting_predictions
from lab.io.files import plural
from lab.radiomics.assess.importance import summarise_learning
from lab.radiomics.assess.outer_estimate import OuterEstimate
from lab.radiomics.baselines import OURS, baseline_datasets
from lab.radiomics.dataset import Dataset
from lab.radiomics.features.image_features import PARAMETERS
from lab.radiomics.pipeline.fitted import Final
from lab.radiomics.pipeline.nested import SplitResult
from lab.radiomics.pipeline.split_result import suspicion
from lab.radiomics.pipeline.steps import frame
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.models.classifier import log_classifier

if TYPE_CHECKING:
    from lab.experiments.radiomics.external_cohort import ExternalCohort

NAME, FINAL = "classifier", "final"
QUESTION = "Can {scans} tell tumours that are {event} from the others, better than size, age or one sequence?"


def run_classifier_study(settings: RadiomicsConfig, question: str = QUESTION, *, external: Sequence[Path] = ()) -> str:
    """Run or continue the study; returns its run id. `question` is the study's question if the label is enhancement.

    Finished splits are kept. `external` names cohorts that the finished classifier is tested on, once each: they are no
    part of the study's identity, so they can be added later. Raises ValueError or OSError if data or settings do not
    allow the study.
    """
    others: list[ExternalCohort] = []

    def load() -> ExperimentData:
        data = load_data(settings)
        if external:
            from lab.experiments.radiomics.external_cohort import load_external

            others.extend(load_external(external, data))  # what is wrong with them is said before the training
        return data

    return conduct(load, lambda data: run_classifiers(data, question, others)[0])


def run_classifiers(
    data: ExperimentData, question: str = QUESTION, external: Sequence[ExternalCohort] = ()
) -> tuple[Experiment, pd.DataFrame]:
    """The study without its report: the run with all tables on it, and the predictions of every method."""
    usual = (data.dataset.event, data.scans) == ("enhancing", "T1, T2 and FLAIR")
    asked = data.ask(question if usual else QUESTION)
    experiment = open_experiment(data, NAME, asked, source="studies/classifier.py")
    with experiment.run.ending(), experiment.alone():
        methods = configurations(data)
        count = f"{plural(len(methods), 'method')} on {plural(len(data.splits), 'split')}"
        print(f"{count}: {', '.join(methods)}", flush=True)
        results = run_splits(experiment, methods)
        parts = [*(result.predictions for result in results), boosting_predictions(experiment)]
        predictions = pd.concat(parts, ignore_index=True)
        ours = [result for result in results if result.method == OURS]
        tables = {"importances": feature_importances(ours), "settings": settings_table(ours)}
        if len(ours) > 1:
            tables["learning"] = learning_curve(ours)
        suspected = suspicion(ours)
        found = save_results(experiment, predictions, tables, warnings=[suspected] if suspected else [])
        if data.settings.radiomics.features is not None:
            print("  no classifier for new patients: a table does not say how its features were measured", flush=True)
        elif not data.settings.classifier.shuffle_labels:
            save_final(experiment, OuterEstimate.of(found.performance.iloc[0].to_dict()))
        if external:
            final = fitted_final(experiment)
            for cohort in external:
                print(f"  {run_external_test(experiment, final, cohort).describe()}", flush=True)
        draw_features(experiment, tables["importances"])
    return experiment, predictions


def configurations(data: ExperimentData) -> dict[str, tuple[Dataset, ClassifierConfig]]:
    """Method -> data set and settings, for our classifier and the baselines; prints the unavailable baselines."""
    settings = data.settings.classifier
    for method, reason in left_out_baselines(data).items():
        print(f"  without {method}: {reason}", flush=True)
    found = {OURS: (data.dataset, settings)}
    for method, (dataset, own) in baseline_datasets(data.dataset).items():
        found[method] = dataset, dataclasses.replace(settings, **own)
    return found


def feature_importances(ours: Sequence[SplitResult]) -> pd.DataFrame:
    """The selected features of each split: repeat, fold, feature, importance (drop of the test AUC when permuted)."""
    tables = [result.chosen.assign(repeat=result.split.repeat, fold=result.split.fold) for result in ours]
    return pd.concat(tables, ignore_index=True)[["repeat", "fold", "feature", "importance"]]


def settings_table(ours: Sequence[SplitResult]) -> pd.DataFrame:
    """The result of each split's search: repeat, fold, inner_auc, threshold, seconds and the settings.

    Where several are averaged they have a row each, with their `rank`; the best is 1.
    """
    names = ("inner_auc", "threshold", "seconds")
    return pd.DataFrame(
        {
            "repeat": one.split.repeat,
            "fold": one.split.fold,
            **({"rank": rank} if len(one.averaged) > 1 else {}),
            **{name: getattr(one, name) for name in names},
            **params,
        }
        for one in ours
        for rank, params in enumerate(one.averaged, 1)
    )


def learning_curve(ours: Sequence[SplitResult]) -> pd.DataFrame:
    """Mean AUC over splits at each size of the training set: n, mean, low, high, seeds (splits)."""
    tables = []
    for number, result in enumerate(ours):
        tested = int(result.predictions["test"].iloc[0])
        tables.append(result.learning.assign(seed=number, test=tested, place=range(len(result.learning))))
    curve = pd.concat(tables, ignore_index=True)
    curve["n"] = curve.groupby("place")["n"].transform("mean").round().astype(int)  # splits differ by a patient
    return summarise_learning(curve)


def fitted_final(experiment: Experiment) -> Final:
    """The classifier fitted on all patients: the kept one, or a new one after a search."""
    folder = experiment.folder / FINAL
    try:
        return Final.load(folder)
    except (OSError, ValueError):
        print("  searching for and fitting the classifier on all patients", flush=True)
        return make_final(experiment, folder)


def save_final(experiment: Experiment, outer: OuterEstimate | None) -> None:
    """Log the classifier for new patients, with its search, as a child run; the study's run gets its tags too.

    `outer` is the performance of such classifiers on held-out patients, which is stored in the model.
    """
    folder, data = experiment.folder / FINAL, experiment.data
    final = fitted_final(experiment)
    if final.facts.outer != outer:
        final = dataclasses.replace(final, facts=dataclasses.replace(final.facts, outer=outer))
        final.save(folder)
    facts, dataset, config = final.facts, data.dataset, data.settings.data
    if facts.caution:
        print(f"  the classifier for new patients gives no verdict: {facts.caution}", flush=True)
    run = experiment.open_child("final, on everybody", role="final")
    if run.tags.get(Tag.STATE) != "finished":
        log_trials(experiment, run, pd.read_csv(folder / artifacts.TRIALS), "final")
        cases = frame(dataset, facts.combat)
        example = cases.median(numeric_only=True).to_frame().T
        if facts.combat:
            example[facts.combat] = str(cases[facts.combat].mode().iloc[0])
        from lab.evaluation.fault_injection import fit_to_training  # once a study

        contract = Contract.of(data.cohort, config.inputs, config.target)
        reference = fit_to_training(data.cohort, list(dataset.table.index), contract)
        parameters = data.settings.radiomics.parameters or PARAMETERS
        uri = log_classifier(run, folder, contract, example, reference, parameters=parameters)
        tags = {Tag.MODEL: uri, Tag.KIND: "classifier", Tag.EVENT: dataset.event, Tag.PHANTOM: dataset.phantom}
        tags |= {Tag.COHORT: data.cohort.digest, Tag.SEED: data.settings.classifier.seed, Tag.LABEL: OURS}
        run.describe(described(facts.averaged), tags)
        experiment.run.set_tags(tags)
        figures = {"val/auc": facts.inner_auc, "val/threshold": facts.threshold}
        if outer is not None:
            figures |= {"test/auc": outer.auc, "test/auc_low": outer.auc_low, "test/auc_high": outer.auc_high}
        run.log_metrics_once(figures, known_by="val/auc")
    run.end("finished")
