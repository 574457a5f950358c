"""What is predicted: every label from a cohort, and the user's own from a CSV with all that can be wrong in it."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from lab.classify.labels import read_labels


def with_columns(cohort, **columns):
    return dataclasses.replace(cohort, index=cohort.index.assign(**columns))


def test_enhancement_is_what_the_cohort_says(tiny_cohort):
    found = read_labels(tiny_cohort, "enhancement")
    assert found.values.tolist() == tiny_cohort.index["enhancing"].astype(int).tolist()
    assert (found.event, found.missing) == ("enhancing", {})


def test_the_rule_asks_for_a_volume(tiny_cohort):
    volumes = tiny_cohort.index["rule_enhancing_ml"]
    middle = float(volumes.median())
    found = read_labels(tiny_cohort, "rule", enhancing_ml=middle)
    assert found.values.tolist() == (volumes >= middle).astype(int).tolist()
    exact = with_columns(tiny_cohort, rule_enhancing_ml=[0.0] * 6 + [0.49999999999] * 6)
    assert read_labels(exact, "rule", enhancing_ml=0.5).values.sum() == 6


def test_an_expert_label_that_nobody_has_is_an_error(tiny_cohort):
    with pytest.raises(ValueError, match=r"no case has one .no expert label of enhancing tumour"):
        read_labels(tiny_cohort, "expert")


def test_grade_four_against_two_and_three_and_unknown_left_out(tiny_cohort):
    grades = pd.array([2, 3, 4, pd.NA] * 3, dtype="Int64")
    found = read_labels(with_columns(tiny_cohort, grade=grades), "grade")
    assert found.values.tolist() == [0, 0, 1] * 3
    assert set(found.missing.values()) == {"grade unknown"}
    assert len(found.missing) == 3
    with pytest.raises(ValueError, match="cases of both classes are needed, all 9 are 1"):
        read_labels(with_columns(tiny_cohort, grade=pd.array([4, 4, 4, pd.NA] * 3, dtype="Int64")), "grade")


@pytest.mark.parametrize("key", ["case_id", "patient_id"])
def test_a_column_of_ones_own(tiny_cohort, tmp_path, key):
    ids = list(tiny_cohort.index.index if key == "case_id" else tiny_cohort.index["patient_id"])
    file = tmp_path / "labels.csv"
    pd.DataFrame({key: [*ids[1:], "stranger"], "idh": ["1", "0"] * 5 + ["", "1"]}).to_csv(file, index=False)
    found = read_labels(tiny_cohort, "idh", file=file)
    assert found.values.tolist() == [1, 0] * 5
    assert found.event == "idh"
    assert found.missing == dict.fromkeys(
        (tiny_cohort.index.index[0], tiny_cohort.index.index[-1]), "no idh in labels.csv"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case_id,x\nEGD-0001,1\n", "columns case_id or patient_id, and idh, are needed; found case_id, x"),
        ("name,idh\nEGD-0001,1\n", "found name, idh"),
        ("case_id,idh\nEGD-0001,yes\n", "idh of EGD-0001 is 'yes'; it must be 0, 1 or empty"),
        ("case_id,idh\nEGD-0001,1\nEGD-0001,0\n", "case_id EGD-0001 occurs more than once"),
        ("case_id,idh\nEGD-0001,1\n", "all 1 are 1"),
        ("", "cannot be read as a CSV"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tiny_cohort, tmp_path, text, message):
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_labels(tiny_cohort, "idh", file=file)


def test_an_unknown_label_names_the_known_ones(tiny_cohort):
    with pytest.raises(ValueError, match="--label mood: known are enhancement, expert, rule, grade"):
        read_labels(tiny_cohort, "mood")
