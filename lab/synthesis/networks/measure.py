"""Properties of a network that tiling needs, from its spec, else measured."""

from __future__ import annotations

import copy
import math
import weakref
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lab.synthesis.networks import BACKGROUND, Origin, Span

WORK_SPACE = 1.5
"""Peak memory of a pass over that of its tensors, to include the kernels' work space."""
TRIALS = 3
"""Volumes on which a footprint is measured: a ReLU that is closed on one volume is open on another."""
_MARGINS: weakref.WeakKeyDictionary[nn.Module, tuple[int, tuple[int, int] | None]] = weakref.WeakKeyDictionary()
_PER_VOXEL: weakref.WeakKeyDictionary[nn.Module, float] = weakref.WeakKeyDictionary()


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad with background behind the last voxel of each axis to a multiple of `multiple`."""
    missing = [-edge % multiple for edge in x.shape[2:]]
    if not any(missing):
        return x
    return F.pad(x, (0, missing[2], 0, missing[1], 0, missing[0]), value=BACKGROUND)


def divisor(network: nn.Module) -> int:
    """The multiple to which the network pads every edge."""
    origin = _origin(network)
    return 1 if origin is None else origin.spec.divisor(origin.settings)


def reads_volume(network: nn.Module) -> str:
    """Why a voxel depends on the whole volume, by the network's spec; "" where it does not."""
    origin = _origin(network)
    return "" if origin is None else origin.spec.reads_volume(origin.settings)


def receptive_field(network: nn.Module, voxels: Span, *, limit: int) -> Span | None:
    """Input voxels on which those of the image depend, by the network's spec or measured; None beyond `limit`."""
    origin, step = _origin(network), divisor(network)
    if origin is not None and origin.spec.receptive_field is not None:
        return origin.spec.receptive_field(network, voxels)
    known = _MARGINS.get(network)
    if known is None or (known[1] is None and known[0] < limit):
        found = margins(network, channels=3 if origin is None else origin.channels, step=step, limit=limit)
        known = _MARGINS[network] = (limit, found)
    if known[1] is None:
        return None
    first, last = voxels[0] // step * step, -(-voxels[1] // step) * step
    return first - known[1][0], last + known[1][1]


def bytes_needed(network: nn.Module, shape: tuple[int, ...]) -> float:
    """Peak memory of a pass in float32, by the network's spec or measured."""
    origin, step = _origin(network), divisor(network)
    if origin is not None and origin.spec.bytes_needed is not None:
        return origin.spec.bytes_needed(network, shape)
    if network not in _PER_VOXEL:
        _PER_VOXEL[network] = bytes_per_voxel(network, channels=3 if origin is None else origin.channels, step=step)
    return _PER_VOXEL[network] * math.prod(-(-size // step) * step for size in shape)


def _origin(network: nn.Module) -> Origin | None:
    found = getattr(network, "origin", None)
    return found if isinstance(found, Origin) else None


def margins(network: nn.Module, *, channels: int, step: int, limit: int) -> tuple[int, int] | None:
    """Distance of the input voxels with a gradient before and behind a block of `step` voxels of the image.

    Multiples of `step`, the largest over the three axes; None where they exceed `limit`.
    """
    trial = copy.deepcopy(network).cpu().double().eval().requires_grad_(False)
    blocks, found = 5, [0, 0]
    axis = 0
    while axis < 3:
        touched = _touched(trial, axis, blocks, channels, step)
        middle = blocks // 2
        if touched[0] == 0 or touched[1] == blocks - 1:
            if blocks * step > 2 * limit:
                return None
            blocks = 2 * blocks + 1
            continue
        found = [max(found[0], middle - touched[0]), max(found[1], touched[1] - middle)]
        axis += 1
    return found[0] * step, found[1] * step


def _touched(network: nn.Module, axis: int, blocks: int, channels: int, step: int) -> tuple[int, int]:
    """First and last block along an axis whose voxels influence the middle block."""
    shape = [max(step, 2)] * 3
    shape[axis] = blocks * step
    seen = torch.zeros(blocks * step, dtype=torch.bool)
    for seed in range(TRIALS):
        generator = torch.Generator().manual_seed(seed)
        x = (torch.rand(1, channels, *shape, generator=generator, dtype=torch.float64) * 2 - 1).requires_grad_()
        weights = torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64)
        at = blocks // 2 * step
        (network(x) * weights).narrow(2 + axis, at, step).sum().backward()
        assert x.grad is not None
        seen |= (x.grad != 0).amax([n for n in range(5) if n != 2 + axis])
    places = seen.nonzero().flatten() // step
    return int(places.min()), int(places.max())


def bytes_per_voxel(network: nn.Module, *, channels: int, step: int) -> float:
    """Peak memory per voxel of a pass over a small volume: tensors and the kernels' work space."""
    edge = -(-48 // step) * step
    where = next((p.device for p in network.parameters()), torch.device("cpu"))
    with torch.no_grad(), _LiveTensors() as live:
        network(torch.zeros(1, channels, *[edge] * 3, device=where))
    return WORK_SPACE * live.peak / edge**3


class _LiveTensors(TorchDispatchMode):
    """Tracks the memory of live tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self.gone, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size
