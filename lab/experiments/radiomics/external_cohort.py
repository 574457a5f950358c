"""Cohorts for the external test: prepared and measured as the training cohort, without the patients of training."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.config import DataConfig
from lab.data.cohort import Cohort, case_path, is_cohort, open_cohort
from lab.data.duplicates import find_duplicates
from lab.data.source import RECIPE, Say, Ticker, describe_cohort, obtain
from lab.experiments.radiomics.experiment import ExperimentData
from lab.io.case_file import read_case_record
from lab.io.files import format_some, plural
from lab.io.sealed_json import fingerprint
from lab.radiomics.assemble import assemble, labelled
from lab.radiomics.dataset import Dataset
from lab.radiomics.features.cohort_features import refuse_enhanced
from lab.radiomics.features.feature_table import read_features, table_cohort
from lab.radiomics.labels import OF_CONTRAST, without_missing_target
from lab.tracking.store import RUNS

LEAST = 3
"""Patients of each class that a test needs."""
LABELLED_BY = ("enhancement_threshold", "enhancing_ml")
"""Settings of a prepared cohort that decide who enhances."""
OF_TRAINING = "a patient of the training cohort"
OTHER_IDS = "if they are other people, give them other ids, as in the column patient_id of a CSV of paths"


@dataclass(frozen=True, kw_only=True)
class ExternalCohort:
    """Patients to test a finished classifier on, none of whom is in its training cohort."""

    path: Path
    cohort: Cohort
    dataset: Dataset
    shared: tuple[str, ...]  # cases left out because the patient is one of the training cohort
    heads_compared: bool

    @property
    def slug(self) -> str:
        """Name in artifacts and metrics: "brats2023-2mm-c8f50d"."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.path.resolve().name.removesuffix(".csv"))
        return f"{name}-{self.dataset.digest[:6]}"


def load_external(paths: Sequence[Path], data: ExperimentData, say: Say = print) -> list[ExternalCohort]:
    """The cohorts at these paths: folders of scans, prepared cohorts, or tables where training had a table.

    Raises ValueError or OSError, with the path, for a cohort that the classifier of this data cannot be tested on.
    """
    if paths and data.settings.classifier.shuffle_labels:
        raise ValueError("--external: with shuffled labels there is no classifier to test; leave one of the two out")
    found = []
    for path in dict.fromkeys(paths):
        say(f"External test on {path}")
        try:
            found.append(_load(path, data, say))
        except ValueError as error:
            raise ValueError(f"--external {path}: {str(error).removeprefix(f'{path}: ')}") from None
    return found


def _load(path: Path, data: ExperimentData, say: Say) -> ExternalCohort:
    table = data.settings.radiomics.features
    if table is not None and not path.is_file():
        raise ValueError(f"there is no such CSV file; a classifier of {table.name} is tested on a table like it")
    if table is not None:
        cohort = table_cohort(path)
    elif is_cohort(path):
        cohort = open_cohort(path)
        check_alike(cohort, data)
        say(describe_cohort(cohort))
    else:
        cohort = obtain(settings_of_scans(path, data), data.settings.phantom, RUNS, say)
    shared, compared = patients_of_training(cohort, data)
    left = cohort.index.index[~cohort.index.index.isin(list(shared))]
    if shared:
        some = "; ".join(f"{case} ({why})" for case, why in list(shared.items())[:3])
        told = f"{len(shared)} of {plural(len(cohort.index), 'case')} are of the training cohort's patients: {some}"
        if left.empty:
            raise ValueError(f"{told}; nobody is left to test; {OTHER_IDS}")
        say(f"  left out, {told}; {OTHER_IDS}")
    dataset = _measure(path, dataclasses.replace(cohort, index=cohort.index.loc[left]), data, say)
    _check_classes(dataset)
    reasons = {case: f"{OF_TRAINING}, {why}" for case, why in shared.items()}
    dataset = dataclasses.replace(dataset, left_out=dataset.left_out | reasons)
    return ExternalCohort(path=path, cohort=cohort, dataset=dataset, shared=tuple(shared), heads_compared=compared)


def settings_of_scans(path: Path, data: ExperimentData) -> DataConfig:
    """Settings that prepare scans as the training cohort's: voxel size, field of view, intensities, enhancement."""
    known = data.cohort.manifest["settings"]
    how: dict[str, Any] = {name: known[name] for name in RECIPE if name in known and name != "patient_pattern"}
    how = {name: tuple(value) if isinstance(value, list) else value for name, value in how.items()}
    chosen = data.settings.classifier
    settings = dataclasses.replace(
        data.settings.data,
        **how,
        path=path,
        spacing_mm=data.cohort.spacing_mm,
        layout="auto",
        labels="auto",
        patient_pattern=None,
        balance=False,
        allow_one_class=True,
    )
    return without_missing_target(settings, chosen.label, file=chosen.labels)


def check_alike(cohort: Cohort, data: ExperimentData) -> None:
    """Raises ValueError where a prepared cohort's features or labels would mean something else than in training.

    Field of view, brain mask and intensity scale may differ: they follow the scans.
    """
    advice = "prepare its scans with the setting of the training cohort, or name their folder, which is prepared so"
    for sequence in data.settings.data.inputs:
        cohort.channel(sequence)
    if abs(cohort.spacing_mm - data.cohort.spacing_mm) > 1e-6:
        sizes = f"{cohort.spacing_mm:g} mm, the training cohort at {data.cohort.spacing_mm:g} mm"
        raise ValueError(f"prepared at {sizes}: features of other voxels are not comparable; {advice}")
    chosen = data.settings.classifier
    alike = ["clip_sigma"] + list(LABELLED_BY) * (chosen.labels is None and chosen.label in OF_CONTRAST)
    for name in alike:
        there, asked = (one.manifest["settings"].get(name) for one in (cohort, data.cohort))
        if there != asked:
            raise ValueError(f"prepared with {name} {there}, the training cohort with {asked}; {advice}")


def patients_of_training(cohort: Cohort, data: ExperimentData) -> tuple[dict[str, str], bool]:
    """Case id -> why it is a patient of training: the same id, a same scan, the same head, or another scan of theirs.

    Heads are compared where both cohorts have one grid; the second value says whether they were.
    """
    found, compared = _cases_of_training(cohort, data)
    patients = cohort.index["patient_id"].astype(str)
    known = patients[patients.isin(patients[patients.index.isin(list(found))])]
    return {str(case): found.get(str(case), f"another scan of {patient}") for case, patient in known.items()}, compared


def _cases_of_training(cohort: Cohort, data: ExperimentData) -> tuple[dict[str, str], bool]:
    training = data.dataset
    ids = set(training.table.index) | set(training.patients)
    found: dict[str, str] = {}
    for case_id, patient_id in cohort.index["patient_id"].astype(str).items():
        if {str(case_id), patient_id} & ids:
            found[str(case_id)] = "the same id"
    if not (cohort.channels and data.cohort.channels):  # tables
        return found, False
    ours = {case: read_case_record(case_path(data.cohort.path, case)) or {} for case in training.table.index}
    theirs = {case: read_case_record(case_path(cohort.path, case)) or {} for case in cohort.index.index}
    scans = {digest: case for case, record in ours.items() for digest in record.get("scans", ())}
    for case, record in theirs.items():
        same = next((scans[digest] for digest in record.get("scans", ()) if digest in scans), None)
        if same is not None:
            found.setdefault(case, f"it holds a scan of {same}")
    heads = {("ours", case): record["head"] for case, record in ours.items() if "head" in record}
    heads |= {("theirs", case): record["head"] for case, record in theirs.items() if "head" in record}
    grids = {head.partition(":")[0] for head in heads.values()}
    if len(grids) != 1 or len(heads) < len(ours) + len(theirs):
        return found, False
    keys = {f"{number:06d}": key for number, key in enumerate(heads)}
    for pair in find_duplicates({name: heads[key] for name, key in keys.items()}, cohort.spacing_mm):
        sides = dict((keys[pair.one], keys[pair.other]))
        if len(sides) == 2:
            found.setdefault(sides["theirs"], f"its scans show the head of {sides['ours']}")
    return found, True


def _measure(path: Path, cohort: Cohort, data: ExperimentData, say: Say) -> Dataset:
    """Labels and features of a cohort, made as those of training."""
    own, radiomics = data.settings.data, data.settings.radiomics
    chosen = dataclasses.replace(data.settings.classifier, stability=0.0, stability_cases=0)
    if radiomics.features is not None and chosen.labels == radiomics.features:
        chosen = dataclasses.replace(chosen, labels=path)  # the label is a column of the table itself
    bare = labelled(cohort, own, chosen, say)
    _check_classes(bare)
    if radiomics.features is not None:
        return _with_table(bare, path, cohort, data, say)
    refuse_enhanced(cohort, own.inputs, None if radiomics.contrast == "refuse" else say)
    ticker = Ticker("cases measured", say)
    cache = RUNS / "features" / "cache"
    return assemble(cohort, own, chosen, cache, progress=ticker, radiomics=radiomics, say=lambda _: None)


def _with_table(bare: Dataset, path: Path, cohort: Cohort, data: ExperimentData, say: Say) -> Dataset:
    """The labelled cases with the features of training from a table."""
    found = read_features(path, cohort, columns=list(data.dataset.features), say=say)
    cases = [case for case in bare.table.index if case in set(found.table.index)]
    features = found.table.loc[cases].rename_axis("case_id")
    table = bare.table.loc[cases]
    digest = fingerprint([cohort.digest, table["label"].to_dict()], length=32)
    left_out = bare.left_out | found.left_out
    return dataclasses.replace(bare, features=features, table=table, digest=digest, left_out=left_out)


def _check_classes(dataset: Dataset) -> None:
    """Raises ValueError where a class has too few patients."""
    truth = dataset.labels.groupby(dataset.patients).max()
    events, others = int(truth.sum()), int((truth == 0).sum())
    if min(events, others) < LEAST:
        reasons = f" (left out: {format_some(sorted(set(dataset.left_out.values())))})" if dataset.left_out else ""
        raise ValueError(
            f"{plural(events, 'patient')} {dataset.event} and {others} not{reasons}; a test needs {LEAST} of each"
        )
