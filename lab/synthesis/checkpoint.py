"""Checkpoints that survive a kill at any moment and load without unpickling code."""

from __future__ import annotations

import os
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

DAMAGE = (
    OSError,
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    OverflowError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors that torch and zipfile raise for a file that is cut short, empty, changed or not a checkpoint."""


def save_checkpoint(path: Path, settings: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, lists and dicts of them); `path` is a whole file at every moment.

    One process at a time may write a path; a half-written file of a killed one is overwritten. Raises OSError, naming
    the file, when the disk refuses; the previous checkpoint stays.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            torch.save({"settings": dict(settings), **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        part.unlink(missing_ok=True)
        raise OSError(
            f"{path}: the checkpoint could not be written ({error}); free some space and run again"
        ) from error


def load_checkpoint(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises ValueError when the file is damaged or was changed, or was written with other settings (resuming would mix
    two experiments).
    """
    try:
        with zipfile.ZipFile(path) as whole:  # torch does not verify its own check sums
            if (wrong := whole.testzip()) is not None:
                raise ValueError(f"{wrong} was changed")
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = dict(state["settings"])
    except (FileNotFoundError, PermissionError):
        raise
    except DAMAGE as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{path}: not a whole checkpoint ({reason}); delete it to train from the start") from error
    others = sorted(name for name in {*found, *settings} if found.get(name) != settings.get(name))
    if others:
        changes = ", ".join(f"{name} was {found.get(name)} and is {settings.get(name)}" for name in others)
        raise ValueError(f"{path}: written with other settings: {changes}; delete it to train from the start")
    return state
