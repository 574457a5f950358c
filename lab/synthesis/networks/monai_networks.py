"""Networks of MONAI, padded to the multiple that each requires and followed by the tanh of the paper's networks.

SegResNet (Myronenko 2018), DynUNet with residual blocks (nnU-Net, Isensee et al. 2021), AttentionUnet (Oktay et al.
2018) and SwinUNETR (Hatamizadeh et al. 2022). Receptive field and memory are measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.synthesis.networks import BACKGROUND, NetworkSpec
from lab.synthesis.networks.measure import pad_to_multiple

if TYPE_CHECKING:
    from monai.networks.nets import DynUNet


class Padded(nn.Module):
    """Wrapper that pads volumes of any size for a network that requires edges of a certain multiple."""

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network, self.multiple = network, multiple

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) in [-1, 1] -> (B, 1, X, Y, Z) in (-1, 1)."""
        size = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        if max(x.shape[2:]) == self.multiple:  # one voxel at the deepest level cannot be normalised
            x = F.pad(x, (0, self.multiple), value=BACKGROUND)
        return torch.tanh(self.network(x))[:, :, : size[0], : size[1], : size[2]]


@dataclass(frozen=True, kw_only=True)
class SegResNetConfig:
    """MONAI's SegResNet."""

    init_filters: int = 16
    """Filters of the first level; they double with every level."""
    blocks_down: tuple[int, ...] = (1, 2, 2, 4)
    """Residual blocks of each level on the way down."""
    blocks_up: tuple[int, ...] = (1, 1, 1)
    """Residual blocks of each level on the way up, one level fewer."""
    dropout: float = 0.0
    """Dropout in front of the first block."""


def segresnet(settings: SegResNetConfig, channels: int) -> nn.Module:
    """SegResNet with group normalisation. Raises ValueError for settings that do not fit together."""
    from monai.networks.nets import SegResNet

    at_least(settings.init_filters, "--segresnet.init-filters")
    if len(settings.blocks_up) != len(settings.blocks_down) - 1 or min(*settings.blocks_down, *settings.blocks_up) < 1:
        raise ValueError("--segresnet.blocks-up needs one number fewer than --segresnet.blocks-down, all at least 1")
    groups = next(g for g in (8, 4, 2, 1) if settings.init_filters % g == 0)
    network = SegResNet(
        init_filters=settings.init_filters,
        in_channels=channels,
        out_channels=1,
        dropout_prob=settings.dropout or None,
        norm=("GROUP", {"num_groups": groups}),
        blocks_down=settings.blocks_down,
        blocks_up=settings.blocks_up,
    )
    return Padded(network, 2 ** (len(settings.blocks_down) - 1))


@dataclass(frozen=True, kw_only=True)
class DynUNetConfig:
    """MONAI's DynUNet."""

    filters: int = 16
    """Filters of the first level; they double with every level, up to 20 times as many."""
    levels: int = 4
    """Levels, one more than halvings."""
    residual: bool = True
    """Residual blocks instead of plain ones."""
    norm: Literal["instance", "batch"] = "instance"
    """Normalisation after a convolution."""


def dynunet(settings: DynUNetConfig, channels: int) -> nn.Module:
    """DynUNet without deep supervision. Raises ValueError for too few filters or levels."""
    at_least(settings.filters, "--dynunet.filters")
    at_least(settings.levels, "--dynunet.levels", 3)
    network = bare_dynunet(channels, settings.filters, settings.levels, norm=settings.norm, residual=settings.residual)
    return Padded(network, 2 ** (settings.levels - 1))


def bare_dynunet(channels: int, filters: int, levels: int, *, norm: str = "instance", residual: bool = True) -> DynUNet:
    """MONAI's DynUNet; its filters double with every level, up to 20 times as many."""
    from monai.networks.nets import DynUNet

    strides = [1] + [2] * (levels - 1)
    return DynUNet(
        spatial_dims=3,
        in_channels=channels,
        out_channels=1,
        kernel_size=[3] * levels,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[filters * min(2**level, 20) for level in range(levels)],
        norm_name=(norm, {"affine": True}),
        res_block=residual,
    )


@dataclass(frozen=True, kw_only=True)
class AttentionUnetConfig:
    """MONAI's AttentionUnet."""

    channels: int = 16
    """Channels of the first level; they double with every level."""
    levels: int = 4
    """Levels, one more than halvings."""
    dropout: float = 0.0
    """Dropout in every block."""


def attention_unet(settings: AttentionUnetConfig, channels: int) -> nn.Module:
    """AttentionUnet, with batch normalisation except in its merged skips.

    Raises ValueError for too few channels or levels.
    """
    from monai.networks.nets import AttentionUnet

    at_least(settings.channels, "--attention-unet.channels", 2)
    at_least(settings.levels, "--attention-unet.levels", 2)
    network = AttentionUnet(
        spatial_dims=3,
        in_channels=channels,
        out_channels=1,
        channels=[settings.channels * 2**level for level in range(settings.levels)],
        strides=[2] * (settings.levels - 1),
        dropout=settings.dropout,
    )
    return Padded(network, 2 ** (settings.levels - 1))


@dataclass(frozen=True, kw_only=True)
class SwinUNETRConfig:
    """MONAI's SwinUNETR."""

    feature_size: int = 24
    """Features of the first level, a multiple of 12."""
    window_size: int = 7
    """Edge of the attention windows, in tokens."""
    dropout: float = 0.0
    """Dropout in the transformer."""


def swin_unetr(settings: SwinUNETRConfig, channels: int) -> nn.Module:
    """SwinUNETR. Raises ValueError for a feature size that is no multiple of 12."""
    if settings.feature_size < 12 or settings.feature_size % 12:
        raise ValueError(f"--swin-unetr.feature-size {settings.feature_size}: a multiple of 12 is needed")
    at_least(settings.window_size, "--swin-unetr.window-size", 2)
    from monai.networks.nets import SwinUNETR

    device = torch.get_default_device()
    with torch.device("cpu"):  # it reads numbers out of tensors while it is built, and meta tensors hold none
        network = SwinUNETR(
            in_channels=channels,
            out_channels=1,
            feature_size=settings.feature_size,
            window_size=settings.window_size,
            drop_rate=settings.dropout,
        )
    return Padded(network.to(device), 32)


def at_least(value: int, flag: str, least: int = 1) -> None:
    """Raises ValueError for a setting that is too small."""
    if value < least:
        raise ValueError(f"{flag} {value}: at least {least} is needed")


def _dynunet_reads(settings: Any) -> str:
    return "its instance normalisation takes statistics over the whole volume" if settings.norm == "instance" else ""


SEGRESNET = NetworkSpec(
    settings=SegResNetConfig,
    build=segresnet,
    width="init_filters",
    divisor=lambda settings: 2 ** (len(settings.blocks_down) - 1),
    reads_volume=lambda _: "its group normalisation takes statistics over the whole volume",
)
DYNUNET = NetworkSpec(
    settings=DynUNetConfig,
    build=dynunet,
    width="filters",
    divisor=lambda settings: 2 ** (settings.levels - 1),
    reads_volume=_dynunet_reads,
)
ATTENTION_UNET = NetworkSpec(
    settings=AttentionUnetConfig,
    build=attention_unet,
    width="channels",
    divisor=lambda settings: 2 ** (settings.levels - 1),
    reads_volume=lambda _: "the instance normalisation of its merged skips takes statistics over the whole volume",
)
SWIN_UNETR = NetworkSpec(
    settings=SwinUNETRConfig,
    build=swin_unetr,
    width="feature_size",
    divisor=lambda _: 32,
    reads_volume=lambda _: "its instance normalisation takes statistics over the whole volume",
)
