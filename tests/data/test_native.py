"""The way back: what is prepared and put back is the scan itself, where it was, stored as it was."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scan_trees import AFFINE, SHAPE, contract, head, save, save_as
from scipy import ndimage

from lab.data.case import PreparedCase
from lab.data.cohort import BRAIN
from lab.data.contract import Contract, create_subject
from lab.data.native import find_background, image_on_scan, mask_on_scan, read_grid_header, spread_on_scan, write_like

INPUTS = ("T1", "T2", "FLAIR")


def opened(folder: Path, like: Contract, axes: str = "RAS", mask: bool = True) -> tuple[PreparedCase, Path]:
    """The head of `scan_trees` stored along `axes`; its case and the path of its T1."""
    volumes = head(0)
    for name in (*INPUTS, "MASK"):
        save_as(folder / f"{name}.nii.gz", volumes[name], axes)
    paths = {name: folder / f"{name}.nii.gz" for name in INPUTS}
    subject = create_subject("one", paths, folder / "MASK.nii.gz" if mask else None, like=like)
    return like.open(subject), paths["T1"]


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SAL"])
def test_t1_put_back_is_the_t1_where_it_was(axes, tmp_path):
    case, path = opened(tmp_path, contract(), axes)
    back = image_on_scan(case, case.image[0].astype(np.float32))
    write_like(tmp_path / "back.nii.gz", back, path, purpose="SYNTHETIC", note="note")
    image, t1 = nib.load(tmp_path / "back.nii.gz"), nib.load(path)
    np.testing.assert_array_equal(image.affine, t1.affine)
    assert image.get_data_dtype() == np.float32
    found, true = image.get_fdata(), t1.get_fdata()
    np.testing.assert_allclose(found, true, atol=case.scale * 2**-11)  # half the step of float16 below 1
    np.testing.assert_array_equal(found == 0, true == 0)


@pytest.mark.parametrize("axes", ["LPS", "PIR"])
def test_the_stored_orientation_changes_no_voxel(axes, tmp_path):
    volumes = []
    for name in ("RAS", axes):
        case, path = opened(tmp_path / name, contract(2.5, (64, 76, 64)), name)
        write_like(tmp_path / f"{name}.nii", image_on_scan(case, np.asarray(case.image[1], np.float32)), path,
                   purpose="", note="")  # fmt: skip
        volumes.append(nib.as_closest_canonical(nib.load(tmp_path / f"{name}.nii")).get_fdata())
    np.testing.assert_array_equal(*volumes)


def test_where_the_file_says_gz_and_is_not_and_the_other_way_round(tmp_path):
    case, path = opened(tmp_path, contract())
    volume = image_on_scan(case, np.asarray(case.image[0], np.float32))
    (tmp_path / "packed.nii").write_bytes(path.read_bytes())
    (tmp_path / "plain.nii.gz").write_bytes(gzip.decompress(path.read_bytes()))
    for scan in (path, tmp_path / "packed.nii", tmp_path / "plain.nii.gz"):
        write_like(tmp_path / "out.nii", volume, scan, purpose="SYNTHETIC", note="note")
        np.testing.assert_array_equal(nib.load(tmp_path / "out.nii").get_fdata(), volume)
        assert (tmp_path / "out.nii").read_bytes()[:4] == (348).to_bytes(4, "little")


def test_the_header_says_synthetic_and_takes_no_names_along(tmp_path):
    volume = head(0)["T1"]
    for kind, number in ((nib.Nifti1Image, 1), (nib.Nifti2Image, 2)):
        image = kind(volume[..., None], AFFINE)
        image.header["descrip"] = "Jane Doe"
        image.header["aux_file"] = "Jane Doe"
        image.header["intent_name"] = "Jane Doe"
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe"))
        image.set_sform(AFFINE, code=4)
        image.set_qform(AFFINE, code=1)
        path = tmp_path / f"t1_{number}.nii.gz"
        nib.save(image, path)
        write_like(tmp_path / "out.nii.gz", volume.astype(np.float32), path, purpose="SYNTHETIC", note="x" * 100)
        header = read_grid_header(tmp_path / "out.nii.gz")
        content = gzip.decompress((tmp_path / "out.nii.gz").read_bytes())
        assert isinstance(header, nib.Nifti2Header) == (number == 2)
        assert b"Jane" not in content
        assert header["intent_name"].item() == b"SYNTHETIC"
        assert header["descrip"].item() == b"x" * 79
        assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 1)
        for name in ("srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x"):
            np.testing.assert_array_equal(header[name], image.header[name])
        assert header.get_data_shape() == SHAPE
        with pytest.raises(ValueError, match="voxels were made"):
            write_like(tmp_path / "other.nii", np.zeros((3, 4, 5), np.float32), path, purpose="", note="")


@pytest.mark.parametrize(("spacing_mm", "shape"), [(8.0, (20, 24, 20)), (5.0, (32, 40, 32)), (2.0, (76, 90, 76))])
def test_on_other_grids_a_constant_stays_one_and_a_ramp_a_ramp(spacing_mm, shape, tmp_path):
    case, _ = opened(tmp_path, contract(spacing_mm, shape))
    even = image_on_scan(case, np.full(shape, 0.25, np.float32))
    true = head(0)["T1"] != 0
    np.testing.assert_allclose(even[true], case.mean + 0.25 * case.scale, rtol=1e-5)  # every voxel of the brain
    assert (even[~true] == 0).all()
    centre = case.window.start[1] + case.window.ratio[1] * (np.arange(shape[1]) + 0.5) - 0.5
    ramp = np.broadcast_to(centre[None, :, None] / 100, shape).astype(np.float32)
    back = (image_on_scan(case, ramp) - case.mean) / case.scale
    deep = ndimage.binary_erosion(true, iterations=4)
    wanted = np.broadcast_to(np.arange(SHAPE[1])[None, :, None] / 100, SHAPE)
    off = 0.51 / 100 if spacing_mm < 4 else 1e-4  # the mean over parts of voxels, as on the way there
    np.testing.assert_allclose(back[deep], wanted[deep], atol=off)


def test_thick_slices_come_back(tmp_path):
    thick = AFFINE.copy()
    thick[2, 2] = 12.0
    for name in INPUTS:
        save(tmp_path / f"{name}.nii.gz", head(0)[name][:, :, ::3], thick)
    like = contract()
    case = like.open(create_subject("one", {name: tmp_path / f"{name}.nii.gz" for name in INPUTS}, None, like=like))
    assert case.window.ratio == (1.0, 1.0, pytest.approx(1 / 3))
    back = image_on_scan(case, case.image[0].astype(np.float32))
    t1 = case.t1.data
    assert back.shape == t1.shape
    np.testing.assert_array_equal(back != 0, t1 != 0)
    inside = ndimage.binary_erosion(t1 != 0)
    assert np.corrcoef(back[inside], t1[inside])[0, 1] > 0.9  # interpolated there and averaged back: a little smooth


def test_masks_keep_their_volume(tmp_path):
    case, _ = opened(tmp_path / "same", contract())
    mask = np.zeros((40, 48, 40), bool)
    mask[20:25, 20:28, 19:21] = True
    mask[10, 24, 20] = True  # a single voxel is not lost
    back = mask_on_scan(case, mask)
    assert (back.dtype, int(back.sum())) == (np.uint8, 81)
    start = case.window.start
    assert back[10 + start[0], 24 + start[1], 20 + start[2]] == 1
    case, _ = opened(tmp_path / "coarse", contract(8.0, (20, 24, 20)))
    mask = np.zeros((20, 24, 20), bool)
    mask[9:11, 10:13, 9] = mask[12, 12, 10] = True
    assert mask_on_scan(case, mask).sum() == 7 * 8
    case, _ = opened(tmp_path / "fine", contract(2.0, (76, 90, 76)))
    inside = ndimage.binary_erosion((case.masks & BRAIN) > 0, iterations=8)
    assert mask_on_scan(case, inside).sum() == pytest.approx(inside.sum() / 8, rel=0.05)


def test_nothing_is_drawn_outside_the_brain_and_the_models_grid(tmp_path):
    case, _ = opened(tmp_path, contract(shape=(20, 48, 40)))
    assert case.measured["brain_outside_ml"] > 0
    volume = image_on_scan(case, np.full((20, 48, 40), 0.5, np.float32))
    spread = spread_on_scan(case, np.full((20, 48, 40), 0.5, np.float32))
    covered = np.zeros(SHAPE, bool)
    covered[case.window.start[0] : case.window.start[0] + 20] = True
    drawn = case.brain & covered
    np.testing.assert_allclose(volume[drawn], case.mean + case.scale / 2, rtol=1e-6)
    np.testing.assert_allclose(spread[drawn], case.scale / 2, rtol=1e-6)
    assert (volume[~drawn] == 0).all()
    assert (spread[~drawn] == 0).all()


def test_the_background_of_a_scan_in_air_is_its_lowest_value(tmp_path):
    case, _ = opened(tmp_path, contract())
    assert find_background(case) == 0
    np.copyto(case.t1.data, case.t1.data + np.float32(7), where=~case.brain)
    case.t1.data[0, 0, 0] = 3
    assert find_background(case) == 3


def test_a_patient_without_a_mask_is_prepared_the_same_but_for_the_tumour(tmp_path):
    bare, _ = opened(tmp_path / "bare", contract(), mask=False)
    full, _ = opened(tmp_path / "full", contract())
    np.testing.assert_array_equal(bare.image, full.image)
    np.testing.assert_array_equal(bare.masks & BRAIN, full.masks & BRAIN)
    assert (bare.masks & ~np.uint8(BRAIN)).max() == 0
    assert bare.measured["tumour_ml"] == 0
