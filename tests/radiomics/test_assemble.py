"""From a cohort to what a classifier learns from: nobody lost in silence, nothing known of a patient made up."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pandas as pd
import pytest

from lab.config import ClassifierConfig, DataConfig
from lab.radiomics import assemble as assembly
from lab.radiomics.assemble import assemble, feature_settings, labelled
from lab.radiomics.baselines import baseline_datasets, baselines_left_out

DATA = DataConfig(inputs=("T1", "T2"), processes=1)
PLAIN = ClassifierConfig(stability=0.0)
FEW_FEATURES = """
setting: {binCount: 16, minimumROISize: 26, minimumROIDimensions: 3, additionalInfo: false, label: 1}
imageType: {Original: {}}
featureClass: {shape: [VoxelVolume], firstorder: [Mean, Skewness]}
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Cache of a few features instead of a thousand, which take a minute."""
    folder = tmp_path_factory.mktemp("features")
    parameters = folder / "few.yaml"
    parameters.write_text(FEW_FEATURES)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("measure_cohort", "measure_perturbed"):
            patch.setattr(assembly, name, partial(getattr(assembly, name), parameters=parameters))
        yield folder / "cache"


@pytest.fixture(scope="module")
def dataset(tiny_cohort, cache):
    return assemble(tiny_cohort, DATA, PLAIN, cache)


def with_columns(cohort, **columns):
    return dataclasses.replace(cohort, index=cohort.index.assign(**columns))


def test_cases_have_features_and_label_or_a_reason(tiny_cohort, dataset):
    assert set(dataset.table.index) | set(dataset.left_out) == set(tiny_cohort.index.index)
    assert not set(dataset.table.index) & set(dataset.left_out)
    assert dataset.labels.to_dict() == tiny_cohort.index.loc[dataset.table.index, "enhancing"].astype(int).to_dict()
    assert {name.partition("_")[0] for name in dataset.features} == {"T1", "T2", "MASK"}
    assert np.isfinite(dataset.features).all(axis=None)
    assert dataset.phantom
    assert dataset.event == "enhancing"


def test_a_case_without_label_is_left_out_with_the_reason(tiny_cohort, cache, dataset):
    grade = pd.array([2, 3, 4] * 4, dtype="Int64")
    first = tiny_cohort.index.index.get_loc(dataset.table.index[0])
    grade[first] = pd.NA
    found = assemble(with_columns(tiny_cohort, grade=grade), DATA, dataclasses.replace(PLAIN, label="grade"), cache)
    assert found.left_out[dataset.table.index[0]] == "grade unknown"
    assert list(found.table.index) == list(dataset.table.index[1:])
    assert found.digest != dataset.digest


def test_what_nobody_knows_is_nan_and_no_rival(tiny_cohort, cache):
    """BraTS has neither age nor sex: the columns are empty, of pandas' own kind of nothing."""
    unknown = with_columns(
        tiny_cohort,
        age=pd.array([pd.NA] * 12, dtype="Float64"),
        sex=pd.array([pd.NA] * 12, dtype="string"),
        vendor=pd.array(["GE", pd.NA] * 6, dtype="string"),
    )
    found = assemble(unknown, DATA, PLAIN, cache)
    assert found.table["age"].dtype == float
    assert found.table[["age", "sex"]].isna().all(axis=None)
    assert set(found.table["vendor"].dropna()) == {"GE"}
    assert "clinical (age, sex)" not in baseline_datasets(found)
    assert "neither age nor sex" in baselines_left_out(found)["clinical (age, sex)"]


def test_of_a_patient_with_two_labels_the_scans_with_label_1_are_taken(tiny_cohort):
    enhancing = tiny_cohort.index["enhancing"]
    one, other = enhancing.index[enhancing][0], enhancing.index[~enhancing][0]
    same = tiny_cohort.index["patient_id"].where(
        lambda ids: ids.index != other, tiny_cohort.index.loc[one, "patient_id"]
    )
    found = labelled(with_columns(tiny_cohort, patient_id=same), DATA, PLAIN)
    assert found.table.loc[one, "label"] == 1
    assert other not in found.table.index
    assert "another scan of the patient has label 1" in found.left_out[other]


def test_shuffled_labels_are_dealt_by_the_seed(tiny_cohort, cache, dataset):
    first, again, other = (
        assemble(tiny_cohort, DATA, dataclasses.replace(PLAIN, shuffle_labels=True, seed=seed), cache)
        for seed in (0, 0, 1)
    )
    assert first.labels.equals(again.labels)
    assert first.labels.sum() == dataset.labels.sum()
    assert not first.labels.equals(other.labels)


def test_changed_masks_are_of_the_cases_that_bear_them_all(tiny_cohort, cache, dataset):
    found = assemble(tiny_cohort, DATA, ClassifierConfig(stability=0.75, stability_cases=12), cache)
    sizes = {len(table) for table in found.perturbed.values()}
    assert len(sizes) == 1
    cases = found.perturbed["none"].index
    assert 2 <= len(cases) <= len(dataset.table)  # at 8 mm erosion leaves nothing of some
    pd.testing.assert_frame_equal(found.perturbed["none"], dataset.features.loc[cases], check_names=False)
    assert not found.perturbed["dilate"].equals(found.perturbed["none"])
    part = found.part(list(cases[:2]))
    assert list(part.perturbed["erode"].index) == list(cases[:2])
    few = found.with_features(found.features[["T1_original_firstorder_Mean"]])
    assert few.perturbed["erode"].shape[1] == few.features.shape[1] == 1


def test_what_computes_the_features_is_told():
    told = feature_settings()
    assert told["binCount"] == "32"
    assert "Wavelet" in told["image types"]
    assert "glcm" in told["classes"]
