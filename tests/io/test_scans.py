"""Reading one NIfTI: what is accepted, in which orientation, and what each wrong file says."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
from scan_trees import AFFINE, save, save_as

from lab.io.scan import Scan, read_image, read_mask, read_spacing, same_grid, write_scan

RNG = np.random.default_rng(0)
VOLUME = RNG.normal(size=(5, 6, 7)).astype(np.float32)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SLA"])
def test_every_stored_orientation_reads_the_same(axes, tmp_path):
    scan = read_image(save_as(tmp_path / "scan.nii.gz", VOLUME, axes))
    np.testing.assert_array_equal(scan.data, VOLUME)
    np.testing.assert_allclose(scan.affine, AFFINE)
    assert scan.data.dtype == np.float32
    assert scan.spacing_mm == (4.0, 4.0, 4.0)
    assert scan.voxel_ml == pytest.approx(0.064)


def test_oblique_scans_take_the_closest_axes(tmp_path):
    turn = np.deg2rad(20)
    oblique = AFFINE.copy()
    oblique[:2, :2] = 2 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    flipped = oblique @ np.diag([-1, 1, 1, 1])
    scan = read_image(save(tmp_path / "scan.nii.gz", VOLUME, flipped))
    np.testing.assert_array_equal(scan.data, VOLUME[::-1])
    assert nib.aff2axcodes(scan.affine) == ("R", "A", "S")
    assert scan.spacing_mm == pytest.approx((2.0, 2.0, 4.0))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64, ">i2", ">f4"])
def test_every_number_type(dtype, tmp_path):
    values = RNG.integers(0, 100, (4, 5, 6)).astype(dtype)
    np.testing.assert_array_equal(read_image(save(tmp_path / "scan.nii", values)).data, values.astype(np.float32))


def test_slope_and_intercept_are_applied(tmp_path):
    image = nib.Nifti1Image(VOLUME.astype(np.float64), AFFINE)
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "scan.nii.gz")
    np.testing.assert_allclose(read_image(tmp_path / "scan.nii.gz").data, VOLUME, atol=1e-3)


def test_four_dimensions_with_one_volume_are_accepted(tmp_path):
    np.testing.assert_array_equal(read_image(save(tmp_path / "scan.nii.gz", VOLUME[..., None])).data, VOLUME)


def test_nifti_2_and_several_gzip_members_are_accepted(tmp_path):
    content = nib.Nifti2Image(VOLUME, AFFINE).to_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(content[:900]) + gzip.compress(content[900:]))
    np.testing.assert_array_equal(read_image(tmp_path / "scan.nii.gz").data, VOLUME)
    assert read_spacing(tmp_path / "scan.nii.gz") == (4.0, 4.0, 4.0)


def with_value(value: float) -> np.ndarray:
    volume = VOLUME.copy()
    volume[1, 2, 3] = value
    return volume


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((5, 6, 7), np.int16), "every voxel is 0"),
        (np.full((5, 6, 7), 7.0, np.float32), "every voxel is 7"),
        (with_value(np.nan), "1 voxel is NaN or infinite"),
        (with_value(-np.inf), "1 voxel is NaN or infinite"),
        (VOLUME * np.nan, "every voxel is NaN or infinite; there is no image in it"),
        (with_value(1.0)[..., None].repeat(3, axis=3), "4D with 5 x 6 x 7 x 3"),
        (VOLUME[:, :, 0], "5 x 6 voxels is not a volume"),
        (VOLUME[:, :, :1], "5 x 6 x 1 voxels is not a volume"),
        (VOLUME.astype(np.complex64), "not plain numbers"),
    ],
)
def test_unusable_images_say_why(data, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        read_image(save(tmp_path / "scan.nii.gz", data))
    assert "scan.nii.gz" in str(error.value)


def test_broken_files_say_why(tmp_path):
    whole = save(tmp_path / "whole.nii.gz", VOLUME).read_bytes()
    plain = save(tmp_path / "whole.nii", VOLUME).read_bytes()
    cases = {
        "cut.nii.gz": (whole[: len(whole) // 2], "truncated"),
        "end.nii.gz": (whole[:-4], "truncated"),
        "cut.nii": (plain[:-40], "truncated"),
        "empty.nii.gz": (b"", "not a NIfTI"),
        "bits.nii.gz": (whole[:200] + bytes(60) + whole[260:], "damaged|truncated"),
        "text.nii": (b"no image at all" * 50, "not a NIfTI"),
        "page.nii.gz": (b"<html>login</html>", "not a NIfTI"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.*({message})"):
            read_image(tmp_path / name)
    with pytest.raises(ValueError, match="file not found"):
        read_image(tmp_path / "nowhere.nii.gz")
    with pytest.raises(ValueError, match="no DICOM image in this folder"):
        read_image(tmp_path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_mask(tmp_path)
    with pytest.raises(ValueError, match="not a NIfTI file"):
        read_spacing(tmp_path / "text.nii")


def test_a_huge_claimed_shape_is_no_memory_error(tmp_path):
    image = nib.Nifti1Image(VOLUME, AFFINE)
    content = bytearray(image.to_bytes())
    content[42:48] = np.array([30000] * 3, "<i2").tobytes()
    (tmp_path / "scan.nii").write_bytes(bytes(content))
    with pytest.raises(ValueError, match="declares 30000 x 30000 x 30000 voxels"):
        read_image(tmp_path / "scan.nii")


def test_headers_without_orientation_are_refused(tmp_path):
    image = nib.Nifti1Image(VOLUME, None)
    image.header["sform_code"] = image.header["qform_code"] = 0
    (tmp_path / "scan.nii").write_bytes(image.to_bytes())
    with pytest.raises(ValueError, match="left and right are unknown"):
        read_image(tmp_path / "scan.nii")


def test_labels_are_whole_numbers(tmp_path):
    labels = RNG.integers(0, 5, (4, 5, 6))
    for dtype in (np.uint8, np.int16, np.float32):
        scan = read_mask(save(tmp_path / "seg.nii.gz", labels.astype(dtype)))
        np.testing.assert_array_equal(scan.data, labels)
        assert scan.data.dtype == np.uint8
    for wrong in (0.5, np.nan, -1, 300):
        volume = labels.astype(np.float32)
        volume[0, 0, 0] = wrong
        with pytest.raises(ValueError, match=r"a mask holds whole numbers|1 voxel is NaN"):
            read_mask(save(tmp_path / "seg.nii.gz", volume))


def test_same_grid_sees_shape_shift_and_turn():
    scan = Scan(VOLUME, AFFINE)
    shifted, nearly, turned = AFFINE.copy(), AFFINE.copy(), AFFINE.copy()
    shifted[0, 3] += 1.0
    nearly[0, 3] += 0.05
    turned[0, 1] = 0.5
    assert same_grid(scan, Scan(VOLUME, nearly))
    assert not same_grid(scan, Scan(VOLUME[:-1], AFFINE))
    assert not same_grid(scan, Scan(VOLUME, shifted))
    assert not same_grid(scan, Scan(VOLUME, turned))


def test_written_scans_are_read_back_and_repeatable(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz", "c.nii"):
        write_scan(tmp_path / name, VOLUME, AFFINE)
        np.testing.assert_array_equal(read_image(tmp_path / name).data, VOLUME)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz", "c.nii"]
