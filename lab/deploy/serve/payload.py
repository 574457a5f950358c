"""Scans as a request carries them: nested lists, base64 of a NIfTI file, or a path under one folder -> files."""

from __future__ import annotations

import base64
import binascii
import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lab.io.files import LARGEST
from lab.io.scan import write_scan

ENCODED = "nifti"
"""Key of an object that holds the base64 of a NIfTI file."""


def is_array(value: Any) -> bool:
    """Whether a scan is sent as plain numbers."""
    return isinstance(value, list | tuple | np.ndarray)


def place(name: str, value: Any, file: Path, *, root: Path | None, affine: np.ndarray) -> None:
    """Write the scan `name` of a request to `file`; `affine` is that of scans sent as arrays.

    `value` is a nested list or an array (X, Y, Z), `{"nifti": base64}`, or a path under `root` as text. Raises
    ValueError with the reason where it is none of these.
    """
    if isinstance(value, str):
        file.write_bytes(_allowed(name, value, root))
    elif is_array(value):
        write_scan(file, array(name, value, 3, "a 3D array (X, Y, Z)"), affine)
    elif isinstance(value, dict) and set(value) == {ENCODED} and isinstance(value[ENCODED], str):
        try:
            file.write_bytes(base64.b64decode(value[ENCODED], validate=True))
        except (binascii.Error, ValueError):
            raise ValueError(f"{name}: what {ENCODED!r} holds is no base64") from None
    else:
        raise ValueError(
            f"{name} is {_told(value)}; send a nested list (X, Y, Z), a path as text, or "
            f'{{"{ENCODED}": base64 of a NIfTI file}}'
        )


def array(name: str, value: Any, axes: int, expected: str) -> np.ndarray:
    """Numbers as float32. Raises ValueError where they are none, or have not that many axes."""
    try:
        found = np.asarray(value)
    except (ValueError, TypeError, OverflowError):
        found = np.asarray("")
    if found.dtype.kind not in "iuf":  # text, truth values, null, integers without end
        raise ValueError(f"{name} is no array of numbers with rows of one length; {expected} is needed")
    with np.errstate(over="ignore"):
        result = found.astype(np.float32)
    if result.ndim != axes or not result.size:
        shape = " x ".join(map(str, result.shape)) or "a single number"
        raise ValueError(f"{name} has the shape {shape}; {expected} is needed")
    return result


def returned(file: Path, *, as_array: bool) -> Any:
    """A volume as it was sent: a nested list of the voxels in their stored order, or `{"nifti": base64}`."""
    if as_array:
        image: Any = nib.load(file)
        return np.asarray(image.dataobj).tolist()
    content = file.read_bytes()
    content = content if content[:2] == b"\x1f\x8b" else gzip.compress(content, compresslevel=1, mtime=0)
    return {ENCODED: base64.b64encode(content).decode("ascii")}


def _allowed(name: str, path: str, root: Path | None) -> bytes:
    """Content of a file under `root`, links followed; what lies elsewhere is refused in the same words, seen or not."""
    if root is None:
        raise ValueError(
            f"{name}: paths are refused, for this server was given no folder to read from; send the scan itself, or "
            "start the server with the folder in LAB_SERVE_ROOT"
        )
    outside = f"{name}: the path does not lie in the folder that this server reads from"
    try:
        real = (root / path).resolve()
        inside = real.is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a name too long, links in a circle, a zero byte
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


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with {', '.join(map(repr, list(value)[:3])) or 'nothing in it'}"
    return "null" if value is None else f"a {type(value).__name__}"
