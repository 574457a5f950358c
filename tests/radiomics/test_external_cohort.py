"""Cohorts for the external test: what is taken from them, and what they are refused for, in words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lab.config import ClassifierConfig, DataConfig, FeatureConfig, RadiomicsConfig
from lab.experiments.radiomics import external_cohort
from lab.experiments.radiomics.experiment import ExperimentData, load_data
from lab.experiments.radiomics.external_cohort import (
    check_alike,
    load_external,
    patients_of_training,
    settings_of_scans,
)
from lab.io.case_file import read_case_record
from lab.radiomics.assemble import labelled
from lab.radiomics.labels import read_labels

FEATURES = [f"original_glcm_F{number}" for number in range(6)]


def table(path: Path, count: int, prefix: str, **columns: object) -> Path:
    """A feature table: every third case is IDH-mutant."""
    rng = np.random.default_rng(len(prefix) + count)
    found = pd.DataFrame(rng.normal(size=(count, len(FEATURES))), columns=FEATURES)
    found.insert(0, "case_id", [f"{prefix}{number:03d}" for number in range(count)])
    found.assign(idh=np.arange(count) % 3 == 0, **columns).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def of_table(tmp_path_factory) -> ExperimentData:
    path = table(tmp_path_factory.mktemp("training") / "a.csv", 60, "a")
    chosen = ClassifierConfig(label="idh", folds=2, repeats=1)
    settings = RadiomicsConfig(radiomics=FeatureConfig(features=path), classifier=chosen)
    return load_data(settings, say=lambda line: None)


@pytest.fixture(scope="module")
def of_scans(tiny_cohort) -> ExperimentData:
    settings = RadiomicsConfig(data=DataConfig(path=tiny_cohort.path))
    dataset = labelled(tiny_cohort, settings.data, settings.classifier)
    return ExperimentData(settings=settings, cohort=tiny_cohort, dataset=dataset, splits=())


def test_a_table_gives_the_features_of_training_whatever_it_holds(of_table, tmp_path):
    """A constant column, other capitals, more columns and another order are no reason to refuse."""
    path = table(tmp_path / "b.csv", 30, "b", more=1.0)
    written = pd.read_csv(path).assign(original_glcm_F2=4.0).rename(columns={"original_glcm_F3": "Original GLCM F3"})
    written.loc[[0, 1], "case_id"] = ["a004", "b900"]
    written[written.columns[::-1]].to_csv(path, index=False)
    said: list[str] = []
    (found,) = load_external([path, path], of_table, said.append)
    assert list(found.dataset.features) == FEATURES
    assert found.shared == ("a004",)
    assert found.dataset.left_out == {"a004": "a patient of the training cohort, the same id"}
    assert any("1 of 30 cases are of the training cohort's patients: a004 (the same id)" in line for line in said)
    expected = written.set_index("case_id").loc[list(found.dataset.table.index)]
    np.testing.assert_allclose(found.dataset.features["original_glcm_F3"], expected["Original GLCM F3"])
    assert found.dataset.labels.to_dict() == expected["idh"].astype(int).to_dict()
    assert found.slug == f"b-{found.dataset.digest[:6]}"
    other = dataclasses.replace(of_table, dataset=of_table.dataset.part(list(of_table.dataset.table.index[:30])))
    assert load_external([path], other, said.append)[0].slug == found.slug


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="original_glcm_F5"), "no column original_glcm_F5, which the classifier learns from"),
        (lambda t: t.assign(idh=1), "cases of both classes are needed, all 30 are 1"),
        (lambda t: t.assign(idh=np.arange(30) < 2), "2 patients IDH-mutant and 28 not; a test needs 3 of each"),
        (lambda t: t.assign(case_id=[f"a{n:03d}" for n in range(30)]), "nobody is left to test; if they are other"),
        (lambda t: t.drop(columns="idh"), "cases of both classes are needed, no case has one (idh unknown)"),
    ],
)
def test_what_cannot_be_tested_on_is_told(of_table, tmp_path, change, message):
    path = table(tmp_path / "b.csv", 30, "b")
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"^--external ") as caught:
        load_external([path], of_table, lambda line: None)
    assert message in str(caught.value)


def test_a_table_is_tested_on_a_table_and_chance_on_nobody(of_table, tmp_path):
    with pytest.raises(ValueError, match=r"there is no such CSV file; a classifier of a\.csv is tested on a table"):
        load_external([tmp_path], of_table, lambda line: None)
    chosen = dataclasses.replace(of_table.settings.classifier, shuffle_labels=True)
    control = dataclasses.replace(of_table, settings=dataclasses.replace(of_table.settings, classifier=chosen))
    with pytest.raises(ValueError, match="with shuffled labels there is no classifier to test"):
        load_external([tmp_path], control, lambda line: None)


def test_patients_of_training_are_found_by_id_by_scan_and_by_head(of_scans, tiny_cohort, monkeypatch):
    with pytest.raises(ValueError, match=r"12 of 12 cases are.* \(the same id\).*nobody is left to test"):
        load_external([tiny_cohort.path], of_scans, lambda line: None)
    cases = list(of_scans.dataset.table.index[:6])
    own = of_scans.dataset.part(cases)
    table = own.table.rename(index="T-{}".format).assign(patient_id=[f"T-{case}" for case in cases])
    renamed = dataclasses.replace(own, features=pd.DataFrame(index=table.index), table=table)
    trained, left = dataclasses.replace(of_scans, dataset=renamed), {"scans", "head"}

    def record(path):
        found = read_case_record(path.with_name(path.name.removeprefix("T-")))
        return {name: value for name, value in found.items() if name not in {"scans", "head"} - left}

    monkeypatch.setattr(external_cohort, "read_case_record", record)
    found, compared = patients_of_training(tiny_cohort, trained)
    assert compared
    assert found == {case: f"it holds a scan of T-{case}" for case in cases}
    left.remove("scans")
    found, _ = patients_of_training(tiny_cohort, trained)
    assert found == {case: f"its scans show the head of T-{case}" for case in cases}
    left.remove("head")
    assert patients_of_training(tiny_cohort, trained) == ({}, False)


def test_prepared_scans_must_be_like_those_of_training(of_scans, tiny_cohort):
    check_alike(tiny_cohort, of_scans)

    def changed(**how):
        settings = tiny_cohort.manifest["settings"] | how
        return dataclasses.replace(tiny_cohort, manifest={**tiny_cohort.manifest, "settings": settings})

    finer = dataclasses.replace(tiny_cohort, manifest={**tiny_cohort.manifest, "spacing_mm": 2.0})
    for cohort, message in (
        (finer, "prepared at 2 mm, the training cohort at 8 mm"),
        (changed(clip_sigma=3.0), "prepared with clip_sigma 3.0, the training cohort with 4.0"),
        (changed(enhancing_ml=1.0), "prepared with enhancing_ml 1.0, the training cohort with 0.5"),
        (dataclasses.replace(tiny_cohort, manifest={**tiny_cohort.manifest, "channels": ["T1", "T2"]}), "no FLAIR"),
    ):
        with pytest.raises(ValueError, match=message):
            check_alike(cohort, of_scans)
    chosen = ClassifierConfig(label="grade")
    by_grade = dataclasses.replace(of_scans, settings=dataclasses.replace(of_scans.settings, classifier=chosen))
    check_alike(changed(enhancing_ml=1.0), by_grade)  # it decides nothing there
    check_alike(changed(extent_mm=[100, 100, 100], known_scale=[4000.0, 500.0], brain_mask="nonzero"), of_scans)


def test_scans_are_prepared_as_those_of_training(of_scans, tiny_phantom):
    found = settings_of_scans(tiny_phantom, of_scans)
    assert (found.path, found.spacing_mm, found.layout) == (tiny_phantom, 8.0, "auto")
    assert found.extent_mm == tuple(of_scans.cohort.manifest["settings"]["extent_mm"])
    assert read_labels(of_scans.cohort, "enhancement").event == of_scans.dataset.event
