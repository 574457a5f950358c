"""The paper's five networks, models 0-4, as one family of blocks.

A 3D U-Net after the pix2pix generator (Isola et al. 2017, in TensorFlow's tutorial form: no bias before a
normalisation, leaky slope 0.3, three-part up block transposed convolution - normalisation - dropout - ReLU):

    model 0  baseline            kernel 4, normal initialisation (sd 0.02), the last up-sampling makes the image
    model 1  fine-tuned          kernel 3, Xavier initialisation; one convolution at full resolution in front, joined by
                                 a full-scale skip to the last up-sampling, which keeps `width` filters; a convolution
    model 2  modality-specific   model 1 behind one convolution of `width / 2` filters for each input sequence
    model 3  attention           model 2 with an attention gate (Oktay et al. 2018) on every skip
    model 4  residual            model 2 with a residual layer (He et al. 2016) before every strided (de)convolution

Trainable parameters with three inputs, the paper's width 64 and five halvings (and at width 16):

    model 0    66,609,793    (4,167,841)
    model 1    28,435,777    (1,779,793)
    model 2    28,599,265    (1,789,561)
    model 3    28,954,086    (1,812,222)
    model 4   136,993,249    (8,566,777)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.config import ModelConfig
from lab.synthesis.networks import NetworkSpec, Span, build_network
from lab.synthesis.networks.layers import (
    LEAKY_SLOPE,
    NORMS,
    AttentionGate,
    Double,
    ModalityStems,
    Residual,
    convolution,
    halve,
)
from lab.synthesis.networks.measure import pad_to_multiple

FINE_TUNED: dict[str, Any] = {"kernel": 3, "init": "xavier", "full_scale_skip": True}
MODELS: dict[int, dict[str, Any]] = {
    0: {"kernel": 4, "init": "normal"},
    1: FINE_TUNED,
    2: FINE_TUNED | {"modality_stems": True},
    3: FINE_TUNED | {"modality_stems": True, "attention": True},
    4: FINE_TUNED | {"modality_stems": True, "residual": True},
}
TENSORS = {"plain": 1.5, "joined": 5.0, "attention": 5.5, "residual": 5.5}
"""Peak memory of a pass on a CPU over that of one tensor of `width` channels on the whole grid, rounded up.

Measured at 160 x 192 x 160: 1.1, 4.5, 4.5 and 4.8 with batch normalisation."""


class UNet(nn.Module):
    """The paper's family of U-Nets; `build` makes one of its models.

    Any grid is accepted: it is padded with background to a multiple of `2 ** depth` and the output is cropped back.
    With every halving the filters double, up to eight times `width`: 64, 128, 256, 512, 512.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        width: int,
        depth: int,
        kernel: int,
        init: str,
        norm: str,
        dropout: float,
        full_scale_skip: bool = False,
        modality_stems: bool = False,
        attention: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.multiple, self.norm = 2**depth, norm
        filters = [width * min(2**level, 8) for level in range(depth)]
        channels = in_channels
        self.stems: nn.Module = nn.Identity()
        if modality_stems:
            half = max(width // 2, 1)
            self.stems, channels = ModalityStems(in_channels, half, norm), in_channels * half
        self.front: nn.Module | None = None
        if full_scale_skip:
            self.front, channels = convolution(channels, width, kernel, norm, nn.LeakyReLU(LEAKY_SLOPE, True)), width

        def before(count: int) -> nn.Module:
            return Residual(count, norm) if residual else nn.Identity()

        self.down = nn.ModuleList()
        for level, count in enumerate(filters):
            block = halve(channels, count, kernel, norm if level else None)
            self.down.append(nn.Sequential(before(channels), block))
            channels = count

        dropped = max(1, depth - 3)  # the deepest up blocks: two of four at depth 5
        self.up, self.gates = nn.ModuleList(), nn.ModuleList()
        for step, count in enumerate(reversed(filters[:-1])):
            layers = [before(channels), Double(channels, count, kernel), NORMS[norm](count)]
            layers += [nn.Dropout(dropout)] if step < dropped else []
            self.up.append(nn.Sequential(*layers, nn.ReLU(inplace=True)))
            self.gates.append(AttentionGate(count, count, norm) if attention else nn.Identity())
            channels = 2 * count

        if full_scale_skip:
            up = [before(channels), Double(channels, width, kernel), NORMS[norm](width), nn.ReLU(inplace=True)]
            self.last = nn.Sequential(*up)
            self.last_gate = AttentionGate(width, width, norm) if attention else nn.Identity()
            self.image: nn.Module = nn.Conv3d(2 * width, 1, kernel, padding="same")
        else:
            self.last = nn.Sequential(before(channels), Double(channels, 1, kernel, bias=True))
            self.image = nn.Identity()
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) in [-1, 1] -> (B, 1, X, Y, Z) in (-1, 1).

        Raises ValueError where a single voxel would be normalised.
        """
        size = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        if self.norm == "instance" or (self.norm == "batch" and self.training and len(x) == 1):
            check_bottleneck(size, x, self.multiple)
        x = self.stems(x)
        full = x = self.front(x) if self.front is not None else x
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        for block, gate, skip in zip(self.up, self.gates, reversed(skips[:-1])):
            x = block(x)
            x = torch.cat([x, attend(skip, x, gate)], dim=1)
        x = self.last(x)
        if isinstance(self.image, nn.Conv3d):
            x = convolve_joined(self.image, x, attend(full, x, self.last_gate))
        x = torch.tanh(x)
        return x[:, :, : size[0], : size[1], : size[2]]


def attend(skip: Tensor, x: Tensor, gate: nn.Module) -> Tensor:
    """The skip, weighted by the up-sampled signal where there is a gate."""
    return gate(skip, x) if isinstance(gate, AttentionGate) else skip


def convolve_joined(convolution: nn.Conv3d, x: Tensor, skip: Tensor) -> Tensor:
    """The convolution of `x` and `skip` joined along the channels, without joining them.

    At 160 x 192 x 160 and width 64 the joined tensor, the largest of all, has more than 2 GiB, for which torch's CPU
    kernels fall back to reference loops of minutes.
    """
    of_x, of_skip = convolution.weight.split([x.shape[1], skip.shape[1]], dim=1)
    padding = [edge // 2 for edge in convolution.kernel_size]
    return F.conv3d(x, of_x, convolution.bias, padding=padding) + F.conv3d(skip, of_skip, padding=padding)


def check_bottleneck(size: Sequence[int], x: Tensor, multiple: int) -> None:
    """Raises ValueError where the padded grid of `x` ends as one voxel, which has no variance."""
    if max(x.shape[2:]) == multiple:
        depth = multiple.bit_length() - 1
        raise ValueError(
            f"{depth} halvings turn one patient's {' x '.join(map(str, size))} voxels into a single one, which cannot "
            f"be normalised; use --model.depth {depth - 1} or less, or --model.norm group"
        )


def initialise(network: nn.Module, init: str) -> None:
    """Initialise the kernels: `normal` (sd 0.02, pix2pix) or `xavier` (Glorot and Bengio 2010); biases are zero.

    Kernels without memory are left alone: PyTorch would import its compiler for them, which takes seconds.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d) and not module.weight.is_meta:
            if init == "xavier":
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def unet(model: int, settings: ModelConfig, channels: int) -> UNet:
    """Model 0-4. Raises ValueError for an unknown `norm` and a width or depth below one."""
    if settings.norm not in NORMS:
        raise ValueError(f"there is no normalisation {settings.norm!r}; choose from {', '.join(NORMS)}")
    if settings.width < 1 or settings.depth < 1:
        raise ValueError(f"width {settings.width} and depth {settings.depth}: each must be at least 1")
    return UNet(
        in_channels=channels,
        width=settings.width,
        depth=settings.depth,
        norm=settings.norm,
        dropout=settings.dropout,
        **MODELS[model],
    )


def build(model: int, *, in_channels: int = 3, seed: int = 0, **settings: Any) -> UNet:
    """Model 0-4 with fresh weights, which depend on `seed` alone; `settings` are those of `ModelConfig`."""
    network: UNet = build_network(f"model-{model}", ModelConfig(**settings), in_channels, seed=seed)
    return network


def reads_volume(settings: ModelConfig) -> str:
    """Why a voxel depends on the whole volume; "" with batch normalisation, which is pointwise in evaluation."""
    return (
        "" if settings.norm == "batch" else f"its {settings.norm} normalisation takes statistics over the whole volume"
    )


def receptive_field(network: UNet, voxels: Span) -> Span:
    """Input voxels [first, last) on which those of the image depend, not clipped to the volume.

    Computed from the image backwards: each convolution, strided or transposed, widens the range.
    """
    needed = voxels
    if isinstance(network.image, nn.Conv3d):
        needed = _before(network.image, needed)
    full = needed  # range of the full-scale skip
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
    """Input range of a block for an output range; side branches of a gate are pointwise."""
    if isinstance(block, nn.Conv3d | nn.ConvTranspose3d):
        return _before(block, needed)
    if isinstance(block, Residual):
        return _through(block.first, _through(block.second, needed))
    if isinstance(block, nn.Sequential):
        for layer in reversed(block):
            needed = _through(layer, needed)
    return needed


def _before(layer: nn.Conv3d | nn.ConvTranspose3d, needed: Span) -> Span:
    """Input range of a convolution for an output range."""
    first, last = needed
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    pad = (kernel - 1) // 2 if isinstance(layer.padding, str) else int(layer.padding[0])
    if isinstance(layer, nn.ConvTranspose3d):  # output o reads inputs i with o = stride * i - pad + t, 0 <= t < kernel
        return -(-(first + pad - kernel + 1) // stride), (last - 1 + pad) // stride + 1
    return first * stride - pad, (last - 1) * stride - pad + kernel


def bytes_needed(network: UNet, shape: tuple[int, ...]) -> float:
    """Peak memory of a pass over a volume in float32, estimated from measurements (`TENSORS`)."""
    voxels = math.prod(-(-size // network.multiple) * network.multiple for size in shape)
    kinds = {type(module) for module in network.modules()}
    kind = "plain" if network.front is None else "joined"
    kind = "attention" if AttentionGate in kinds else "residual" if Residual in kinds else kind
    width = network.down[0][-1][0].out_channels  # type: ignore[index]
    return TENSORS[kind] * int(width) * voxels * 4


def _spec(model: int) -> NetworkSpec:
    return NetworkSpec(
        settings=ModelConfig,
        build=partial(unet, model),
        width="width",
        divisor=lambda settings: 2**settings.depth,
        reads_volume=reads_volume,
        receptive_field=receptive_field,
        bytes_needed=bytes_needed,
    )


MODEL_0, MODEL_1, MODEL_2, MODEL_3, MODEL_4 = map(_spec, MODELS)
