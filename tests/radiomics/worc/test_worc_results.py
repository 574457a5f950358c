"""WORC's outputs, constructed as it writes them: intervals beyond [0, 1], cells of text, missing posteriors."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from lab.radiomics.dataset import Dataset
from lab.radiomics.splits import Split
from lab.radiomics.worc.results import (
    check_record,
    chosen_table,
    disagreement,
    predictions_table,
    read_performance,
    read_posteriors,
    read_roc,
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


def statistics(path, text, aucs):
    path.write_text(json.dumps({"Statistics": {"AUC 95%:": text}, "All_performances": {"AUC": aucs}}), encoding="utf-8")
    return path


def test_interval_is_cut_and_the_raw_text_kept(tmp_path):
    raw = "0.75 (-3.3544, 4.8544)"
    row = read_performance(statistics(tmp_path / "p.json", raw, [0.5, 1.0])).iloc[0]
    assert (row["figure"], row["value"], row["low"], row["high"], row["raw"]) == ("AUC", 0.75, 0.0, 1.0, raw)


def test_interval_inside_is_left_as_it_is(tmp_path):
    raw = "0.8 (np.float64(0.61e0), np.float64(0.95))"
    row = read_performance(statistics(tmp_path / "p.json", raw, [0.7, 0.9])).iloc[0]
    assert (row["value"], row["low"], row["high"]) == (0.8, 0.61, 0.95)


def test_one_split_has_no_interval(tmp_path):
    """WORC then gives the value twice, an interval of no width."""
    row = read_performance(statistics(tmp_path / "p.json", "0.8 (0.8, 0.8)", [0.8])).iloc[0]
    assert row["value"] == 0.8
    assert np.isnan([row["low"], row["high"]]).all()


def test_interval_that_is_not_a_number_stays_missing(tmp_path):
    row = read_performance(statistics(tmp_path / "p.json", "0.8 (nan, nan)", [0.8, 0.8])).iloc[0]
    assert np.isnan([row["low"], row["high"]]).all()


@pytest.mark.parametrize("text", ["nan (nan, nan)", ""])
def test_no_auc_is_an_error(tmp_path, text):
    with pytest.raises(ValueError, match="no AUC"):
        read_performance(statistics(tmp_path / "p.json", text, []))


@pytest.mark.parametrize("reader", [read_performance, read_roc, read_posteriors])
@pytest.mark.parametrize("content", [None, "", "{", "a,b\n1,2\n"])
def test_files_that_are_missing_or_of_another_kind(tmp_path, reader, content):
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=f"{path}: no"):
        reader(path)


def test_roc_is_the_middle_of_the_cells_inside_the_unit_square(tmp_path):
    path = tmp_path / "roc.csv"
    path.write_text('FPR,TPR\n[1 1],[1 1]\n"[-0.5  0.9]","[0.4 1.4]"\n[0 0],[0 0]\n', encoding="utf-8")
    curve = read_roc(path)
    assert curve["fpr"].tolist() == [0, 0.2, 1]
    assert curve["tpr"].tolist() == pytest.approx([0, 0.9, 1])
    assert curve.loc[1, ["fpr_low", "fpr_high", "tpr_low", "tpr_high"]].tolist() == pytest.approx([0, 0.9, 0.4, 1])
    path.write_text("FPR,TPR\n[nan nan],[0 1]\n", encoding="utf-8")
    with pytest.raises(ValueError, match="not all of them numbers"):
        read_roc(path)


def test_posteriors_that_are_not_numbers(tmp_path):
    path = tmp_path / "ranked.csv"
    path.write_text("PatientID,TrueLabel,Probability,Score1\np0001,1.0,nan,nan\np0002,0.0,0.5,0.5\n", encoding="utf-8")
    with pytest.raises(ValueError, match="1 of 2 mean posteriors are not numbers"):
        read_posteriors(path)


def test_predictions_are_of_every_split_and_lie_in_zero_to_one(dataset):
    table = predictions_table(dataset, SPLITS, RECORDS)
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


def test_disagreement_with_worcs_own_table(dataset):
    predictions = predictions_table(dataset, SPLITS, RECORDS)
    codes = {case: f"p{case}" for case in "abcd"}
    theirs = pd.DataFrame({"case": list(codes.values()), "score": [0.9, 0.2, 1.2, -0.1]})
    assert disagreement(theirs, predictions, codes) == 0
    assert disagreement(theirs.assign(score=[0.9, 0.3, 1, 0]), predictions, codes) == pytest.approx(0.1)
    assert disagreement(theirs.iloc[:3], predictions, codes) == float("inf")


def test_corrected_t_is_worcs_formula():
    """Its `compute_confidence` for 0.7, 0.8, 0.9 with 80 and 20 patients, by hand: 0.8 -+ 4.3027 x 0.0764."""
    found = corrected_t([0.7, 0.8, 0.9], train=80, test=20)
    assert [found.low, found.high] == pytest.approx([0.8 - 4.302653 * 0.0763763, 1.0], abs=1e-5)
