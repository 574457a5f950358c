"""Voxelwise boosting as a baseline of the classifier: what it is given, and for which data it exists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lab.config import ClassifierConfig, FeatureConfig, RadiomicsConfig
from lab.experiments.radiomics.experiment import ExperimentData
from lab.experiments.radiomics.voxel_boosting import (
    boosting_left_out,
    boosting_predictions,
    measure_voxels,
    predict_split,
)
from lab.radiomics.assemble import labelled
from lab.radiomics.assess.assess import COLUMNS
from lab.radiomics.baselines import BOOSTING
from lab.radiomics.splits import make_splits

SETTINGS = RadiomicsConfig(classifier=ClassifierConfig(workers=1))


@pytest.fixture(scope="module")
def data(tiny_cohort) -> ExperimentData:
    dataset = labelled(tiny_cohort, SETTINGS.data, SETTINGS.classifier)
    splits = make_splits(dataset, folds=0, repeats=1, fractions=(0.6, 0.1, 0.3), seed=0)
    return ExperimentData(settings=SETTINGS, cohort=tiny_cohort, dataset=dataset, splits=tuple(splits))


def test_training_patients_alone_decide_and_what_is_there_is_read_again(data, tmp_path, monkeypatch):
    experiment = SimpleNamespace(data=data, folder=tmp_path)
    found = boosting_predictions(experiment, say=lambda line: None)
    (split,) = data.splits
    assert set(COLUMNS) <= set(found)
    assert found["case_id"].tolist() == list(split.test)
    assert found["score"].between(0, 1).all()
    assert found["score"].nunique() > 1
    voxels = measure_voxels(data)
    hidden = {case: replace(one, enhances=~one.enhances) if case in split.test else one for case, one in voxels.items()}
    pd.testing.assert_series_equal(predict_split(data, split, hidden)["score"], found["score"])
    none = {case: replace(one, enhances=np.zeros_like(one.enhances)) for case, one in voxels.items()}
    assert (predict_split(data, split, none)["score"] == 0).all()
    monkeypatch.setattr("lab.experiments.radiomics.voxel_boosting.run_all", None)
    pd.testing.assert_frame_equal(boosting_predictions(experiment), found)


def test_a_patient_without_voxels_is_named_and_not_scored(data, tmp_path):
    said: list[str] = []
    case = data.splits[0].test[0]
    damaged = replace(data.cohort, index=data.cohort.index.assign(sha256=lambda table: table["sha256"].where(
        table.index != case, "0" * 64)))  # fmt: skip
    voxels = measure_voxels(replace(data, cohort=damaged), said.append)
    assert set(data.dataset.table.index) - set(voxels) == {case}
    assert [line.startswith(f"  {case} is not among the patients of {BOOSTING}: ") for line in said] == [True]
    assert case not in predict_split(data, data.splits[0], voxels)["case_id"].tolist()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (replace(SETTINGS, radiomics=FeatureConfig(features=Path("table.csv"))), "has no voxels"),
        (replace(SETTINGS, classifier=ClassifierConfig(label="grade")), "grade says nothing about single voxels"),
        (replace(SETTINGS, classifier=ClassifierConfig(shuffle_labels=True)), "shuffled"),
    ],
)
def test_where_it_cannot_be_there_is_a_reason(data, settings, reason, tmp_path):
    without = replace(data, settings=settings)
    assert reason in boosting_left_out(without)[BOOSTING]
    assert boosting_predictions(SimpleNamespace(data=without, folder=tmp_path)).empty
    assert not boosting_left_out(data)
