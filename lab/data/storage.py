"""Files of a prepared cohort: written whole or not at all, read without copying.

One `.safetensors` file per case holds the tensors "image" and "mask"; its header also holds the case's record (index
row, settings and state of the source files), so that a case file says by itself whether it is still up to date.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

BRAIN, TUMOUR, ENHANCEMENT, EXPERT, NO_TARGET = 1, 2, 4, 8, 16
"""Bit flags of a prepared mask: brain, tumour, enhancement by the paper's rule, enhancing label drawn by experts, and
brain that the scan to be synthesised does not reach."""

DTYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "U8": np.dtype("u1")}


def judged(mask: np.ndarray) -> np.ndarray:
    """Bit flags (X, Y, Z) with those cleared where there is no target: nothing is trained on or scored there."""
    return np.where(mask & NO_TARGET, np.uint8(0), mask)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` in one step: a kill or a power cut leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def file_sha256(path: Path) -> str:
    """Digest of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def content_digest(image: np.ndarray, mask: np.ndarray) -> str:
    """SHA-256 over the voxels (shapes and types included), independent of when and where the file was written."""
    digest = hashlib.sha256()
    for array in (image, mask):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_case(path: Path, image: np.ndarray, mask: np.ndarray, record: dict[str, Any]) -> None:
    """Write image (C, X, Y, Z) float16 and mask (X, Y, Z) uint8 with the case's record in the header."""
    tensors = {"image": np.ascontiguousarray(image), "mask": np.ascontiguousarray(mask)}
    write_atomically(path, save(tensors, metadata={"case": json.dumps(record, sort_keys=True)}))


def read_record(path: Path) -> dict[str, Any] | None:
    """Record of a prepared or left-out case; `None` where the file is absent, incomplete or of another kind."""
    try:
        if path.suffix == ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        header, _ = _read_header(path)
        return json.loads(header["__metadata__"]["case"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def map_case(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image (C, X, Y, Z) float16 and mask (X, Y, Z) uint8 as read-only views of the file. Raises ValueError."""
    try:
        header, start = _read_header(path)
        image, mask = (_map_tensor(path, start, header[name]) for name in ("image", "mask"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; run prepare again") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and run prepare again") from None
    return image, mask


def _map_tensor(path: Path, start: int, entry: dict[str, Any]) -> np.ndarray:
    dtype: np.dtype[Any] = DTYPES[entry["dtype"]]
    return np.memmap(path, dtype=dtype, mode="r", offset=start + entry["data_offsets"][0], shape=tuple(entry["shape"]))


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Header of a safetensors file and where its data start. Raises ValueError where the file is cut short."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = os.fstat(file.fileno()).st_size
        if not 2 <= length <= size - 8:
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header = json.loads(file.read(length))
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    if 8 + length + end != size:
        raise ValueError(f"{size} bytes, {8 + length + end} expected")
    return header, 8 + length
