"""Checkpoints that survive a kill at any moment and load without unpickling code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(path: Path, settings: str, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, lists and dicts of them) so that `path` is always a whole file.

    Raises OSError, naming the file, when the disk refuses; the checkpoint that was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            torch.save({"settings": settings, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        part.unlink(missing_ok=True)
        raise OSError(
            f"{path}: the checkpoint could not be written ({error}); free some space and run again"
        ) from error


def load_checkpoint(path: Path, settings: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises ValueError when it was written with other settings, which would make a mixture of two experiments.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["settings"] != settings:
        raise ValueError(f"{path}: written with other settings; found {state['settings']}, expected {settings}")
    return state
