"""Prepared cases on disk: atomic writes and memory-mapped reads.

A `.safetensors` file holds the tensors "image" and "mask" and, in its header, the case's record with the SHA-256 of the
voxels, which each process checks on its first read of the file.
"""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from lab.io.sealed_json import parse_json, read_sealed, seal, unseal

BRAIN, TUMOUR, ENHANCEMENT, EXPERT, NO_TARGET, CORE = 1, 2, 4, 8, 16, 32
"""Bit flags of a prepared mask: brain, tumour, enhancement by the paper's rule, expert label of enhancement, brain that
the target scan does not reach, and expert label of the tumour's core (all but oedema)."""
TENSORS: dict[str, tuple[str, np.dtype[Any], int]] = {  # tensor -> safetensors type, NumPy type and number of axes
    "image": ("F16", np.dtype("<f2"), 4),
    "mask": ("U8", np.dtype("u1"), 3),
}
LONGEST_HEADER = 1_000_000  # maximum size of a header in bytes; ours have a few thousand
DAMAGE = (KeyError, IndexError, TypeError, AttributeError, OverflowError, ValueError)  # raised by a damaged header

_checked: dict[Path, tuple[Any, ...]] = {}  # files whose voxels this process has checked -> their state and digest


def clear_without_target(mask: np.ndarray) -> np.ndarray:
    """Bit flags (X, Y, Z), set to 0 where there is no target: such voxels are neither trained on nor scored."""
    return np.where(mask & NO_TARGET, np.uint8(0), mask)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` in one step: a kill or a power cut leaves the complete old or new file."""
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
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    write_atomically(path, save(tensors, metadata={"case": json.dumps(seal(record), sort_keys=True)}))


def read_case_record(path: Path) -> dict[str, Any] | None:
    """Record of a prepared or left-out case; `None` for an absent, damaged, altered or foreign file."""
    try:
        if path.suffix == ".json":
            return read_sealed(path)
        return unseal(parse_json(_read_header(path)[0]["__metadata__"]["case"]))
    except (OSError, *DAMAGE):
        return None


def read_case(path: Path, case_id: str, sha256: str) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask as from `map_case`, after checking that the file holds this case with the digest `sha256`.

    A process repeats the check, which reads the whole file, only when the file changes. Raises ValueError.
    """
    image, mask = map_case(path)
    state = path.stat()
    known = (case_id, sha256, state.st_ino, state.st_size, state.st_mtime_ns)
    if _checked.get(path) != known:
        record = read_case_record(path) or {}
        if record.get("case_id", case_id) != case_id:
            wrong = f"it holds the case {record['case_id']}: two files were exchanged"
        elif content_digest(image, mask) != sha256:
            wrong = "its voxels are not those that were prepared"
        else:
            wrong = _impossible(image, mask)
        if wrong:
            raise ValueError(f"{path} is damaged ({wrong}); delete it and run prepare again")
        _checked[path] = known
    return image, mask


def map_case(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image (C, X, Y, Z) float16 and mask (X, Y, Z) uint8, read-only views of a file. Raises ValueError."""
    try:
        header, start = _read_header(path)
        image, mask = (_map_tensor(path, start, name, header[name]) for name in TENSORS)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; run prepare again") from None
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and run prepare again") from None
    return image, mask


def _impossible(image: np.ndarray, mask: np.ndarray) -> str:
    """Values that no prepared case can hold, in words; "" if there are none."""
    if (image.view(np.uint16) & 0x7FFF).max() > 0x3C00:  # the bits of 1 as float16: NaN and infinity lie above, too
        return "values that are NaN or outside [-1, 1]"
    if mask.max() >= 2 * CORE or ((mask != 0) & (mask & BRAIN == 0)).any():
        return "flags of the mask that are unknown or lie outside the brain"
    return ""


def _map_tensor(path: Path, start: int, name: str, entry: dict[str, Any]) -> np.ndarray:
    kind, dtype, axes = TENSORS[name]
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    whole = entry["dtype"] == kind and len(shape) == axes and min(shape) > 0 and begin >= 0
    if not whole or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name}: {entry['dtype']} voxels of shape {shape} in the bytes from {begin} to {end}")
    return np.memmap(path, dtype=dtype, mode="r", offset=start + begin, shape=shape)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Header of a safetensors file and the offset of its data. Raises ValueError for a truncated file."""
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise ValueError("no regular file")
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = os.fstat(file.fileno()).st_size
        if not 2 <= length <= min(size - 8, LONGEST_HEADER):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("no header of tensors")
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    if 8 + length + end != size:
        raise ValueError(f"{size} bytes, {8 + length + end} expected")
    return header, 8 + length
