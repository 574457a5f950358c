"""What a request to a served model may ask for one patient, and its scans as files."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lab.data.contract import Contract, create_subject
from lab.data.layouts.subject import Subject
from lab.deploy.serve.payload import array, is_array, place
from lab.inference.patient import ENHANCEMENT, INTERVAL, SYNTHESIS, UNCERTAINTY, How
from lab.inference.tta import AUGMENTATIONS
from lab.io.files import canonical
from lab.io.nifti import read_header

ROOT = "LAB_SERVE_ROOT"
"""Environment variable: the folder that paths in requests may point into."""
VOXELS, PATIENTS = "LAB_SERVE_VOXELS", "LAB_SERVE_PATIENTS"
"""Environment variables: voxels of a scan and patients of a request at most."""
MOST = {VOXELS: 30_000_000, PATIENTS: 8}
VOLUMES = {"synthetic": SYNTHESIS, "enhancement": ENHANCEMENT, "uncertainty": UNCERTAINTY, "interval": INTERVAL}
"""What can be asked for -> its file; the first is what comes by itself."""
OPTIONS = ("mask", "affine", "looks", "brain_mask", "strangers", "volumes")
LEAST_MM, LARGEST_MM, FLAT = 0.05, 50.0, 1e-3
BRAIN_MASKS = ("nonzero", "mni152")
STRANGERS = ("refuse", "warn")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One patient of a request."""

    subject: Subject
    how: How
    volumes: tuple[str, ...]
    """Keys of `VOLUMES`."""
    as_array: bool
    """Whether the T1 came as plain numbers, and the answer goes as such."""


def read(patient: Mapping[str, Any], contract: Contract, folder: Path) -> Asked:
    """A patient's record, its scans written into `folder`. Raises ValueError with the reason where it does not fit."""
    named = _named(patient, contract)
    needed = [canonical(name) for name in contract.channels]
    sent = [name for name in (*needed, "mask") if name in named]
    root = os.environ.get(ROOT)
    affine = _affine(named, sent, contract)
    paths = {name: folder / f"{name}.nii.gz" for name in sent}
    for name, file in paths.items():
        place(name, named[name], file, root=Path(root) if root else None, affine=affine)
        shape = read_header(file).shape
        if math.prod(shape) > at_most(VOXELS):
            size = " x ".join(map(str, shape))
            raise ValueError(f"{name} has {size} voxels; this server takes at most {at_most(VOXELS)} of a scan")
    subject = create_subject("patient", {name: paths[name] for name in needed}, paths.get("mask"), like=contract)
    how = How(
        looks=_looks(named.get("looks", How.looks)),
        brain_mask=named.get("brain_mask"),
        strangers=named.get("strangers", How.strangers),
    )
    if how.strangers not in STRANGERS:
        raise ValueError(f"strangers is {how.strangers!r}; known are {', '.join(STRANGERS)}")
    if how.brain_mask not in (None, *BRAIN_MASKS):
        raise ValueError(f"brain_mask is {how.brain_mask!r}; known are {', '.join(BRAIN_MASKS)}")
    return Asked(
        subject=replace(subject, case_id="patient"),
        how=how,
        volumes=_volumes(named.get("volumes", ["synthetic"]), how),
        as_array=is_array(named["T1"]),
    )


def at_most(name: str) -> int:
    """A limit of the server, from its environment variable where that is set. Raises ValueError for one below 1."""
    text = os.environ.get(name, str(MOST[name]))
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"the server is set up wrongly: {name} must be a whole number above 0")
    return int(text)


def _named(patient: Mapping[str, Any], contract: Contract) -> dict[str, Any]:
    """Scans by canonical name, options by their own; an option that is null counts as not given."""
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


def _affine(named: Mapping[str, Any], sent: list[str], contract: Contract) -> np.ndarray:
    """Of scans that are sent as arrays: as given, else RAS in voxels of the model's size."""
    if "affine" not in named:
        return np.diag([contract.spacing_mm] * 3 + [1.0])
    if not any(is_array(named[name]) for name in sent):
        raise ValueError("affine is for scans sent as arrays; files have their own")
    affine = array("affine", named["affine"], 2, "a 4 x 4 matrix").astype(np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], [0, 0, 0, 1]):
        raise ValueError("affine is no 4 x 4 matrix of finite numbers whose last row is 0, 0, 0, 1")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if sizes.min() < LEAST_MM or abs(np.linalg.det(affine[:3, :3] / sizes)) < FLAT or sizes.max() > LARGEST_MM:
        raise ValueError("affine makes no volume of a voxel: its three axes must be millimetres in three directions")
    return affine


def _looks(looks: Any) -> int:
    if isinstance(looks, bool) or not isinstance(looks, int) or not 1 <= looks <= len(AUGMENTATIONS):
        raise ValueError(f"looks is {looks!r}; a whole number from 1 to {len(AUGMENTATIONS)} is needed")
    return looks


def _volumes(volumes: Any, how: How) -> tuple[str, ...]:
    if not isinstance(volumes, list) or not volumes or not all(name in VOLUMES for name in map(str, volumes)):
        raise ValueError(f"volumes is {str(volumes)[:80]}; it is a list of some of {', '.join(VOLUMES)}")
    if "uncertainty" in volumes and how.looks == 1:
        raise ValueError("a single look has no uncertainty; ask for 2 looks or more")
    return tuple(dict.fromkeys(volumes))
