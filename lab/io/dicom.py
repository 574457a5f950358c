"""Reader of one MR series from a folder of DICOM files. Slices are ordered by position, never by name or number.

DICOM coordinates point left, posterior and superior (LPS), NIfTI's right, anterior and superior (RAS).
"""

import hashlib
import math
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from lab.io.dicom_stack import Slice, order_slices, stack_affine
from lab.io.files import LARGEST, open_regular, regular_sha256
from lab.io.nifti import MOST_VOXELS

MR_IMAGES = (uid.MRImageStorage, uid.EnhancedMRImageStorage, uid.LegacyConvertedEnhancedMRImageStorage)
SUFFIXES = (".dcm", ".ima", ".dicom")  # endings of DICOM files
DAMAGED = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError,
           OverflowError, RecursionError, struct.error, zlib.error)  # fmt: skip
"""Exceptions of pydicom on damaged files."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Headers and geometry of one MR series, without pixels."""

    folder: Path
    slices: tuple[Slice, ...]  # in ascending order along the normal, the cross product of row and column direction
    affine: np.ndarray  # (4, 4) from (column, row, slice) to RAS millimetres, with the precision of a NIfTI header

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices."""
        header = self.slices[0].header
        return int(header.Columns), int(header.Rows), len(self.slices)


def open_series(folder: Path) -> Series:
    """The one MR series in a folder and its subfolders; other kinds of files are skipped.

    Raises ValueError for no series or several; for images that are not MR or differ in orientation, size or voxel size;
    for localisers, several echoes or volumes; and for missing, duplicate or shifted slices.
    """
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and not path.name.startswith("."))
    states = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _open(Path(folder), states)


@lru_cache(maxsize=4)  # grid, hash, patient and pixels are read one after the other
def _open(folder: Path, states: tuple[tuple[Path, int, int], ...]) -> Series:
    images = _images(folder, [path for path, _, _ in states])
    _check_kind(folder, images)
    slices = order_slices(folder, [part for path, header in images.items() for part in _parts(path, header)])
    series = Series(folder=folder, slices=tuple(slices), affine=stack_affine(slices))
    if math.prod(series.shape) > MOST_VOXELS:
        raise ValueError(f"{folder}: {' x '.join(map(str, series.shape))} voxels; at most {MOST_VOXELS} are read")
    return series


def read_series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Intensities (columns, rows, slices) as float32 with each slice's rescaling, and the affine to RAS.

    MONOCHROME1, where the largest value is black, is inverted. Raises ValueError as `open_series`, and for missing,
    damaged or undecodable pixels.
    """
    series = open_series(folder)
    volume = np.empty(series.shape[::-1], np.float32)
    pixels: dict[Path, np.ndarray] = {}
    for index, part in enumerate(series.slices):
        if part.path not in pixels:
            pixels = {part.path: _pixels(part.path)}
        stored = pixels[part.path]  # a file of several frames, or of one
        values = (stored if stored.ndim == 2 else stored[part.frame]).astype(np.float32)
        if (part.slope, part.intercept) != (1, 0):  # the same arithmetic as for a NIfTI, to the bit
            values = values * np.float32(part.slope) + np.float32(part.intercept)
        volume[index] = values
    return volume.T, series.affine


def series_sha256(folder: Path) -> str:
    """Digest of the series' files, whatever their names and order. Raises ValueError as `open_series`."""
    paths = {part.path for part in open_series(folder).slices}
    digests = sorted(bytes.fromhex(regular_sha256(path)) for path in paths)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def check_one_patient(folders: Mapping[str, Path]) -> None:
    """Raises ValueError for series with different Patient IDs; the message contains no ID."""
    found = {name: open_series(path).slices[0].header.get("PatientID") for name, path in folders.items()}
    found = {name: patient for name, patient in found.items() if patient}  # removed by anonymisation
    first = next(iter(found), "")
    for name, patient in found.items():
        if patient != found[first]:
            pair = f"{name} ({folders[name]}) and {first} ({folders[first]})"
            raise ValueError(f"{pair} have different Patient IDs; all scans must be of one patient")


def _images(folder: Path, files: list[Path]) -> dict[Path, Dataset]:
    """Headers of the image files by path."""
    images: dict[Path, Dataset] = {}
    for path in files:
        try:
            header = _dataset(path, stop_before_pixels=True)
            kind = header.get("SOPClassUID", header.file_meta.get("MediaStorageSOPClassUID"))
        except InvalidDicomError:
            if path.suffix.lower() in SUFFIXES:
                raise ValueError(f"{path}: not a DICOM file in spite of its name; export the series again") from None
            continue
        except DAMAGED as error:
            raise ValueError(f"{path}: damaged, cannot be read as DICOM ({error}); export it again") from None
        image = kind in MR_IMAGES or (kind != uid.MediaStorageDirectoryStorage and "Rows" in header)
        if not kind or (image and not (header.get("SeriesInstanceUID") and header.get("SOPInstanceUID"))):
            raise ValueError(f"{path}: cut short, it does not say what it is and of which series; export it again")
        if image:
            images[path] = header
    if not images:
        example = f" (found {len(files)} files such as {files[0].name})" if files else " (the folder is empty)"
        what = f"{folder}: no DICOM image in this folder{example}"
        raise ValueError(f"{what}; name a folder with the files of one MR series, or a NIfTI file")
    return images


def _dataset(path: Path, *, stop_before_pixels: bool) -> Dataset:
    """Attributes of a file. Raises InvalidDicomError for another format, ValueError for a large file, or `DAMAGED`.

    A file without the 132-byte preamble (old archives, PACS exports) is accepted where it begins with an attribute of
    group 2 or 8 and has a SOP class.
    """
    with open_regular(path) as file:
        start = file.read(132)
        file.seek(0)
        if start[128:] == b"DICM":
            _check_inflated(path)
            return pydicom.dcmread(file, stop_before_pixels=stop_before_pixels)
        if start[:2] not in (b"\2\0", b"\x08\0") or start[3:4] != b"\0":
            raise InvalidDicomError
        try:
            bare = pydicom.dcmread(file, stop_before_pixels=stop_before_pixels, force=True)
            kind = bare.get("SOPClassUID")
        except DAMAGED:
            raise InvalidDicomError from None
    if not kind:
        raise InvalidDicomError
    if "TransferSyntaxUID" not in bare.file_meta:
        implicit, _ = bare.original_encoding
        bare.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
    return bare


def _check_inflated(path: Path) -> None:
    """Raises ValueError where a deflated file exceeds `LARGEST`: pydicom inflates it whole, header and pixels."""
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != uid.DeflatedExplicitVRLittleEndian:
        return
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with open_regular(path) as file:
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        while chunk := file.read(2**14):
            size += len(inflater.decompress(chunk))
            if size > LARGEST:
                raise ValueError(f"it inflates to more than {LARGEST >> 20} MiB")


def _check_kind(folder: Path, images: Mapping[Path, Dataset]) -> None:
    """Raises ValueError unless the images are one series of greyscale MR images."""
    counts = Counter((str(header.SeriesInstanceUID), _describe_series(header)) for header in images.values())
    if len({series for series, _ in counts}) > 1:
        listed = "; ".join(f"{text}, {count} files" for (_, text), count in counts.most_common(8))
        raise ValueError(f"{folder}: more than one series ({listed}); put the files of one into a folder of its own")
    for path, header in images.items():
        if header.get("SyntheticData") == "YES":
            raise ValueError(f"{path}: a synthetic image; the scans that it was made from are needed")
        if header.get("SOPClassUID") not in MR_IMAGES:
            kind = getattr(header.get("SOPClassUID"), "name", "of unknown kind")
            raise ValueError(f"{path}: not an MR image ({kind}); the series as the MR scanner stored it is needed")
        types = [str(value).upper() for value in header.get("ImageType", None) or ()]
        for word, what in (("LOCALIZER", "a localiser"), ("MOSAIC", "a mosaic of slices")):
            if word in types:
                raise ValueError(f"{path}: {what} (ImageType {'/'.join(types)}); name the folder of an anatomical scan")
        grey = str(header.get("PhotometricInterpretation", "")), _count(path, header, "SamplesPerPixel")
        if grey not in {("MONOCHROME1", 1), ("MONOCHROME2", 1)}:
            raise ValueError(f"{path}: pixels are {grey[0] or 'of unknown meaning'}, not grey values (MONOCHROME2)")


def _count(path: Path, header: Dataset, name: str) -> int:
    """Integer value of an attribute; 1 where it is missing."""
    try:
        return int(header.get(name, None) or 1)
    except DAMAGED as error:
        raise ValueError(f"{path}: {name} makes no sense ({error}); export it again") from None


def _describe_series(header: Dataset) -> str:
    text = str(header.get("SeriesDescription", "") or "no description")
    return f"{text!r} ({header.get('Modality', '?')}, number {header.get('SeriesNumber', '?')})"


def _parts(path: Path, header: Dataset) -> Iterator[Slice]:
    """The slices of a file: one, or the frames of an enhanced image."""
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if frames is None and _count(path, header, "NumberOfFrames") > 1:
        raise ValueError(f"{path}: {header.NumberOfFrames} frames without their positions; export single slices")
    for number, frame in enumerate(frames if frames is not None else [None]):
        try:
            plane = header if frame is None else _frame(header, frame)
            yield Slice(
                path=path,
                frame=None if frame is None else number,
                header=header,
                plane=plane,
                position=np.array(plane.ImagePositionPatient, float).reshape(3),
                orientation=np.array(plane.ImageOrientationPatient, float).reshape(2, 3),
                spacing_mm=(float(plane.PixelSpacing[0]), float(plane.PixelSpacing[1])),
                size=(int(header.Rows), int(header.Columns)),
                slope=float(plane.get("RescaleSlope", 1)),
                intercept=float(plane.get("RescaleIntercept", 0)),
            )
        except DAMAGED as error:
            named = re.search(r"attribute '(\w+)'", str(error))
            what = named[1] if named else f"an attribute of its geometry ({error})"
            rest = "where the slice lies is unknown; a series with geometry is needed"
            if any(name in str(error) for name in ("Rows", "Columns", "Rescale")):
                rest = "it has no pixels to read"
            raise ValueError(f"{path}: {what} is missing or makes no sense, so {rest}") from None


def _frame(header: Dataset, frame: Dataset) -> Dataset:
    """Geometry, rescaling and echo of a frame, flat as in a single-frame file."""
    flat = Dataset()
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for group in (shared[0], frame):
        for element in group:
            if element.VR == "SQ" and element.value:
                flat.update(element.value[0])
    return flat


def _pixels(path: Path) -> np.ndarray:
    """(rows, columns), or (frames, rows, columns), as stored; black is the smallest value."""
    try:
        content: Any = _dataset(path, stop_before_pixels=False)
    except DAMAGED as error:
        raise ValueError(f"{path}: damaged, cannot be read as DICOM ({error}); export it again") from None
    if "PixelData" not in content:
        raise ValueError(f"{path}: has no pixel data; the file is cut short or holds a header alone; export it again")
    try:
        stored = content.pixel_array
    except (RuntimeError, NotImplementedError) as error:
        why = f"{content.file_meta.TransferSyntaxUID.name}, which cannot be decoded here ({str(error).splitlines()[0]})"
        how = "decompress the series first, with dcmdjpeg or gdcmconv --raw"
        raise ValueError(f"{path}: the pixels are stored as {why}; {how}") from None
    except DAMAGED as error:
        raise ValueError(f"{path}: damaged pixel data ({error}); export it again") from None
    if content.PhotometricInterpretation != "MONOCHROME1":
        return stored
    signed, bits = int(content.PixelRepresentation), int(content.BitsStored)
    return (-1 if signed else 2**bits - 1) - stored.astype(np.int32)
