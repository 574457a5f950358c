"""Device, precision and memory format of the computation, and its memory."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables with which a user limits the threads of a process."""
NO_MEMORY = ("out of memory", "allocate memory", "not enough memory", "ALLOC_FAILED")  # wording of the allocators
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True)
class Arithmetic:
    """Device, precision of the forward pass, and memory format of a network."""

    device: torch.device
    bfloat16: bool
    channels_last: bool

    @property
    def name(self) -> str:
        """Short name for tables and logs, such as `cpu bfloat16 channels-last`."""
        return f"{self.device} {'bfloat16' if self.bfloat16 else 'float32'}{' channels-last' * self.channels_last}"

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format of torch for `channels_last`."""
        return torch.channels_last_3d if self.channels_last else torch.contiguous_format

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to its device and memory format; the weights stay float32."""
        return network.to(device=self.device, memory_format=self.memory_format)  # type: ignore[call-overload]

    def run(self, network: Callable[..., Any], inputs: Tensor) -> Tensor:
        """Forward pass (B, C, X, Y, Z) -> (B, 1, X, Y, Z) float32."""
        inputs = inputs.to(self.device).contiguous(memory_format=self.memory_format)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            return network(inputs).float()


def choose(device: str = "auto", precision: str = "auto", channels_last: bool = True) -> Arithmetic:
    """The requested arithmetic; `auto` is a GPU with bfloat16 or a CPU with float32.

    On a CPU bfloat16 is slower for narrow networks and pays only for some wide ones (`bench/training_step.py`), and
    networks that are compared must be computed alike. The choice depends on the kind of device, never on a timing, so a
    study that is killed and run again computes the same numbers. Raises ValueError for a missing device.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        place = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--train.device {name} is not a device; try `auto`, `cpu`, `cuda` or `cuda:1`") from None
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--train.device {name}: this machine has {torch.cuda.device_count()} GPUs; try `cpu`")
    fast = place.type == "cuda" and torch.cuda.is_bf16_supported()
    bfloat16 = fast if precision == "auto" else precision == "bfloat16"
    return Arithmetic(place, bfloat16, channels_last)


def use_threads(workers: int) -> None:
    """Share the cores between `workers` processes, unless the user has set the number of threads."""
    if not any(os.environ.get(name) for name in THREADS):
        from lab.io.pool import count_cores

        torch.set_num_threads(max(1, count_cores() // max(1, workers)))
    torch.backends.cudnn.benchmark = True


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of `peak_memory_mb`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5")  # Linux: resets the peak resident set


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory since `reset_peak_memory` in MB: the allocator's on a GPU, the process's resident set on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if STATUS.exists():
        peak = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short: torch's own error class covers GPUs, on a CPU only the text of a RuntimeError does."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(said in (str(error) or "no memory") for said in NO_MEMORY)
