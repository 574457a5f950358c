"""A synthesis as a new DICOM series in the T1's study, marked so that nobody takes it for an acquisition.

Each slice is a Secondary Capture Image with ImageType DERIVED\\SECONDARY\\SYNTHETIC and ConversionType SYN, the
standard's term for a synthetic image (PS3.3 C.8.6.1). The MR Image Storage class does not fit: it requires pulse
sequence and timing (ScanningSequence, RepetitionTime, EchoTime), which a predicted image does not have, and programs
for planning, navigation and quantification would take it for a scan. Image Plane and Frame of Reference, which a
secondary capture may have (PS3.3 A.8.1), keep every voxel at its place in the T1. Nothing is burned in: an overlay
plane, which viewers can show and hide, says SYNTHETIC, so the voxels equal those of the NIfTI. No creation date is
written, so the same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from lab.data.native import RAS
from lab.io.dicom import Series, open_series
from lab.io.dicom_stack import Slice

MAKER = "gadfree"
MARK = ("SYNTHETIC", "NOT FOR DIAGNOSIS")
DESCRIPTION = "SYNTHETIC {target} - research only, not for diagnosis"
STEPS = 65533
"""Number of 16-bit steps for the range; two remain for rounding the zero."""
NEEDED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "PositionReferenceIndicator",
)  # fmt: skip
"""Type 2 attributes: copied, or written without a value where the T1 has none."""
COPIED = (
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "StudyInstanceUID", "StudyDescription", "ProcedureCodeSequence",
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID", "OtherPatientIDsSequence",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence", "PatientAge",
    "PatientSize", "PatientWeight", "IssuerOfAccessionNumberSequence", "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "BodyPartExamined", "PatientPosition",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
"""Attributes of patient, study and series, copied where the T1 has them; none of the acquisition or contrast agent."""
SCANNER = ("Manufacturer", "ManufacturerModelName", "InstitutionName", "StationName", "DeviceSerialNumber",
           "SoftwareVersions")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Made:
    """Origin of a series."""

    target: str
    """Predicted sequence, such as T1GD."""
    model: str
    """Name and version of the model."""
    software: str
    """Version of this package."""
    weights: str
    """Hash of the weights."""
    key: str
    """Equal for equal inputs, weights and settings; the UIDs derive from it and the voxels."""
    phantom: bool


def check_source(t1: Path | str | None) -> None:
    """Raises ValueError where the T1 is not a DICOM series of a study, the source of patient, study and geometry."""
    if t1 is None or not Path(t1).is_dir():
        raise ValueError(
            f"--export dicom needs a T1 that is a folder with a DICOM series, since patient, study and geometry are "
            f"taken from it; found {t1 or 'none'}. Leave out --export, or give the DICOM folder"
        )
    if not open_series(Path(t1)).slices[0].header.get("StudyInstanceUID"):
        raise ValueError(f"{t1}: has no StudyInstanceUID, so there is no study to export into; leave out --export")


def write_series(folder: Path, data: np.ndarray, sources: Mapping[str, Path], made: Made) -> dict[str, Any]:
    """Write a volume (X, Y, Z) RAS on the grid of `sources["T1"]` as `0001.dcm` ... to a new folder.

    Values are uint16 with a rescaling error below 1/100000 of the range; 0 stays 0. Returns the series' UID, SOP class
    and number of files. Raises ValueError as `open_series`.
    """
    series = {name: open_series(path) for name, path in sources.items() if Path(path).is_dir()}
    t1 = series["T1"]
    turn = nib.orientations.ornt_transform(RAS, nib.io_orientation(t1.affine))
    volume = nib.apply_orientation(data, turn)
    assert volume.shape == t1.shape
    stored, slope, intercept = quantised(volume)
    voxels = hashlib.sha256(stored.tobytes()).hexdigest()
    common = _common(t1.slices[0].header, made)
    common.SeriesInstanceUID = _uid("series", made.key, voxels)
    common.RescaleSlope, common.RescaleIntercept, common.RescaleType = slope, intercept, "US"
    _window(common, volume)
    _overlay(common, t1.slices[0].size)
    folder.mkdir()
    for index, part in enumerate(t1.slices):
        image = Dataset()
        image.update(common)
        image.SOPInstanceUID = _uid("slice", made.key, voxels, str(index))
        image.InstanceNumber = index + 1
        image.ImagePositionPatient = _copied(part, "ImagePositionPatient")
        image.ImageOrientationPatient = _copied(part, "ImageOrientationPatient")
        image.PatientOrientation = [_towards(direction) for direction in part.orientation]
        image.PixelSpacing = _copied(part, "PixelSpacing")
        image.SliceThickness = part.plane.get("SliceThickness") or _decimal(float(np.linalg.norm(t1.affine[:3, 2])))
        image.SourceImageSequence = Sequence(_sources(series, index))
        image.Rows, image.Columns = part.size
        image.PixelData = np.ascontiguousarray(stored[..., index].T).astype("<u2").tobytes()
        image["PixelData"].VR = "OW"
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dcmwrite(folder / f"{index + 1:04d}.dcm", image, enforce_file_format=True)
    return {
        "series_instance_uid": str(common.SeriesInstanceUID),
        "sop_class": SecondaryCaptureImageStorage.name,
        "files": len(t1.slices),
        "rescale_slope": float(slope),
    }


def quantised(volume: np.ndarray) -> tuple[np.ndarray, str, str]:
    """Values as uint16, with slope and intercept as DICOM decimal strings; a 0 within the range is restored as 0."""
    low, high = min(float(volume.min()), 0.0), max(float(volume.max()), 0.0)
    span = (high - low) or 1.0
    exponent = math.floor(math.log10(span / STEPS)) - 5  # six digits: slope times zero then fits into 16 characters
    step = math.ceil(span / STEPS / 10.0**exponent) * 10.0**exponent
    slope = _decimal(step)
    zero = math.ceil(-low / float(slope))
    stored = np.rint(volume.astype(np.float64) / float(slope)) + zero
    return np.clip(stored, 0, 65535).astype(np.uint16), slope, _decimal(-zero * float(slope))


def _common(source: Dataset, made: Made) -> Dataset:
    """Attributes common to all slices: patient and study of the T1, and the origin of the series."""
    new = Dataset()
    for name in (*NEEDED, *COPIED):
        if name in source:
            new[name] = deepcopy(source[name])
        elif name in NEEDED:
            setattr(new, name, None)
    if not new.get("BodyPartExamined"):
        new.BodyPartExamined = "BRAIN"
    label = "PHANTOM-trained, no meaning: " * made.phantom
    new.SOPClassUID = SecondaryCaptureImageStorage
    new.Modality = "MR"  # as its study; SOP class, image type and conversion type mark it as synthetic
    new.ConversionType = "SYN"
    new.ImageType = ["DERIVED", "SECONDARY", "SYNTHETIC"]
    new.SyntheticData, new.ContentQualification = "YES", "RESEARCH"
    new.BurnedInAnnotation = "NO"
    new.SeriesNumber = 9000 + int(source.get("SeriesNumber") or 0) % 1000
    new.SeriesDescription = DESCRIPTION.format(target=made.target)[:64]
    new.ImageComments = f"{label}{DESCRIPTION.format(target=made.target)}"
    new.DerivationDescription = (
        f"{label}SYNTHETIC {made.target}: predicted by a neural network ({made.model}, {made.software}) from the "
        "images referenced here; no contrast agent was given. Research only, not for diagnosis."
    )[:1024]
    new.FrameOfReferenceUID = source.get("FrameOfReferenceUID") or _uid("frame", source.StudyInstanceUID)
    new.Manufacturer = new.SecondaryCaptureDeviceManufacturer = MAKER
    new.ManufacturerModelName = new.SecondaryCaptureDeviceManufacturerModelName = made.model[:64]
    new.SoftwareVersions = new.SecondaryCaptureDeviceSoftwareVersions = made.software
    new.ContributingEquipmentSequence = Sequence(_equipment(source, made))
    new.SamplesPerPixel, new.PhotometricInterpretation, new.PixelRepresentation = 1, "MONOCHROME2", 0
    new.BitsAllocated, new.BitsStored, new.HighBit = 16, 16, 15
    return new


def _equipment(source: Dataset, made: Made) -> Iterator[Dataset]:
    """The scanner, and the equipment that synthesized the image."""
    scanner, network = Dataset(), Dataset()
    for name in SCANNER:
        if source.get(name):
            scanner[name] = deepcopy(source[name])
    if "Manufacturer" not in scanner:
        scanner.Manufacturer = "unknown"
    scanner.PurposeOfReferenceCodeSequence = _code("109101", "Acquisition Equipment")
    network.Manufacturer, network.ManufacturerModelName, network.SoftwareVersions = (
        MAKER,
        made.model[:64],
        made.software,
    )
    network.ContributionDescription = f"Predicted the image; weights SHA-256 {made.weights}"[:1024]
    network.PurposeOfReferenceCodeSequence = _code("109102", "Processing Equipment")
    yield from (scanner, network)


def _sources(series: Mapping[str, Series], index: int) -> Iterator[Dataset]:
    """The slices at one position in every series; all slices of a series with other positions."""
    first = series["T1"]
    for one in series.values():
        tolerance = 0.1 * min(nib.affines.voxel_sizes(first.affine))
        alike = one.shape == first.shape and np.allclose(one.affine, first.affine, atol=tolerance)
        for part in one.slices[index : index + 1] if alike else one.slices:
            item = Dataset()
            item.ReferencedSOPClassUID = part.header.SOPClassUID
            item.ReferencedSOPInstanceUID = part.header.SOPInstanceUID
            if part.frame is not None:
                item.ReferencedFrameNumber = part.frame + 1
            item.PurposeOfReferenceCodeSequence = _code("121322", "Source Image for Image Processing Operation")
            yield item


def _code(value: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return Sequence([item])


def _towards(direction: np.ndarray) -> str:
    """A direction (3,) in LPS as DICOM's letters, the main one first: "L", or "LF" where it is oblique."""
    letters = [pair[int(part < 0)] for pair, part in zip(("LR", "PA", "HF"), direction)]
    main = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    return "".join(letters[axis] for axis in main if abs(direction[axis]) > 1e-3)


def _copied(part: Slice, name: str) -> Any:
    """The source's own decimal strings."""
    return deepcopy(part.plane[name].value)


def _window(image: Dataset, volume: np.ndarray) -> None:
    """Window from the 1st to the 99.5th percentile of the image."""
    head = volume[volume != volume.flat[0]] if (volume != volume.flat[0]).any() else volume
    low, high = np.percentile(head, [1, 99.5])
    width = max(float(high - low), 1e-6 * abs(float(high)), 1e-6)
    image.WindowCenter, image.WindowWidth = _decimal(float(low + high) / 2), _decimal(width)
    if width < 1:  # the linear VOI function demands a width of at least 1
        image.VOILUTFunction = "LINEAR_EXACT"


def _overlay(image: Dataset, size: tuple[int, int]) -> None:
    """The mark in the upper left corner, as a bitmap over the image (PS3.3 C.9.2)."""
    scale = max(1, size[1] // 160)
    picture = Image.new("L", (size[1] // scale, size[0] // scale))
    font = ImageFont.load_default_imagefont()
    for line, text in enumerate(MARK):
        ImageDraw.Draw(picture).text((2, 1 + 11 * line), text, fill=255, font=font)
    letters = np.zeros(size, bool)
    large = np.kron(np.asarray(picture) > 127, np.ones((scale, scale), bool))
    letters[: large.shape[0], : large.shape[1]] = large
    bits = np.packbits(letters.ravel(), bitorder="little").tobytes()
    image.add_new(0x60000010, "US", size[0])
    image.add_new(0x60000011, "US", size[1])
    image.add_new(0x60000022, "LO", "SYNTHETIC")
    image.add_new(0x60000040, "CS", "G")
    image.add_new(0x60000050, "SS", [1, 1])
    image.add_new(0x60000100, "US", 1)
    image.add_new(0x60000102, "US", 0)
    image.add_new(0x60003000, "OW", bits + b"\0" * (len(bits) % 2))


def _uid(*parts: str) -> str:
    return generate_uid(entropy_srcs=["\n".join(("gadfree", *parts))])


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return format_number_as_ds(float(value))
