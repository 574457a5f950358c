"""The external test: the finished classifier predicts other cohorts once, and the study's run keeps what it shows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lab.experiments.radiomics.experiment import Experiment
from lab.radiomics.assess.assess import COLUMNS, assess
from lab.radiomics.assess.external import FACTS, PREDICTED, ExternalTest, unlike_names
from lab.radiomics.features.image_features import PARAMETERS
from lab.radiomics.pipeline.fitted import Final
from lab.radiomics.pipeline.steps import frame
from lab.tracking import artifacts
from lab.tracking.run import Run

if TYPE_CHECKING:
    from lab.experiments.radiomics.external_cohort import ExternalCohort


def run_external_test(experiment: Experiment, final: Final, external: ExternalCohort) -> ExternalTest:
    """Predict a cohort with the classifier that was fitted on all training patients; the test is on the study's run.

    Nothing of the cohort changes the classifier: its threshold, calibration and ComBat are those of training. A test on
    the same data replaces the earlier one, which it equals.
    """
    data, dataset = experiment.data, external.dataset
    test = ExternalTest(
        slug=external.slug,
        name=dataset.name,
        event=dataset.event,
        digest=dataset.digest,
        source=str(external.path.resolve()),
        left_out=dataset.left_out,
        shared=list(external.shared),
        heads_compared=external.heads_compared,
        training=data.dataset.name,
        training_patients=final.facts.patients,
        training_events=final.facts.events,
        predictions=(predictions := predict_external(experiment, final, external)),
        assessment=assess(
            predictions,
            main=dataset.name,
            seed=data.settings.classifier.seed,
            groups=dataset.table.rename_axis("case_id"),
        ),
    )
    run = experiment.run
    with tempfile.TemporaryDirectory() as scratch:
        test.write_tables(Path(scratch))
        run.log_folder(Path(scratch), artifacts.external(test.slug))
    run.log_json(test.facts, f"{artifacts.external(test.slug)}/{FACTS}")  # last: a test without facts is not finished
    known = run.metrics
    figures = {name: value for name, value in test.metrics().items() if known.get(name) != value}
    if figures:
        run.log_metrics(figures)
    return test


def predict_external(experiment: Experiment, final: Final, external: ExternalCohort) -> pd.DataFrame:
    """The classifier's answers: a row per case, columns `COLUMNS` and `PREDICTED`, the cohort's name as the method."""
    data, dataset, radiomics = experiment.data, external.dataset, experiment.data.settings.radiomics
    how: dict[str, Any] = {}
    if radiomics.features is None:
        how = {"parameters": radiomics.parameters or PARAMETERS, "spacing_mm": external.cohort.spacing_mm}
    answers = final.predict(frame(dataset, final.facts.combat), **how)
    table = dataset.table
    known = {
        "method": dataset.name,
        "repeat": 1,
        "fold": 1,
        "case_id": list(table.index),
        "patient_id": dataset.patients.to_numpy(),
        "label": dataset.labels.to_numpy(),
        "score": answers["probability"].to_numpy(),
        "threshold": final.facts.threshold,
        "train": data.dataset.patients.nunique(),
        "test": dataset.patients.nunique(),
    }
    assert tuple(known) == COLUMNS
    return pd.DataFrame(known | {name: answers[name].to_numpy() for name in PREDICTED})


def read_external(run: Run) -> list[ExternalTest]:
    """The finished external tests of a study's run, in the order of their slugs."""
    found = []
    for folder in sorted(run.files(artifacts.EXTERNAL)) if artifacts.EXTERNAL in run.files() else ():
        if f"{folder}/{FACTS}" in run.files(folder):
            with tempfile.TemporaryDirectory() as scratch:
                found.append(ExternalTest.read(run.download(folder, Path(scratch))))
    return unlike_names(found)
