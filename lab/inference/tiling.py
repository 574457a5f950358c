"""A volume through a network in tiles, where memory does not hold it whole: exactly where that is possible.

A U-Net reads for each voxel a surrounding that grows with its depth. A tile that carries this surrounding with it (its
halo) and lies on the grid of the network's halvings gives the voxels of the whole volume; batch normalisation in
evaluation is pointwise and does not disturb this. Where the halo spans the volume, or the normalisation takes
statistics over it, there is no exact way: then overlapping tiles are blended, and what they disagree by is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from lab.inference.predict import synthesise
from lab.io.grid import Box
from lab.synthesis.device import Arithmetic, free_memory
from lab.synthesis.networks.paper import BACKGROUND, AttentionGate, ModalityStems, Residual, UNet, pad_to_multiple

TENSORS = {"plain": 1.5, "joined": 5.0, "attention": 5.5, "residual": 5.5}
"""Peak memory of a pass on a CPU, over that of one tensor of `width` channels on the whole grid, rounded up.

Measured at 160 x 192 x 160: 1.1, 4.5, 4.5 and 4.8 with batch normalisation."""
SHARE = 0.8
"""Of the free memory; the rest is left to others."""

MOST_WORK = 8.0
"""Exact tiles compute their halos again and again; beyond this many times the whole volume they are blended."""

Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a volume goes through a network."""

    kind: str
    """`whole`, `exact` (tiles with halo) or `blended` (overlapping tiles)."""
    edge: int | None = None
    """Voxels of a tile along each axis, without its halo."""
    reason: str = ""
    """Why tiles are blended."""


def choose_way(
    network: nn.Module,
    shape: tuple[int, int, int],
    arithmetic: Arithmetic,
    *,
    edge: int | None = None,
    trained_on: int | None = None,
) -> Way:
    """How to go: whole where memory allows, else in tiles; `edge` asks for tiles of that many voxels.

    A network that was trained on patches of `trained_on` voxels is used as it was judged: in blended tiles of that
    edge. Raises ValueError for an edge below one, and where not even the smallest tile fits.
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
    free = SHARE * free_memory(arithmetic.device)
    if needed_bytes(network, shape, arithmetic) <= free:
        return Way(kind="whole")
    return _fitting(network, shape, arithmetic, free)


def _fitting(network: nn.Module, shape: tuple[int, int, int], arithmetic: Arithmetic, free: float) -> Way:
    """The largest tiles that `free` bytes hold: exact ones where there are any, else blended."""
    step, least_edge = _steps(network)
    edges = range(max(shape) // step * step, least_edge - 1, -step)
    for edge in edges:
        if not isinstance(network, UNet) or why_not_exact(network, edge, shape):
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
    """What a tile's edge is a multiple of, and its least: instance normalisation needs two voxels at the bottom."""
    multiple = getattr(network, "multiple", 1)
    return multiple, multiple * (2 if getattr(network, "norm", "") == "instance" else 1)


def why_not_exact(network: nn.Module, edge: int, shape: tuple[int, int, int]) -> str:
    """Why tiles of this edge cannot sensibly give the whole volume's voxels; "" if they can."""
    if not isinstance(network, UNet):
        return "what a voxel of this network depends on is not known"
    if network.norm != "batch":
        return f"its {network.norm} normalisation takes statistics over the whole volume"
    if _with_halo(network, edge, shape) == shape:
        return "what a voxel depends on reaches through the whole volume"
    work = 1.0
    for size in shape:
        work *= sum(last - first for first, last in _spans(network, edge, size)) / size
    return f"with all that they depend on they take {work:.0f} times the work" if work > MOST_WORK else ""


def run(
    network: nn.Module, inputs: Tensor, *, brain: Tensor, arithmetic: Arithmetic, way: Way
) -> tuple[Tensor, float | None]:
    """Synthetic images as `synthesise` gives them, and of blended tiles the largest SD between them in the brain."""
    if way.kind == "whole" or way.edge is None:
        return synthesise(network, inputs, brain=brain, arithmetic=arithmetic), None
    if way.kind == "exact":
        assert isinstance(network, UNet)
        return torch.where(brain, exact(network, inputs, way.edge, arithmetic), BACKGROUND), None
    window = (way.edge,) * 3
    both = synthesise(_WithSquare(network), inputs, brain=brain, arithmetic=arithmetic, window=window)
    image, square = both[:, :1], both[:, 1:]
    variance = torch.where(brain, square - image**2, 0.0)
    return image, float(variance.clamp(min=0).max().sqrt())


class _WithSquare(nn.Module):
    """A network's image and its square, whose blended means tell how far tiles lie apart."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        image = self.network(x).float()
        return torch.cat([image, image**2], dim=1)


@torch.no_grad()
def exact(network: UNet, inputs: Tensor, edge: int, arithmetic: Arithmetic) -> Tensor:
    """The whole volume's image (B, 1, X, Y, Z), tile by tile, to the last digits of the arithmetic."""
    network.eval()
    size = inputs.shape[2:]
    padded = pad_to_multiple(inputs, network.multiple)
    result = torch.empty(len(inputs), 1, *padded.shape[2:], device=arithmetic.device)
    for box in _tiles(tuple(padded.shape[2:]), edge):
        spans = [_source(network, (part.start, part.stop), whole) for part, whole in zip(box, padded.shape[2:])]
        with_halo = (slice(None), slice(None), *(slice(*span) for span in spans))
        image = arithmetic.run(network, padded[with_halo])
        inner = (slice(part.start - first, part.stop - first) for part, (first, _) in zip(box, spans))
        result[(slice(None), slice(None), *box)] = image[(slice(None), slice(None), *inner)]
    return result[:, :, : size[0], : size[1], : size[2]]


def _tiles(shape: tuple[int, ...], edge: int) -> list[Box]:
    parts = [[slice(at, min(at + edge, size)) for at in range(0, size, edge)] for size in shape]
    return [(x, y, z) for x, y, z in product(*parts)]


def _with_halo(network: UNet, edge: int, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Voxels of the largest tile with its halo."""
    x, y, z = (min(size, max(last - first for first, last in _spans(network, edge, size))) for size in shape)
    return x, y, z


def _spans(network: UNet, edge: int, size: int) -> list[Span]:
    """What the tiles along an axis of `size` voxels are made of."""
    whole = -(-size // network.multiple) * network.multiple
    return [_source(network, (at, min(at + edge, whole)), whole) for at in range(0, whole, edge)]


def _source(network: UNet, tile: Span, size: int) -> Span:
    """What a tile [first, last) depends on, widened to whole steps of the network, inside [0, size)."""
    first, last = dependence(network, tile)
    step = network.multiple
    return max(0, first // step * step), min(size, -(-last // step) * step)


def dependence(network: UNet, voxels: Span) -> Span:
    """Voxels [first, last) of the input that those of the image depend on, unlimited by the volume's edges.

    From the image backwards: each convolution, strided or transposed, widens what is needed.
    """
    needed = voxels
    if isinstance(network.image, nn.Conv3d):
        needed = _before(network.image, needed)
    full = needed  # of what the full-scale skip brings, too
    needed = _through(network.last, needed)
    skips: list[Span] = []  # from the finest level to the deepest
    for block in reversed(network.up):
        skips.append(needed)
        needed = _through(block, needed)
    for block, skip in zip(reversed(network.down), [None, *reversed(skips)]):
        needed = needed if skip is None else _union(needed, skip)
        needed = _through(block, needed)
    if network.front is not None:
        needed = _through(network.front, _union(needed, full))
    return _through(network.stems.stems[0], needed) if isinstance(network.stems, ModalityStems) else needed


def _union(a: Span, b: Span) -> Span:
    return min(a[0], b[0]), max(a[1], b[1])


def _through(block: nn.Module, needed: Span) -> Span:
    """What a block reads so that it can give what is needed; side branches of a gate are pointwise."""
    if isinstance(block, nn.Conv3d | nn.ConvTranspose3d):
        return _before(block, needed)
    if isinstance(block, Residual):
        return _through(block.first, _through(block.second, needed))
    if isinstance(block, nn.Sequential):
        for layer in reversed(block):
            needed = _through(layer, needed)
    return needed


def _before(layer: nn.Conv3d | nn.ConvTranspose3d, needed: Span) -> Span:
    """The input of a convolution that some of its output depends on."""
    first, last = needed
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    pad = (kernel - 1) // 2 if isinstance(layer.padding, str) else layer.padding[0]
    if isinstance(
        layer, nn.ConvTranspose3d
    ):  # output o comes of inputs i with o = stride * i - pad + t, 0 <= t < kernel
        return -(-(first + pad - kernel + 1) // stride), (last - 1 + pad) // stride + 1
    return first * stride - pad, (last - 1) * stride - pad + kernel


def needed_bytes(network: nn.Module, shape: tuple[int, ...], arithmetic: Arithmetic) -> float:
    """Memory that a pass over a volume takes, estimated from what was measured (`TENSORS`)."""
    if not isinstance(network, UNet):
        return 0.0
    voxels = 1
    for size in shape:
        voxels *= -(-size // network.multiple) * network.multiple
    kind = "plain" if network.front is None else "joined"
    kind = "attention" if any(isinstance(module, AttentionGate) for module in network.modules()) else kind
    kind = "residual" if any(isinstance(module, Residual) for module in network.modules()) else kind
    bytes_each = 2 if arithmetic.bfloat16 and arithmetic.device.type == "cuda" else 4
    return TENSORS[kind] * width_of(network) * voxels * bytes_each


def width_of(network: UNet) -> int:
    """Filters of the first level."""
    layers = (layer for layer in network.down[0].modules() if isinstance(layer, nn.Conv3d))
    return next(layer.out_channels for layer in layers if layer.stride[0] == 2)
