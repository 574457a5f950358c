"""What is exported says of itself what it is, lies where the T1 lies, and holds the values to 16 bits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_series import PLANES, TURN, VOLUME, enhanced, setting, store
from pydicom.uid import SecondaryCaptureImageStorage

from lab.deploy.export.dicom import Made, check_source, quantised, write_series
from lab.io.dicom import open_series
from lab.io.scan import read_image

MADE = Made(target="T1GD", model="sct1 v3", software="gadfree 0.3.0", weights="ab" * 32, key="k1", phantom=False)
DRAWN = (VOLUME * 1.37 - 11).astype(np.float32)


def exported(tmp_path: Path, plane: str = "axial", made: Made = MADE, **other) -> tuple[list[pydicom.Dataset], Path]:
    """A series written and read again, in order, and the folder of its T1."""
    sources = {"T1": store(tmp_path / "T1", VOLUME, TURN, plane=plane)}
    sources |= {name: store(tmp_path / name, VOLUME + 1, TURN, plane=at, name=name) for name, at in other.items()}
    data = nib.apply_orientation(DRAWN, nib.io_orientation(TURN))
    told = write_series(tmp_path / "out", data, sources, made)
    images = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    assert told["files"] == len(images)
    assert {image.SeriesInstanceUID for image in images} == {told["series_instance_uid"]}
    return images, sources["T1"]


@pytest.mark.parametrize("plane", PLANES)
def test_every_voxel_is_where_the_t1_has_it(plane, tmp_path):
    images, t1 = exported(tmp_path, plane)
    series = open_series(t1)
    assert len(images) == len(series.slices)
    for image, part in zip(images, series.slices):
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"):
            assert image[name].value == part.header[name].value
        assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == part.header.SOPInstanceUID
    volume = np.stack([image.pixel_array.T * float(image.RescaleSlope) for image in images], axis=-1)
    volume += float(images[0].RescaleIntercept)
    turn = nib.orientations.ornt_transform(nib.io_orientation(series.affine), nib.io_orientation(TURN))
    np.testing.assert_allclose(nib.apply_orientation(volume, turn), DRAWN, atol=np.ptp(DRAWN) / 1e5)


def test_another_reader_finds_the_same_grid_and_values(tmp_path):
    """SimpleITK knows nothing of this package: indices, millimetres and intensities must agree."""
    _, t1 = exported(tmp_path, "coronal")
    grids = []
    for folder in (t1, tmp_path / "out"):
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        grids.append(reader.Execute())
    for grid in grids:
        ours = open_series(t1).affine
        np.testing.assert_allclose(grid.TransformIndexToPhysicalPoint((2, 3, 1)) * np.array([-1, -1, 1]),
                                   (ours @ [2, 3, 1, 1])[:3], atol=1e-4)  # fmt: skip
    scan = read_image(t1)
    there = nib.apply_orientation(SimpleITK.GetArrayFromImage(grids[1]).T, nib.io_orientation(open_series(t1).affine))
    np.testing.assert_allclose(there, scan.data * 1.37 - 11, atol=np.ptp(DRAWN) / 1e5)


def test_it_can_be_taken_for_no_scan(tmp_path):
    (image, *_), t1 = exported(tmp_path)
    assert image.SOPClassUID == image.file_meta.MediaStorageSOPClassUID == SecondaryCaptureImageStorage
    assert list(image.ImageType) == ["DERIVED", "SECONDARY", "SYNTHETIC"]
    assert (image.ConversionType, image.SyntheticData, image.BurnedInAnnotation) == ("SYN", "YES", "NO")
    assert image.SeriesDescription == "SYNTHETIC T1GD - research only, not for diagnosis"
    assert "no contrast agent was given" in image.DerivationDescription
    assert (image.Manufacturer, image.ManufacturerModelName) == ("gadfree", "sct1 v3")
    equipment = image.ContributingEquipmentSequence
    assert [item.Manufacturer for item in equipment] == ["Scanners Inc.", "gadfree"]
    assert MADE.weights in equipment[1].ContributionDescription
    for name in ("EchoTime", "RepetitionTime", "ContrastBolusAgent", "ScanningSequence", "AcquisitionDate"):
        assert name not in image
    with pytest.raises(ValueError, match="a synthetic image; the scans that it was made from are needed"):
        read_image(tmp_path / "out")
    letters = image.overlay_array(0x6000)
    assert letters.shape == (image.Rows, image.Columns)
    source = open_series(t1).slices[0].header
    for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber", "StudyDate"):
        assert image[name].value == source[name].value
    assert image.SeriesInstanceUID != source.SeriesInstanceUID
    phantom, _ = exported(tmp_path / "phantom", made=Made(**{**vars(MADE), "phantom": True}))
    assert phantom[0].DerivationDescription.startswith("PHANTOM-trained, no meaning")


def test_the_mark_can_be_read_in_the_overlay(tmp_path):
    big = np.kron(VOLUME, np.ones((40, 40, 1), np.int16))
    write_series(tmp_path / "out", big.astype(np.float32), {"T1": store(tmp_path / "T1", big, np.eye(4))}, MADE)
    image = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    letters = image.overlay_array(0x6000)
    rows, columns = np.nonzero(letters)
    assert 40 < np.ptp(columns) < 200
    assert rows.max() < 30  # in a corner
    assert 100 < letters.sum() < 1000


def test_the_same_input_gives_the_same_bytes_and_other_input_other_uids(tmp_path):
    for name in ("one", "two"):
        exported(tmp_path / name, T2="axial")
    first, second = (sorted((tmp_path / name / "out").iterdir()) for name in ("one", "two"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    images, _ = exported(tmp_path / "three", made=Made(**{**vars(MADE), "key": "k2"}))
    known = {pydicom.dcmread(path).SOPInstanceUID for path in first}
    assert len(known) == len(first)
    assert not known & {image.SOPInstanceUID for image in images}
    assert pydicom.dcmread(first[0]).SeriesInstanceUID != images[0].SeriesInstanceUID


def test_sources_are_the_slices_at_one_place_or_the_whole_series(tmp_path):
    images, _ = exported(tmp_path, T2="axial", FLAIR="sagittal")
    assert len(images[2].SourceImageSequence) == 1 + 1 + VOLUME.shape[0]


def test_frames_of_an_enhanced_t1_are_named(tmp_path):
    t1 = enhanced(store(tmp_path / "single", VOLUME, TURN), tmp_path / "multi" / "all")
    data = nib.apply_orientation(DRAWN, nib.io_orientation(TURN))
    write_series(tmp_path / "out", data, {"T1": t1}, MADE)
    image = pydicom.dcmread(tmp_path / "out" / "0003.dcm")
    part = open_series(t1).slices[2]
    assert image.SourceImageSequence[0].ReferencedFrameNumber == part.frame + 1
    np.testing.assert_allclose(np.array(image.ImagePositionPatient, float), part.position)
    assert "NumberOfFrames" not in image


def test_what_the_t1_lacks_is_empty_and_names_of_any_script_stay(tmp_path):
    change = setting(PatientName="Müller^Jörg", PatientBirthDate=None, FrameOfReferenceUID=None, SeriesNumber=None,
                     BodyPartExamined=None)  # fmt: skip
    t1 = store(tmp_path / "T1", VOLUME, np.eye(4), change=change)
    write_series(tmp_path / "out", VOLUME.astype(np.float32), {"T1": t1}, MADE)
    image = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    assert image.PatientName == "Müller^Jörg"
    assert not image.PatientBirthDate
    assert image.FrameOfReferenceUID
    assert (image.SeriesNumber, image.BodyPartExamined) == (9000, "BRAIN")


@pytest.mark.parametrize(("low", "high"), [(0, 900), (-350, 1200), (0, 1e-4), (-3e6, -2e6), (17, 17.5), (0, 0)])
def test_sixteen_bits_keep_the_values_and_the_zero(low, high):
    values = np.append(np.random.default_rng(1).uniform(low, high, 5000), [low, high, 0]).astype(np.float32)
    stored, slope, intercept = quantised(values)
    assert max(len(slope), len(intercept)) <= 16
    back = stored * float(slope) + float(intercept)
    assert np.abs(back - values).max() <= (np.ptp(values) or 1) / 1e5
    assert abs(back[-1]) <= 1e-9 * (np.ptp(values) or 1)


def test_without_a_dicom_t1_there_is_nothing_to_export(tmp_path):
    (tmp_path / "t1.nii.gz").write_bytes(b"")
    for t1 in (tmp_path / "t1.nii.gz", None):
        with pytest.raises(ValueError, match="--export dicom needs a T1 that is a folder with a DICOM series"):
            check_source(t1)
    check_source(store(tmp_path / "whole", VOLUME, np.eye(4)))
    with pytest.raises(ValueError, match="has no StudyInstanceUID"):
        check_source(store(tmp_path / "loose", VOLUME, np.eye(4), change=setting(StudyInstanceUID=None)))


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (package dicom3tools) is not installed")
def test_an_independent_validator_finds_no_error(tmp_path):
    exported(tmp_path, T2="axial", FLAIR="sagittal")
    for path in sorted((tmp_path / "out").iterdir())[::3]:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).splitlines()
        assert "SCImage" in said
        errors = [line for line in said if line.startswith("Error") and "(0x0008,0x001c)" not in line]  # newer than it
        assert errors == []
