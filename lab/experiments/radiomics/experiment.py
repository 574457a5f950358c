"""An experiment of the radiomics arm: the shared patients, labels and splits, and the MLflow run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from lab.config import DEMO, ClassifierConfig, FeatureConfig, PhantomConfig, RadiomicsConfig, flatten, identifying
from lab.data.cohort import Cohort
from lab.data.layouts.table import column_key, read_table
from lab.data.source import Say, Ticker, obtain
from lab.experiments.parent_run import open_parent
from lab.io.files import enumerated, plural
from lab.io.sealed_json import fingerprint
from lab.radiomics.assemble import assemble, labelled
from lab.radiomics.dataset import Dataset
from lab.radiomics.features.cohort_features import refuse_enhanced
from lab.radiomics.features.feature_table import table_cohort
from lab.radiomics.features.image_features import load_extractor
from lab.radiomics.labels import LABELS_OF_INDEX, without_missing_target
from lab.radiomics.pipeline.search_space import CLASSIFIERS
from lab.radiomics.splits import Split, make_splits
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run
from lab.tracking.store import RUNS

SAME = (
    "classifier.labels", "classifier.workers", "data.path", "data.processes", "data.layout", "data.labels",
    "radiomics.contrast", "radiomics.features", "radiomics.parameters",
)  # fmt: skip
"""Settings that do not change the result, or that the digests of labels and cohort cover."""


@dataclass(frozen=True, kw_only=True)
class ExperimentData:
    """Cohort, data set and splits of an experiment."""

    settings: RadiomicsConfig
    cohort: Cohort
    dataset: Dataset
    splits: tuple[Split, ...]

    @property
    def key(self) -> str:
        """Digest of everything that two comparable results share."""
        settings = identifying(flatten(self.settings))
        chosen = {name: value for name, value in settings.items() if not name.startswith("phantom.")}
        return fingerprint([self.dataset.digest, {name: value for name, value in chosen.items() if name not in SAME}])

    @property
    def scans(self) -> str:
        """What the features are of, in words: the sequences, or a table from elsewhere."""
        given = self.settings.radiomics.features
        return enumerated(self.settings.data.inputs) if given is None else f"the features of {given.name}"

    def ask(self, question: str) -> str:
        """A question with its `{event}` and its `{scans}`."""
        return question.format(event=self.dataset.event, scans=self.scans)

    @property
    def split_sizes(self) -> tuple[int, float, float]:
        """Number of splits, and the mean numbers of training and test patients."""
        patients = self.dataset.patients
        parts = [(patients[list(one.train)].nunique(), patients[list(one.test)].nunique()) for one in self.splits]
        train, test = zip(*parts)
        return len(parts), float(np.mean(train)), float(np.mean(test))

    def split_table(self) -> pd.DataFrame:
        """Training and test cases of each split: repeat, fold, case_id, patient_id, label, split."""
        table = self.dataset.table[["patient_id", "label"]].rename_axis("case_id").reset_index()
        parts = [
            table.assign(
                repeat=one.repeat,
                fold=one.fold,
                split=["test" if case in set(one.test) else "train" for case in table["case_id"]],
            )
            for one in self.splits
        ]
        return pd.concat(parts, ignore_index=True)[["repeat", "fold", "case_id", "patient_id", "label", "split"]]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment on the data, with its MLflow run."""

    data: ExperimentData
    name: str
    """Name of the MLflow experiment: classifier, worc or compare."""
    question: str
    run: Run
    key: str
    """Digest of the data and the experiment's own settings."""

    @property
    def folder(self) -> Path:
        """Folder of finished pieces of work."""
        return RUNS / "work" / f"{self.name}-{self.key}"

    def alone(self) -> FileLock:
        """Lock of the folder: a second call at the same time waits, then finds the work done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock")

    def open_child(self, name: str, *, source: str | None = None, **tags: str) -> Run:
        """A child run of the experiment's run, found or created."""
        return Run.open(self.name, name, identity={Tag.STUDY_KEY: self.key, **tags}, parent=self.run, source=source)


def with_demo(settings: RadiomicsConfig) -> RadiomicsConfig:
    """The settings, with the demo's voxel size for the phantom. Raises ValueError for `--phantom` with `--data`."""
    data = settings.data
    if data.path is None and settings.radiomics.features is None:
        spacing = DEMO.data.spacing_mm if data.spacing_mm is None else data.spacing_mm
        return dataclasses.replace(settings, data=dataclasses.replace(data, spacing_mm=spacing))
    if settings.phantom not in (PhantomConfig(), RadiomicsConfig().phantom):
        raise ValueError("--phantom settings do nothing with --data; leave one of the two out")
    return settings


def files_of(radiomics: FeatureConfig) -> dict[str, Path]:
    """The user's own files of features, by setting."""
    return {name: file for name in ("features", "parameters") if (file := getattr(radiomics, name)) is not None}


def load_data(settings: RadiomicsConfig, say: Say = print) -> ExperimentData:
    """Cohort, features, labels and splits; earlier results are reused.

    Raises ValueError or OSError if data or settings do not allow the experiment.
    """
    check_settings(settings)
    settings = with_demo(settings)
    chosen = settings.classifier
    own = settings.radiomics.features
    if own is not None:
        chosen = of_table(settings, own, say)
    data = without_missing_target(settings.data, chosen.label, file=chosen.labels)
    settings = dataclasses.replace(settings, data=data, classifier=chosen)
    if own is not None and data.path is None:
        cohort = table_cohort(own)
    else:
        cohort = obtain(data, settings.phantom, RUNS, say)
    how: dict[str, Any] = {"folds": chosen.folds, "repeats": chosen.repeats}
    how |= {"fractions": data.split, "seed": data.split_seed}
    bare = labelled(cohort, data, chosen, say)
    make_splits(bare, **how)  # fails before the features are measured if a class is too small
    if own is None:
        refuse_enhanced(cohort, data.inputs, None if settings.radiomics.contrast == "refuse" else say)
    ticker = Ticker("cases measured", say)
    cache = RUNS / "features" / "cache"
    dataset = assemble(cohort, data, chosen, cache, progress=ticker, radiomics=settings.radiomics, say=say)
    splits = make_splits(dataset, **how)
    say(describe_dataset(dataset, splits))
    return ExperimentData(settings=settings, cohort=cohort, dataset=dataset, splits=tuple(splits))


def of_table(settings: RadiomicsConfig, table: Path, say: Say) -> ClassifierConfig:
    """Settings for a table of features: its own column of the label, and no stability filter. Raises ValueError."""
    chosen = settings.classifier
    if chosen.combat and settings.data.path is None:
        column = chosen.combat
        if column not in read_table(table).headers:
            raise ValueError(f"--classifier.combat {column}: {table} has no column {column}")
    if chosen.stability:
        say(f"No stability filter: {table.name} holds features of one mask a case")
    labels = chosen.labels
    if labels is None and chosen.label not in LABELS_OF_INDEX:
        if column_key(chosen.label) in read_table(table).headers:
            labels = table
        elif settings.data.path is None:
            raise ValueError(
                f"--label {chosen.label}: {table} has no such column; name a column of it with 0 and 1, or of --labels"
            )
    return dataclasses.replace(chosen, stability=0.0, stability_cases=0, labels=labels)


def check_settings(settings: RadiomicsConfig) -> None:
    """Raises ValueError for settings that cannot work, before anything is computed."""
    chosen = settings.classifier
    if settings.data.normalise != "zscore":
        raise ValueError(f"--data.normalise {settings.data.normalise} is for networks; leave it out for a classifier")
    if chosen.folds < 0 or chosen.folds == 1 or chosen.repeats < 1:
        raise ValueError(f"--folds {chosen.folds} --repeats {chosen.repeats}: 0 or at least 2 folds, at least 1 repeat")
    if chosen.trials < 1 or chosen.inner_folds < 2 or chosen.average < 1:
        raise ValueError("--trials and --classifier.average must be at least 1, --classifier.inner-folds at least 2")
    if not 0 <= chosen.stability < 1:
        raise ValueError(f"--classifier.stability {chosen.stability:g}: an ICC from 0 (no filter) to below 1")
    files = files_of(settings.radiomics)
    if len(files) == 2:
        raise ValueError("--radiomics.parameters does nothing with --features, whose features are measured already")
    if "parameters" in files:
        load_extractor(files["parameters"])  # an unusable file is reported before the scans are prepared
    unknown = sorted(set(chosen.classifiers) - set(CLASSIFIERS))
    if unknown or not chosen.classifiers:
        known = ", ".join(CLASSIFIERS)
        raise ValueError(f"--classifier.classifiers {' '.join(unknown) or '(none)'}: known are {known}")


def describe_dataset(dataset: Dataset, splits: list[Split]) -> str:
    """One line on the data set and the splits."""
    patients, events = dataset.patients.nunique(), int(dataset.labels.groupby(dataset.patients).max().sum())
    left = f", {len(dataset.left_out)} left out" if dataset.left_out else ""
    return (
        f"{plural(patients, 'phantom ' * dataset.phantom + 'patient')}, {events} {dataset.event}, "
        f"{plural(dataset.features.shape[1], 'feature')}{left}; {plural(len(splits), 'split')}"
    )


def open_experiment(
    data: ExperimentData, name: str, question: str, *, source: str, own: Mapping[str, Any] | None = None
) -> Experiment:
    """The experiment's run, found or created, with its settings, patients and splits.

    `source` is the script; `own` holds settings that only this experiment has.
    """
    key = fingerprint([data.key, dict(own or {})])
    own = dict(own or {})
    dataset, chosen = data.dataset, data.settings.classifier
    words = [name, "phantom" * dataset.phantom, chosen.label, "shuffled" * chosen.shuffle_labels, key[:6]]
    settings = {
        key: value
        for key, value in flatten(data.settings).items()
        if key not in SAME and (dataset.phantom or not key.startswith("phantom."))
    }
    own |= {f"radiomics.{name}": file.name for name, file in files_of(data.settings.radiomics).items()}
    run = open_parent(
        name,
        " ".join(filter(None, words)),
        key=key,
        question=question,
        cohort=data.cohort,
        params=settings | own,
        tags={Tag.SEED: chosen.seed, Tag.EVENT: dataset.event, Tag.DATASET: dataset.digest},
        source=source,
    )
    run.log_table(data.split_table(), artifacts.SPLIT)
    run.log_table(dataset.table.rename_axis("case_id").reset_index(), artifacts.PATIENTS)
    left = pd.DataFrame(sorted(dataset.left_out.items()), columns=["case_id", "reason"])
    run.log_table(left, artifacts.LEFT_OUT)
    return Experiment(data=data, name=name, question=question, run=run, key=key)
