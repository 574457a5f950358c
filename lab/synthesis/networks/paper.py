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

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BACKGROUND = -1.0
LEAKY_SLOPE = 0.3
CPU_KERNEL_BYTES = 2**31

FINE_TUNED: dict[str, Any] = {"kernel": 3, "init": "xavier", "full_scale_skip": True}
MODELS: dict[int, dict[str, Any]] = {
    0: {"kernel": 4, "init": "normal"},
    1: FINE_TUNED,
    2: FINE_TUNED | {"modality_stems": True},
    3: FINE_TUNED | {"modality_stems": True, "attention": True},
    4: FINE_TUNED | {"modality_stems": True, "residual": True},
}
MODEL_NAMES = {0: "baseline", 1: "fine-tuned", 2: "modality-specific", 3: "attention", 4: "residual"}


class BatchNorm(nn.BatchNorm3d):
    """Batch normalisation that reads channels-last volumes on a CPU as a table of voxels.

    The numbers are those of `nn.BatchNorm3d`; its own backward pass took two to three times as long at 8-16 channels.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> the same."""
        rows = x.permute(0, 2, 3, 4, 1)  # (B, X, Y, Z, C), no copy where x is channels-last
        if x.device.type != "cpu" or not rows.is_contiguous():
            return super().forward(x)
        table = super().forward(rows.view(1, -1, 1, 1, x.shape[1]).permute(0, 4, 1, 2, 3))  # (1, C, BXYZ, 1, 1)
        return table.permute(0, 2, 3, 4, 1).reshape(rows.shape).permute(0, 4, 1, 2, 3)


def batch_norm(channels: int) -> nn.Module:
    """Normalise over the batch (the paper)."""
    return BatchNorm(channels)


def instance_norm(channels: int) -> nn.Module:
    """Normalise each volume by itself; same at training and inference."""
    return nn.InstanceNorm3d(channels, affine=True)


def group_norm(channels: int) -> nn.Module:
    """Normalise groups of channels of each volume (8 groups where they divide)."""
    groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


NORMS = {"batch": batch_norm, "instance": instance_norm, "group": group_norm}


def convolution(inside: int, outside: int, kernel: int, norm: str, activation: nn.Module) -> nn.Sequential:
    """Convolution that keeps the grid, normalisation, activation."""
    conv = nn.Conv3d(inside, outside, kernel, padding="same", bias=False)
    return nn.Sequential(conv, NORMS[norm](outside), activation)


def halve(inside: int, outside: int, kernel: int, norm: str | None) -> nn.Sequential:
    """Strided convolution to half the grid, normalisation (None: without), leaky ReLU."""
    conv = nn.Conv3d(inside, outside, kernel, stride=2, padding=1, bias=False)
    layers = [conv] + ([NORMS[norm](outside)] if norm else []) + [nn.LeakyReLU(LEAKY_SLOPE, inplace=True)]
    return nn.Sequential(*layers)


class Double(nn.ConvTranspose3d):
    """Transposed convolution to exactly twice the grid.

    On a CPU a volume of more than 2 GiB (the paper's size) is handled some input channels at a time: the results are
    summed, which is the same convolution. As a whole, torch's kernels fall back to reference loops of several minutes.
    """

    def __init__(self, inside: int, outside: int, kernel: int, *, bias: bool = False) -> None:
        super().__init__(inside, outside, kernel, stride=2, padding=1, output_padding=kernel % 2, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, inside, X, Y, Z) -> (B, outside, 2 X, 2 Y, 2 Z)."""
        widest = max(self.in_channels, self.out_channels)
        pieces = -(-widest * 8 * x[:, 0].numel() * 4 // CPU_KERNEL_BYTES) if x.device.type == "cpu" else 1
        if pieces == 1:
            return super().forward(x)
        total: Tensor | None = None
        for part, weight in zip(x.chunk(pieces, dim=1), self.weight.chunk(pieces, dim=0)):
            bias = self.bias if total is None else None
            image = F.conv_transpose3d(part, weight, bias, stride=2, padding=1, output_padding=self.output_padding)
            total = image if total is None else total + image
        assert total is not None
        return total


class Residual(nn.Module):
    """x + F(x), F two 3 x 3 x 3 convolutions (He et al. 2016, basic block)."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.first = convolution(channels, channels, 3, norm, nn.ReLU(inplace=True))
        self.second = convolution(channels, channels, 3, norm, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> the same."""
        return F.relu(x + self.second(self.first(x)))


class AttentionGate(nn.Module):
    """Additive attention on a skip, steered by the up-sampled signal (Oktay et al. 2018)."""

    def __init__(self, skip: int, gate: int, norm: str) -> None:
        super().__init__()
        inner = max(skip // 2, 1)
        self.skip = convolution(skip, inner, 1, norm, nn.Identity())
        self.gate = convolution(gate, inner, 1, norm, nn.Identity())
        self.weight = nn.Conv3d(inner, 1, 1)

    def forward(self, skip: Tensor, gate: Tensor) -> Tensor:
        """(B, skip, X, Y, Z) and (B, gate, X, Y, Z) -> (B, skip, X, Y, Z)."""
        return skip * torch.sigmoid(self.weight(F.relu(self.skip(skip) + self.gate(gate))))


class ModalityStems(nn.Module):
    """One small convolution for each input sequence, joined along the channels."""

    def __init__(self, sequences: int, filters: int, norm: str) -> None:
        super().__init__()
        self.stems = nn.ModuleList(convolution(1, filters, 3, norm, nn.ReLU(inplace=True)) for _ in range(sequences))

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, X, Y, Z) -> (B, S * filters, X, Y, Z)."""
        return torch.cat([stem(x[:, i : i + 1]) for i, stem in enumerate(self.stems)], dim=1)


class UNet(nn.Module):
    """The family; `build` gives one of the paper's models.

    Any grid is taken: it is padded with background to a multiple of `2 ** depth` and the output cropped back. With
    every halving the filters double, up to eight times `width`: 64, 128, 256, 512, 512.
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

        Raises ValueError where a single voxel is left to normalise.
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

    At 160 x 192 x 160 and width 64 the joined tensor has more than 2 GiB, for which torch's CPU kernels fall back to
    reference loops that take minutes; and it would be the largest tensor of all.
    """
    of_x, of_skip = convolution.weight.split([x.shape[1], skip.shape[1]], dim=1)
    padding = [edge // 2 for edge in convolution.kernel_size]
    return F.conv3d(x, of_x, convolution.bias, padding=padding) + F.conv3d(skip, of_skip, padding=padding)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Background behind the last voxel of each axis, so that every edge divides by `multiple`."""
    missing = [-edge % multiple for edge in x.shape[2:]]
    if not any(missing):
        return x
    return F.pad(x, (0, missing[2], 0, missing[1], 0, missing[0]), value=BACKGROUND)


def check_bottleneck(size: Sequence[int], x: Tensor, multiple: int) -> None:
    """Raises ValueError where the padded grid of `x` ends as one voxel, whose mean and variance say nothing."""
    if max(x.shape[2:]) == multiple:
        depth = multiple.bit_length() - 1
        raise ValueError(
            f"{depth} halvings turn one patient's {' x '.join(map(str, size))} voxels into a single one, which cannot "
            f"be normalised; use --model.depth {depth - 1} or less, or --model.norm group"
        )


def initialise(network: nn.Module, init: str) -> None:
    """Fill the kernels: `normal` (sd 0.02, pix2pix) or `xavier` (Glorot and Bengio 2010); biases are zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            if init == "xavier":
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def build(
    model: int,
    *,
    in_channels: int = 3,
    width: int = 64,
    depth: int = 5,
    norm: str = "batch",
    dropout: float = 0.5,
    seed: int = 0,
) -> UNet:
    """Model 0-4 with fresh weights.

    The weights depend on `seed` alone, not on what the global generator drew before. Raises ValueError for a model
    that the paper does not have, an unknown `norm`, and a width or depth below one.
    """
    if model not in MODELS:
        raise ValueError(f"model {model} is not one of {sorted(MODELS)}")
    if norm not in NORMS:
        raise ValueError(f"there is no normalisation {norm!r}; choose from {', '.join(NORMS)}")
    if width < 1 or depth < 1 or in_channels < 1:
        raise ValueError(f"width {width}, depth {depth} and {in_channels} inputs: each must be at least 1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(in_channels=in_channels, width=width, depth=depth, norm=norm, dropout=dropout, **MODELS[model])


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
