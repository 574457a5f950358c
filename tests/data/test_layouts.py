"""Where the data sets keep their files, and what wrong trees say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.data.layouts import LAYOUTS, detect, find_subjects

METADATA = {
    "Clinical_data": {"Age": 57, "Sex": "F"},
    "Genetic_and_Histological_labels": {"IDH": 1, "1p19q": -1, "Grade": 4},
    "Scan_characteristics": {"Manufacturer": "Philips Medical Systems", "System": "Achieva", "Field": 1.5},
    "Segmentation_source": {"Observer": "Manual", "Original scan": "FLAIR"},
}
SEQUENCES = ("T1", "T2", "FLAIR", "T1GD", "MASK")
EGD_SHAPES = {
    "official downloader": ("SUBJECTS/{id}/{name}.nii.gz", "SUBJECTS/{id}/metadata.json"),
    "xnat": ("MR_{id}/{number}_{name}/NIFTI/{name}.nii.gz", "MR_{id}/metadata.json"),
    "xnat with resources": (
        "{id}/MR_{id}/scans/{number}_{name}/resources/NIFTI/files/{name}.nii.gz",
        "{id}/resources/METADATA/metadata.json",
    ),
}


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def egd(root: Path, shape: str, ids: tuple[str, ...] = ("EGD-0001", "EGD-0002")) -> Path:
    image, metadata = EGD_SHAPES[shape]
    for case_id in ids:
        for number, name in enumerate(SEQUENCES, start=1):
            touch(root / image.format(id=case_id, name=name, number=number))
        touch(root / metadata.format(id=case_id)).write_text(json.dumps(METADATA))
    return root


def brats(root: Path, case_id: str, suffixes: tuple[str, ...]) -> Path:
    for suffix in suffixes:
        touch(root / case_id / f"{case_id}{suffix}.nii.gz")
    return root


def csv(root: Path) -> Path:
    table = root / "scans.csv"
    rows = ["case_id,T1,T2,FLAIR,T1GD,MASK", "a,a/t1.nii.gz,a/t2.nii,a/flair.nii.gz,a/t1gd.nii.gz,a/seg.nii.gz"]
    touch(table).write_text("\n".join(rows))
    return table


TREES = {
    "egd": lambda root: egd(root, "official downloader"),
    "brats2021": lambda root: brats(root, "BraTS2021_00000", ("_t1", "_t1ce", "_t2", "_flair", "_seg")),
    "brats2023": lambda root: brats(root, "BraTS-GLI-00000-000", ("-t1n", "-t1c", "-t2w", "-t2f", "-seg")),
    "csv": csv,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_detected_and_complete(name, tmp_path):
    path = TREES[name](tmp_path)
    assert detect(path) == name
    subjects = find_subjects(path)
    assert subjects == find_subjects(path, name)
    for subject in subjects:
        assert {"T1", "T2", "FLAIR", "T1GD"} == subject.images.keys()
        assert subject.mask is not None
        assert len({*subject.images.values(), subject.mask}) == 5


@pytest.mark.parametrize("shape", EGD_SHAPES)
def test_egd_in_every_real_shape(shape, tmp_path):
    touch(tmp_path / "METADATA" / "Brain_mask.nii.gz")
    first, second = find_subjects(egd(tmp_path, shape))
    assert (first.case_id, first.patient_id, second.case_id) == ("EGD-0001", "EGD-0001", "EGD-0002")
    assert first.images["T1GD"].name == "T1GD.nii.gz"
    assert "EGD-0001" in str(first.images["T1GD"])
    assert (first.skull_stripped, first.enhancing_label) == (False, None)
    assert (first.grade, first.age, first.sex, first.idh, first.codeletion) == (4, 57.0, "F", 1, None)
    assert (first.vendor, first.field_strength_t) == ("Philips", 1.5)


def test_egd_without_metadata_knows_nothing(tmp_path):
    (tmp_path / "EGD-0007").mkdir()
    touch(tmp_path / "EGD-0007" / "T1.nii.gz")
    (subject,) = find_subjects(tmp_path)
    assert (subject.grade, subject.age, subject.idh, subject.vendor, subject.mask) == (None, None, None, None, None)


def test_damaged_metadata_names_the_file(tmp_path):
    egd(tmp_path, "official downloader")
    (tmp_path / "SUBJECTS" / "EGD-0002" / "metadata.json").write_text("{")
    with pytest.raises(ValueError, match=r"EGD-0002/metadata\.json"):
        find_subjects(tmp_path)


def test_the_two_brats_codings(tmp_path):
    (old,) = find_subjects(TREES["brats2021"](tmp_path / "old"))
    (new,) = find_subjects(TREES["brats2023"](tmp_path / "new"))
    assert (old.enhancing_label, old.labels) == (4, {0, 1, 2, 4})
    assert (new.enhancing_label, new.labels) == (3, {0, 1, 2, 3})
    assert (old.patient_id, new.patient_id) == ("BraTS2021_00000", "BraTS-GLI-00000")


def test_scans_of_one_patient_share_the_patient_id(tmp_path):
    for point in ("000", "001"):
        brats(tmp_path, f"BraTS-GLI-00020-{point}", ("-t1n", "-t1c"))
    first, second = find_subjects(tmp_path)
    assert first.patient_id == second.patient_id == "BraTS-GLI-00020"
    assert first.case_id != second.case_id


def test_other_sequences_and_missing_ones(tmp_path):
    (subject,) = find_subjects(brats(tmp_path, "BraTS2021_00001", ("_t1", "_adc")))
    assert subject.images.keys() == {"T1", "ADC"}
    assert subject.mask is None


def test_csv_columns(tmp_path):
    table = tmp_path / "scans.csv"
    table.write_text(
        "Case_ID;patient_id;T1;T1ce;adc;SEG;enhancing_label;grade;age;sex;idh;codeletion;vendor;field_strength_t;notes\n"
        "a;p1;a/1.nii.gz;/abs/2.nii;a/3.nii.gz;;4;IV;61.5;male;Wild-type;codeleted;SIEMENS;3;x\n"
        "b;;a/1.nii.gz;;;m.nii.gz;;-1;;F;unknown;0;;;\n"
    )
    a, b = find_subjects(table)
    assert a.images == {"T1": tmp_path / "a/1.nii.gz", "T1GD": Path("/abs/2.nii"), "ADC": tmp_path / "a/3.nii.gz"}
    assert (a.patient_id, a.enhancing_label, a.grade, a.age, a.sex) == ("p1", 4, 4, 61.5, "M")
    assert (a.idh, a.codeletion, a.vendor, a.field_strength_t) == (0, 1, "Siemens", 3.0)
    assert (b.patient_id, b.enhancing_label, b.grade, b.age, b.idh, b.codeletion) == ("b", None, None, None, None, 0)
    assert b.mask == tmp_path / "m.nii.gz"
    assert a.skull_stripped
    assert a.mask is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,T1\na,t1.nii.gz\n", "no column case_id"),
        ("case_id,T1\n", "no rows"),
        ("case_id,T1\na,somewhere\n", "no column holds paths"),
        ("case_id,T1,age\na,t1.nii.gz,old\n", "line 2, age: 'old' is not a number"),
        ("case_id,T1,grade\na,t1.nii.gz,5\n", "line 2, grade"),
        ("case_id,T1,idh\na,t1.nii.gz,maybe\n", "line 2, idh"),
        ("case_id,T1\n,t1.nii.gz\n", "line 2: case_id is empty"),
        ("case_id,T1\na,t1.nii.gz\na,t2.nii.gz\n", "case a occurs 2 times"),
        ("case_id,T1\na/b,t1.nii.gz\n", "cannot be a file name"),
        ("case_id,T1,t1n\na,t1.nii.gz,t2.nii.gz\n", "two files for T1"),
    ],
)
def test_wrong_tables_say_what_is_wrong(text, message, tmp_path):
    table = tmp_path / "scans.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=message):
        find_subjects(table)


def test_wrong_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_subjects(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="folder is empty"):
        find_subjects(tmp_path)
    touch(tmp_path / "data.zip")
    with pytest.raises(ValueError, match="unpacked"):
        find_subjects(tmp_path)
    touch(tmp_path / "x" / "scan.nii.gz")
    with pytest.raises(ValueError, match=r"1 NIfTI files such as x/scan\.nii\.gz"):
        find_subjects(tmp_path)
    with pytest.raises(ValueError, match="name a folder of scans"):
        find_subjects(tmp_path / "data.zip")
    with pytest.raises(ValueError, match="needs a folder"):
        find_subjects(csv(tmp_path), "egd")
    with pytest.raises(ValueError, match="no subject in the layout egd"):
        find_subjects(tmp_path, "egd")


def test_two_layouts_in_one_folder_must_be_named(tmp_path):
    TREES["brats2021"](tmp_path)
    TREES["brats2023"](tmp_path)
    with pytest.raises(ValueError, match="more than one layout"):
        find_subjects(tmp_path)
    assert len(find_subjects(tmp_path, "brats2021")) == 1


def test_a_case_in_two_folders_or_two_files_is_an_error(tmp_path):
    for part in ("train", "validation"):
        brats(tmp_path / part, "BraTS-GLI-00000-000", ("-t1n",))
    with pytest.raises(ValueError, match="BraTS-GLI-00000-000 occurs 2 times"):
        find_subjects(tmp_path)
    touch(tmp_path / "twice" / "a" / "a-t1n.nii.gz")
    touch(tmp_path / "twice" / "a" / "a-t1n.nii")
    with pytest.raises(ValueError, match="two files for T1"):
        find_subjects(tmp_path / "twice")


def test_a_link_that_leads_back_ends(tmp_path):
    TREES["brats2023"](tmp_path)
    (tmp_path / "BraTS-GLI-00000-000" / "loop").symlink_to(tmp_path)
    assert len(find_subjects(tmp_path)) == 1
