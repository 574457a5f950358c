"""Building blocks of the paper's networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.3
CPU_KERNEL_BYTES = 2**31


class BatchNorm(nn.BatchNorm3d):
    """Batch normalisation that reads channels-last volumes on a CPU as a table of voxels.

    Results equal those of `nn.BatchNorm3d`, whose backward pass is two to three times slower at 8-16 channels.
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
    """Normalise each volume by itself; the same in training and inference."""
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

    On a CPU a volume of more than 2 GiB (the paper's size) is processed a few input channels at a time and the results
    are summed, which is the same convolution. As a whole, torch's kernels fall back to reference loops of minutes.
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
