"""What the values of masks mean: told from names and values where they have one meaning, else refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scan_trees import ONE_CLASS, SHAPE, brats_case, brats_tree, head, left_out, run, save

from lab.config import DataConfig
from lab.data.cohort import EXPERT, read_index
from lab.data.contract import Contract
from lab.data.layouts.find import find_subjects
from lab.data.layouts.label_books import LABEL_BOOKS, set_book
from lab.data.layouts.subject import Subject
from lab.io.case_file import CORE
from lab.io.scan import count_values

BRATS_2021 = ("_t1", "_seg")
BRATS_2023 = ("-t1n", "-seg")


def masks(root: Path, start: str, values: list[tuple[int, ...]], names: tuple[str, str] = BRATS_2023) -> Path:
    """Cases with a small mask of these values each."""
    for number, held in enumerate(values):
        mask = np.zeros((4, 4, 4), np.uint8)
        mask.flat[: len(held)] = held
        case_id = f"{start}{number:05d}"
        save(root / case_id / f"{case_id}{names[0]}.nii.gz", np.ones((4, 4, 4), np.int16))
        save(root / case_id / f"{case_id}{names[1]}.nii.gz", mask)
    return root


def books(root: Path, **options) -> list[str | int | None]:
    """Enhancing value of each case, "left out" where the mask has a fault."""
    return [s.enhancing_label if s.mask_fault is None else "left out" for s in find_subjects(root, **options)]


def test_the_books_are_those_of_the_settings_and_of_the_field():
    for name, enhancing in (("brats2021", 4), ("brats2023", 3), ("brats2024", 3), ("brats-ped", 1), ("ucsf-pdgm", 4)):
        subject = set_book(Subject(case_id="a", patient_id="a"), name)
        assert (subject.enhancing_label, subject.label_book) == (enhancing, name)
    assert set_book(subject, "brats2024").cavity_label == 4
    assert set_book(subject, "brats-ped").cavity_label is None
    assert set_book(subject, "egd").enhancing_label is None
    assert set_book(subject, "tumour").labels is None


ADULT, TREATED, OLD = (1, 2, 3), (1, 2, 3, 4), (1, 2, 4)
GUESSED = {
    "2023": ("BraTS-GLI-", [ADULT, (1, 2), (2, 3)], ["brats2023"] * 3),
    "2024": ("BraTS-GLI-", [TREATED, OLD, ADULT, (1, 2)], ["brats2024"] * 4),
    "2024 among names of nobody": ("clinic-", [TREATED, (1, 2), (2,)], [None, None, "brats2023"]),
    "one odd mask among few": ("clinic-", [OLD, ADULT, (1, 2)], [None, "brats2023", "brats2023"]),
    "2021 labels, few": ("BraTS-GLI-", [OLD, (1, 2), (2, 4)], [None, "brats2023", None]),
    "2021 labels, many": ("BraTS-GLI-", [OLD] * 11 + [(1, 2)], ["brats2021"] * 12),
    "2021 and 2023 labels together": ("BraTS-GLI-", [OLD] * 9 + [ADULT] * 9, [None] * 9 + ["brats2023"] * 9),
    "one of 2021 among many of 2023": ("BraTS-GLI-", [OLD] + [ADULT] * 19, ["brats2023"] * 20),
    "children": ("BraTS-PED-", [(1, 2, 3), (2, 4)], ["brats-ped"] * 2),
    "children of 2023 or without oedema": ("BraTS-PED-", [(1, 2, 3), (2,)], [None, "brats-ped"]),
    "metastases": ("BraTS-MET-", [ADULT, OLD], ["brats-met"] * 2),
    "meningioma": ("BraTS-MEN-", [ADULT, (3,)], ["brats-men"] * 2),
    "after treatment at UCSF": ("100001_time", [TREATED, ADULT], ["ucsf-post-treatment"] * 2),
    "after treatment, or not": ("100001_time", [OLD], [None]),
}


@pytest.mark.parametrize("kind", GUESSED)
def test_books_are_guessed_only_where_unambiguous(kind, tmp_path):
    start, values, expected = GUESSED[kind]
    subjects = find_subjects(masks(tmp_path, start, values))
    assert [subject.label_book for subject in subjects] == expected
    for subject, book in zip(subjects, expected):
        assert (subject.mask_fault is None) == (book is not None)
        assert subject.mask_fault is None or "--data.labels" in subject.mask_fault


def test_2021_names(tmp_path):
    assert books(masks(tmp_path / "usual", "BraTS2021_", [OLD, (1, 2)], BRATS_2021)) == [4, 4]
    assert books(masks(tmp_path / "many", "BraTS2021_", [ADULT] * 10, BRATS_2021)) == [3] * 10
    assert books(masks(tmp_path / "few", "BraTS2021_", [ADULT, (1, 2)], BRATS_2021)) == ["left out", 4]
    assert books(masks(tmp_path / "2015", "BraTS2021_", [TREATED, OLD], BRATS_2021)) == ["left out"] * 2
    assert books(masks(tmp_path / "ucsf", "UCSF-PDGM-", [OLD], BRATS_2021)) == [4]


def test_the_book_that_is_named_decides(tmp_path):
    root = masks(tmp_path, "BraTS-GLI-", [OLD, (1, 2)])
    assert books(root, labels="brats2021") == [4, 4]
    assert books(root, labels="brats2024") == [3, 3]
    assert books(root, labels="tumour") == [None, None]
    with pytest.raises(ValueError, match="unknown label book 'brats1999': choose one of auto, brats2015"):
        find_subjects(root, labels="brats1999")


def test_counted_voxels():
    mask = np.zeros((3, 4, 5), np.uint8)
    mask[1, 1:3, 2], mask[2, 3, 4] = 4, 255
    counts = count_values(mask)
    assert (counts[0], counts[4], counts[255], counts.sum()) == (57, 2, 1, 60)


def test_a_resection_cavity_is_no_tumour_and_does_not_enhance(tmp_path):
    for number, enhancing in enumerate((True, False)):
        volumes = head(number, enhancing=enhancing)
        volumes["MASK"][20:24, 40:44, 20] = 4
        brats_case(tmp_path / "scans", f"BraTS-GLI-{number:05d}-000", volumes)
    volumes["MASK"][volumes["MASK"] < 4] = 0
    brats_case(tmp_path / "scans", "BraTS-GLI-00002-000", volumes)
    cohort = run(tmp_path / "scans", tmp_path / "out")
    assert cohort.index["enhancing"].tolist() == [True, False]
    assert cohort.index["tumour_ml"].tolist() == [24.896, 24.896]
    assert set(cohort.index["label_book"]) == {"brats2024"}
    assert cohort.manifest["label_books"] == {"brats2024": LABEL_BOOKS["brats2024"]}
    assert "holds a resection cavity (4) and no tumour" in left_out(tmp_path / "out")["BraTS-GLI-00002-000"]


def table(root: Path, labels: list[tuple[int, int]]) -> Path:
    """A CSV of heads, each with the enhancing label of its row and the one that its mask has (0: none)."""
    rows = ["case_id,T1,T2,FLAIR,T1GD,MASK,enhancing_label"]
    for number, (column, held) in enumerate(labels):
        volumes = head(number, enhancing=held > 0, label=held)
        files = [
            save(root / f"{number}/{name}.nii.gz", volumes[name]) for name in ("T1", "T2", "FLAIR", "T1GD", "MASK")
        ]
        rows.append(",".join([f"case-{number}", *map(str, files), str(column or "")]))
    (root / "scans.csv").write_text("\n".join(rows))
    return root / "scans.csv"


def test_an_enhancing_label_that_no_mask_holds_is_refused(tmp_path):
    source = table(tmp_path, [(3, 4), (3, 0)])
    with pytest.raises(
        ValueError, match=r"none of 2 subjects.*none of the 2 masks with enhancing_label 3 holds 3; found 1, 2, 4"
    ):
        run(source, tmp_path / "out", ONE_CLASS)
    with pytest.raises(ValueError, match="enhancing_label 3 in the table, but the label book is brats2021"):
        run(source, tmp_path / "out", DataConfig(labels="brats2021"))
    index = read_index(tmp_path / "out" / "index.csv")
    assert set(index["status"]) == {"left out"}


def test_one_patient_with_labels_of_another_year_is_left_out_of_a_table(tmp_path):
    cohort = run(table(tmp_path, [(3, 3), (3, 0), (3, 4), (4, 4), (0, 4)]), tmp_path / "out")
    assert cohort.index["enhancing"].tolist() == [True, False, True, True]
    assert cohort.index["label_book"].tolist() == ["enhancing_label 3"] * 2 + ["enhancing_label 4", "tumour"]
    reason = left_out(tmp_path / "out")["case-2"]
    assert "holds the labels 2, 4, not the enhancing_label 3" in reason
    assert "name the label book" in reason


def test_where_no_mask_is_needed_its_labels_leave_nobody_out(tmp_path):
    contract = Contract.of(
        run(brats_tree(tmp_path / "known", 1, 1), tmp_path / "cohort"), ("T1", "T2", "FLAIR"), "T1GD"
    )
    (subject,) = find_subjects(brats_case(tmp_path / "new", "BraTS-GLI-00009-000", head(9, label=4)).parent)
    assert subject.mask_fault is not None
    case = contract.open(subject)
    assert "every value above 0 is taken as tumour" in case.notes[0]
    assert case.measured["tumour_ml"] == 24.896
    assert case.measured["label_enhancing_ml"] is None
    assert not (case.masks & (EXPERT | CORE)).any()
    with pytest.raises(ValueError, match=r"may be those of brats2024 .* or brats2021"):
        contract.prepare(subject)  # a classifier measures the tumour, which a cavity is not
    (named,) = find_subjects(tmp_path / "new", labels="brats2021")
    np.testing.assert_array_equal(contract.prepare(named)[1], contract.open(named).masks)
    outside = np.zeros(SHAPE, np.uint8)
    outside[0, 0, 0] = 1
    save(subject.mask, outside)
    case = contract.open(find_subjects(tmp_path / "new")[0])
    assert "no tumour is left inside the brain" in case.notes[0]
    with pytest.raises(ValueError, match="two files for T1 that differ"):
        contract.open(replace(subject, fault="two files for T1 that differ"))
