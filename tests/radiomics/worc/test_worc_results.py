"""WORC's records as tables: predictions, chosen features, workflows; and records that cannot be used."""

from __future__ import annotations

import pandas as pd
import pytest

from lab.radiomics.dataset import Dataset
from lab.radiomics.splits import Split
from lab.radiomics.worc.results import (
    check_record,
    chosen_table,
    worc_predictions,
    workflows_table,
)
from lab.stats.intervals import corrected_t

SPLITS = [
    Split(repeat=1, fold=1, train=("c", "d"), test=("a", "b")),
    Split(repeat=1, fold=2, train=("a", "b"), test=("c", "d")),
]
WORKFLOW = {
    "score": 0.8,
    "classifiers": "SVM",
    "SelectGroups": "True",
    "UsePCA": "True",
    "ReliefUse": "False",
    "FeatureScaling": "robust_z_score",
    "Resampling_Use": "False",
    "Resampling_Method": "SMOTE",
    "Imputation": "True",
    "ImputationMethod": "mean",
}
RECORDS = [
    {"posteriors": {"a": 0.9, "b": 0.2}, "used": {"f": 1.0, "g": 0.5}, "workflows": [WORKFLOW], "failed": 0},
    {"posteriors": {"c": 1.2, "d": -0.1}, "used": {"f": 1.0}, "workflows": [WORKFLOW, WORKFLOW], "failed": 1},
]


@pytest.fixture
def dataset():
    index = pd.Index(list("abcd"), name="case_id")
    table = pd.DataFrame({"patient_id": ["A", "B", "C", "C"], "label": [1, 0, 1, 1]}, index=index)
    features = pd.DataFrame({"f": [1.0, 2, 3, 4]}, index=index)
    return Dataset(features=features, table=table, event="enhancing", name="x", phantom=True, digest="0")


def test_predictions_are_of_every_split_and_lie_in_zero_to_one(dataset):
    table = worc_predictions(dataset, SPLITS, RECORDS)
    assert table["case_id"].tolist() == list("abcd")
    assert table["score"].tolist() == [0.9, 0.2, 1.0, 0.0]
    assert table["label"].tolist() == [1, 0, 1, 1]
    assert (table["threshold"] == 0.5).all()
    assert table["train"].tolist() == [1, 1, 2, 2], "patients, not cases"
    assert table["test"].tolist() == [2, 2, 1, 1]


def test_chosen_features_by_share(dataset):
    table = chosen_table(RECORDS).set_index("feature")
    assert table.loc["f"].tolist() == [1.0, 1.0]
    assert table.loc["g"].tolist() == [0.5, 0.25]


def test_workflows_in_words():
    table = workflows_table(SPLITS, RECORDS)
    assert table[["repeat", "fold", "rank"]].to_numpy().tolist() == [[1, 1, 1], [1, 2, 1], [1, 2, 2]]
    first = table.iloc[0]
    assert first["selection"] == "feature groups, principal components"
    assert (first["classifier"], first["resampling"], first["imputation"]) == ("SVM", "", "mean")


def test_records_that_cannot_be_used():
    good = RECORDS[0]
    assert check_record(good, "ab") == ""
    assert "no posterior for 1 of 3" in check_record(good, "abc")
    assert "1 of 2 posteriors" in check_record({**good, "posteriors": {"a": float("nan"), "b": 1}}, "ab")
    assert "no workflow" in check_record({**good, "workflows": []}, "ab")
    failed = [{**WORKFLOW, "score": float("nan")}]
    assert "could not score any" in check_record({**good, "workflows": failed}, "ab")
    assert check_record({}, "ab")


def test_corrected_t_is_worcs_formula():
    """Its `compute_confidence` for 0.7, 0.8, 0.9 with 80 and 20 patients, by hand: 0.8 -+ 4.3027 x 0.0764."""
    found = corrected_t([0.7, 0.8, 0.9], train=80, test=20)
    assert [found.low, found.high] == pytest.approx([0.8 - 4.302653 * 0.0763763, 1.0], abs=1e-5)
