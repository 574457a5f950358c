"""What each rival sees, and what is left out with which reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from learnable import make_dataset, random_search

from lab.config import ClassifierConfig
from lab.radiomics.baselines import BASELINES, MASK_SHAPE, baseline_datasets, baselines_left_out, sequences
from lab.radiomics.pipeline.nested import run_split
from lab.radiomics.splits import make_splits


def with_shape(data):
    shape = pd.Series(np.linspace(0.2, 0.9, len(data.features)), data.features.index)
    changed = {name: table.assign(MASK_original_shape_Sphericity=shape) for name, table in data.perturbed.items()}
    return dataclasses.replace(
        data, features=data.features.assign(MASK_original_shape_Sphericity=shape), perturbed=changed
    )


def test_each_rival_sees_its_own_columns():
    data = with_shape(make_dataset())
    found = baseline_datasets(data)
    assert list(found) == ["tumour volume", "clinical (age, sex)", "T1 only", "T2 only", "FLAIR only", MASK_SHAPE]
    assert found[MASK_SHAPE][0].features.columns.tolist() == ["MASK_original_shape_Sphericity"]
    assert np.allclose(found["tumour volume"][0].features["log_tumour_ml"], np.log(data.table["tumour_ml"]))
    clinical = found["clinical (age, sex)"][0].features
    assert clinical.columns.tolist() == ["age", "sex"]
    assert (clinical["sex"] == (data.table["sex"] == "F")).all()
    assert all(name.startswith("FLAIR_") for name in found["FLAIR only"][0].features)
    assert sum(len(found[f"{one} only"][0].features.columns) for one in sequences(data)) == 40
    assert baselines_left_out(data) == {}


def test_what_nobody_knows_is_left_out_with_a_reason():
    data = make_dataset()
    table = data.table.assign(age=np.nan, sex=None, tumour_ml=np.nan)
    bare = dataclasses.replace(data, table=table)
    assert list(baseline_datasets(bare)) == ["T1 only", "T2 only", "FLAIR only"]
    assert set(baselines_left_out(bare)) == {"tumour volume", "clinical (age, sex)", MASK_SHAPE}
    age = dataclasses.replace(data, table=data.table.assign(sex=None))
    assert baseline_datasets(age)["clinical (age, sex)"][0].features.columns.tolist() == ["age"]


def test_one_sequence_alone_has_no_rival_in_itself():
    data = make_dataset()
    alone = with_shape(data.with_features(data.features.filter(regex="^T1_")))
    assert "T1 only" not in baseline_datasets(alone)
    assert baselines_left_out(alone) == {"T1 only": "there is no other sequence"}


def test_sequences_may_have_underscores_in_their_names():
    data = make_dataset()
    features = data.features.rename(columns=lambda name: name.replace("FLAIR", "T2_FLAIR"))
    assert sequences(dataclasses.replace(data, features=features)) == ["T1", "T2", "T2_FLAIR"]
    found = baseline_datasets(dataclasses.replace(data, features=features))
    assert not any(name.startswith("T2_FLAIR") for name in found["T2 only"][0].features)


@pytest.mark.parametrize("method", ["tumour volume", "clinical (age, sex)", "T2 only", MASK_SHAPE])
def test_rivals_run_through_the_same_door(method):
    data = with_shape(make_dataset(perturbed=True))
    data.table.loc[data.table.index[:5], ["age", "tumour_ml"]] = np.nan
    split = make_splits(data, folds=4, repeats=1, fractions=(0.7, 0.15, 0.15), seed=0)[0]
    settings = ClassifierConfig(classifiers=("elastic_net",), trials=2, inner_folds=3, combat="vendor")
    rival, changes = baseline_datasets(data)[method]
    result = run_split(rival, split, dataclasses.replace(settings, **changes), random_search, method=method)
    assert result.predictions["case_id"].tolist() == list(split.test)
    assert (result.predictions["method"] == method).all()


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_keeps_the_cases_and_knows_its_settings(name):
    data = make_dataset()
    spec = BASELINES[name]
    dataclasses.replace(ClassifierConfig(), **spec.settings)
    found = spec.features(data)
    assert found
    assert all(isinstance(one, str) or one.index.equals(data.table.index) for one in found.values())
