"""Request and answer formats: a patient's record -> files and settings, volumes -> JSON values.

A scan is sent as nested lists (X, Y, Z), as `{"nifti": base64 of a NIfTI file}`, or as a path in the server's folder.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lab.config import COVARIATES
from lab.data.contract import Contract, create_subject
from lab.data.layouts.subject import Subject
from lab.deploy.clinical_table import read_values
from lab.inference.settings import ENHANCEMENT, INTERVAL, PROBABILITY, SYNTHESIS, UNCERTAINTY, How
from lab.inference.tta import AUGMENTATIONS
from lab.io.files import LARGEST, canonical
from lab.io.nifti import read_header
from lab.io.scan import write_scan

ROOT = "LAB_SERVE_ROOT"
"""Environment variable for the folder that paths in requests may point into."""
VOXELS, PATIENTS = "LAB_SERVE_VOXELS", "LAB_SERVE_PATIENTS"
"""Environment variables for the maximum number of voxels of a scan and of patients of a request."""
MOST = {VOXELS: 30_000_000, PATIENTS: 8}
VOLUMES = {
    "synthetic": SYNTHESIS,
    "enhancement": ENHANCEMENT,
    "uncertainty": UNCERTAINTY,
    "interval": INTERVAL,
    "probability": PROBABILITY,
}
"""Available volumes -> file; an answer has the first by default."""
CHOICES = {"brain_mask": (None, "nonzero", "mni152"), "strangers": ("refuse", "warn")}
OPTIONS = ("mask", "clinical", "affine", "looks", "brain_mask", "strangers", "volumes")
LEAST_MM, LARGEST_MM, FLAT = 0.05, 50.0, 1e-3
ENCODED = "nifti"
"""Key of an object that holds the base64 of a NIfTI file."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One patient of a request."""

    subject: Subject
    how: How
    volumes: tuple[str, ...]
    """Keys of `VOLUMES`."""
    as_array: bool
    """Whether the T1 was sent as plain numbers; the answer then has the same form."""


def parse(patient: Mapping[str, Any], contract: Contract, folder: Path, covariates: Sequence[str] = ()) -> Asked:
    """Parse a patient's record and write its scans to `folder`. Raises ValueError with the reason where invalid.

    `covariates` are the clinical values that the model takes.
    """
    named = _named(patient, contract)
    needed = [canonical(name) for name in contract.channels]
    sent = [name for name in (*needed, "mask") if name in named]
    affine = _affine(named, sent, contract)
    paths = {name: folder / f"{name}.nii.gz" for name in sent}
    for name, file in paths.items():
        _write_scan(name, named[name], file, affine)
        shape, most = read_header(file).shape, at_most(VOXELS)
        if math.prod(shape) > most:
            size = " x ".join(map(str, shape))
            raise ValueError(f"{name} has {size} voxels; this server takes at most {most} of a scan")
    subject = create_subject("patient", {name: paths[name] for name in needed}, paths.get("mask"), like=contract)
    subject = replace(subject, **_clinical(named.get("clinical", {}), covariates))
    chosen: dict[str, Any] = {name: named.get(name, known[0]) for name, known in CHOICES.items()}
    for name, known in CHOICES.items():
        if chosen[name] not in known:
            raise ValueError(f"{name} is {chosen[name]!r}; known are {', '.join(filter(None, known))}")
    how = How(looks=_looks(named.get("looks", How.looks)), **chosen)
    volumes = _volumes(named.get("volumes", ["synthetic"]), how)
    return Asked(subject=subject, how=how, volumes=volumes, as_array=_is_array(named["T1"]))


def at_most(name: str) -> int:
    """A limit of the server, from its environment variable where set. Raises ValueError for one below 1."""
    text = os.environ.get(name, str(MOST[name]))
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"the server is set up wrongly: {name} must be a whole number above 0")
    return int(text)


def array(name: str, value: Any, axes: int, expected: str) -> np.ndarray:
    """Numbers as float32. Raises ValueError for other values or another number of axes."""
    try:
        found = np.asarray(value)
    except (ValueError, TypeError, OverflowError):
        found = np.asarray("")
    if found.dtype.kind not in "iuf":  # text, booleans, null, integers beyond 64 bits
        raise ValueError(f"{name} is no array of numbers with rows of one length; {expected} is needed")
    with np.errstate(over="ignore"):
        result = found.astype(np.float32)
    if result.ndim != axes or not result.size:
        shape = " x ".join(map(str, result.shape)) or "a single number"
        raise ValueError(f"{name} has the shape {shape}; {expected} is needed")
    return result


def read_volume(file: Path, *, as_array: bool) -> Any:
    """A volume in the form of a request: a nested list of voxels in stored order, or `{"nifti": base64}`."""
    if as_array:
        image: Any = nib.load(file)
        return np.asarray(image.dataobj).tolist()
    content = file.read_bytes()
    content = content if content[:2] == b"\x1f\x8b" else gzip.compress(content, compresslevel=1, mtime=0)
    return {ENCODED: base64.b64encode(content).decode("ascii")}


def _named(patient: Mapping[str, Any], contract: Contract) -> dict[str, Any]:
    """Scans by canonical name, options by their own; a null option counts as missing."""
    needed = [canonical(name) for name in contract.channels]
    may = f"a patient has {', '.join(needed)} and may have {', '.join(OPTIONS)}"
    named: dict[str, Any] = {}
    if not isinstance(patient, Mapping):
        raise ValueError(f"Expected dict, found {type(patient).__name__}: {may}")
    for key, value in patient.items():
        option = key.strip().lower()
        name = option if option in OPTIONS else canonical(key)
        name = "mask" if name == "MASK" else name
        if name not in (*OPTIONS, *needed):
            raise ValueError(f"{key!r} is not known: {may}")
        if name in named:
            raise ValueError(f"{name} is given twice, the second time as {key!r}")
        if value is not None or name in needed:
            named[name] = value
    missing = [name for name in needed if name not in named]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing: {may}")
    return named


def _is_array(value: Any) -> bool:
    """Whether a scan is sent as plain numbers."""
    return isinstance(value, list | tuple | np.ndarray)


def _write_scan(name: str, value: Any, file: Path, affine: np.ndarray) -> None:
    """Write a scan of a request to `file`; `affine` is that of scans sent as arrays.

    Raises ValueError with the reason where it is neither numbers nor base64 nor a permitted path.
    """
    if isinstance(value, str):
        file.write_bytes(_allowed(name, value))
    elif _is_array(value):
        write_scan(file, array(name, value, 3, "a 3D array (X, Y, Z)"), affine)
    elif isinstance(value, dict) and set(value) == {ENCODED} and isinstance(value[ENCODED], str):
        try:
            file.write_bytes(base64.b64decode(value[ENCODED], validate=True))
        except (binascii.Error, ValueError):
            raise ValueError(f"{name}: what {ENCODED!r} holds is no base64") from None
    else:
        kind = "null" if value is None else f"a {type(value).__name__}"
        if isinstance(value, dict):
            kind = f"an object with {', '.join(map(repr, list(value)[:3])) or 'nothing in it'}"
        raise ValueError(
            f"{name} is {kind}; send a nested list (X, Y, Z), a path as text, or "
            f'{{"{ENCODED}": base64 of a NIfTI file}}'
        )


def _allowed(name: str, path: str) -> bytes:
    """Content of a file under the server's folder, links followed.

    Raises the same error for every path elsewhere, so that a client cannot find out which files exist.
    """
    if not (root := os.environ.get(ROOT)):
        raise ValueError(
            f"{name}: paths are refused, for this server was given no folder to read from; send the scan itself, or "
            f"start the server with the folder in {ROOT}"
        )
    outside = f"{name}: the path does not lie in the folder that this server reads from"
    try:
        real = (Path(root) / path).resolve()
        inside = real.is_relative_to(Path(root).resolve())
    except (OSError, RuntimeError, ValueError):  # a name too long, circular links, a zero byte
        raise ValueError(outside) from None
    if not inside:
        raise ValueError(outside)
    try:
        if not real.is_file():
            raise ValueError(f"{name}: there is no file {path[:200]}")
        if real.stat().st_size > LARGEST:
            raise ValueError(f"{name}: {path[:200]} is larger than the {LARGEST >> 20} MiB that are read of a file")
        return real.read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: {path[:200]} cannot be read ({error.strerror})") from None


def _affine(named: Mapping[str, Any], sent: list[str], contract: Contract) -> np.ndarray:
    """Affine of scans that are sent as arrays: as given, otherwise RAS at the model's voxel size."""
    if "affine" not in named:
        return np.diag([contract.spacing_mm] * 3 + [1.0])
    if not any(_is_array(named[name]) for name in sent):
        raise ValueError("affine is for scans sent as arrays; files have their own")
    affine = array("affine", named["affine"], 2, "a 4 x 4 matrix").astype(np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], [0, 0, 0, 1]):
        raise ValueError("affine is no 4 x 4 matrix of finite numbers whose last row is 0, 0, 0, 1")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if sizes.min() < LEAST_MM or abs(np.linalg.det(affine[:3, :3] / sizes)) < FLAT or sizes.max() > LARGEST_MM:
        raise ValueError("affine makes no volume of a voxel: its three axes must be millimetres in three directions")
    return affine


def _clinical(values: Any, covariates: Sequence[str]) -> dict[str, Any]:
    """The clinical values of a request that are known."""
    if values and not covariates:
        raise ValueError("clinical: this model takes no clinical covariates; leave it out")
    if not isinstance(values, Mapping) or not set(values) <= set(COVARIATES):
        raise ValueError(f"clinical is {str(values)[:80]}; it is an object with some of {', '.join(COVARIATES)}")
    return read_values(values)


def _looks(looks: Any) -> int:
    if isinstance(looks, bool) or not isinstance(looks, int) or not 1 <= looks <= len(AUGMENTATIONS):
        raise ValueError(f"looks is {looks!r}; a whole number from 1 to {len(AUGMENTATIONS)} is needed")
    return looks


def _volumes(volumes: Any, how: How) -> tuple[str, ...]:
    if not isinstance(volumes, list) or not volumes or not all(name in VOLUMES for name in map(str, volumes)):
        raise ValueError(f"volumes is {str(volumes)[:80]}; it is a list of some of {', '.join(VOLUMES)}")
    if "uncertainty" in volumes and how.looks == 1:
        raise ValueError("looks = 1 has no uncertainty; ask for looks = 2 or more")
    return tuple(dict.fromkeys(volumes))
