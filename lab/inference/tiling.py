"""Inference on a volume, whole or in tiles where memory is short; tiles are exact where possible.

Each voxel of a U-Net's output depends on a surrounding that grows with depth; the network's spec gives its size, or it
is measured. A tile with this surrounding (its halo), aligned with the network's downsampling, gives the voxels of the
whole volume; batch normalisation in evaluation is pointwise and does not disturb this. No exact way exists where the
halo spans the volume, or the network takes statistics over it (instance and group normalisation, as in SegResNet,
DynUNet, AttentionUnet and SwinUNETR). Then overlapping tiles are blended, and the SD between them is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from lab.data.batches import Prediction
from lab.io.grid import Box
from lab.synthesis.device import Arithmetic
from lab.synthesis.networks import BACKGROUND, Span
from lab.synthesis.networks.measure import bytes_needed, divisor, pad_to_multiple, reads_volume, receptive_field

SHARE = 0.8
"""Share of the free memory to use; the rest is for others."""

MOST_WORK = 8.0
"""Highest cost of exact tiles, whose halos overlap, in passes over the whole volume; above it tiles are blended."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a volume goes through a network."""

    kind: str
    """`whole`, `exact` (tiles with halo) or `blended` (overlapping tiles)."""
    edge: int | None = None
    """Voxels of a tile along each axis, without its halo."""
    reason: str = ""
    """Why tiles are blended."""


@torch.no_grad()
def predict_image(
    network: nn.Module,
    inputs: Tensor,
    *,
    brain: Tensor,
    arithmetic: Arithmetic,
    window: tuple[int, int, int] | None = None,
    overlap: float = 0.5,
) -> Tensor:
    """Synthetic images (B, 1, X, Y, Z) float32 for inputs (B, C, X, Y, Z) in [-1, 1] and their `brain` mask.

    Outside the brain the result is the background, -1, as in a prepared cohort. The paper did the same: its
    errors over the image are its errors over the brain times 0.39, the brain's share of the grid, even for losses that
    ignore the background.

    Without `window` the whole volume goes through at once. With it, windows of that many voxels slide over the volume
    and are blended with Gaussian weights against seams, as for a network trained on patches.
    """
    how: dict[str, Any] = {"brain": brain, "arithmetic": arithmetic, "window": window, "overlap": overlap}
    return predict_maps(network, inputs, **how)[:, :1]


@torch.no_grad()
def predict_maps(
    network: nn.Module,
    inputs: Tensor,
    *,
    brain: Tensor,
    arithmetic: Arithmetic,
    window: tuple[int, int, int] | None = None,
    overlap: float = 0.5,
) -> Tensor:
    """The image as from `predict_image` and, where the network has `outputs`, its other maps, (B, N, X, Y, Z).

    Outside the brain the other maps, which are probabilities, are 0.
    """
    network.eval()
    forward = all_maps(network)
    if window is None or all(edge >= size for edge, size in zip(window, inputs.shape[2:])):
        return clear_outside(brain, arithmetic.run(forward, inputs))
    from monai.inferers import sliding_window_inference  # slow import, needed for tiles only

    blended = sliding_window_inference(
        inputs,
        roi_size=[min(edge, size) for edge, size in zip(window, inputs.shape[2:])],
        sw_batch_size=1,
        predictor=lambda tile: arithmetic.run(forward, tile),
        overlap=overlap,
        mode="gaussian",
        padding_mode="constant",
        cval=BACKGROUND,
    )
    assert isinstance(blended, Tensor)
    return clear_outside(brain, blended)


def predict_named(network: nn.Module, inputs: Tensor, **how: Any) -> Prediction:
    """The image as from `predict_image`, or a mapping of it and the other maps of a network with `outputs`."""
    names, maps = outputs_of(network), predict_maps(network, inputs, **how)
    return maps if len(names) == 1 else dict(zip(names, maps.split(1, dim=1)))


def outputs_of(network: nn.Module) -> tuple[str, ...]:
    """Names of a network's maps, the image first."""
    return getattr(network, "outputs", ("image",))


def all_maps(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Inputs (B, C, X, Y, Z) -> the maps called `outputs_of`, (B, N, X, Y, Z)."""
    return getattr(network, "everything", network)


def clear_outside(brain: Tensor, maps: Tensor) -> Tensor:
    """Maps (B, N, X, Y, Z) with the background outside the brain: -1 in the image, 0 in the others."""
    image = torch.where(brain, maps[:, :1], BACKGROUND)
    return image if maps.shape[1] == 1 else torch.cat([image, torch.where(brain, maps[:, 1:], 0.0)], dim=1)


def choose_way(
    network: nn.Module,
    shape: tuple[int, int, int],
    arithmetic: Arithmetic,
    *,
    edge: int | None = None,
    trained_on: int | None = None,
) -> Way:
    """Choose whole-volume inference where memory allows, otherwise tiles; `edge` asks for tiles of that many voxels.

    A network trained on patches of `trained_on` voxels is used as it was tested: in blended tiles of that edge. Raises
    ValueError for an edge below one, and where not even the smallest tile fits.
    """
    if edge is not None and edge < 1:
        raise ValueError(f"--tile {edge}: a tile has at least 1 voxel")
    if trained_on is not None and min(shape) > (edge or trained_on):
        return Way(kind="blended", edge=edge or trained_on, reason="the network was trained on patches")
    if edge is not None:
        multiple, least = _steps(network)
        edge = max(-(-edge // multiple) * multiple, least)
        if edge >= max(shape):
            return Way(kind="whole")
        why = why_not_exact(network, edge, shape)
        return Way(kind="blended" if why else "exact", edge=edge, reason=why)
    from lab.data.batches import free_memory  # reads cohorts, which an image of a new patient seldom needs

    free = SHARE * free_memory(arithmetic.device)
    if needed_bytes(network, shape, arithmetic) <= free:
        return Way(kind="whole")
    return _fitting(network, shape, arithmetic, free)


def _fitting(network: nn.Module, shape: tuple[int, int, int], arithmetic: Arithmetic, free: float) -> Way:
    """Largest tiles that fit into `free` bytes: exact ones where possible, otherwise blended."""
    step, least_edge = _steps(network)
    edges = range(max(shape) // step * step, least_edge - 1, -step)
    for edge in edges:
        if why_not_exact(network, edge, shape):
            continue
        if needed_bytes(network, _with_halo(network, edge, shape), arithmetic) <= free:
            return Way(kind="exact", edge=edge)
    for edge in edges:
        if needed_bytes(network, tuple(min(edge, size) for size in shape), arithmetic) <= free:
            why = why_not_exact(network, edge, shape) or "tiles with all that they depend on do not fit into memory"
            return Way(kind="blended", edge=edge, reason=why)
    least = needed_bytes(network, (least_edge,) * 3, arithmetic)
    raise ValueError(
        f"a tile of {least_edge} voxels needs {least / 2**30:.2f} GiB and {free / SHARE / 2**30:.2f} GiB are free; end "
        "other programs, or use a machine with more memory"
    )


def _steps(network: nn.Module) -> tuple[int, int]:
    """Divisor and minimum of a tile's edge: instance normalisation needs two voxels at the bottom."""
    multiple = divisor(network)
    return multiple, multiple * (2 if "instance" in reads_volume(network) else 1)


def why_not_exact(network: nn.Module, edge: int, shape: tuple[int, int, int]) -> str:
    """Why tiles of this edge cannot reasonably reproduce the whole volume; "" if they can."""
    if reason := reads_volume(network):
        return reason
    if _with_halo(network, edge, shape) == shape:
        return "what a voxel depends on reaches through the whole volume"
    work = 1.0
    for size in shape:
        work *= sum(last - first for first, last in _spans(network, edge, size)) / size
    return f"with all that they depend on they take {work:.0f} times the work" if work > MOST_WORK else ""


def predict_by(
    network: nn.Module, inputs: Tensor, *, brain: Tensor, arithmetic: Arithmetic, way: Way
) -> tuple[Tensor, float | None]:
    """Maps as from `predict_maps`, and for blended tiles the largest SD between their images in the brain."""
    if way.kind == "whole" or way.edge is None:
        return predict_maps(network, inputs, brain=brain, arithmetic=arithmetic), None
    if way.kind == "exact":
        return clear_outside(brain, exact(network, inputs, way.edge, arithmetic)), None
    window = (way.edge,) * 3
    both = predict_maps(_WithSquare(network), inputs, brain=brain, arithmetic=arithmetic, window=window)
    maps, square = both[:, :-1], both[:, -1:]
    variance = torch.where(brain, square - maps[:, :1] ** 2, 0.0)
    return maps, float(variance.clamp(min=0).max().sqrt())


def tile_warnings(ways: list[Way], seam: float | None) -> list[str]:
    """A warning where tiles were blended."""
    found = [way for way in ways if way.kind == "blended"]
    if not found:
        return []
    why = f"predicted in overlapping tiles of {found[0].edge} voxels ({found[0].reason})"
    return [f"{why}: where they overlap they differ by an SD of {seam:.3f} at most, on a scale from -1 to 1"]


class _WithSquare(nn.Module):
    """A network's maps and the square of its image, whose blended means give the SD between tiles."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        maps = all_maps(self.network)(x).float()
        return torch.cat([maps, maps[:, :1] ** 2], dim=1)


@torch.no_grad()
def exact(network: nn.Module, inputs: Tensor, edge: int, arithmetic: Arithmetic) -> Tensor:
    """The whole volume's maps (B, N, X, Y, Z), tile by tile, equal up to rounding."""
    network.eval()
    size = inputs.shape[2:]
    padded = pad_to_multiple(inputs, divisor(network))
    result = torch.empty(len(inputs), len(outputs_of(network)), *padded.shape[2:], device=arithmetic.device)
    for box in _tiles(tuple(padded.shape[2:]), edge):
        spans = [_source(network, (part.start, part.stop), whole) for part, whole in zip(box, padded.shape[2:])]
        with_halo = (slice(None), slice(None), *(slice(*span) for span in spans))
        image = arithmetic.run(all_maps(network), padded[with_halo])
        inner = (slice(part.start - first, part.stop - first) for part, (first, _) in zip(box, spans))
        result[(slice(None), slice(None), *box)] = image[(slice(None), slice(None), *inner)]
    return result[:, :, : size[0], : size[1], : size[2]]


def _tiles(shape: tuple[int, ...], edge: int) -> list[Box]:
    parts = [[slice(at, min(at + edge, size)) for at in range(0, size, edge)] for size in shape]
    return [(x, y, z) for x, y, z in product(*parts)]


def _with_halo(network: nn.Module, edge: int, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Shape in voxels of the largest tile with its halo."""
    x, y, z = (min(size, max(last - first for first, last in _spans(network, edge, size))) for size in shape)
    return x, y, z


def _spans(network: nn.Module, edge: int, size: int) -> list[Span]:
    """Spans of the tiles along an axis of `size` voxels."""
    step = divisor(network)
    whole = -(-size // step) * step
    return [_source(network, (at, min(at + edge, whole)), whole) for at in range(0, whole, edge)]


def _source(network: nn.Module, tile: Span, size: int) -> Span:
    """Inputs that a tile [first, last) depends on, widened to whole steps of the network, inside [0, size)."""
    field = receptive_field(network, tile, limit=size)
    if field is None:
        return 0, size
    (first, last), step = field, divisor(network)
    return max(0, first // step * step), min(size, -(-last // step) * step)


def needed_bytes(network: nn.Module, shape: tuple[int, ...], arithmetic: Arithmetic) -> float:
    """Memory for a pass over a volume, from the network's spec or measured."""
    half = arithmetic.bfloat16 and arithmetic.device.type == "cuda"
    return bytes_needed(network, shape) / (2 if half else 1)
