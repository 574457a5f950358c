"""Whose scans are whose: names, tables and patterns, and scans that are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scan_trees import BRATS_2023, brats_case, brats_tree, head, run

from lab.data.cohort import read_index
from lab.data.duplicates import Pair, find_duplicates, fingerprint_head
from lab.data.layouts import patients
from lab.data.layouts.patients import describe_patients, find_patients, find_person, merge_same_scans
from lab.data.layouts.subject import Subject
from lab.io.case_file import BRAIN

ONE_PERSON = [
    "100001_time1 100001_time2 100001 100001time3",
    "UPENN-GBM-00001_11 UPENN-GBM-00001_21",
    "sub-01_ses-1 sub-01_ses-2_run-1 sub-01_ses-pre",
    "BraTS-GLI-00000-000 BraTS-GLI-00000-001",
    "UCSF-PDGM-0004 UCSF-PDGM-0004_FU016d",
    "Patient-001_pre Patient-001_post",
    "TCGA-02-0003_1998.06.08 TCGA-02-0003_19990608",
    "P01_baseline P01_followup1 p01_follow-up-2",
    "Patient-001_week-000-1 Patient-001_week-000-2 Patient-001_week-044",
    "PatientID_0003_Timepoint_1 PatientID_0003_Timepoint_2",
    "002_S_0295_bl 002_S_0295_m06",
    "baseline_P01 followup_P01 P01_2019-03-02",
    "7 007 7.0",
    "PGBM-001_01-23-2010 PGBM-001_04-11-2010",
    "A12_12Jan2019 A12_04Mar2020 A12_20200304_101512 A12_2020-03-04T10:15",
    "S01_preop S01_3mo S01_6months S01_12m S01_1yr",
    "P7_d0 P7_d28 P7_MRI2 P7_1st P7_nadir",
]
SEVERAL = [
    "EGD-0001 EGD-0002",
    "case_1 case_2",
    "BraTS2021_00000 BraTS2021_00001",
    "BraTS20_Training_001 BraTS20_Training_002",
    "BraTS-SSA-00115-000 BraTS-SSA-00121-000",
    "patient_time1 patient_time2",
    "time1 time2",
    "UPENN-GBM-00001_11 UPENN-GBM-00002_11",
    "site1_001 site1_002",
    "site1_scan_001 site1_scan_002",
    "case_20010203 case_20010204",
    "sub-01 sub-02",
    "HGG_M01 HGG_M02",
    "GBM-T12 GBM-T13",
    "train_scan_1 train_scan_2",
    "hospitalA_M12 hospitalA_M13",
    "LGG_20190102 LGG_20190103",
    "P12m P13m",
    "new_001 new_002 study1_003 mri1_004 mri1_005",
]


def scans_of(*names: str, **given: str) -> list[Subject]:
    """Subjects by case id; `given` are those whose patient a table names."""
    unknown = [Subject(case_id=name, patient_id=name) for name in names]
    return unknown + [Subject(case_id=name, patient_id=who, patient_given=True) for name, who in given.items()]


@pytest.mark.parametrize("names", ONE_PERSON)
def test_time_points_of_one_person_are_one_patient(names):
    assert len({find_person(name) for name in names.split()}) == 1


@pytest.mark.parametrize("names", SEVERAL)
def test_a_running_number_is_no_time_point(names):
    assert len({find_person(name) for name in names.split()}) == len(names.split())


def test_a_group_is_told_and_a_patient_of_one_scan_keeps_the_name_as_it_is_written():
    found = find_patients(scans_of("100001_time1", "100001_time2", "EGD-0007", "P9_pre"), None)
    assert found.of == {"100001_time1": "100001", "100001_time2": "100001", "EGD-0007": "EGD-0007", "P9_pre": "P9_pre"}
    lines = describe_patients(found.merged, found.notes)
    assert lines[0] == "One patient, 100001: 100001_time1, 100001_time2 (by their names, scans of one person)"
    assert "--data.patient-pattern" in lines[1]


def test_the_column_settles_it_and_a_blank_cell_goes_by_the_name():
    found = find_patients(scans_of("100001_time3", **{"100001_time1": "A", "100001_time2": "B", "x": "A"}), None)
    assert found.of == {"100001_time1": "A", "100001_time2": "B", "x": "A", "100001_time3": "100001_time3"}
    found = find_patients(scans_of("100001_time2", **{"100001_time1": "A"}), None)
    assert found.of == {"100001_time1": "A", "100001_time2": "A"}


def test_spellings_of_a_spreadsheet_are_one_patient():
    found = find_patients(scans_of(a="7", b="7.0", c="007", d="p1", e="P1", f="70"), None)
    assert found.of == {"a": "7", "b": "7", "c": "7", "d": "p1", "e": "p1", "f": "70"}
    assert [group["cases"] for group in found.merged] == [["a", "b", "c"], ["d", "e"]]


def test_a_pattern_goes_before_column_and_name():
    names = ["s1_100001_time1", "s2_100001_time2", "else"]
    found = find_patients(scans_of(*names, s3_100001="another"), r"s\d_(\d+)")
    assert [found.of[name] for name in (*names, "s3_100001")] == ["100001", "100001", "else", "100001"]
    assert "matches 3 of 4 case ids; the others, such as else" in found.notes[0]
    found = find_patients(scans_of("100001_time1", "100001_time2"), ".*")  # the whole match: two people
    assert len(set(found.of.values())) == 2
    assert not found.merged


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "not a regular expression"),
        ("nowhere", "finds a patient in none of 1"),
        ("x*", "in none of"),
        ("", "in none"),
    ],
)
def test_a_pattern_that_does_not_help_is_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        find_patients(scans_of("100001_time1"), pattern)


def test_a_pattern_that_never_ends_is_stopped(monkeypatch):
    monkeypatch.setattr(patients, "MATCH_S", 1.0)
    with pytest.raises(ValueError, match="does not end"):
        find_patients(scans_of("a" * 60 + "!"), "(a+)+$")


def test_equal_scans_are_one_patient_whatever_the_table_says_and_alike_ones_unless_it_says_otherwise():
    near = [Pair(one="a", other="c", similarity=0.8), Pair(one="d", other="e", similarity=0.7)]
    scans = {"a": ["1", "2"], "b": ["3", "2"], "c": ["4"], "d": ["5"], "e": ["6"]}
    found = find_patients(scans_of("c", a="A", b="B", d="D", e="E"), None)
    assert merge_same_scans(found, scans, near) == {"b": "a", "c": "a"}
    assert found.of == {"a": "A", "b": "A", "c": "A", "d": "D", "e": "E"}
    assert "they stay two patients, as you named them" in found.notes[0]


# --- fingerprints


def brain(seed: int) -> np.ndarray:
    """Three inputs (3, 20, 24, 20) of 4 mm: folds that all brains share, and as much of their own."""
    shared, own = np.random.default_rng(99), np.random.default_rng(seed)
    return np.clip(0.2 * shared.normal(size=(3, 20, 24, 20)) + 0.2 * own.normal(size=(3, 20, 24, 20)), -1, 1)


GRID = np.indices((20, 24, 20)) - np.array([9.5, 11.5, 9.5])[:, None, None, None]
MASK = ((GRID / np.array([8, 10, 8])[:, None, None, None]) ** 2).sum(0) < 1
NEAR = {
    "noise": lambda image, mask: (image + np.random.default_rng(5).normal(0, 0.1, image.shape), mask),
    "other contrast": lambda image, mask: (np.tanh(2 * image) + 0.1, mask),
    "moved": lambda image, mask: (np.roll(image, (1, -2, 1), (1, 2, 3)), np.roll(mask, (1, -2, 1), (0, 1, 2))),
    "mirrored": lambda image, mask: (image[:, ::-1], mask[::-1]),
    "cut": lambda image, mask: (image, mask & (GRID[2] < 4)),
    "one sequence": lambda image, mask: (np.stack([image[0], *brain(77)[1:]]), mask),
}


def heads(count: int) -> dict[str, str]:
    return {f"p{seed}": fingerprint_head(brain(seed), MASK * np.uint8(BRAIN), 4.0) for seed in range(count)}


@pytest.mark.parametrize("kind", NEAR)
def test_nearly_the_same_scan_is_found_and_nobody_else(kind):
    image, mask = NEAR[kind](brain(3), MASK)
    copy = fingerprint_head(image, mask * np.uint8(BRAIN), 4.0)
    assert [(pair.one, pair.other) for pair in find_duplicates({**heads(8), "x": copy}, 4.0)] == [("p3", "x")]


def test_a_cohort_of_a_few_people_and_one_empty_brain():
    assert find_duplicates(heads(2), 4.0) == []
    assert find_duplicates({}, 4.0) == find_duplicates(heads(1), 4.0) == []
    nothing = fingerprint_head(brain(0), np.zeros_like(MASK, np.uint8), 4.0)
    assert find_duplicates({**heads(2), "x": nothing, "y": nothing}, 4.0) == []


# --- the whole way


def test_prepare_keeps_one_person_on_one_side_and_says_so(tmp_path):
    brats_tree(tmp_path / "scans", 3, 3)
    twice, shared = head(2), {**head(40), "T1": head(4)["T1"]}
    brats_case(tmp_path / "scans", "BraTS-GLI-00050-000", twice)
    brats_case(tmp_path / "scans", "BraTS-GLI-00060-000", shared)
    source = tmp_path / "scans" / "BraTS-GLI-00004-000" / f"BraTS-GLI-00004-000{BRATS_2023['T1']}.nii.gz"
    target = tmp_path / "scans" / "BraTS-GLI-00060-000" / f"BraTS-GLI-00060-000{BRATS_2023['T1']}.nii.gz"
    target.write_bytes(source.read_bytes())  # a shared T1 only
    cohort = run(tmp_path / "scans", tmp_path / "out")
    index = read_index(tmp_path / "out" / "index.csv").set_index("case_id")
    assert index["duplicate_of"].dropna().to_dict() == {
        "BraTS-GLI-00050-000": "BraTS-GLI-00002-000",
        "BraTS-GLI-00060-000": "BraTS-GLI-00004-000",
    }
    assert cohort.manifest["counts"]["patients"] == 6
    assert {tuple(group["cases"]) for group in cohort.manifest["merged"]} == {
        ("BraTS-GLI-00002-000", "BraTS-GLI-00050-000"),
        ("BraTS-GLI-00004-000", "BraTS-GLI-00060-000"),
    }
    parts = cohort.split((0.5, 0.25, 0.25), 1).groupby("patient_id")["split"].nunique()
    assert parts.max() == 1
    for table in cohort.folds(3, (0.7, 0.3, 0.0), 0):
        assert table.groupby("patient_id")["split"].nunique().max() == 1


def test_a_table_without_patients_and_one_with_them(tmp_path):
    brats_tree(tmp_path, 2, 2)
    folders = [f"BraTS-GLI-{number:05d}-000" for number in range(4)]
    names = ["100001_time1", "100001_time2", "100002_time1", "100003_time1"]
    rows = [
        [name, "", *(f"{folder}/{folder}{BRATS_2023[what]}.nii.gz" for what in ("T1", "T2", "FLAIR", "T1GD", "MASK"))]
        for name, folder in zip(names, folders)
    ]

    def prepared(out: str, *patient_ids: str) -> list[str]:
        lines = ["case_id,patient_id,T1,T2,FLAIR,T1GD,MASK,enhancing_label"]
        lines += [",".join([row[0], who, *row[2:], "3"]) for row, who in zip(rows, patient_ids)]
        Path(tmp_path / "scans.csv").write_text("\n".join(lines))
        cohort = run(tmp_path / "scans.csv", tmp_path / out)
        return cohort.index.loc[names, "patient_id"].tolist()

    assert prepared("names", "", "NA", "", "") == ["100001", "100001", "100002_time1", "100003_time1"]
    assert prepared("column", "1", "2", "3", "4") == ["1", "2", "3", "4"]
