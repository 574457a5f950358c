"""A U-Net that first says where it enhances, and then draws it.

The body is MONAI's DynUNet with residual blocks and instance normalisation (nnU-Net, Isensee et al. 2021). Its place
head gives three nested regions, the enhancing part, the whole tumour and its core. Its image head sees the body's
features, the logits of the regions and the inputs, and composes

    image = plain + drawn x amount

from two maps, `plain` (the image of least loss) and `amount` (what it lacks where it enhances). `drawn` is the
probability of enhancement or, after `draw_above`, 1 where that lies above a threshold and 0 elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.synthesis.networks import BACKGROUND, LEFT_RIGHT, NetworkSpec
from lab.synthesis.networks.measure import pad_to_multiple
from lab.synthesis.networks.monai_networks import at_least, bare_dynunet

PLAIN_EDGE = [0.0, 1.0]
"""The edge with which the amount is drawn times the probability."""


@dataclass(frozen=True, kw_only=True)
class PlaceUNetConfig:
    """The U-Net of the method place-and-draw."""

    filters: int = 24
    """Filters of the first level; they double with every level, up to 20 times as many."""
    levels: int = 3
    """Levels, one more than halvings."""
    image_filters: int = 16
    """Filters of the image head."""
    mirrored: bool = True
    """Whether all maps are the mean of those of the patient and of its left-right mirror image, in twice the time."""


class PlaceUNet(nn.Module):
    """Body, place head and image head."""

    outputs = ("image", "probability", "tumour", "core")
    """The maps of `everything`: the image, and the probability that a voxel enhances, is tumour, is its core."""

    def __init__(self, channels: int, settings: PlaceUNetConfig) -> None:
        super().__init__()
        filters, self.mirrored = settings.filters, settings.mirrored
        self.edge: Tensor
        self.register_buffer("edge", torch.tensor(PLAIN_EDGE))
        self.multiple = 2 ** (settings.levels - 1)
        self.body = bare_dynunet(
            channels, filters, settings.levels
        ).skip_layers  # up to the features of full resolution, without MONAI's output layer
        places = len(self.outputs) - 1
        self.place = nn.Conv3d(filters, places, 1)
        head = [nn.Conv3d(filters + places + channels, settings.image_filters, 3, padding=1), nn.LeakyReLU(0.1)]
        head += [nn.Conv3d(settings.image_filters, settings.image_filters, 3, padding=1), nn.LeakyReLU(0.1)]
        self.hidden = nn.Sequential(*head)
        self.parts = nn.Conv3d(settings.image_filters + channels, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) in [-1, 1] -> image (B, 1, X, Y, Z) in [-1, 1], exactly -1 where all inputs are -1."""
        return compose(x, self.predicted(x).float(), self.edge)

    def everything(self, x: Tensor) -> Tensor:
        """The maps called `outputs`, (B, 4, X, Y, Z): the image, then probabilities in [0, 1]."""
        maps = self.predicted(x).float()
        return torch.cat([compose(x, maps, self.edge), maps[:, 2:].sigmoid()], dim=1)

    def draw_above(self, threshold: float, softness: float) -> None:
        """Draw the whole amount where the probability is above a threshold in (0, 1), and nothing elsewhere.

        `softness` is the width of the step between, in units of the probability's logit.
        """
        self.edge.copy_(torch.tensor([math.log(threshold / (1 - threshold)), softness]))

    def draw_plainly(self) -> None:
        """Draw the amount times the probability, as a new network does."""
        self.edge.copy_(torch.tensor(PLAIN_EDGE))

    def predicted(self, x: Tensor) -> Tensor:
        """As `parts_and_logits`; in evaluation the mean with the mirror image's."""
        maps = self.parts_and_logits(x)
        if self.training or not self.mirrored:
            return maps
        return (maps + self.parts_and_logits(x.flip(LEFT_RIGHT)).flip(LEFT_RIGHT)) / 2

    def parts_and_logits(self, x: Tensor, *, apart: bool = False) -> Tensor:
        """`plain`, `amount` and the logits of the three regions, (B, 5, X, Y, Z).

        With `apart` the gradient of the first two ends at the image head and does not move the place head.
        """
        size = x.shape[2:]
        padded = pad_to_multiple(x, self.multiple)
        if max(padded.shape[2:]) == self.multiple:  # one voxel at the deepest level cannot be normalised
            padded = F.pad(padded, (0, self.multiple), value=BACKGROUND)
        features = self.body(padded)
        logits = self.place(features)
        seen = (features.detach(), logits.detach()) if apart else (features, logits)
        parts = self.parts(torch.cat([self.hidden(torch.cat([*seen, padded], 1)), padded], 1))
        return torch.cat([parts, logits], dim=1)[:, :, : size[0], : size[1], : size[2]]


def compose(x: Tensor, maps: Tensor, edge: Tensor) -> Tensor:
    """The image (B, 1, X, Y, Z) from the inputs and the maps of `parts_and_logits`.

    `edge` holds the logit at which half of the amount is drawn, and the width of the step in units of the logit.
    """
    plain, amount, logit = maps[:, :1], maps[:, 1:2], maps[:, 2:3]
    image = (plain + ((logit - edge[0]) / edge[1]).sigmoid() * amount).clamp(-1, 1)
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
