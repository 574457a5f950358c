"""A U-Net that first says where it enhances, and then draws it.

The body is MONAI's DynUNet with residual blocks and instance normalisation (nnU-Net, Isensee et al. 2021). Its place
head gives three nested regions, the enhancing part, the whole tumour and its core, in training at every level on the
way up (deep supervision). Its image head sees the body's features, the logits of the regions and the inputs, and
composes

    image = change + probability of enhancement x amount

from two maps, `change` (the image without enhancement) and `amount` (the rise in signal where it enhances).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.synthesis.networks import BACKGROUND, NetworkSpec
from lab.synthesis.networks.measure import pad_to_multiple
from lab.synthesis.networks.monai_networks import at_least, bare_dynunet


@dataclass(frozen=True, kw_only=True)
class PlaceUNetConfig:
    """The U-Net of the method place-and-draw."""

    filters: int = 24
    """Filters of the first level; they double with every level, up to 20 times as many."""
    levels: int = 3
    """Levels, one more than halvings."""
    image_filters: int = 16
    """Filters of the image head."""


class PlaceUNet(nn.Module):
    """Body, place head and image head."""

    outputs = ("image", "probability", "tumour", "core")
    """The maps of `everything`: the image, and the probability that a voxel enhances, is tumour, is its core."""

    def __init__(self, channels: int, settings: PlaceUNetConfig) -> None:
        super().__init__()
        filters = settings.filters
        self.multiple = 2 ** (settings.levels - 1)
        self.body = bare_dynunet(
            channels, filters, settings.levels
        ).skip_layers  # up to the features of full resolution, without MONAI's output layer
        places = len(self.outputs) - 1
        self.place = nn.Conv3d(filters, places, 1)
        deeper = [filters * min(2**level, 20) for level in range(1, settings.levels)]
        self.coarse_places = nn.ModuleList(nn.Conv3d(width, places, 1) for width in deeper)
        head = [nn.Conv3d(filters + places + channels, settings.image_filters, 3, padding=1), nn.LeakyReLU(0.1)]
        head += [nn.Conv3d(settings.image_filters, settings.image_filters, 3, padding=1), nn.LeakyReLU(0.1)]
        self.hidden = nn.Sequential(*head)
        self.parts = nn.Conv3d(settings.image_filters + channels, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) in [-1, 1] -> image (B, 1, X, Y, Z) in [-1, 1], exactly -1 where all inputs are -1."""
        return compose(x, self.parts_and_logits(x))

    def everything(self, x: Tensor) -> Tensor:
        """The maps called `outputs`, (B, 4, X, Y, Z): the image, then probabilities in [0, 1]."""
        maps = self.parts_and_logits(x).float()
        return torch.cat([compose(x, maps), maps[:, 2:].sigmoid()], dim=1)

    def parts_and_logits(self, x: Tensor) -> Tensor:
        """`change`, `amount` and the logits of the three regions, (B, 5, X, Y, Z)."""
        padded = self.padded(x)
        features = self.body(padded)
        logits = self.place(features)
        return cut(torch.cat([self.image_parts(features, logits, padded), logits], 1), x)

    def for_training(self, x: Tensor) -> Tensor:
        """As `parts_and_logits`, then the logits of each coarser level, finest first, (B, 2 + 3 L, X, Y, Z).

        The gradient of `change` and `amount` ends at the image head and does not move the place head.
        """
        padded = self.padded(x)
        coarse, features = levels_up(self.body, padded)
        logits = self.place(features)
        parts = self.image_parts(features.detach(), logits.detach(), padded)
        deep = [
            F.interpolate(head(found), padded.shape[2:], mode="trilinear")
            for head, found in zip(self.coarse_places, reversed(coarse))
        ]
        return cut(torch.cat([parts, logits, *deep], 1), x)

    def padded(self, x: Tensor) -> Tensor:
        """The inputs at a size that the body takes."""
        padded = pad_to_multiple(x, self.multiple)
        if max(padded.shape[2:]) == self.multiple:  # one voxel at the deepest level cannot be normalised
            padded = F.pad(padded, (0, self.multiple), value=BACKGROUND)
        return padded

    def image_parts(self, features: Tensor, logits: Tensor, padded: Tensor) -> Tensor:
        """`change` and `amount`, (B, 2, X, Y, Z), of a padded volume."""
        return self.parts(torch.cat([self.hidden(torch.cat([features, logits, padded], 1)), padded], 1))


def levels_up(layer: Any, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Features of each coarser level on the way up, deepest first, and those of full resolution."""
    if not hasattr(layer, "next_layer"):
        return [], layer(x)
    skipped = layer.downsample(x)
    coarse, below = levels_up(layer.next_layer, skipped)
    return [*coarse, below], layer.upsample(below, skipped)


def cut(maps: Tensor, x: Tensor) -> Tensor:
    """The maps of a padded volume at the size of the inputs `x`."""
    return maps[:, :, : x.shape[2], : x.shape[3], : x.shape[4]]


def compose(x: Tensor, maps: Tensor) -> Tensor:
    """The image (B, 1, X, Y, Z) from the inputs and the maps of `parts_and_logits`."""
    change, amount, enhancing = maps[:, :1], maps[:, 1:2], maps[:, 2:3].sigmoid()
    image = (change + enhancing * amount).clamp(-1, 1)
    return torch.where((x > BACKGROUND).any(1, keepdim=True), image, BACKGROUND)


def place_unet(settings: PlaceUNetConfig, channels: int) -> nn.Module:
    """The network. Raises ValueError for too few filters or levels."""
    at_least(settings.filters, "--place-unet.filters")
    at_least(settings.image_filters, "--place-unet.image-filters")
    at_least(settings.levels, "--place-unet.levels", 3)
    return PlaceUNet(channels, settings)


PLACE_UNET = NetworkSpec(
    settings=PlaceUNetConfig,
    build=place_unet,
    width="filters",
    divisor=lambda settings: 2 ** (settings.levels - 1),
    reads_volume=lambda _: "its instance normalisation takes statistics over the whole volume",
)
