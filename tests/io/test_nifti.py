"""Headers that rounding or the standard explain are understood; the others are refused for the true reason."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scan_trees import AFFINE

from lab.data.native import read_grid_header, write_like
from lab.io.scan import read_image, read_mask, read_spacing

VOLUME = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
TURN = nib.affines.from_matvec(nib.eulerangles.euler2mat(np.pi, 0.02, 0.01) @ np.diag([2, 2, 3]), [4, 5, 6])


def stored(path: Path, kind=nib.Nifti1Image, order: str = "<", affine: np.ndarray = AFFINE, **fields: Any) -> Path:
    """A scan whose header has these fields; those of position only in the qform where sform_code is 0."""
    image = kind(VOLUME, affine)
    image.set_qform(affine, code=1)
    raw = image.header.as_byteswapped(order)
    raw["vox_offset"] = 352 if kind is nib.Nifti1Image else 544
    for name, value in fields.items():
        raw[name] = value
    content = raw.binaryblock + bytes(4) + VOLUME.astype(f"{order}f4").tobytes(order="F")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", "<>")
def test_both_versions_and_byte_orders(kind, order, tmp_path):
    scan = read_image(stored(tmp_path / "scan.nii.gz", kind, order))
    np.testing.assert_array_equal(scan.data, VOLUME)
    np.testing.assert_allclose(scan.affine, AFFINE)
    assert scan.notes == ()


@pytest.mark.parametrize("longer", [1 + 4e-7, 1 + 1e-5, 1 + 9e-4])
def test_a_quaternion_too_long_by_rounding(longer, tmp_path):
    """A turn by nearly half a circle, where a rounded quaternion is longer than 1 and nibabel gives up."""
    parts = np.array([1.0, 0.002, 0.001]) / np.linalg.norm([1.0, 0.002, 0.001]) * longer
    path = stored(tmp_path / "scan.nii", affine=TURN, sform_code=0, **dict(zip(QUATERNION, parts)))
    scan = read_image(path)
    assert scan.spacing_mm == pytest.approx((2, 2, 3), rel=1e-4)
    assert read_spacing(path) == pytest.approx(scan.spacing_mm)
    assert any("quaternion" in note for note in scan.notes)
    write_like(tmp_path / "out.nii", scan.data, path, purpose="p", note="n")  # the way back reads it as well
    np.testing.assert_array_equal(read_image(tmp_path / "out.nii").data, scan.data)


QUATERNION = ("quatern_b", "quatern_c", "quatern_d")
PIXDIM = [1, 2, 2, 3, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scl_slope": 2, "scl_inter": np.nan}, "scl_inter is NaN"),
        ({"xyzt_units": 3}, "micrometres"),
    ],
)
def test_what_was_put_right_is_said(fields, said, tmp_path):
    affine = AFFINE @ np.diag([1000, 1000, 1000, 1]) if "xyzt_units" in fields else AFFINE
    scan = read_image(stored(tmp_path / "scan.nii", affine=affine, **fields))
    assert scan.spacing_mm == pytest.approx((4, 4, 4))
    np.testing.assert_array_equal(scan.data, VOLUME * fields.get("scl_slope", 1))
    assert said in " ".join(scan.notes)


@pytest.mark.parametrize(
    "fields",
    [
        {"sform_code": 0, "pixdim": [0, 4, 4, 4, 0, 0, 0, 0]},
        {"scl_slope": 0, "scl_inter": np.nan},
        {"scl_slope": np.nan, "scl_inter": np.nan},
        {"scl_slope": np.nan, "scl_inter": 7},
        {"xyzt_units": 0},
        {"pixdim": [7, -1, 0, np.nan, 0, 0, 0, 0]},  # the sform says where voxels lie
        {"descrip": b"\xff\xfe", "intent_code": 5},
        {"bitpix": 7, "cal_max": np.nan},
    ],
)
def test_fields_that_the_standard_lets_unset(fields, tmp_path):
    scan = read_image(stored(tmp_path / "scan.nii", **fields))
    np.testing.assert_array_equal(scan.data, VOLUME)
    assert scan.spacing_mm == (4, 4, 4)
    assert scan.notes == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vox_offset": np.inf}, "voxels start at byte inf"),
        ({"vox_offset": np.nan}, "voxels start at byte nan"),
        ({"vox_offset": 0}, "voxels start at byte 0"),
        ({"vox_offset": -352}, "voxels start at byte -352"),
        ({"vox_offset": 2e9}, "voxels start at byte 2e\\+09"),
        ({"dim": [3, -5, 6, 7, 1, 1, 1, 1]}, "3 dimensions with -5 x 6 x 7"),
        ({"dim": [3, 0, 6, 7, 1, 1, 1, 1]}, "3 dimensions with 0 x 6 x 7"),
        ({"dim": [9, 5, 6, 7, 1, 1, 1, 1]}, "9 dimensions"),
        ({"dim": [5, 5, 6, 7, 1, 3, 1, 1]}, "5D with 5 x 6 x 7 x 1 x 3"),
        ({"datatype": 128}, "voxels of type RGB are not plain numbers"),
        ({"datatype": 1792}, "not plain numbers"),
        ({"datatype": 3333}, "no voxel type has the code 3333"),
        ({"scl_slope": np.inf}, "scaled by inf"),
        ({"scl_slope": 1, "scl_inter": np.inf}, "moved by inf"),
        ({"sform_code": 0, "quatern_b": 1.2}, "quaternion has a length of 1.2"),
        ({"sform_code": 0, "quatern_b": np.nan}, "quaternion has a length of nan"),
        ({"sform_code": 0, "pixdim": [0.4, 4, 4, 4, 0, 0, 0, 0]}, "qfac"),
        ({"sform_code": 0, "pixdim": [1, 4, 0, 4, 0, 0, 0, 0]}, "voxels of 4 x 0 x 4 mm"),
        ({"sform_code": 0, "pixdim": [1, 4, -4, 4, 0, 0, 0, 0]}, "voxels of 4 x -4 x 4 mm"),
        ({"xyzt_units": 1}, "4e\\+03 x 4e\\+03 x 4e\\+03 mm by its header, which counts in metres"),
        ({"srow_x": [np.nan] * 4}, "affine is not invertible"),
        ({"intent_code": 1002}, "holds labels by its header"),
        ({"intent_code": 1007}, "holds vectors by its header"),
        ({"magic": b"ni1"}, "the header of a .hdr/.img pair"),
        ({"magic": b""}, "an ANALYZE header"),
    ],
    ids=str,
)
def test_headers_that_make_no_sense_say_why(fields, message, tmp_path):
    for name in ("scan.nii", "scan.nii.gz"):
        with pytest.raises(ValueError, match=f"{name}: .*{message}"):
            read_image(stored(tmp_path / name, **fields))


def test_dimensions_of_two_to_the_forty(tmp_path):
    path = stored(tmp_path / "scan.nii", nib.Nifti2Image, dim=[3, 2**40, 2**40, 2**40, 1, 1, 1, 1])
    for read in (read_image, read_mask, read_spacing, read_grid_header):
        with pytest.raises(ValueError, match=r"declares 1099511627776 x .* at most"):
            read(path)


def test_other_files_are_named(tmp_path):
    for content, message in {
        bytes(128) + b"DICM" + bytes(400): "a DICOM file; name the folder",
        b"NRRD0004" + bytes(600): "an NRRD file",
        b"version https://git-lfs.github.com/spec/v1": "a placeholder of Git LFS",
        bytes(600): "it starts with",
        CONTENT_OF_A_PAIR: "ANALYZE",
    }.items():
        (tmp_path / "scan.nii").write_bytes(content)
        with pytest.raises(ValueError, match=f"not a NIfTI file.*{message}"):
            read_image(tmp_path / "scan.nii")


CONTENT_OF_A_PAIR = nib.AnalyzeHeader(endianness="<").binaryblock + bytes(400)
