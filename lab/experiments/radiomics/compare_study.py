"""Comparison of the classifier study, WORC and the networks' predicted images on the same patients and splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd

from lab.config import RadiomicsConfig
from lab.experiments.radiomics.classifier_study import run_classifiers
from lab.experiments.radiomics.experiment import Experiment, ExperimentData, load_data, open_experiment
from lab.experiments.radiomics.report import conduct, write_classifier_report
from lab.experiments.radiomics.results import draw_features, own_tables, save_results
from lab.experiments.radiomics.synthesis_baseline import synthetic_scores
from lab.experiments.radiomics.worc_study import run_worc_splits, without_ours, worc_params
from lab.radiomics.worc.settings import WorcSettings
from lab.tracking import artifacts
from lab.tracking.run import Run

NAME = "compare"
QUESTION = (
    "Which method tells tumours that are {event} from the others best: WORC, our own classifier or a simple baseline?"
)


def run_compare_study(settings: RadiomicsConfig, worc: WorcSettings, synthesis: Sequence[str] = ()) -> str:
    """Run the missing parts of both experiments and compare them; returns the id of the comparison's run.

    `synthesis` names runs or studies of networks. Raises ValueError or OSError as its parts do.
    """
    networks: list[pd.DataFrame] = []

    def load() -> ExperimentData:
        data = load_data(settings)
        networks.extend(synthetic_scores(name, data.dataset) for name in synthesis)  # a wrong name fails early
        return data

    def compare(data: ExperimentData) -> Experiment:
        own = worc_params(worc) | ({"synthesis": ", ".join(synthesis)} if synthesis else {})
        question = QUESTION.format(event=data.dataset.event)
        experiment = open_experiment(data, NAME, question, source="radiomics/compare.py", own=own)
        with experiment.run.ending():
            ours, predictions = run_classifiers(data)
            finish_part(ours.run)
            plain = dataclasses.replace(data, settings=without_ours(data.settings))
            theirs, by_worc = run_worc_splits(plain, worc)
            finish_part(theirs.run)
            experiment.run.set_tags({"classifier_run": ours.run.id, "worc_run": theirs.run.id})
            tables = own_tables(ours.run) | own_tables(theirs.run)
            save_results(experiment, pd.concat([predictions, by_worc, *networks], ignore_index=True), tables)
            draw_features(experiment, tables["importances"])
        return experiment

    return conduct(load, compare)


def finish_part(run: Run) -> None:
    """Write the report of a part of the comparison, unless it has one."""
    if run.has_file(artifacts.REPORT):
        run.end("finished")
    else:
        write_classifier_report(run, quiet=True)
