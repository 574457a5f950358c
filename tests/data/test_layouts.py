"""Where the data sets keep their files, and what wrong trees say."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from lab.data.layouts.find import LAYOUTS, detect, find_subjects
from lab.data.layouts.label_books import LABEL_BOOKS

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


def written(root: Path, name: str, case_id: str = "") -> dict[str, Path]:
    """The (empty) files of one case by sequence."""
    layout = LAYOUTS[name]
    return {key: touch(root / file.format(id=case_id or layout.example)) for key, file in layout.files.items()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_finds_what_was_written_as_it_says(name, tmp_path):
    layout = LAYOUTS[name]
    ids = [layout.example, layout.example[:-1] + "7"]
    path, files = tmp_path, {case_id: written(tmp_path, name, case_id) for case_id in ids}
    if layout.table:
        rows = [",".join(map(str, (case_id, *found.values()))) for case_id, found in files.items()]
        path = tmp_path / "scans.csv"
        path.write_text("\n".join([",".join(("case_id", *layout.files)), *rows]))
    assert detect(path) == name
    subjects = find_subjects(path)
    assert subjects == find_subjects(path, name)
    assert [subject.case_id for subject in subjects] == sorted(ids)
    for subject in subjects:
        assert {**subject.images, "MASK": subject.mask} == files[subject.case_id]
        assert subject.skull_stripped == (layout.brain_mask == "nonzero")
        assert subject.fault is None
        books = layout.label_books(subject.case_id)
        assert {book for book in books if book} <= set(LABEL_BOOKS)
        assert books[0] is None or subject.label_book == books[0]
    assert layout.title


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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "metadata cannot be read, what it says is unknown"),
        (b"", "metadata cannot be read"),
        (b"[" * 20_000, "metadata cannot be read"),
        (b"\x81\x8d", "metadata cannot be read"),
        (b"null", "metadata hold no parts"),
        (b'["EGD-0002"]', "metadata hold no parts"),
        (b'{"Clinical_data": "none"}', "a part of the metadata is none"),
        (b'{"Clinical_data": {"Age": ' + b"[" * 900 + b"]" * 900 + b"}}", "age not understood"),
    ],
)
def test_damaged_metadata_cost_one_patient_what_they_say(content, said, tmp_path):
    egd(tmp_path, "official downloader")
    (tmp_path / "SUBJECTS" / "EGD-0002" / "metadata.json").write_bytes(content)
    lines: list[str] = []
    first, second = find_subjects(tmp_path, say=lines.append)
    assert (first.grade, second.grade, second.fault) == (4, None, None)
    assert len(second.images) == 4
    (line,) = lines
    assert line.startswith("1 of 2 scans: ")
    assert said in line
    assert "EGD-0002" in line


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_metadata_in_any_encoding(encoding, tmp_path):
    egd(tmp_path, "official downloader", ("EGD-0001",))
    (tmp_path / "SUBJECTS" / "EGD-0001" / "metadata.json").write_bytes(json.dumps(METADATA).encode(encoding))
    (subject,) = find_subjects(tmp_path)
    assert (subject.grade, subject.vendor, subject.remarks) == (4, "Philips", ())


def test_odd_values_of_one_patient_are_unknown_or_understood(tmp_path):
    egd(tmp_path, "official downloader", ("EGD-0001", "EGD-0002", "EGD-0003"))
    odd = {
        "Clinical_data": {"Age": "67Y", "Sex": None},
        "Genetic_and_Histological_labels": {"IDH": "NOS", "1p19q": "maybe", "Grade": "II-III"},
        "Scan_characteristics": {"Manufacturer": ["GE"], "Field": "1.5T"},
    }
    (tmp_path / "SUBJECTS" / "EGD-0002" / "metadata.json").write_text(json.dumps(odd))
    (tmp_path / "SUBJECTS" / "EGD-0003" / "metadata.json").write_text(json.dumps({**METADATA, "Clinical_data": None}))
    lines: list[str] = []
    first, second, third = find_subjects(tmp_path, say=lines.append)
    assert (first.age, third.age, third.grade) == (57, None, 4)
    assert (second.age, second.field_strength_t, second.idh) == (67, 1.5, None)
    assert (second.grade, second.codeletion) == (None, None)
    assert lines == [
        "1 of 3 scans: grade not understood, taken as unknown ('II-III' of EGD-0002)",
        "1 of 3 scans: codeletion not understood, taken as unknown ('maybe' of EGD-0002)",
        "1 of 3 scans: vendor not understood, taken as unknown (a list of EGD-0002)",
    ]


def test_the_two_brats_codings(tmp_path):
    written(tmp_path / "old", "brats2021")
    written(tmp_path / "new", "brats2023")
    (old,), (new,) = find_subjects(tmp_path / "old"), find_subjects(tmp_path / "new")
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
        ("name,T1\na,t1.nii.gz\n", "no column case_id"),
        ('case_id,T1\n"a,t1.nii.gz\nb,t2.nii.gz\n', "cannot be read as a CSV .line 2: .* stray quote"),
        ("case_id,T1,age,Age\na,t1.nii.gz,3,4\n", "line 2: column age stands twice"),
        ("case_id,T1\n", "no rows"),
        ("case_id,T1\na,somewhere\n", "no column holds paths"),
        (
            "case_id,T1,enhancing_label\na,t1.nii.gz,999\n",
            "line 2: enhancing_label: '999' is not a whole number from 1",
        ),
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
        find_subjects(touch(tmp_path / "scans.csv"), "egd")
    with pytest.raises(ValueError, match="no subject in the layout egd"):
        find_subjects(tmp_path, "egd")


def test_two_layouts_in_one_folder_must_be_named(tmp_path):
    written(tmp_path, "brats2021")
    written(tmp_path, "brats2023")
    with pytest.raises(ValueError, match="more than one layout"):
        find_subjects(tmp_path)
    assert len(find_subjects(tmp_path, "brats2021")) == 1


def test_a_case_in_two_folders_is_taken_once_where_both_are_alike(tmp_path):
    for part in ("train", "validation"):
        for case_id in ("BraTS-GLI-00000-000", "BraTS-GLI-00001-000"):
            brats(tmp_path / part, case_id, ("-t1n", "-seg"))
    brats(tmp_path / "train", "BraTS-GLI-00002-000", ("-t1n",))
    (tmp_path / "train/BraTS-GLI-00001-000/BraTS-GLI-00001-000-seg.nii.gz").write_text("another")
    lines: list[str] = []
    first, second, third = find_subjects(tmp_path, say=lines.append)
    assert (first.fault, third.fault) == (None, None)
    assert "BraTS-GLI-00001-000 occurs 2 times" in str(second.fault)
    assert any("stands there more than once, always the same" in line for line in lines)


def test_two_files_for_one_sequence_cost_one_patient(tmp_path):
    for case_id in ("a", "b", "c"):
        brats(tmp_path, case_id, ("-t1n", "-t1c"))
    (tmp_path / "a" / "a-t1n.nii").write_bytes(b"voxels")
    (tmp_path / "a" / "a-t1n.nii.gz").write_bytes(gzip.compress(b"voxels"))
    (tmp_path / "b" / "b-t1n.nii").write_bytes(b"other voxels")
    (tmp_path / "b" / "b-t1n.nii.gz").write_bytes(gzip.compress(b"voxels"))
    a, b, c = find_subjects(tmp_path)
    assert (a.fault, a.images["T1"].name) == (None, "a-t1n.nii.gz")
    assert "two files for T1 that differ" in str(b.fault)
    assert "b-t1n.nii.gz" in str(b.fault)
    assert c.fault is None


def test_copies_beside_their_original_are_not_read(tmp_path):
    egd(tmp_path / "egd", "official downloader", ("EGD-0001",))
    brats(tmp_path / "brats", "BraTS2021_00001", ("_t1", "_t1ce", "_seg"))
    folder = tmp_path / "egd" / "SUBJECTS" / "EGD-0001"
    for name in (
        "T1 (1).nii.gz",
        "T1_copy.nii.gz",
        "Copy of T1.nii.gz",
        "T1.bak.nii",
        "T1 - Copy (2).nii.gz",
        "T1~.nii.gz",
    ):
        touch(folder / name)
    touch(folder / "T1.nii.gz~")
    for name in ("Copy of BraTS2021_00001_t1.nii.gz", "BraTS2021_00001_t1 (1).nii.gz"):
        touch(tmp_path / "brats" / "BraTS2021_00001" / name)
    lines: list[str] = []
    (subject,) = find_subjects(tmp_path / "egd", say=lines.append)
    assert subject.images.keys() == {"T1", "T2", "FLAIR", "T1GD"}
    assert subject.images["T1"].name == "T1.nii.gz"
    assert "Not read, copies of files beside them: " in lines[0]
    assert "and 3 more" in lines[0]
    (subject,) = find_subjects(tmp_path / "brats")
    assert (subject.case_id, subject.images.keys()) == ("BraTS2021_00001", {"T1", "T1GD"})


@pytest.mark.parametrize(
    ("case_id", "mask", "book"),
    [
        ("UCSF-PDGM-0004", "_tumor_segmentation", "ucsf-pdgm"),
        ("UPENN-GBM-00001_11", "_segm", "upenn-gbm"),
        ("UPENN-GBM-00002_11", "_segmentation", "upenn-gbm"),
    ],
)
def test_names_of_ucsf_and_upenn(case_id, mask, book, tmp_path):
    brats(tmp_path, case_id, ("_T1", "_T1_bias", "_T1c" if "UCSF" in case_id else "_T1GD", "_T2", "_FLAIR", mask))
    (subject,) = find_subjects(tmp_path)
    assert subject.images.keys() == {"T1", "T1GD", "T2", "FLAIR"}
    assert str(subject.mask).endswith(f"{mask}.nii.gz")
    assert (subject.label_book, subject.enhancing_label) == (book, 4)


def test_seg_is_the_mask_beside_another_mask(tmp_path):
    brats(tmp_path, "BraTS-GLI-00000-000", ("-t1n", "-seg", "-mask"))
    lines: list[str] = []
    (subject,) = find_subjects(tmp_path, say=lines.append)
    assert str(subject.mask).endswith("-seg.nii.gz")
    assert "seg is read as tumour mask" in lines[0]
    assert "-mask.nii.gz" in lines[0]


def test_a_link_that_leads_back_ends(tmp_path):
    written(tmp_path, "brats2023")
    (tmp_path / "BraTS-GLI-00000-000" / "loop").symlink_to(tmp_path)
    assert len(find_subjects(tmp_path)) == 1
