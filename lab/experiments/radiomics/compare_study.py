"""Comparison of the classifier study, WORC and what networks predict, on the same patients and splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd

from lab.config import RadiomicsConfig
from lab.experiments.radiomics.classifier_study import run_classifiers
from lab.experiments.radiomics.experiment import Experiment, ExperimentData, load_data, open_experiment
from lab.experiments.radiomics.nested_run import run_splits
from lab.experiments.radiomics.report import conduct, write_classifier_report
from lab.experiments.radiomics.results import draw_features, own_tables, save_results
from lab.experiments.radiomics.synthesis_baseline import synthetic_scores
from lab.experiments.radiomics.worc_study import run_worc_splits, without_ours, worc_facts, worc_params
from lab.io.files import plural
from lab.radiomics.baselines import WORC
from lab.radiomics.worc.settings import WorcSettings
from lab.tracking import artifacts
from lab.tracking.run import Run
from lab.tracking.store import RUNS

NAME = "compare"
QUESTION = (
    "Which method tells tumours that are {event} from the others best: WORC, our own classifier or a simple baseline?"
)
DRAWN = "Does a drawn image help to tell tumours that are {event} from the others?"


def run_compare_study(
    settings: RadiomicsConfig, worc: WorcSettings | None, synthesis: Sequence[str] = (), *, drawn: bool = False
) -> str:
    """Run the missing parts of all experiments and compare them; returns the id of the comparison's run.

    `worc` None leaves WORC out. `synthesis` names runs or studies of networks; with `drawn` our classifier is also
    trained with the features of what the networks of the only one draw. Raises ValueError or OSError as its parts do.
    """
    if drawn and len(synthesis) != 1:
        raise ValueError("--drawn needs the study whose networks draw, and only one: --synthesis STUDY")
    if drawn and settings.radiomics.features is not None:
        raise ValueError("--drawn measures drawn images as the lab measures scans; leave --features out")
    networks: list[pd.DataFrame] = []

    def load() -> ExperimentData:
        data = load_data(settings)
        networks.extend(synthetic_scores(name, data.dataset) for name in synthesis)  # a wrong name fails early
        if drawn:
            from lab.experiments.radiomics.drawn_features import out_of_fold  # torch

            out_of_fold(synthesis[0], data.dataset, data.cohort)
        return data

    def compare(data: ExperimentData) -> Experiment:
        own: dict[str, object] = {"worc": "none"} if worc is None else worc_params(worc)
        own |= {"synthesis": ", ".join(synthesis)} if synthesis else {}
        own |= {"drawn": True} if drawn else {}
        question = data.ask(DRAWN if drawn else QUESTION)
        experiment = open_experiment(data, NAME, question, source="radiomics/compare.py", own=own)
        with experiment.run.ending():
            ours, predictions = run_classifiers(data)
            finish_part(ours.run)
            experiment.run.set_tags({"classifier_run": ours.run.id})
            tables, found, warnings = own_tables(ours.run), [predictions], []
            if drawn:
                from lab.experiments.radiomics.drawn_features import CAUTION

                found.append(run_drawn(experiment, synthesis[0]))
                warnings.append(CAUTION)
            if worc is not None:
                plain = dataclasses.replace(data, settings=without_ours(data.settings))
                theirs, by_worc = run_worc_splits(plain, worc)
                finish_part(theirs.run)
                experiment.run.set_tags({"worc_run": theirs.run.id})
                tables |= own_tables(theirs.run)
                found.append(by_worc)
            by_worc_alone = {} if worc is None else worc_facts(worc)["settings"]
            facts = {"settings": {f"{WORC}: {name}": value for name, value in by_worc_alone.items()}}
            everything = pd.concat([*found, *networks], ignore_index=True)
            save_results(experiment, everything, tables, warnings=warnings, facts=facts)
            draw_features(experiment, tables["importances"])
        return experiment

    return conduct(load, compare)


def run_drawn(experiment: Experiment, name: str) -> pd.DataFrame:
    """Predictions of our classifier with the features of drawn images and probability maps, on all splits."""
    from lab.experiments.radiomics.drawn_features import drawn_methods

    with experiment.alone():
        methods = drawn_methods(name, experiment.data, RUNS / "features" / "cache")
        print(f"{' and '.join(methods)}, on {plural(len(experiment.data.splits), 'split')}", flush=True)
        results = run_splits(experiment, methods)
    return pd.concat([result.predictions for result in results], ignore_index=True)


def finish_part(run: Run) -> None:
    """Write the report of a part of the comparison, unless it has one."""
    if run.has_file(artifacts.REPORT):
        run.end("finished")
    else:
        write_classifier_report(run, quiet=True)
