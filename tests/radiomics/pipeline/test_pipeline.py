"""Steps before the selection, the whole pipeline and its pruned twin; the search space against its registry."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from learnable import RandomTrial, make_dataset
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

from lab.radiomics.pipeline.cleaning import Informative, MedianImputer, Scaler, StabilityFilter
from lab.radiomics.pipeline.ensemble import fit_ensemble, selected, single
from lab.radiomics.pipeline.search_space import CLASSIFIERS, draw, replay
from lab.radiomics.pipeline.steps import build_pipeline, frame, pipeline_score
from lab.stats.platt import Line


@pytest.fixture
def drawn_params():
    def params(classifier: str, seed: int = 0) -> dict:
        return draw(RandomTrial(np.random.default_rng(seed)), [classifier])

    return params


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("combat", ["", "vendor"])
def test_every_classifier_learns_and_its_pruned_twin_scores_the_same(drawn_params, classifier, combat):
    data = make_dataset(perturbed=True, effect=2.5)
    params = drawn_params(classifier, seed=1)
    pipeline = build_pipeline(params, stability=data.perturbed, combat=combat, seed=1).fit(
        frame(data, combat), data.labels
    )
    scores = pipeline_score(pipeline, frame(data, combat))
    assert np.isfinite(scores).all()
    assert scores[data.labels == 1].mean() > scores[data.labels == 0].mean()
    names = selected(single(pipeline).members[0])
    few = frame(data, combat)[[*names, *([combat] if combat else [])]]
    assert np.allclose(pipeline_score(single(pipeline).pruned(), few), scores, rtol=0, atol=1e-9)
    if "features" in params:
        assert len(names) <= params["features"]


@pytest.mark.parametrize("combat", ["", "vendor"])
def test_an_ensemble_is_the_mean_of_whole_pipelines_calibrated_logits(drawn_params, combat):
    data = make_dataset(perturbed=True)
    cases, labels = frame(data, combat), data.labels.to_numpy()
    params = [drawn_params(name, seed) for seed, name in enumerate(("svm", "elastic_net", "svm", "random_forest"))]
    lines = [Line(slope=0.5 + number, intercept=number - 1.0) for number in range(len(params))]

    def unfitted():
        return [build_pipeline(one, stability=data.perturbed, combat=combat, seed=1) for one in params]

    fitted = [pipeline.fit(cases, labels) for pipeline in unfitted()]
    scores = [pipeline_score(one, cases) for one in fitted]
    plain = [line.slope * (own - own.mean()) + line.intercept for own, line in zip(scores, lines)]
    model = fit_ensemble(unfitted(), lines, cases, labels)
    assert np.allclose(pipeline_score(model, cases), np.mean(plain, axis=0), rtol=0, atol=1e-12)
    assert set(model.features) == {name for one in fitted for name in one.named_steps["select"].columns_}
    few = cases[[*model.features[::-1], *([combat] if combat else [])]]
    assert np.allclose(pipeline_score(model.pruned(), few), pipeline_score(model, cases), rtol=0, atol=1e-9)
    pd.testing.assert_frame_equal(model.pruned().known(few), model.known(cases))


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_same_seed_same_scores(drawn_params, classifier):
    data = make_dataset()
    params = drawn_params(classifier, seed=3)
    first, second = (
        pipeline_score(build_pipeline(params, seed=5).fit(data.features, data.labels), data.features) for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_a_pipeline_can_be_cloned_and_takes_gaps_and_infinities(drawn_params):
    data = make_dataset()
    features = data.features.copy()
    features.iloc[::7, 0] = np.nan
    features.iloc[3, 1] = np.inf
    pipeline = clone(build_pipeline(drawn_params("svm"), stability=data.perturbed)).fit(features, data.labels)
    assert np.isfinite(pipeline_score(pipeline, features)).all()


def test_params_come_back_from_a_table_with_other_classifiers_rows():
    first = draw(RandomTrial(np.random.default_rng(0)), ["random_forest"])
    second = draw(RandomTrial(np.random.default_rng(0)), ["elastic_net"])
    table = pd.DataFrame([first, second])  # whole numbers become floats beside gaps
    found = replay(table.iloc[0].dropna().to_dict(), ["random_forest", "elastic_net"])
    assert found == first
    assert [type(value) for value in found.values()] == [type(value) for value in first.values()]


def test_unknown_classifiers_are_named():
    with pytest.raises(ValueError, match="got nonsense"):
        draw(RandomTrial(np.random.default_rng(0)), ["nonsense"])
    with pytest.raises(ValueError, match="no column 'scaler'"):
        replay({"value": 1.0}, ["svm"])


def test_the_stability_filter_drops_what_the_mask_moves():
    data = make_dataset(perturbed=True)
    found = StabilityFilter(data.perturbed, 0.75).fit(data.features)
    assert found.columns_ == list(data.features.columns[:-1])


def test_the_stability_filter_counts_cases_of_training_only():
    data = make_dataset(perturbed=True)
    tables = {name: table.copy() for name, table in data.perturbed.items()}
    train = data.features.iloc[10:]
    tables["dilate"].iloc[:10] = 1e6 * np.arange(10)[:, None]  # cases that are not for training
    assert StabilityFilter(tables).fit(train).columns_ == list(data.features.columns[:-1])
    with pytest.raises(ValueError, match="0 have them"):
        StabilityFilter(tables).fit(data.features.iloc[-10:])


def test_no_stable_feature_is_an_error():
    data = make_dataset(perturbed=True)
    with pytest.raises(ValueError, match=r"lower --classifier.stability"):
        StabilityFilter(data.perturbed, 1.1).fit(data.features)


def test_constant_near_constant_and_mostly_missing_features_go():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(100, 5)), columns=["good", "constant", "rounding", "nearly", "missing"])
    X["constant"] = 0.3
    X["rounding"] = 1e6 + 1e-7 * X["rounding"]
    X.loc[3:, "nearly"] = 2.0
    X.loc[:60, "missing"] = np.nan
    assert Informative().fit(X).columns_ == ["good"]
    with pytest.raises(ValueError, match="none of the 1 features differs"):
        Informative().fit(X[["constant"]])


def test_gaps_get_the_training_median():
    train = pd.DataFrame({"a": [1.0, 2.0, 9.0, np.nan]})
    found = MedianImputer().fit(train).transform(pd.DataFrame({"a": [np.nan, np.inf, 5.0]}))
    assert found["a"].tolist() == [2.0, 2.0, 5.0]


def test_the_scalers_know_the_normal_and_cut_what_is_extreme():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(7, 3, size=(20000, 1)), columns=["a"])
    robust = Scaler("robust").fit(X)
    assert robust.scale_ == pytest.approx(3, rel=0.03)
    plain = Scaler("standard", clip=99).fit_transform(X)
    assert np.allclose(plain, StandardScaler().fit_transform(X))
    assert robust.transform(pd.DataFrame({"a": [1e9, -1e9]}))["a"].tolist() == [5.0, -5.0]
    with pytest.raises(ValueError, match="got nonsense"):
        Scaler("nonsense").fit(X)


def test_a_feature_that_most_cases_share_has_a_scale():
    X = pd.DataFrame({"a": [0.0] * 80 + list(np.arange(1.0, 21))})
    assert Scaler("robust").fit(X).scale_[0] == pytest.approx(X["a"].std(ddof=0))
