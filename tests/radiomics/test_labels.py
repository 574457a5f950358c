"""What is predicted: every label from a cohort, and the user's own from a CSV with all that can be wrong in it."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from lab.radiomics.labels import read_labels


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
        ("case_id,idh\nEGD-0001,perhaps\n", "idh of EGD-0001: 'perhaps' is not 0, 1, yes, no"),
        ("case_id,idh\nEGD-0001,1\nEGD-0001,0\n", "case_id EGD-0001 occurs more than once, with idh 0 and 1"),
        ("case_id,idh\nEGD-0001,1\n", "all 1 are 1"),
        ("case_id,idh\nP-1,1\nP-2,0\n", "none of its ids .'P-1', 'P-2' .... is in the cohort .'EGD-0001'"),
        ("case_id,idh\nEGD-0001,1\nEGD-0002,2\nEGD-0003,3\n", "idh of EGD-0002: '2' is not .*line 3., and 1 more"),
        ("", "cannot be read as a CSV"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tiny_cohort, tmp_path, text, message):
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_labels(tiny_cohort, "idh", file=file)


@pytest.mark.parametrize(
    ("head", "one", "zero", "none"),
    [
        ("case_id,idh", "1", "0", ""),
        ("Case-ID; idh", "1.0", "0,0", "-1"),
        ("ID\tIDH", "Mutant", "wild type", "NA"),
        ("Subject ID|idh", "yes", "no", "NOS"),
        ("sep=;\npatient_id;idh", "positive", "negative", "?"),
        ("\ufeffcase_id,other,idh", "x,TRUE", "x,false", "x,unknown"),
        ("case_id,IDH ", "high", "low", '" "'),
    ],
)
def test_labels_in_every_spelling(tiny_cohort, tmp_path, head, one, zero, none):
    ids = list(tiny_cohort.index.index)
    separator = next(mark for mark in ";\t|," if mark in head.replace("sep=;", ""))
    cells = [one, zero, none] * 4
    rows = [
        f"{name} {separator}{cell.replace(',', separator) if separator == ',' else cell}"
        for name, cell in zip(ids, cells)
    ]
    file = tmp_path / "labels.csv"
    file.write_text("\n".join([head, "", *rows, separator]))
    found = read_labels(tiny_cohort, "idh", file=file)
    assert found.values.tolist() == [1, 0] * 4
    assert len(found.missing) == 4


def test_one_odd_row_costs_one_label_and_is_said(tiny_cohort, tmp_path):
    ids = list(tiny_cohort.index.index)
    rows = [f"{name},{number % 2}" for number, name in enumerate(ids)]
    rows[3] = f"{ids[3]},maybe"
    rows += [f"{ids[5]},0", f"{ids[6]},0", "stranger,1", "stranger2,2"]
    file, said = tmp_path / "labels.csv", []
    file.write_text("\n".join(["case_id,idh", *rows]))
    found = read_labels(tiny_cohort, "idh", file=file, say=said.append)
    assert set(found.missing) == {ids[3], ids[5]}
    assert "'maybe' is not 0, 1" in found.missing[ids[3]]
    assert "occurs more than once, with idh 0 and 1 (lines 14 and 7)" in found.missing[ids[5]]
    assert found.values[ids[6]] == 0
    assert any(
        "2 of 14 ids are not in the cohort (as 'stranger', 'stranger2'; it has 'EGD-0001'" in line for line in said
    )
    assert any(line.startswith("2 without a label: ") for line in said)


def test_ids_without_their_zeros_are_found_where_only_one_is_meant(tiny_cohort, tmp_path):
    ids = [f"{number:03d}" for number in range(1, 13)]
    numbered = dataclasses.replace(tiny_cohort, index=tiny_cohort.index.set_axis(pd.Index(ids, name="case_id")))
    file, said = tmp_path / "labels.csv", []
    file.write_text("id,idh\n" + "".join(f"{number}{'.0' * (number > 6)},{number % 2}\n" for number in range(1, 13)))
    found = read_labels(numbered, "idh", file=file, say=said.append)
    assert found.values.tolist() == [1, 0] * 6
    assert any("12 ids are taken for others (capitals, zeros): '1' for '001'" in line for line in said)
    twins = dataclasses.replace(
        tiny_cohort, index=tiny_cohort.index.set_axis(pd.Index([*ids[:-1], "01"], name="case_id"))
    )
    assert set(read_labels(twins, "idh", file=file, say=said.append).missing) == {"001", "01"}


def test_an_unknown_label_names_the_known_ones(tiny_cohort):
    with pytest.raises(ValueError, match="--label mood: known are enhancement, expert, rule, grade"):
        read_labels(tiny_cohort, "mood")
