"""One split from search to predictions: its table, its way to disk, its inner figures against plain scikit-learn."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from learnable import make_dataset, random_search
from scipy.special import expit

from lab.config import ClassifierConfig
from lab.radiomics.assess.importance import permutation_importance
from lab.radiomics.pipeline.ensemble import AS_IT_IS, fit_ensemble, single
from lab.radiomics.pipeline.inner_search import InnerFolds, best_settings, patient_auc, search
from lab.radiomics.pipeline.nested import run_split, split_seed
from lab.radiomics.pipeline.split_result import SplitResult, suspicion
from lab.radiomics.pipeline.steps import build_pipeline, pipeline_score
from lab.radiomics.splits import make_splits
from lab.stats.auc import auc
from lab.stats.platt import platt

FRACTIONS = (0.7, 0.15, 0.15)
SETTINGS = ClassifierConfig(
    classifiers=("elastic_net", "svm", "random_forest"), trials=4, average=10, inner_folds=3, seed=2
)


@pytest.fixture(scope="module")
def data():
    return make_dataset(perturbed=True)


@pytest.fixture(scope="module")
def split(data):
    return make_splits(data, folds=4, repeats=1, fractions=FRACTIONS, seed=0)[1]


@pytest.fixture(scope="module")
def result(data, split):
    return run_split(data, split, SETTINGS, random_search)


def test_the_predictions_are_the_table_that_all_methods_give(data, split, result):
    found = result.predictions
    columns = ["method", "repeat", "fold", "case_id", "patient_id", "label", "score", "threshold", "train", "test"]
    assert found.columns.tolist() == columns
    assert found["case_id"].tolist() == list(split.test)
    assert (found["train"] == 45).all()
    assert (found["test"] == 15).all()
    assert found["score"].between(0, 1).all()
    assert (found["label"].to_numpy() == data.labels.loc[list(split.test)]).all()
    assert result.test_auc > 0.8
    assert result.inner_auc > 0.8
    assert 0 < result.threshold < 1
    assert found["score"].between(0.02, 0.98).mean() > 0.5  # calibrated, not pressed to the ends


def test_informative_features_are_found(result):
    top = result.chosen["feature"].head(3).str.extract(r"F(\d+)$")[0].astype(int)
    assert set(top) & {0, 1, 2}
    assert result.chosen["importance"].iloc[0] > 0.03


def test_the_learning_curve_grows_in_patients(result):
    assert result.learning["n"].tolist() == [18, 27, 36, 45]
    assert result.learning["score"].iloc[-1] == pytest.approx(result.test_auc)


def test_twice_the_same(data, split, result):
    again = run_split(data, split, SETTINGS, random_search)
    assert again.averaged == result.averaged
    assert len(again.averaged) == SETTINGS.trials
    assert again.line == result.line
    pd.testing.assert_frame_equal(again.predictions, result.predictions, check_exact=True)
    pd.testing.assert_frame_equal(again.chosen, result.chosen, check_exact=True)


def test_to_disk_and_back(result):
    found = SplitResult.from_json(result.to_json())
    for table in ("predictions", "trials", "chosen", "learning"):
        pd.testing.assert_frame_equal(getattr(found, table), getattr(result, table), check_exact=True)
    assert found.split == result.split
    assert (found.averaged, found.line, found.threshold) == (result.averaged, result.line, result.threshold)
    assert found.to_json() == result.to_json()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"split": {"repeat": 1}}'])
def test_other_texts_are_no_results(text):
    with pytest.raises(ValueError, match="not the result of a split"):
        SplitResult.from_json(text)


def test_a_result_from_before_settings_were_averaged_is_read(result):
    record = json.loads(result.to_json())
    record["params"] = record.pop("averaged")[0]
    assert SplitResult.from_json(json.dumps(record)).averaged == (result.params,)


def test_a_result_without_a_number_is_refused(result):
    record = json.loads(result.to_json())
    del record["threshold"]
    with pytest.raises(ValueError, match="threshold"):
        SplitResult.from_json(json.dumps(record))


@pytest.mark.parametrize("combat", ["", "vendor"])
def test_what_is_kept_between_trials_changes_no_figure(data, combat):
    """Each fold's whole pipeline by scikit-learn alone, twice with other params, gives the same AUC."""
    folds = InnerFolds(data, dataclasses.replace(SETTINGS, combat=combat), seed=7)
    for scaler, ranking, count in (("robust", "auc", 5), ("standard", "anova", 9), ("robust", "auc", 3)):
        params = {"classifier": "svm", "svm_kernel": "rbf", "svm_c": 1.0}
        params |= {"scaler": scaler, "ranking": ranking, "features": count, "correlation_limit": 0.9}
        plain = []
        for fit, held in folds.parts:
            pipeline = build_pipeline(params, stability=data.perturbed, threshold=0.75, combat=combat, seed=7)
            pipeline.fit(folds.cases.iloc[fit], folds.labels[fit])
            plain.append(auc(folds.labels[held], pipeline_score(pipeline, folds.cases.iloc[held])))
        assert folds.mean_auc(params) == np.mean(plain)


def test_inner_folds_are_stratified_and_of_training_patients_only(data, split):
    folds = InnerFolds(data.part(split.train), SETTINGS, seed=0)
    held = np.concatenate([one for _, one in folds.parts])
    assert sorted(held) == list(range(len(split.train)))
    assert all(7 <= folds.labels[one].sum() <= 8 for _, one in folds.parts)


def test_too_few_patients_of_a_class_are_named():
    data = make_dataset(patients=20)
    few = data.part([case for case in data.table.index if data.labels[case] == 0 or case == "P001-0"])
    with pytest.raises(ValueError, match="1 of 11 training patients are enhancing"):
        InnerFolds(few, SETTINGS, seed=0)


def test_few_patients_of_a_class_give_fewer_folds():
    data = make_dataset(patients=20)
    ones = list(data.table.index[data.labels == 1][:2])
    few = data.part([*data.table.index[data.labels == 0], *ones])
    assert len(InnerFolds(few, SETTINGS, seed=0).parts) == 2


def test_the_best_settings_are_the_first_of_the_highest_and_none_is_taken_twice():
    trials = pd.DataFrame(
        {"number": [2, 0, 1, 3, 4], "value": [0.8, 0.7, 0.8, np.nan, 0.9], "svm_c": [1.0, 2, 3, 4, 3]}
    )
    trials = trials.assign(scaler="robust", ranking="auc", correlation_limit=0.9, features=5, svm_kernel="linear")
    found = {count: best_settings(trials, ("svm",), count) for count in (1, 2, 10)}
    assert [[one["svm_c"] for one in found[count]] for count in found] == [[3.0], [3.0, 1.0], [3.0, 1.0, 2.0]]
    with pytest.raises(ValueError, match="none of 5 trials"):
        best_settings(trials.assign(value=np.nan), ("svm",), 1)


def test_the_best_settings_alone_are_calibrated_once_and_their_average_twice(data):
    """The lines against Platt's of each pipeline's scores in the inner folds, by scikit-learn's pipelines alone."""
    folds = InnerFolds(data, dataclasses.replace(SETTINGS, average=1), seed=3)
    alone = search(folds, random_search)
    folds.settings = SETTINGS
    found = search(folds, random_search)
    assert found.params == alone.params
    assert alone.lines == (AS_IT_IS,)
    logits = []
    for params, line in zip(found.averaged, found.lines, strict=True):
        scores, centred, labels = [], [], []
        for fit, held in folds.parts:
            pipeline = build_pipeline(params, stability=data.perturbed, seed=3)
            pipeline.fit(folds.cases.iloc[fit], folds.labels[fit])
            scores.append(pipeline_score(pipeline, folds.cases.iloc[held]))
            centred.append(scores[-1] - pipeline_score(pipeline, folds.cases.iloc[fit]).mean())
            labels.append(folds.labels[held])
        assert line == platt(np.concatenate(labels), np.concatenate(centred))
        logits.append([line.logits(one) for one in centred])
        if params == found.params:
            assert alone.line == platt(np.concatenate(labels), np.concatenate(scores))
            assert alone.inner_auc == np.mean([auc(*one) for one in zip(labels, scores)])
    mean = [np.mean(one, axis=0) for one in zip(*logits)]
    assert found.line == platt(np.concatenate(labels), np.concatenate(mean))
    assert found.inner_auc == np.mean([auc(*one) for one in zip(labels, mean)])


def test_patients_count_once():
    patients, labels = np.array(["a", "a", "b", "c"]), np.array([1, 1, 0, 0])
    assert patient_auc(patients, labels, np.array([0.9, 0.1, 0.4, 0.6])) == 0.5  # mean of a is 0.5
    with pytest.raises(ValueError, match="patient a has label 0"):
        patient_auc(patients, np.array([1, 0, 0, 0]), np.ones(4))


def test_the_classifier_without_settings_is_not_searched(data, split):
    def never(*_):
        raise AssertionError

    one = dataclasses.replace(SETTINGS, classifiers=("logistic",), stability=0.0)
    few = data.with_features(data.features.iloc[:, :2])
    found = run_split(few, split, one, never, method="tumour volume")
    assert len(found.trials) == 1
    assert found.params == {"classifier": "logistic"}
    assert (found.predictions["method"] == "tumour volume").all()


def test_splits_have_seeds_of_their_own(data):
    splits = make_splits(data, folds=4, repeats=3, fractions=FRACTIONS, seed=0)
    assert len({split_seed(0, one) for one in splits}) == 12


def test_the_calibration_finds_a_known_line():
    rng = np.random.default_rng(0)
    scores = rng.normal(2, 3, 20000)
    labels = rng.uniform(size=20000) < expit(-1 + 0.7 * scores)
    line = platt(labels, scores)
    assert line.slope == pytest.approx(0.7, abs=0.03)
    assert line.intercept == pytest.approx(-1, abs=0.08)


def test_separable_and_reversed_scores_give_a_sane_line():
    labels = np.repeat([0, 1], 20)
    separable = platt(labels, np.arange(40.0))
    assert 0.001 < separable.probabilities(np.zeros(1))[0] < 0.1
    reverse = platt(labels, -np.arange(40.0))
    assert reverse.slope > 0
    assert reverse.probabilities(-np.arange(40.0)) == pytest.approx(np.full(40, 0.5), abs=0.01)
    constant = platt(labels, np.ones(40))
    assert constant.probabilities(np.ones(1))[0] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="with label 1 and with 0"):
        platt(np.ones(3), np.arange(3.0))


def test_weights_are_copies():
    labels, scores = np.array([0, 0, 1, 1, 0, 1]), np.array([0.0, 1, 2, 3, 2, 1])
    weighted = platt(labels, scores, np.array([2.0, 1, 1, 3, 1, 1]))
    copied = platt(labels[[0, 0, 1, 2, 3, 3, 3, 4, 5]], scores[[0, 0, 1, 2, 3, 3, 3, 4, 5]])
    assert weighted.slope == pytest.approx(copied.slope, rel=1e-4)
    assert weighted.intercept == pytest.approx(copied.intercept, rel=1e-3)


def test_importance_is_the_drop_of_the_auc():
    data = make_dataset(features=3, informative=1, effect=4.0)
    pipeline = build_pipeline({"classifier": "logistic"}).fit(data.features, data.labels)
    found = permutation_importance(
        single(pipeline), data.features, data.labels.to_numpy(), data.patients.to_numpy(), seed=0, repeats=30
    )
    found = found.set_index("feature")["importance"]
    assert found.iloc[0] == pytest.approx(0.5, abs=0.06)  # all is in one feature
    assert found.index[0].endswith("F0")
    assert np.abs(found.iloc[1:]).max() < 0.05


def test_a_feature_that_one_of_two_averaged_pipelines_reads_counts_there_alone():
    data = make_dataset(features=2, informative=2, effect=1.0, patients=200)
    one, two = (
        [build_pipeline({"classifier": "logistic", "features": count}) for count in counts]
        for counts in ((1, 2), (1, 2))
    )
    model = fit_ensemble(one, [AS_IT_IS, AS_IT_IS], data.features, data.labels.to_numpy())
    fitted = [pipeline.fit(data.features, data.labels) for pipeline in two]
    how = {"labels": data.labels.to_numpy(), "patients": data.patients.to_numpy(), "seed": 0}
    averaged, *alone = (
        permutation_importance(one, data.features, repeats=30, **how).set_index("feature")["importance"]
        for one in (model, *map(single, fitted))
    )
    (first,) = alone[0].index
    (second,) = set(alone[1].index) - {first}
    assert alone[1][second] / 3 < averaged[second] < 0.8 * alone[1][second]
    assert alone[1][first] < averaged[first] < alone[0][first]


def test_an_inner_auc_far_above_the_test_auc_is_told(result):
    assert suspicion([]) == ""
    assert suspicion([result]) == ""
    wrong = dataclasses.replace(result, predictions=result.predictions.assign(score=0.5))
    assert "a feature may hold the label" in suspicion([wrong])


def test_the_intercept_of_a_fit_does_not_ruin_an_average():
    """An SVM with a small C has an intercept of its own in every fit; averages calibrate the distance from the mean."""
    data = make_dataset(patients=61)
    split = make_splits(data, folds=4, repeats=1, fractions=FRACTIONS, seed=0)[0]
    fixed = {"scaler": "standard", "ranking": "auc", "correlation_limit": 0.9, "features": 5, "svm_kernel": "rbf"}
    rows = [{"number": n, "value": 1 - n, "seconds": 0.0, "started": 0, "svm_c": c} for n, c in enumerate((2e-3, 3e-3))]
    settings = dataclasses.replace(SETTINGS, classifiers=("svm",), inner_folds=5)
    found = run_split(data, split, settings, lambda *_: pd.DataFrame(rows).assign(**fixed), learning=False)
    assert found.test_auc > 0.9
    assert ((found.predictions["score"] - found.predictions["label"]) ** 2).mean() < 0.15
