"""A folder of DICOM files is the volume that a NIfTI would hold, or is refused with the reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_series import PLANES, TURN, VOLUME, enhanced, setting, store, write
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from scan_trees import AFFINE, contract, head, save

from lab.data.contract import create_subject
from lab.data.native import read_grid_header, write_like
from lab.io.dicom import check_one_patient, open_series, series_sha256
from lab.io.scan import read_image, read_mask, read_spacing, scan_sha256, source_state


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("affine", [AFFINE, TURN], ids=["straight", "oblique"])
def test_every_plane_reads_as_the_nifti_of_the_same_values(plane, affine, tmp_path):
    scan = read_image(store(tmp_path / "series", VOLUME, affine, plane=plane))
    other = read_image(save(tmp_path / "scan.nii.gz", VOLUME, affine))
    np.testing.assert_array_equal(scan.data, other.data)
    np.testing.assert_allclose(scan.affine, other.affine, atol=1e-5)
    assert scan.data.dtype == np.float32


def test_names_numbers_and_order_of_the_files_change_nothing(tmp_path):
    folder = store(tmp_path / "one", VOLUME, AFFINE)
    before = series_sha256(folder)
    for number, path in enumerate(sorted(folder.iterdir())):
        place = folder / f"part{number % 2}"
        place.mkdir(exist_ok=True)
        path.rename(place / f"{(number * 5) % 7}.dcm")
    assert series_sha256(folder) == scan_sha256(folder) == before
    np.testing.assert_array_equal(read_image(folder).data, VOLUME)
    assert read_spacing(folder) == (4.0, 4.0, 4.0)
    other = store(tmp_path / "two", VOLUME, AFFINE, seed=9)  # other instance numbers
    np.testing.assert_array_equal(read_image(other).data, VOLUME)
    assert series_sha256(store(tmp_path / "three", VOLUME + 1, AFFINE)) != before


def test_rescaling_signs_and_inverted_greys(tmp_path):
    scan = read_image(store(tmp_path / "a", VOLUME - 400, AFFINE, slope=0.37, intercept=-12.5))
    image = nib.Nifti1Image(VOLUME - 400, AFFINE)
    image.header["scl_slope"], image.header["scl_inter"], image.header["vox_offset"] = 0.37, -12.5, 352
    content = image.header.binaryblock + bytes(4) + (VOLUME - 400).tobytes(order="F")
    (tmp_path / "scan.nii").write_bytes(content)
    np.testing.assert_array_equal(scan.data, read_image(tmp_path / "scan.nii").data)
    np.testing.assert_allclose(scan.data, (VOLUME - 400) * 0.37 - 12.5, atol=1e-4)

    def own_slope(image: Dataset, number: int) -> None:
        image.RescaleSlope, image.RescaleIntercept = number + 1, 0

    scan = read_image(store(tmp_path / "b", VOLUME, AFFINE, change=own_slope))
    np.testing.assert_array_equal(scan.data, VOLUME * np.arange(1, 8, dtype=np.float32))

    def inverted(image: Dataset, number: int) -> None:
        image.PhotometricInterpretation, image.BitsStored, image.HighBit = "MONOCHROME1", 10, 9

    np.testing.assert_array_equal(
        read_image(store(tmp_path / "c", VOLUME, AFFINE, change=inverted)).data, 1023 - VOLUME
    )


def test_compressed_slices(tmp_path):
    folder = store(tmp_path / "series", VOLUME, AFFINE)
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.compress(RLELossless)
        image.save_as(path)
    np.testing.assert_array_equal(read_image(folder).data, VOLUME)


def test_an_enhanced_file_is_its_frames(tmp_path):
    folder = enhanced(store(tmp_path / "single", VOLUME, TURN, plane="sagittal"), tmp_path / "multi" / "all")
    scan, one = read_image(folder), read_image(tmp_path / "single")
    np.testing.assert_array_equal(scan.data, 2 * one.data + 1)
    np.testing.assert_array_equal(scan.affine, one.affine)
    assert [part.frame for part in open_series(folder).slices] != list(range(5))  # they were shuffled
    image = pydicom.dcmread(folder / "all")
    for frame in image.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]
    image.save_as(folder / "all")
    with pytest.raises(ValueError, match=r"5 slices lie at 1 positions .all, frame 1 and all, frame 2"):
        read_image(folder)
    del image.PerFrameFunctionalGroupsSequence
    image.save_as(folder / "all")
    with pytest.raises(ValueError, match="5 frames without their positions"):
        read_image(folder)


def test_files_of_other_kinds_are_passed_over(tmp_path):
    folder = store(tmp_path / "series", VOLUME, AFFINE)
    before = series_sha256(folder)
    for name, content in (("readme.txt", b"x"), ("DICOMDIR", b"x" * 500), (".hidden.dcm", b"x"), ("a.json", b"{}")):
        (folder / name).write_bytes(content)
    directory, report = Dataset(), Dataset()
    directory.SOPClassUID, directory.SOPInstanceUID = pydicom.uid.MediaStorageDirectoryStorage, generate_uid()
    report.SOPClassUID, report.SOPInstanceUID = pydicom.uid.BasicTextSRStorage, generate_uid()
    report.SeriesInstanceUID = generate_uid()
    write(folder / "DICOMDIR", directory)
    write(folder / "report", report)
    np.testing.assert_array_equal(read_image(folder).data, VOLUME)
    assert series_sha256(folder) == before


def mixed(image: Dataset, index: int) -> None:
    image.EchoTime, image.SOPInstanceUID = ("10", "80")[index % 2], generate_uid()
    image.ImagePositionPatient = [0, 0, index // 2]


def second_series(image: Dataset, index: int) -> None:
    if index > 4:
        image.SeriesInstanceUID, image.SeriesDescription = generate_uid(entropy_srcs=["other"]), "localizer"


def shifted(image: Dataset, index: int) -> None:
    x, y, z = image.ImagePositionPatient
    image.ImagePositionPatient = [float(x) + 2.5 * index, y, z]


REFUSED = {
    "two series": (second_series, r"more than one series .'T1 tra' \(MR, number 3\), 5 files; 'localizer'.*2 files"),
    "echoes": (mixed, r"7 slices lie at 4 positions .*differ in EchoTime \((10 and 80|80 and 10)\).*keep one"),
    "uneven": (setting(3, ImagePositionPatient=[90, 126, -61.5]), "unevenly spaced slices between"),
    "tilted": (shifted, "slices are shifted sideways"),
    "orientation": (setting(2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "different orientation.*localiser"),
    "size": (setting(2, Rows=7, Columns=5), r"rows x columns: 6 x 5 in 6, 7 x 5 in 1"),
    "spacing": (setting(2, PixelSpacing=[4, 3.9]), r"mm between voxels: 4 x 4 in 6, 4 x 3.9 in 1"),
    "CT": (setting(SOPClassUID=CTImageStorage, Modality="CT"), "not an MR image .CT Image Storage"),
    "localiser": (setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "a localiser .ImageType ORIGINAL/PRIM"),
    "mosaic": (setting(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "a mosaic of slices"),
    "synthetic": (setting(SyntheticData="YES"), "a synthetic image; the scans that it was made from"),
    "colour": (setting(PhotometricInterpretation="RGB", SamplesPerPixel=3), "pixels are RGB, not grey values"),
    "no position": (setting(4, ImagePositionPatient=None), "ImagePositionPatient is missing or makes no sense"),
    "no spacing": (setting(4, PixelSpacing=None), "PixelSpacing is missing or makes no sense"),
    "no rows": (setting(4, Rows=None), "Rows is missing or makes no sense, so it has no pixels to read"),
    "skewed": (setting(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "the geometry makes no sense"),
    "no pixels": (setting(4, PixelData=None), "has no pixel data; the file is cut short or holds a header alone"),
    "short": (setting(4, PixelData=b"1234"), "damaged pixel data"),
    "empty image": (setting(PixelData=bytes(60)), "every voxel is 0"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_no_single_whole_series_is_refused(fault, tmp_path):
    change, message = REFUSED[fault]
    folder = store(tmp_path / "series", VOLUME, AFFINE, change=change)
    with pytest.raises(ValueError, match=message) as caught:
        read_image(folder)
    assert str(folder) in str(caught.value)
    assert "Jane" not in str(caught.value)


def numbered(folder: Path) -> list[Path]:
    return [part.path for part in open_series(folder).slices]


def test_missing_and_doubled_slices_are_refused(tmp_path):
    folder = store(tmp_path / "series", VOLUME, AFFINE)
    paths = numbered(folder)
    shutil.copy(paths[2], folder / "copy.dcm")
    with pytest.raises(ValueError, match=r"8 slices lie at 7 positions .*copy.dcm.*keep one of the two"):
        read_image(folder)
    state = source_state(folder)
    (folder / "copy.dcm").unlink()
    assert source_state(folder) != state
    paths[2].unlink()
    with pytest.raises(ValueError, match=rf"1 slice missing between {paths[1].name} and {paths[3].name} \(8 mm apart"):
        read_image(folder)
    for path in paths[1:2] + paths[3:]:
        path.unlink()
    with pytest.raises(ValueError, match="a single slice is not a volume"):
        read_image(folder)


def test_folders_without_dicom_and_damaged_files_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no DICOM image in this folder .the folder is empty"):
        read_image(tmp_path / "empty")
    save(tmp_path / "nifti" / "scan.nii.gz", VOLUME)
    with pytest.raises(ValueError, match=r"no DICOM image in this folder .found 1 files such as scan.nii.gz"):
        read_image(tmp_path / "nifti")
    folder = store(tmp_path / "series", VOLUME, AFFINE)
    path = numbered(folder)[-1]  # nothing but the file itself tells
    whole = path.read_bytes()
    for content, message in (
        (whole[:-30], "damaged pixel data|no pixel data"),
        (whole[: len(whole) // 2], "makes no sense|damaged|no pixel data|cut short"),
        (whole[:140], "cut short|damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            read_image(folder)
        assert str(folder) in str(caught.value)
    for content in (b"", b"no image"):
        path.unlink(missing_ok=True)
        path = folder / "slice.dcm"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"slice.dcm: .*(not a DICOM file|damaged)"):
            read_image(folder)


def test_compression_that_cannot_be_decoded_is_named(tmp_path):
    folder = store(tmp_path / "series", VOLUME, AFFINE)
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.PixelData = pydicom.encaps.encapsulate([image.PixelData])
        image["PixelData"].VR = "OB"
        image.file_meta.TransferSyntaxUID = JPEGLSLossless
        image.save_as(path)
    with pytest.raises(ValueError, match=r"JPEG-LS Lossless.*cannot be decoded here.*decompress the series first"):
        read_image(folder)


def test_a_mask_is_no_folder_and_all_scans_are_of_one_patient(tmp_path):
    volumes = head(0)
    images = {name: store(tmp_path / name, volumes[name], AFFINE, name=name) for name in ("T1", "T2", "FLAIR")}
    mask = save(tmp_path / "mask.nii.gz", volumes["MASK"])
    assert create_subject("one", images, mask, like=contract()).images == images
    with pytest.raises(ValueError, match="the mask must be a NIfTI file"):
        create_subject("one", images, tmp_path / "T1", like=contract())
    with pytest.raises(ValueError, match="cannot be read"):
        read_mask(tmp_path / "T1")
    store(tmp_path / "FLAIR", volumes["FLAIR"], AFFINE, name="FLAIR", change=setting(PatientID="4712"))
    with pytest.raises(ValueError, match=r"FLAIR .*have different Patient IDs") as caught:
        contract().open(create_subject("one", images, mask, like=contract()))
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize("plane", PLANES)
def test_the_nifti_of_a_series_has_its_grid_and_no_names(plane, tmp_path):
    folder = store(tmp_path / "series", VOLUME, TURN, plane=plane)
    scan = read_image(folder)
    header = read_grid_header(folder)
    assert nib.aff2axcodes(header.get_best_affine()) == tuple(PLANES[plane])  # as the pixels are stored
    write_like(tmp_path / "out.nii", scan.data, folder, purpose="SYNTHETIC", note="note")
    image = nib.as_closest_canonical(nib.load(tmp_path / "out.nii"))
    np.testing.assert_array_equal(image.get_fdata(), scan.data)
    np.testing.assert_array_equal(image.affine, scan.affine)
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    content = (tmp_path / "out.nii").read_bytes()
    assert b"Jane" not in content
    assert b"4711" not in content


def bare(path: Path, *, implicit: bool) -> None:
    """Take preamble and file meta information off a file, as old archives store them."""
    image = pydicom.dcmread(path)
    image.file_meta = FileMetaDataset()
    pydicom.dcmwrite(path, image, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    content = path.read_bytes()
    path.write_bytes(content[132:] if content[128:132] == b"DICM" else content)


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_a_preamble(implicit, tmp_path):
    folder = store(tmp_path / "series", VOLUME, AFFINE)
    for path in folder.iterdir():
        bare(path, implicit=implicit)
        assert path.read_bytes()[:2] == b"\x08\0"
    np.testing.assert_array_equal(read_image(folder).data, VOLUME)
    (folder / "notes.txt").write_bytes(b"\x08\0\x05\0 looks like one and is none" * 20)
    np.testing.assert_array_equal(read_image(folder).data, VOLUME)


@pytest.mark.parametrize("name", ["BitsAllocated", "PixelRepresentation", "Rows", "PixelSpacing",
                                  "ImageOrientationPatient", "PhotometricInterpretation", "PixelData"])  # fmt: skip
def test_a_missing_attribute_is_told(name, tmp_path):
    folder = store(tmp_path / "series", VOLUME, AFFINE, change=lambda image, _: delattr(image, name))
    with pytest.raises(
        ValueError, match=f"series.*({name}|cut short|unknown meaning|no pixel data|Missing required element)"
    ):
        read_image(folder)


def test_a_patient_id_that_was_taken_out_is_no_other_patient(tmp_path):
    def anonymous(image: Dataset, number: int) -> None:
        image.PatientID = ""

    known = store(tmp_path / "T1", VOLUME, AFFINE)
    check_one_patient({"T1": known, "T2": store(tmp_path / "T2", VOLUME, AFFINE, name="T2", change=anonymous)})


def test_a_deflated_file_is_inflated_within_limits(tmp_path, monkeypatch):
    folder = store(tmp_path / "series", VOLUME, AFFINE)
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        pydicom.dcmwrite(path, image, enforce_file_format=True)
    np.testing.assert_array_equal(read_image(folder).data, VOLUME)
    monkeypatch.setattr("lab.io.dicom.LARGEST", 500)
    for path in folder.iterdir():
        path.touch()
    with pytest.raises(ValueError, match="inflates to more than"):
        read_image(folder)


def test_more_voxels_than_a_head_has(tmp_path):
    def large(image: Dataset, number: int) -> None:
        image.Rows = image.Columns = 20_000

    with pytest.raises(ValueError, match="20000 x 20000 x 7 voxels; at most"):
        read_image(store(tmp_path / "series", VOLUME, AFFINE, change=large))
