"""Does anything of the test patients reach the training? Each test would see it if it did."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
from learnable import make_dataset, random_search
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from lab.config import ClassifierConfig
from lab.radiomics.pipeline.inner_search import InnerFolds
from lab.radiomics.pipeline.nested import fit_training, run_split, split_seed
from lab.radiomics.pipeline.selection import anova
from lab.radiomics.pipeline.split_result import suspicion
from lab.radiomics.pipeline.steps import frame, pipeline_score
from lab.radiomics.splits import make_splits
from lab.stats.auc import auc, delong_interval
from lab.stats.predictions import one_per_patient

FRACTIONS = (0.7, 0.15, 0.15)
SETTINGS = ClassifierConfig(
    classifiers=("elastic_net", "svm"), trials=3, average=10, inner_folds=3, combat="vendor", seed=1
)


def cross_validate(data, settings, folds=4):
    splits = make_splits(data, folds=folds, repeats=1, fractions=FRACTIONS, seed=0)
    results = [run_split(data, one, settings, random_search, learning=False) for one in splits]
    table = pd.concat([one.predictions for one in results])
    patients = one_per_patient(table["patient_id"], table["label"], table["score"])
    return results, delong_interval(patients["label"], patients["score"])


def test_a_feature_that_is_the_label_of_training_cases_only_gives_chance_and_an_alarm():
    data = make_dataset(patients=80, effect=0.0)
    rng = np.random.default_rng(0)
    results = []
    for split in make_splits(data, folds=4, repeats=1, fractions=FRACTIONS, seed=0):
        features = data.features.assign(T1_original_leak=rng.integers(0, 2, len(data.features)).astype(float))
        features.loc[list(split.train), "T1_original_leak"] = data.labels.loc[list(split.train)].astype(float)
        leaking = dataclasses.replace(data, features=features)
        settings = dataclasses.replace(SETTINGS, combat="")
        results.append(run_split(leaking, split, settings, random_search, learning=False))
    assert all(one.inner_auc == 1.0 for one in results)
    assert 0.3 < np.mean([one.test_auc for one in results]) < 0.7
    assert np.mean([one.inner_auc - one.test_auc for one in results]) > 0.3
    assert "The inner AUC is 1.00 but the test AUC" in suspicion(results)


@pytest.mark.parametrize("what", ["features", "labels", "perturbed", "vendor"])
def test_test_cases_change_nothing_of_what_is_fitted(what):
    """Bitwise: params, features, every fitted array, calibration, threshold and importance's own inputs."""
    data = make_dataset(perturbed=True)
    split = make_splits(data, folds=4, repeats=1, fractions=FRACTIONS, seed=0)[0]
    test, rng = list(split.test), np.random.default_rng(9)
    changed = data
    if what == "features":
        features = data.features.copy()
        features.loc[test] = 1e3 * rng.normal(size=(len(test), features.shape[1]))
        changed = dataclasses.replace(data, features=features)
    elif what == "perturbed":
        tables = {name: table.copy() for name, table in data.perturbed.items()}
        for table in tables.values():
            table.loc[table.index.intersection(test)] = 1e3
        changed = dataclasses.replace(data, perturbed=tables)
    else:
        table = data.table.copy()
        table.loc[test, {"labels": "label"}.get(what, what)] = rng.permutation(
            1 - table.loc[test, "label"] if what == "labels" else np.repeat("Z", len(test))
        )
        changed = dataclasses.replace(data, table=table)
    first, second = (run_split(one, split, SETTINGS, random_search, learning=False) for one in (data, changed))
    assert first.averaged == second.averaged
    assert len(first.averaged) == 3
    assert first.line == second.line
    assert first.threshold == second.threshold
    assert first.inner_auc == second.inner_auc
    pd.testing.assert_frame_equal(
        first.trials.drop(columns=["seconds", "started"]),
        second.trials.drop(columns=["seconds", "started"]),
        check_exact=True,
    )
    assert sorted(first.chosen["feature"]) == sorted(second.chosen["feature"])
    seed = split_seed(SETTINGS.seed, split)
    models = [fit_training(one.part(split.train), SETTINGS, random_search, seed)[1] for one in (data, changed)]
    steps = [[*model.clean.steps, *(step for one in model.members for step in one.steps)] for model in models]
    assert models[0].lines == models[1].lines
    for one, other in zip(*steps, strict=True):
        for name, value in vars(one[1]).items():
            if name.endswith("_") and name != "tables":
                assert np.array_equal(np.asarray(value), np.asarray(getattr(other[1], name))), (one[0], name)
    probe = frame(data, "vendor")
    assert np.array_equal(*(pipeline_score(model, probe) for model in models))
    assert models[0].features == models[1].features


@pytest.mark.parametrize("what", ["features", "vendor"])
def test_the_bitwise_test_sees_a_fit_on_all_cases(what):
    """The same comparison fails where the search is given the test cases too: it is no test that cannot fail."""
    data = make_dataset(perturbed=True)
    split = make_splits(data, folds=4, repeats=1, fractions=FRACTIONS, seed=0)[0]
    test = list(split.test)
    if what == "features":
        features = data.features.copy()
        features.loc[test] *= 3.0
        changed = dataclasses.replace(data, features=features)
    else:
        changed = dataclasses.replace(
            data, table=data.table.assign(vendor=data.table["vendor"].where(~data.table.index.isin(test), "A"))
        )
    found = [fit_training(one, SETTINGS, random_search, 0) for one in (data, changed)]
    assert found[0][0].line != found[1][0].line


@functools.cache
def noise():
    return make_dataset(patients=60, features=1000, effect=0.0, seed=3)


def test_selection_outside_the_folds_inflates_and_run_split_does_not():
    data = noise()
    values, labels = data.features.to_numpy(), data.labels.to_numpy()
    best = np.argsort(-anova(values, labels == 1))[:10]  # outside the folds: what papers are retracted for
    scores = np.zeros(len(labels))
    for fit, held in StratifiedKFold(4, shuffle=True, random_state=0).split(values, labels):
        model = LogisticRegression().fit(values[np.ix_(fit, best)], labels[fit])
        scores[held] = model.predict_proba(values[np.ix_(held, best)])[:, 1]
    assert auc(labels, scores) > 0.85
    _, ours = cross_validate(data, dataclasses.replace(SETTINGS, combat=""))
    assert ours.low <= 0.5 <= ours.high


def test_shuffled_labels_give_an_interval_that_holds_chance():
    data = make_dataset(patients=60, effect=2.5)
    settings = dataclasses.replace(SETTINGS, combat="", average=1)
    _, true = cross_validate(data, settings)
    _, shuffled = cross_validate(data.shuffled(0), settings)
    assert true.low > 0.8
    assert shuffled.low <= 0.5 <= shuffled.high


def test_scans_of_a_patient_stay_together_outside_and_inside():
    data = make_dataset(patients=30, scans=3)
    for split in make_splits(data, folds=3, repeats=2, fractions=FRACTIONS, seed=0):
        sides = [set(data.patients.loc[list(cases)]) for cases in (split.train, split.test)]
        assert not sides[0] & sides[1]
        folds = InnerFolds(data.part(split.train), SETTINGS, seed=4, repeats=2)
        for fit, held in folds.parts:
            assert not set(folds.patients[fit]) & set(folds.patients[held])


def test_patients_known_from_another_scan_would_be_seen():
    """Noise alone is predicted from a patient's other scans once they are on both sides; by patient it is not."""
    data = make_dataset(patients=40, scans=3, features=60, effect=0.0, seed=5)
    values, labels = data.features.to_numpy(), data.labels.to_numpy()
    scores = np.zeros(len(labels))
    for fit, held in StratifiedKFold(4, shuffle=True, random_state=0).split(values, labels):
        model = LogisticRegression(C=10).fit(values[fit], labels[fit])
        scores[held] = model.predict_proba(values[held])[:, 1]
    assert auc(labels, scores) > 0.9
    results, ours = cross_validate(data, dataclasses.replace(SETTINGS, combat=""))
    assert ours.low <= 0.5 <= ours.high
    assert all((one.predictions["test"] == 10).all() for one in results)
    assert all(len(one.predictions) == 30 for one in results)
