"""The strongest baseline, and every trial beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lab.data.batches import CaseStore
from lab.evaluation.evaluate import evaluate
from lab.evaluation.place.voxel_counts import choose_thresholds
from lab.report.tables.strongest import (
    COLUMNS,
    COMPARED,
    OWN_CORE,
    as_read,
    best_truth,
    differences,
    score_read,
    strongest_baseline,
    strongest_table,
)


def shown(share: float, noise: float):
    """Predictor of a share of the true rise with noise."""

    def predict(batch):
        rng = np.random.default_rng(sum(map(ord, batch.case_ids[0])))
        t1 = batch.inputs[:, :1]
        return t1 + share * (batch.target - t1) + t1.new_tensor(rng.normal(0, noise, t1.shape))

    return predict


def stated(batch):
    """A dull image with a good probability."""
    return {"image": batch.inputs[:, :1], "probability": (batch.target - batch.inputs[:, :1]).clamp(0, 1)}


def with_core(batch):
    """A good probability, and a core that holds other parts of the tumour too."""
    return stated(batch) | {"core": batch.masks["tumour"].float()}


@pytest.fixture(scope="module")
def patients(tiny_cohort) -> pd.DataFrame:
    store = CaseStore(tiny_cohort, tiny_cohort.index.index, inputs=("T1", "T2"), target="T1GD")
    known = {
        0: ("net", shown(0.5, 0.02)),
        "copy T1": ("copy T1", shown(0, 0)),
        "painted tumour (mask given)": ("painted tumour (mask given)", shown(1, 0.01)),
        "painted predicted core": ("painted predicted core", shown(0.2, 0.1)),
        "boosting": ("boosting", stated),
        1: ("placed", with_core),
    }
    tables = []
    for trial, (label, predict) in known.items():
        chosen = choose_thresholds(evaluate(predict, store))
        tables.append(evaluate(predict, store, chosen).assign(trial=trial, label=label, model=None, loss=None))
    return pd.concat(tables, ignore_index=True)


def test_the_strongest_has_the_highest_kappa_of_those_without_a_mask(patients):
    rivals = patients[~patients["trial"].isin([0, 1])]
    found = strongest_baseline(rivals)
    assert found["baseline"] == "boosting"
    assert found["truth"] == best_truth(rivals) == "rule"
    assert found["kappa"] > 0.9
    assert strongest_baseline(rivals[rivals["trial"] != "boosting"])["baseline"] == "painted predicted core"


def test_a_stated_probability_is_read_instead_of_the_contrast(patients):
    table = patients[patients["trial"] == "boosting"]
    assert score_read(table) == "probability"
    np.testing.assert_array_equal(as_read(table)["contrast_auc_rule"], table["probability_auc_rule"])
    np.testing.assert_array_equal(as_read(table)["enhancement_level"], table["probability_level"])
    plain = patients[patients["trial"] == 0]
    assert score_read(plain) == "contrast"
    assert as_read(plain) is plain


def test_every_trial_is_compared_with_it_on_the_same_patients(patients):
    strongest = {"baseline": "painted predicted core", "kappa": 0.4, "truth": "rule"}
    found = differences(patients, strongest)
    assert list(found.columns) == COLUMNS
    assert set(found["trial"]) == {0, 1, "copy T1", "painted tumour (mask given)", "boosting"}
    assert set(found["against"]) == {"painted predicted core", OWN_CORE}
    net = found[found["trial"] == 0].set_index("figure")
    assert set(net.index) == set(COMPARED)
    assert (net["difference"] > 0).all()
    assert (net["low"] <= net["difference"]).all()
    assert (net["difference"] <= net["high"]).all()
    np.testing.assert_allclose(net["difference"], net["value"] - net["reference"])
    table = strongest_table(found, strongest, phantom=True)
    assert len(table.rows) == 6
    assert table.rows[0].cells[:2] == ["net", "contrast"]
    assert "painted predicted core" in table.title
    assert "phantom" in table.title
    assert table.markdown()


def test_a_trial_with_a_core_is_also_compared_with_painting_that(patients):
    found = differences(patients, {"baseline": "boosting", "kappa": 0.9, "truth": "rule"})
    own = found[found["against"] == OWN_CORE].set_index("figure")
    assert set(own["trial"]) == {1}
    placed = patients[patients["trial"] == 1]
    assert own.loc["contrast_auc", "reference"] == pytest.approx(placed["core_auc_rule"].mean())
    assert own.loc["contrast_auc", "value"] == pytest.approx(placed["probability_auc_rule"].mean())
    assert (own["difference"] > 0).all()
    older = patients.drop(columns=list(patients.filter(regex="^core_")))
    assert set(differences(older, {"baseline": "boosting", "kappa": 0.9, "truth": "rule"})["against"]) == {"boosting"}
