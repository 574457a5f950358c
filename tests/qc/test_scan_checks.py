"""Scans that are not what they are said to be: refused where that is certain, remarked upon where it is likely."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scan_trees import brats_case, head, left_out, run

from lab.config import DataConfig
from lab.data import case as cases
from lab.data import subject_scans
from lab.data.case import Recipe, prepare_case
from lab.data.cohort import Cohort
from lab.data.layouts.find import find_subjects
from lab.io.case_file import BRAIN, EXPERT, TUMOUR
from lab.io.scan import Scan, read_image, read_mask
from lab.qc.scan_checks import STANDS_OUT, check_cavity, check_contrasts, check_mask, clip_outliers

REAL = Path(__file__).parents[3] / "shared" / "cases" / "brats2023-2mm"
SHAPE = (20, 20, 20)
BALL = (np.indices(SHAPE) - 9.5).__pow__(2).sum(0) < 64
GREY = np.where(BALL, np.random.default_rng(0).normal(100, 10, SHAPE), 0).astype(np.float32)


def scan(data: np.ndarray, background: float = 0.0) -> Scan:
    return Scan(data, np.diag([4.0, 4, 4, 1]), background)


@pytest.mark.parametrize("value", [3e38, -3e38, 1e5, -1e5])
@pytest.mark.parametrize("count", [1, 2])
def test_a_few_voxels_that_no_tissue_has_are_cut(value, count, tmp_path):
    data = GREY.copy()
    data[10, 10, 8 : 8 + count] = value
    mended, note = clip_outliers(scan(data), BALL)
    rest = np.delete(GREY[BALL], 0)
    assert mended.data[10, 10, 8] in (pytest.approx(rest.max(), rel=0.05), pytest.approx(rest.min(), rel=0.05))
    assert f"{count} voxel" in note
    assert f"{value:.3g}" in note
    assert mended.data[BALL].std() == pytest.approx(GREY[BALL].std(), rel=0.05)
    assert data[10, 10, 8] == np.float32(value)  # the scan that was read is left alone


def test_tissue_and_what_lies_outside_stay_as_they_are():
    data = GREY.copy()
    data[10, 10, 10] = 100 + 0.9 * STANDS_OUT * 13.5  # a vessel
    data[0, 0, 0] = 3e38
    same, note = clip_outliers(scan(data), BALL)
    assert (same.data is data, note) == (True, "")


def test_more_of_them_negated_and_binary_images_are_refused():
    data = GREY.copy()
    data[10, 10, 4:14] = 1e6
    with pytest.raises(ValueError, match=r"10 voxels of the brain, such as 1e\+06.* too many"):
        clip_outliers(scan(data), BALL)
    with pytest.raises(ValueError, match="the image is negated"):
        clip_outliers(scan(-GREY), BALL)
    with pytest.raises(ValueError, match="the image is negated"):
        clip_outliers(scan(-GREY - 50, -50), BALL)
    with pytest.raises(ValueError, match="the image is negated"):  # a cube of tissue alone
        clip_outliers(scan(-GREY[6:14, 6:14, 6:14]), BALL[6:14, 6:14, 6:14])
    air = np.where(BALL, GREY, np.random.default_rng(2).normal(10, 3, SHAPE)) - 1000
    assert clip_outliers(scan(air.astype(np.float32)), BALL)[1] == ""  # stored below 0, and the air darker still
    with pytest.raises(ValueError, match="no grey-value image"):
        clip_outliers(scan(np.where(BALL, 1.0 + (GREY > 115), 0)), BALL)
    wide = np.where(BALL, GREY + 600 * (np.random.default_rng(1).random(SHAPE) < 0.05), 0)
    with pytest.raises(ValueError, match="pile up"):
        clip_outliers(scan(wide), BALL)


@pytest.mark.parametrize(
    "other", [lambda grey: (grey - 100) * BALL, lambda grey: grey * 1e-30, lambda grey: grey + 3000]
)
def test_z_scores_and_other_units_are_no_faults(other):
    data = other(GREY).astype(np.float32)
    same, note = clip_outliers(scan(data, float(data[0, 0, 0])), BALL)
    assert (same.data is data, note) == (True, "")


def test_masks_that_no_tumour_has():
    box = np.zeros(SHAPE, np.uint8)
    box[9:12, 9:12, 9:12] = 1
    assert check_mask(box, BALL, 1.0) == []
    for mask in (np.ones(SHAPE), BALL, BALL & (box == 0)):
        with pytest.raises(ValueError, match=r"covers 9.% of the brain|covers 100% of the brain"):
            check_mask(mask.astype(np.uint8), BALL, 1.0)
    slab = np.zeros(SHAPE, np.uint8)
    slab[17:, 9:11, 9:11] = 1
    with pytest.raises(ValueError, match="67% of the tumour mask lie outside the brain"):
        check_mask(slab, BALL, 1.0)
    slab[9:17, 9:11, 9:11] = 1
    assert check_mask(slab, BALL, 1.0) == ["18.2% of the tumour mask lie outside the brain"]
    assert check_mask(np.roll(box, 15, 0), BALL, 1.0) == []  # wholly outside: the preparation says so


@pytest.mark.parametrize(("label", "remarks"), [(EXPERT, 1), (0, 0)])
def test_t1_and_t1gd_exchanged_by_what_the_mask_says(label, remarks):
    image = np.random.default_rng(3).normal(0, 0.2, (4, *SHAPE)).astype(np.float32)
    masks = BALL * np.uint8(BRAIN)
    masks[8:12, 8:12, 8:12] |= TUMOUR | label
    image[1:3, 8:12, 8:12, 8:12] += 0.5  # bright in T2 and FLAIR
    image[3, 8:12, 8:12, 8:12] += 0.4
    assert check_contrasts(image, masks, ("T1", "T2", "FLAIR", "T1GD"), 2.0) == []
    found = check_contrasts(image[[3, 1, 2, 0]], masks, ("T1", "T2", "FLAIR", "T1GD"), 2.0)
    assert ["were T1 and T1GD exchanged, or does" in said for said in found] == [True] * remarks


def test_a_cavity_that_takes_up_contrast_agent_is_remarked_upon():
    cavity = np.zeros(SHAPE, bool)
    cavity[8:12, 8:12, 8:12] = True
    fluid, blood, enhancing = (scan(GREY + np.float32(rise) * cavity) for rise in (-40, 40, 30))
    assert check_cavity(fluid, fluid, cavity) == []
    assert check_cavity(blood, blood, cavity) == []
    (said,) = check_cavity(fluid, enhancing, cavity)
    assert "is bright in T1GD" in said


def test_one_scan_twice_and_a_spike_in_a_cohort(tmp_path):
    """Through the door: 0.3.0 prepared all of them without a word, the spike with an SD of 0.006."""
    for number in range(5):
        volumes = head(number, enhancing=number < 4)
        if number == 0:
            volumes["T2"] = volumes["T1"] * 2  # nothing of the file is equal
        if number == 1:
            volumes["T1GD"] = volumes["T1"]
        if number == 2:
            volumes["FLAIR"] = volumes["FLAIR"].astype(np.float32)
            volumes["FLAIR"][22, 26, 22] = 3e38
        if number == 3:
            volumes["MASK"] = np.ones_like(volumes["MASK"])
        brats_case(tmp_path / "tree", f"BraTS-GLI-{number:05d}-000", volumes)
    lines: list[str] = []
    cohort = run(
        tmp_path / "tree",
        tmp_path / "out",
        DataConfig(allow_one_class=True),
        progress=lambda done, total, line: lines.append(line),
    )
    reasons = left_out(tmp_path / "out")
    assert "T1 and T2 are the same image" in reasons["BraTS-GLI-00000-000"]
    assert "T1 and T1GD are the same image" in reasons["BraTS-GLI-00001-000"]
    assert "the tumour mask covers 100% of the brain" in reasons["BraTS-GLI-00003-000"]
    spiked = "BraTS-GLI-00002-000"
    assert "FLAIR: 1 voxel of the brain, such as 3e+38" in cohort.index["remarks"][spiked]
    assert any(line.startswith(f"{spiked}: prepared (remark: ") for line in lines)
    image, masks = cohort.load(spiked)
    assert np.asarray(image[2], np.float32)[np.asarray(masks) > 0].std() == pytest.approx(0.25, abs=0.1)


def test_phantoms_are_not_remarked_upon(tiny_cohort: Cohort):
    assert tiny_cohort.index["remarks"].isna().all()


PLANTED = {
    "T1 and T2": ("T1", "T2"),
    "T2 and FLAIR": ("T2", "FLAIR"),
    "T1 and FLAIR": ("T1", "FLAIR"),
    "T1 and T1GD": ("T1", "T1GD"),
}


@pytest.mark.skipif(not REAL.is_dir(), reason="no real cases here (../shared/cases)")
def test_exchanged_sequences_of_a_real_patient_are_remarked_upon(monkeypatch):
    subject = find_subjects(REAL)[3]
    scans = {path: read_image(path) for path in subject.images.values()}
    monkeypatch.setattr(subject_scans, "read_image", scans.__getitem__)
    mask = read_mask(subject.mask)
    monkeypatch.setattr(subject_scans, "read_mask", lambda path: mask)
    monkeypatch.setattr(cases, "check_without_contrast", lambda *_, **__: [])  # by the files' names
    how = DataConfig()
    recipe = Recipe(
        channels=("T1", "T2", "FLAIR", "T1GD"),
        target="T1GD",
        spacing_mm=2.0,
        shape=(80, 96, 80),
        brain_mask="auto",
        clip_sigma=how.clip_sigma,
        enhancement_threshold=how.enhancement_threshold,
        enhancing_ml=how.enhancing_ml,
    )
    assert prepare_case(subject, recipe)[2]["remarks"] == ""
    for said, (first, second) in PLANTED.items():
        images = subject.images | {first: subject.images[second], second: subject.images[first]}
        remarks = prepare_case(dataclasses.replace(subject, images=images), recipe)[2]["remarks"]
        assert f"were {said} exchanged?" in remarks
