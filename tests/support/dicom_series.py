"""A volume as the DICOM series that a scanner would store: any plane, file names and order that say nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

PLANES = {"axial": "LPS", "sagittal": "PIR", "coronal": "LIP"}
"""Direction of growing column, row and slice."""
PATIENT = "Doe^Jane"
VOLUME = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16)
TURN = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, -0.2, 0.15) @ np.diag([0.9, 1.1, 3.0]), [-20, 31, 7])


def store(
    folder: Path,
    data: np.ndarray,
    affine: np.ndarray,
    *,
    plane: str = "axial",
    name: str = "T1",
    slope: float = 1,
    intercept: float = 0,
    study: str = "one",
    change: Callable[[Dataset, int], None] | None = None,
    seed: int = 0,
) -> Path:
    """Write `data` (X, Y, Z) of integers at `affine` (RAS) as one file per slice; the series means
    `slope * data + intercept`. `change(image, number)` spoils a slice before it is written."""
    axes = nib.orientations.axcodes2ornt(PLANES[plane])
    image = nib.Nifti1Image(data, affine)
    image = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), axes))
    voxels, lps = np.asarray(image.dataobj), np.diag([-1, -1, 1, 1]) @ image.affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    directions = lps[:3, :3] / sizes
    series = generate_uid(entropy_srcs=[study, name, "series"])
    count = voxels.shape[2]
    numbers = np.random.default_rng(seed).permutation(count)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        slice_ = _header(name, study)
        slice_.SeriesInstanceUID = series
        slice_.SOPInstanceUID = generate_uid(entropy_srcs=[study, name, str(index)])
        slice_.InstanceNumber = int(numbers[index]) + 1
        slice_.ImageOrientationPatient = _decimals([*directions[:, 0], *directions[:, 1]])
        slice_.ImagePositionPatient = _decimals(lps[:3] @ [0, 0, index, 1])
        slice_.PixelSpacing = _decimals([sizes[1], sizes[0]])
        slice_.SliceThickness = format_number_as_ds(float(sizes[2]))
        slice_.Rows, slice_.Columns = voxels.shape[1], voxels.shape[0]
        kind = np.dtype("<i2") if voxels.min() < 0 else np.dtype("<u2")
        slice_.PixelRepresentation = int(kind.kind == "i")
        slice_.PixelData = np.ascontiguousarray(voxels[..., index].T).astype(kind).tobytes()
        slice_["PixelData"].VR = "OW"
        if (slope, intercept) != (1, 0):
            slice_.RescaleSlope, slice_.RescaleIntercept = _decimals([slope, intercept])
            slice_.RescaleType = "US"
        if change is not None:
            change(slice_, index)
        write(folder / f"IM{numbers[index]:04d}", slice_)
    return folder


def write(path: Path, image: Dataset) -> None:
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(path, image, enforce_file_format=True)


def _decimals(values) -> list[str]:
    return [format_number_as_ds(float(value)) for value in values]


def _header(name: str, study: str) -> Dataset:
    """What a classic MR image must have, apart from its place."""
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 100"
    image.SOPClassUID = MRImageStorage
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    image.Modality, image.Manufacturer = "MR", "Scanners Inc."
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = PATIENT, "4711", "19700101", "F"
    image.StudyInstanceUID = generate_uid(entropy_srcs=[study])
    image.FrameOfReferenceUID = generate_uid(entropy_srcs=[study, "frame"])
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20240229", "101500", "S1", "A1"
    image.ReferringPhysicianName = "Roe^Richard"
    image.StudyDescription, image.SeriesDescription = "MR HEAD", f"{name} tra"
    image.SeriesNumber, image.PositionReferenceIndicator, image.Laterality = 3, "", ""
    image.PatientPosition, image.BodyPartExamined = "HFS", "HEAD"
    image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "GR", "SP", ""
    image.MRAcquisitionType, image.RepetitionTime, image.EchoTime = "3D", "1900", "2.9"
    image.InversionTime, image.EchoTrainLength, image.ContrastBolusAgent = "900", "1", ""
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.WindowCenter, image.WindowWidth = "400", "800"
    return image


def enhanced(folder: Path, path: Path) -> Path:
    """The series in `folder` as one multi-frame file, frames in the order of the file names."""
    parts = [dcmread(part) for part in sorted(folder.iterdir())]
    image, frames = Dataset(), []
    image.update({element.tag: element for element in parts[0] if element.keyword != "PixelData"})
    for part in parts:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = part.ImagePositionPatient
        frame.PlanePositionSequence = Sequence([position])
        frames.append(frame)
    shared, plane, measures, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient, measures.PixelSpacing = parts[0].ImageOrientationPatient, parts[0].PixelSpacing
    measures.SliceThickness = parts[0].SliceThickness
    rescale.RescaleSlope, rescale.RescaleIntercept = "2", "1"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([plane]), Sequence([measures])
    shared.PixelValueTransformationSequence = Sequence([rescale])
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(image, name)
    image.SOPClassUID, image.NumberOfFrames = EnhancedMRImageStorage, len(parts)
    image.SharedFunctionalGroupsSequence = Sequence([shared])
    image.PerFrameFunctionalGroupsSequence = Sequence(frames)
    image.add_new("PixelData", "OW", b"".join(part.PixelData for part in parts))
    path.parent.mkdir()
    write(path, image)
    return path.parent


def setting(number: int | None = None, **values):
    """Changes attributes of one slice, or of all; None removes one."""

    def change(image: Dataset, index: int) -> None:
        if number is None or index == number:
            for name, value in values.items():
                delattr(image, name) if value is None else setattr(image, name, value)

    return change
