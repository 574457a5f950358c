"""A scan that says of itself that contrast agent was given is no input, whatever door it comes in by."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import pytest
from dicom_series import store
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from scan_trees import AFFINE, BRATS_2023, brats_case, head, left_out, run, save

from lab.data.layouts.subject import Subject
from lab.data.subject_scans import check_without_contrast, find_contrast, mentions_contrast

T1 = head(0)["T1"]


@pytest.mark.parametrize(
    "text",
    [
        "t1 post Gd", "AX T1 +C", "T1 C+", "t1_mprage_sag_p2_iso_KM", "T1 mit KM", "nach KM", "Sag T1 GADO", "t1 ce",
        "T1CE", "T1post", "t1c+", "3D T1 w/ contrast", "T1 with contrast", "T1 POST", "t1_vibe_post",
        "AX T1 POST-CONTRAST",
        "postgad", "T1+GD",
        "MPRAGE-Gd", "ce-mprage", "contrast-enhanced T1", "T1 Gadovist", "con contraste",
        "apres injection", "T1_Gd-DTPA", "SYNTHETIC T1GD, research only",
    ],
)  # fmt: skip
def test_descriptions_with_contrast(text):
    assert mentions_contrast(text)


@pytest.mark.parametrize(
    "text",
    [
        "t1 tra", "T1 pre Gd", "t1 ohne KM", "T1 vor KM", "T1 w/o contrast", "without contrast", "non-contrast T1",
        "noncontrast", "T1 -C", "T1 C-", "precontrast", "T1 nativ", "T1 post-op", "post OP", "posterior fossa",
        "phase contrast", "T2 FLAIR",
        "high contrast T1", "t1_mprage_sag_p2_iso", "T1 SE C2", "MR HEAD", "", "TE=2.9;Time=101500.000", "no gad",
        "ACCELERATED 3D", "T1 post surgery", "FSL5.0", "T1 cervical + C2",
    ],
)  # fmt: skip
def test_descriptions_without(text):
    assert not mentions_contrast(text)


def given(**values):
    def change(image: Dataset, number: int) -> None:
        for name, value in values.items():
            setattr(image, name, value)

    return change


@pytest.mark.parametrize(
    "values",
    [
        {"ContrastBolusAgent": "Gadovist 1.0"},
        {"ContrastBolusVolume": "7.5"},
        {"ContrastBolusStartTime": "101500"},
        {"SeriesDescription": "t1 tra +C"},
        {"ProtocolName": "T1 mit KM"},
        {"ContrastBolusAgentSequence": Sequence([given_ := Dataset()])},
    ],
    ids=str,
)
def test_a_dicom_t1_with_contrast_is_refused_and_another_sequence_warned_of(values, tmp_path):
    given_.CodeMeaning = "Gadolinium"
    folder = store(tmp_path / "T1", T1, AFFINE, change=given(**values))
    subject = Subject(case_id="a", patient_id="a", images={"T1": folder, "T2": folder})
    with pytest.raises(ValueError, match=r"T1: this T1 was taken after contrast agent was given .*\(do so\)"):
        check_without_contrast(subject, ("T1", "T2"), overrule="do so")
    first, second = check_without_contrast(subject, ("T1", "T2"), overrule="do so", refuse=False)
    assert first.startswith("T1 was taken after contrast")
    assert second.startswith("T2 was taken after contrast")
    assert check_without_contrast(subject, (), overrule="do so") == []


@pytest.mark.parametrize(
    "values",
    [
        {"ContrastBolusAgent": ""},
        {"ContrastBolusAgent": "NO"},
        {"ContrastBolusVolume": "0"},
        {"StudyDescription": "MR HEAD W/WO CONTRAST"},
        {"ContrastBolusAgentSequence": Sequence([])},
    ],
    ids=str,
)
def test_a_dicom_t1_without(values, tmp_path):
    assert find_contrast(store(tmp_path / "T1", T1, AFFINE, change=given(**values))) is None


def test_one_slice_is_enough_and_frames_are_looked_at(tmp_path):
    def last(image: Dataset, number: int) -> None:
        image.ContrastBolusAgent = "Dotarem" if number == 9 else ""

    assert "Dotarem" in (find_contrast(store(tmp_path / "T1", T1, AFFINE, change=last)) or "")

    def frame(image: Dataset, number: int) -> None:
        usage = Dataset()
        usage.ContrastBolusAgentAdministered = "YES"
        image.ContrastBolusUsageSequence = Sequence([usage])

    assert "Administered: YES" in (find_contrast(store(tmp_path / "T1e", T1, AFFINE, change=frame)) or "")


def test_nifti_files_by_description_sidecar_and_name(tmp_path):
    image = nib.Nifti1Image(T1, AFFINE)
    image.header["descrip"] = b"t1 +C"
    nib.save(image, tmp_path / "described.nii.gz")
    assert "t1 +C" in (find_contrast(tmp_path / "described.nii.gz") or "")
    for name in ("sub-01_ce-gad_T1w", "x_t1ce", "x-t1c", "T1Gd", "BraTS_t1_post"):
        assert find_contrast(save(tmp_path / f"{name}.nii.gz", T1)) == f"its name is {name}.nii.gz"
    for name in ("x_t1", "x-t1n", "ce_T1", "sub-01_T1w", "t1_centre"):
        assert find_contrast(save(tmp_path / f"{name}.nii.gz", T1)) is None
    for case_id in ("CE-001", "x_t1c-1", "BraTS_t1ce_7"):  # what a patient is called says nothing of the scan
        assert find_contrast(save(tmp_path / f"{case_id}_t1.nii.gz", T1), case_id) is None
        assert find_contrast(save(tmp_path / f"{case_id}_t1ce.nii.gz", T1), case_id) is not None
    path = save(tmp_path / "sub-02_T1w.nii.gz", T1)
    for content, said in (
        ({"ContrastBolusIngredient": "GADOLINIUM"}, "sub-02_T1w.json says ContrastBolusIngredient: GADOLINIUM"),
        ({"SeriesDescription": "t1 post Gd"}, "sub-02_T1w.json says SeriesDescription: t1 post Gd"),
        ({"ContrastBolusIngredient": None, "SeriesDescription": "t1"}, None),
        (["no object"], None),
    ):
        (tmp_path / "sub-02_T1w.json").write_text(json.dumps(content))
        assert find_contrast(path) == said
    (tmp_path / "sub-02_T1w.json").write_text("{" * 100_000)
    assert find_contrast(path) is None


def test_training_leaves_out_such_a_t1_and_remarks_on_such_a_t2(tmp_path):
    for number in range(4):
        brats_case(tmp_path / "tree", f"BraTS-GLI-{number:05d}-000", head(number, enhancing=number < 3))
    for number, sequence in ((0, "T1"), (1, "T2"), (2, "T1GD")):
        case = f"BraTS-GLI-{number:05d}-000"
        sidecar: Path = tmp_path / "tree" / case / f"{case}{BRATS_2023[sequence]}.json"
        sidecar.write_text(json.dumps({"ContrastBolusIngredient": "GADOLINIUM"}))
    lines: list[str] = []
    cohort = run(tmp_path / "tree", tmp_path / "out", progress=lambda done, total, line: lines.append(line))
    assert "this T1 was taken after contrast agent" in left_out(tmp_path / "out")["BraTS-GLI-00000-000"]
    assert "T2 was taken after contrast agent" in cohort.index["remarks"]["BraTS-GLI-00001-000"]
    assert "T1GD was taken" not in str(cohort.index["remarks"]["BraTS-GLI-00002-000"])
    assert any("(remark: T2 was taken after contrast agent" in line for line in lines)
