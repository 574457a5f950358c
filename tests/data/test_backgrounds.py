"""Backgrounds that are not 0 and labels that are not quite whole: read as they are meant, and said."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scan_trees import AFFINE, brats_case, head, run, save

from lab.data.brain_mask import brain_mask
from lab.data.layouts.find import find_subjects
from lab.io.scan import read_image, read_mask

REAL = Path(__file__).parents[3] / "shared" / "cases"
HEAD = head(0)
RNG = np.random.default_rng(1)


def with_background(value: str) -> np.ndarray:
    """The head's T1 as programs leave it that do not write zeros round the brain."""
    t1 = HEAD["T1"].astype(np.float32)
    outside = t1 == 0
    if value == "resampled":
        return np.where(outside, RNG.normal(0, 1e-7, t1.shape), t1).astype(np.float32)
    if value == "resampled, 0 in places":
        noise = np.where(RNG.random(t1.shape) < 0.3, 0, RNG.normal(0, 1e-7, t1.shape))
        return np.where(outside, noise, t1).astype(np.float32)
    if value == "offset":
        return t1 + 1024
    return np.where(outside, np.float32(value), t1)


@pytest.mark.parametrize(
    "value", ["nan", "-9", "1e-7", "-0.0", "-1024", "resampled", "resampled, 0 in places", "offset"]
)
def test_every_background_gives_the_same_brain(value, tmp_path):
    scan = read_image(save(tmp_path / "t1.nii.gz", with_background(value)))
    clean = read_image(save(tmp_path / "clean.nii.gz", HEAD["T1"]))
    np.testing.assert_array_equal(brain_mask(scan, "nonzero"), brain_mask(clean, "nonzero"))
    assert bool(scan.notes) == (value != "-0.0")
    assert (clean.notes, clean.background) == ((), 0)


def test_a_cohort_with_other_backgrounds_is_prepared_alike_and_says_so(tmp_path):
    for number, values in enumerate(("0", "nan", "-9", "offset")):
        volumes = HEAD if values == "0" else HEAD | {"T1": with_background(values)}
        brats_case(tmp_path / "tree", f"BraTS-GLI-{number:05d}-000", volumes)
    brats_case(tmp_path / "tree", "BraTS-GLI-00009-000", head(9, enhancing=False))
    cohort = run(tmp_path / "tree", tmp_path / "out")
    first = np.asarray(cohort.load("BraTS-GLI-00000-000")[0])
    for number in (1, 2, 3):
        other = np.asarray(cohort.load(f"BraTS-GLI-{number:05d}-000")[0])
        np.testing.assert_allclose(other, first, atol=2e-3)
    remarks = cohort.index["remarks"]
    assert remarks.isna()["BraTS-GLI-00000-000"]
    assert "a background of NaN" in remarks["BraTS-GLI-00001-000"]
    assert remarks["BraTS-GLI-00002-000"] == "T1: the background is -9, not 0"


@pytest.mark.parametrize("spoil", ["inside", "corner", "infinite"])
def test_nan_elsewhere_is_refused(spoil, tmp_path):
    t1 = with_background("nan")
    if spoil == "corner":
        t1 = with_background("0")
        t1[0, 0, 0] = np.nan
    else:
        t1[22, 26, 22] = np.nan if spoil == "inside" else np.inf
    with pytest.raises(ValueError, match=r"1 voxel.* is NaN or infinite"):
        read_image(save(tmp_path / "t1.nii.gz", t1))


def test_a_head_with_its_skull_and_air_is_left_as_it_is(tmp_path):
    """Air is noise of some per cent of the signal: no rounding."""
    air = np.where(HEAD["T1"] == 0, np.abs(RNG.normal(0, 8, HEAD["T1"].shape)), HEAD["T1"]).astype(np.float32)
    scan = read_image(save(tmp_path / "t1.nii.gz", air))
    np.testing.assert_array_equal(scan.data, air)
    assert (scan.notes, scan.background) == ((), 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda labels: labels * np.float32(0.99999994),
        lambda labels: labels + RNG.uniform(-1e-6, 1e-6, labels.shape).astype(np.float32),
        lambda labels: labels + np.float64(1e-3),
        lambda labels: np.where(labels == 0, np.float32(-0.0), labels),
        lambda labels: np.pad(labels[2:-2, 2:-2, 2:-2], 2, constant_values=np.nan),
    ],
)
def test_labels_that_are_nearly_whole(change, tmp_path):
    labels = HEAD["MASK"].astype(np.float32)
    scan = read_mask(save(tmp_path / "seg.nii.gz", change(labels)))
    np.testing.assert_array_equal(scan.data, HEAD["MASK"])
    assert scan.data.dtype == np.uint8


def test_labels_scaled_to_eight_bits(tmp_path):
    image = nib.Nifti1Image(np.rint(HEAD["MASK"] / (3 / 254)).astype(np.uint8), AFFINE)
    image.header["scl_slope"], image.header["scl_inter"], image.header["vox_offset"] = 3 / 254, 0, 352
    content = image.header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes(order="F")
    (tmp_path / "seg.nii").write_bytes(content)
    np.testing.assert_array_equal(read_mask(tmp_path / "seg.nii").data, HEAD["MASK"])


@pytest.mark.parametrize(
    ("value", "message"),
    [(0.5, "interpolated"), (1.02, "1.02.*interpolated"), (-1, "-1; a mask"), (300, "300; a mask"), (np.inf, "inf")],
)
def test_other_labels_are_refused_for_the_true_reason(value, message, tmp_path):
    labels = HEAD["MASK"].astype(np.float32)
    labels[22, 26, 22] = value
    with pytest.raises(ValueError, match=message):
        read_mask(save(tmp_path / "seg.nii.gz", labels))


@pytest.mark.skipif(not REAL.is_dir(), reason="no real cases here (../shared/cases)")
def test_no_real_scan_has_another_background():
    for folder in ("brats2023-2mm", "brats2021-1mm"):
        for subject in find_subjects(REAL / folder)[:2]:
            for path in subject.images.values():
                scan = read_image(path)
                assert (scan.notes, scan.background) == ((), 0), path
