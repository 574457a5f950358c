"""Strict reader of NIfTI headers and voxels.

The standard is nifti1.h of nifti.nimh.nih.gov. Where its own reader is lenient (quaternions, qfac, unset scaling) this
one corrects and notes the value; it refuses every other invalid header.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lab.io.files import HEAD, LARGEST, read_head, read_inflated

MOST_VOXELS = 2**28  # maximum number of voxels of a volume: 645 along each edge
ROUNDED = 1e-3  # rounding tolerance for the length of a unit quaternion and for qfac
EDGE_MM = (0.01, 100.0)  # plausible voxel edges of a head scan (mm)
UNITS = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}  # units of length other than millimetres by their code
SIZES = {b"\x5c\1\0\0": (1, "<"), b"\0\0\1\x5c": (1, ">"), b"\x1c\2\0\0": (2, "<"), b"\0\0\2\x1c": (2, ">")}
"""First bytes of a header -> version of NIfTI and byte order."""
OTHERS = {  # first bytes of files that are often mistaken for NIfTI -> description
    b"NRRD": "an NRRD file",
    b"\x89HDF": "an HDF5 or MINC file",
    b"PK\3\4": "a zip archive",
    b"ObjectType": "a MetaImage header",
    b"<": "a page of the web, or XML",
    b"version https://git-lfs": "a placeholder of Git LFS, not the file itself",
}
NO_IMAGE = {1002: "labels", 1005: "matrices", 1006: "displacements", 1007: "vectors", 1008: "points", 1009: "triangles"}
"""Intent codes of volumes without grey values."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """A validated header."""

    raw: nib.Nifti1Header  # as stored, with corrected quaternions and signs; its affine is in the file's own unit
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int  # bytes before the first voxel
    affine: np.ndarray  # (4, 4), voxel indices to millimetres
    slope: float
    intercept: float
    notes: list[str] = field(default_factory=list)  # corrections, in words

    @property
    def needed(self) -> int:
        """Bytes that the file must hold."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def read_header(path: Path) -> Header:
    """Header of a file, compressed or not. Raises ValueError where it is invalid."""
    return parse_header(path, read_head(path))


def read_voxels(path: Path) -> tuple[np.ndarray, Header]:
    """Unscaled values (X, Y, Z) as stored, and the header. Raises ValueError where either is damaged or missing."""
    content = read_inflated(path, lambda head: parse_header(path, head).needed)
    header = parse_header(path, bytes(content[:HEAD]))
    values = np.frombuffer(content, header.dtype, count=math.prod(header.shape), offset=header.offset)
    return values.reshape(header.shape, order="F"), header


def parse_header(path: Path, head: bytes) -> Header:
    """Header from a file's first bytes. Raises ValueError with the reason where it is invalid."""
    version, order = SIZES.get(head[:4], (0, ""))
    kind = nib.Nifti2Header if version == 2 else nib.Nifti1Header
    length = kind.template_dtype.itemsize
    if not version or len(head) < length:
        raise ValueError(f"{path}: not a NIfTI file ({_found(head)})")
    raw = kind(head[:length], endianness=order, check=False)
    magic = raw["magic"].item()
    if magic[:3] in (b"ni1", b"ni2") or magic[:3] != (b"n+1", b"n+2")[version - 1]:
        what = "the header of a .hdr/.img pair" if magic[:2] == b"ni" else "an ANALYZE header, or a damaged one"
        raise ValueError(f"{path}: not a NIfTI file ({what}); convert it to a single .nii.gz")
    notes: list[str] = []
    shape = _shape(path, raw)
    dtype = _dtype(path, raw)
    offset = float(raw["vox_offset"])
    if not length + 4 <= offset <= LARGEST or offset != int(offset):
        raise ValueError(f"{path}: the header is damaged, voxels start at byte {offset:g} (vox_offset)")
    if int(offset) + math.prod(shape) * dtype.itemsize > LARGEST or math.prod(shape) > MOST_VOXELS:
        what = f"the header declares {' x '.join(map(str, shape))} voxels of {dtype}"
        raise ValueError(f"{path}: {what}; at most {MOST_VOXELS} voxels and {LARGEST >> 20} MiB are read")
    slope, intercept = _scaling(path, raw, notes)
    affine, how = _affine(path, raw, notes), {"slope": slope, "intercept": intercept}
    return Header(raw=raw, shape=shape, dtype=dtype, offset=int(offset), affine=affine, notes=notes, **how)


def check_grey(path: Path, header: Header) -> None:
    """Raises ValueError where the header's intent is not an image."""
    intent = int(header.raw["intent_code"])
    if intent in NO_IMAGE:
        raise ValueError(f"{path}: holds {NO_IMAGE[intent]} by its header (intent_code {intent}), not a scan")


def _found(head: bytes) -> str:
    if head[128:132] == b"DICM":
        return "a DICOM file; name the folder with all files of the series"
    named = next((what for start, what in OTHERS.items() if head.startswith(start)), "")
    return named or f"it starts with {head[:4]!r}" if head else "the file is empty"


def _shape(path: Path, raw: nib.Nifti1Header) -> tuple[int, int, int]:
    """Voxels along three axes."""
    sizes = [int(size) for size in raw["dim"]]
    count = sizes[0]
    shape = sizes[1 : count + 1]
    said = " x ".join(map(str, shape))
    if not 1 <= count <= 7 or min(shape) < 1:
        raise ValueError(f"{path}: the header is damaged, {count} dimensions with {said or 'no'} voxels")
    if count < 3 or min(shape[:3]) < 2:
        raise ValueError(f"{path}: {said} voxels is not a volume; a 3D image is needed")
    if max(shape[3:], default=1) > 1:
        raise ValueError(f"{path}: {count}D with {said} voxels; one 3D volume is needed")
    return shape[0], shape[1], shape[2]


def _dtype(path: Path, raw: nib.Nifti1Header) -> np.dtype[Any]:
    code = int(raw["datatype"])
    try:
        known: Any = nib.nifti1.data_type_codes.dtype[code]
    except KeyError:
        raise ValueError(f"{path}: the header is damaged, no voxel type has the code {code}") from None
    dtype: np.dtype[Any] = np.dtype(known).newbyteorder(raw.endianness)
    if dtype.kind not in "iuf" or not dtype.itemsize:
        raise ValueError(f"{path}: voxels of type {nib.nifti1.data_type_codes.label[code]} are not plain numbers")
    return dtype


def _scaling(path: Path, raw: nib.Nifti1Header, notes: list[str]) -> tuple[float, float]:
    """Slope and intercept; 0 and NaN stand for none in the standard and in nibabel."""
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if math.isnan(intercept):
        notes.append("scl_inter is NaN and was read as 0")
        intercept = 0.0
    if math.isinf(slope) or math.isinf(intercept):
        raise ValueError(f"{path}: the header is damaged, values are scaled by {slope:g} and moved by {intercept:g}")
    return slope, intercept


def _affine(path: Path, raw: nib.Nifti1Header, notes: list[str]) -> np.ndarray:
    """(4, 4) from voxel indices to millimetres, by sform, else qform."""
    if not (int(raw["sform_code"]) or int(raw["qform_code"])):
        what = "no orientation (sform and qform codes are 0), so left and right are unknown"
        raise ValueError(f"{path}: the header gives {what}")
    if not int(raw["sform_code"]):
        _mend_quaternion(path, raw, notes)
    affine = np.array(raw.get_best_affine(), np.float64)
    if not np.isfinite(affine).all() or not abs(np.linalg.det(affine[:3, :3])) > 0:
        raise ValueError(f"{path}: the affine is not invertible; voxel size and orientation are unknown")
    name, factor = UNITS.get(int(raw["xyzt_units"]) & 7, ("millimetres", 1.0))
    if factor != 1:
        affine[:3] *= factor
        notes.append(f"the header counts in {name}")
    edges = nib.affines.voxel_sizes(affine)
    if not (EDGE_MM[0] <= edges.min() and edges.max() <= EDGE_MM[1]):
        said = f"voxels of {' x '.join(f'{edge:.3g}' for edge in edges)} mm by its header, which counts in {name}"
        raise ValueError(f"{path}: {said}; the scan of a head has {EDGE_MM[0]:g} to {EDGE_MM[1]:g} mm")
    return affine


def _mend_quaternion(path: Path, raw: nib.Nifti1Header, notes: list[str]) -> None:
    """Correct rounding errors of the quaternion and of qfac in place; only for an affine that comes from them."""
    parts = np.array([float(raw[f"quatern_{name}"]) for name in "bcd"])
    length = float(np.sqrt(parts @ parts))
    if not length <= 1 + ROUNDED:
        raise ValueError(f"{path}: the header is damaged, its quaternion has a length of {length:g} (1 at most)")
    if length**2 > 1 + float(raw.quaternion_threshold):  # more than nibabel takes
        for name, part in zip("bcd", parts):
            raw[f"quatern_{name}"] = part / length
        notes.append(f"its quaternion has a length of {length:.7g} and was read as 1")
    turned, *edges = (float(value) for value in raw["pixdim"][:4])
    if turned != 0 and not abs(abs(turned) - 1) <= ROUNDED:
        raise ValueError(f"{path}: the header is damaged, qfac (pixdim[0]) is {turned:g} where 1 or -1 is expected")
    raw["pixdim"][0] = -1.0 if turned < 0 else 1.0
    if not (np.isfinite(edges).all() and min(edges) > 0):
        said = " x ".join(f"{edge:g}" for edge in edges)
        raise ValueError(f"{path}: the header is damaged, voxels of {said} mm (pixdim)")
