"""Only regular files are read, and no more of them than they declare."""

from __future__ import annotations

import gzip
import os
import socket
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from scan_trees import AFFINE, brats_tree, head, left_out, run, save

from lab.data.layouts.find import find_subjects
from lab.io.dicom import open_series
from lab.io.files import SLACK, open_regular, read_text_file
from lab.io.scan import read_image, read_mask, read_spacing, scan_sha256, source_state

VOLUME = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
CONTENT = nib.Nifti1Image(VOLUME, AFFINE).to_bytes()


def claiming(shape: tuple[int, ...], dtype: int = 2) -> bytes:
    """A header of so many voxels (uint8), without any."""
    raw = nib.Nifti1Header()
    raw.set_data_shape(shape)
    raw.set_sform(AFFINE, code=1)
    raw["datatype"], raw["vox_offset"] = dtype, 352
    return raw.binaryblock + bytes(4)


@pytest.mark.parametrize("read", [read_image, read_mask, read_spacing, scan_sha256, open_regular])
def test_pipes_sockets_and_devices_are_refused_at_once(read, tmp_path):
    os.mkfifo(tmp_path / "pipe.nii.gz")
    (tmp_path / "link.nii.gz").symlink_to("/dev/zero")
    place = socket.socket(socket.AF_UNIX)
    place.bind(str(tmp_path / "socket.nii"))
    for name in ("pipe.nii.gz", "link.nii.gz", "socket.nii"):
        with pytest.raises(ValueError, match=f"{name}.*a pipe, socket or device"):
            read(tmp_path / name)
    place.close()
    with pytest.raises(ValueError, match="no file can have this name"):
        read(tmp_path / "nul\0.nii")
    with pytest.raises(ValueError, match="cannot be read"):
        read(tmp_path / ("n" * 300))


def test_a_pipe_among_a_patients_files_leaves_out_that_patient_alone(tmp_path):
    tree = brats_tree(tmp_path / "tree")
    os.mkfifo(tree / "BraTS-GLI-00001-000" / "scan.dcm")  # beside the scans, and not one
    scan = tree / "BraTS-GLI-00000-000" / "BraTS-GLI-00000-000-t2w.nii.gz"
    scan.unlink()
    os.mkfifo(scan)
    cohort = run(tree, tmp_path / "out")
    assert len(cohort.index) == 3
    assert "pipe, socket or device" in left_out(tmp_path / "out")["BraTS-GLI-00000-000"]
    assert source_state(tmp_path / "nul\0.nii") is None


def test_a_pipe_for_metadata_or_for_the_whole_data_set(tmp_path):
    save(tmp_path / "EGD-0001" / "T1.nii.gz", head(0)["T1"])
    os.mkfifo(tmp_path / "EGD-0001" / "metadata.json")
    (subject,) = find_subjects(tmp_path)
    assert "metadata.json: cannot be read, it is a pipe, socket or device" in subject.remarks[0].found
    with pytest.raises(ValueError, match=r"metadata.json is a pipe, socket or device"):
        find_subjects(tmp_path / "EGD-0001" / "metadata.json")


def test_a_series_with_a_pipe_in_its_folder_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "IM0001.dcm")
    with pytest.raises(ValueError, match="no DICOM image in this folder"):
        open_series(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (claiming((1000, 1000, 1000)), "declares 1000 x 1000 x 1000 voxels of uint8; at most"),
        (claiming((512, 512, 600), 64), "at most .* 1024 MiB are read"),
        (CONTENT + bytes(SLACK + 2000), "holds more than the 1192 bytes that its header declares"),
        (claiming((400, 400, 400)), "truncated, 352 bytes where 64000352 are needed"),
    ],
    ids=["many voxels", "many bytes", "more than declared", "fewer than declared"],
)
def test_sizes_are_checked_before_memory_is_taken(content, message, tmp_path):
    (tmp_path / "plain.nii").write_bytes(content)
    (tmp_path / "packed.nii.gz").write_bytes(gzip.compress(content))
    for name in ("plain.nii", "packed.nii.gz"):
        with pytest.raises(ValueError, match=message):
            read_image(tmp_path / name)


def test_a_bomb_of_zeros_is_not_inflated(tmp_path):
    """1 MiB of gzip that holds 1 GB: its header declares a small volume, so that inflating stops after that."""
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(CONTENT) + gzip.compress(bytes(2**26)) * 16)
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than the 1192 bytes"):
        read_image(tmp_path / "bomb.nii.gz")
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_members_zeros_and_rubbish_after_the_voxels(tmp_path):
    whole = gzip.compress(CONTENT[:600]) + gzip.compress(b"") + gzip.compress(CONTENT[600:])
    for filled in (whole, whole + bytes(700), CONTENT, CONTENT + bytes(100)):
        (tmp_path / "scan.nii.gz").write_bytes(filled)
        np.testing.assert_array_equal(read_image(tmp_path / "scan.nii.gz").data, VOLUME)
    (tmp_path / "scan.nii.gz").write_bytes(whole + b"rubbish")
    with pytest.raises(ValueError, match="what follows the compressed data is no gzip"):
        read_image(tmp_path / "scan.nii.gz")
    (tmp_path / "scan.nii.gz").write_bytes(whole + whole[:30])
    with pytest.raises(ValueError, match="truncated"):
        read_image(tmp_path / "scan.nii.gz")
    changed = bytearray(whole)
    changed[-6] ^= 1  # of the checksum
    (tmp_path / "scan.nii.gz").write_bytes(changed)
    with pytest.raises(ValueError, match="damaged"):
        read_image(tmp_path / "scan.nii.gz")


def test_text_has_a_limit_and_an_encoding(tmp_path):
    (tmp_path / "text.json").write_bytes(b"\x81" * 20)
    with pytest.raises(ValueError, match="more than the 0 MB"):
        read_text_file(tmp_path / "text.json", 10)
    with pytest.raises(ValueError, match=r"text.json: no cp1252 text"):
        read_text_file(tmp_path / "text.json", 100)
