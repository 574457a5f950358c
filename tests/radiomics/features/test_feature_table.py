"""Features from a user's own table: what counts as one, whose they are, and what is said of the rest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lab.config import ClassifierConfig, FeatureConfig, RadiomicsConfig
from lab.experiments.radiomics.experiment import load_data
from lab.radiomics.baselines import CLINICAL, MASK_SHAPE, OURS, VOLUME, baseline_datasets
from lab.radiomics.features.cohort_features import measure_cohort
from lab.radiomics.features.feature_table import read_features, table_cohort
from lab.radiomics.labels import read_labels
from lab.radiomics.worc.inputs import our_name, worc_names

CASES, COLUMNS = 120, 500
FEW_FEATURES = """
setting: {binCount: 16, minimumROISize: 1, minimumROIDimensions: 1, additionalInfo: false, label: 1}
imageType: {Original: {}}
featureClass: {shape: [VoxelVolume], firstorder: [Mean, Skewness]}
"""


@pytest.fixture
def awkward(tmp_path) -> Path:
    """pyradiomics' and others' columns, ids as numbers, gaps, constants, text and a column of answers."""
    rng = np.random.default_rng(0)
    names = [f"original_glcm_F{number}" for number in range(COLUMNS - 40)]
    names += [f"tf_LBP_{number}" for number in range(20)] + [f"Odd name.{number}" for number in range(20)]
    table = pd.DataFrame(rng.normal(size=(CASES, COLUMNS)), columns=names)
    table = table.mask(pd.DataFrame(rng.random(table.shape) < 0.02, columns=names))
    table.iloc[:, 10], table.iloc[:, 20], table.iloc[3, 30] = 3.0, np.nan, np.inf
    table.iloc[30:, 40] = np.nan
    table["original_shape_MeshVolume"] = np.arange(CASES) + 1000.0
    table["diagnostics_Versions_PyRadiomics"], table["diagnostics_Mask-original_VoxelNum"] = "v3.0.1", np.arange(CASES)
    table["Image"], table["Age"], table["Label"] = [f"/scans/{n}.nii.gz" for n in range(CASES)], 40, 1
    table["IDH status"] = ["mutant", "wild type"] * (CASES // 2)
    table.insert(0, "PatientID", np.arange(1, CASES + 1))
    table.to_csv(tmp_path / "awkward.csv", index=False, sep=";", decimal=",")
    return tmp_path / "awkward.csv"


def test_an_awkward_table_gives_its_features(awkward):
    said: list[str] = []
    cohort = table_cohort(awkward)
    found = read_features(awkward, cohort, label="IDH status", say=said.append)
    assert found.left_out == {}
    assert found.table.shape == (CASES, COLUMNS + 1 - 3)
    assert list(found.table.index) == [str(number) for number in range(1, CASES + 1)]
    assert found.table["Odd name.0"].notna().mean() > 0.9
    assert np.isnan(found.table["original_glcm_F30"].iloc[3])
    assert not np.isinf(found.table).any(axis=None)
    assert "2 diagnostics, 2 mostly empty, 1 constant, no features: Age, Label, IDH status" in said[-1]
    names = worc_names(list(found.table))
    assert [our_name(name, list(found.table)) for name in names] == list(found.table)
    assert names[0] == "tf_original_GLCM_00000"
    assert {name.partition("_")[0] for name in names} == {"tf", "hf", "sf"}


def test_labels_in_the_table_or_beside_it_are_of_the_same_cases(awkward, tmp_path):
    cohort, beside = table_cohort(awkward), tmp_path / "labels.csv"
    pd.DataFrame({"id": [f"{n:03d}" for n in range(1, 121)], "idh": [1, 0] * 60}).to_csv(beside, index=False)
    own = read_labels(cohort, "IDH status", file=awkward, say=lambda _: None)
    assert own.values.tolist() == read_labels(cohort, "idh", file=beside, say=lambda _: None).values.tolist()


def test_a_study_of_a_table_has_no_scans_and_knows_what_it_lacks(awkward):
    settings = RadiomicsConfig(
        classifier=ClassifierConfig(label="IDH status", folds=2, repeats=1), radiomics=FeatureConfig(features=awkward)
    )
    said: list[str] = []
    data = load_data(settings, said.append)
    assert data.ask("By {scans}?").startswith("By the features of ")
    assert (data.dataset.features.shape, data.dataset.labels.sum(), len(data.splits)) == ((120, 498), 60, 2)
    assert data.settings.classifier.stability == 0
    assert any("No stability filter" in line for line in said)
    found = baseline_datasets(data.dataset)
    assert list(found) == [VOLUME, MASK_SHAPE]  # one age for all
    assert not {OURS, CLINICAL} & set(found)
    for label, message in (("mood", "has no such column"), ("enhancement", "--label enhancement")):
        wrong = dataclasses.replace(settings.classifier, label=label)
        with pytest.raises(ValueError, match=message):
            load_data(dataclasses.replace(settings, classifier=wrong), said.append)


def test_what_the_lab_measured_can_be_given_back(tiny_cohort, tmp_path):
    parameters, file = tmp_path / "few.yaml", tmp_path / "features.csv"
    parameters.write_text(FEW_FEATURES)
    measured = measure_cohort(tiny_cohort, ("T1", "T2"), tmp_path, parameters=parameters, processes=1).table
    measured.reset_index().to_csv(file, index=False)
    for cohort in (tiny_cohort, table_cohort(file)):
        found = read_features(file, cohort, say=lambda _: None).table
        pd.testing.assert_frame_equal(found, measured, check_exact=True, check_index_type=False)
    part = measured.iloc[1:].reset_index().rename(columns={"case_id": "Patient"})
    part.to_csv(file, index=False)
    found = read_features(file, tiny_cohort, say=lambda _: None)
    assert found.left_out == {measured.index[0]: "features.csv: no row"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case_id,a\n1,2\n1,3\n2,4\n", r"1 has two rows \(lines 2 and 3\)"),
        ("colour,a\nred,2\nblue,3\n", "no column with the cases' ids"),
        ("case_id,a,b\n1,x,3\n2,y,3\n", "no column holds numbers that differ"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, text, message):
    file = tmp_path / "wrong.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_features(file, table_cohort(file), say=lambda _: None)


def test_an_index_that_pandas_wrote_names_the_cases(tmp_path):
    file = tmp_path / "index.csv"
    pd.DataFrame({"a": [1.0, 2.0], "b": [2.5, np.nan]}, index=["P1", "P2"]).to_csv(file)
    assert list(read_features(file, table_cohort(file), say=lambda _: None).table.columns) == ["a"]
