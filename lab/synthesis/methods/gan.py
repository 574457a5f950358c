"""A conditional GAN after pix2pix (Isola et al. 2017): any network as generator, a 3D PatchGAN as discriminator.

The discriminator sees the inputs beside a true or a synthetic image, both without background, and classifies each patch
as true or synthetic. Each of the two networks has its own Adam. The image loss (`--loss.name`) is added to the
adversarial one, and early stopping uses it alone, since adversarial losses do not measure image quality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.config import TrainConfig
from lab.data.batches import Batch
from lab.synthesis.device import Arithmetic
from lab.synthesis.losses.image_losses import Loss
from lab.synthesis.methods import MethodSpec
from lab.synthesis.methods.supervised import adam, descend
from lab.synthesis.networks import BACKGROUND
from lab.synthesis.networks.layers import group_norm


@dataclass(frozen=True, kw_only=True)
class GanConfig:
    """The conditional GAN."""

    l1_weight: float = 100.0
    """Weight of the image loss (L1 in pix2pix, here --loss.name) beside the adversarial one."""
    filters: int = 32
    """Filters of the discriminator's first layer; they double with every layer, up to eight times as many."""
    layers: int = 3
    """Halvings of the discriminator; with 3 a patch is 54 voxels wide."""
    learning_rate: float | None = None
    """Step size of the discriminator's Adam; by default that of the generator."""


def patch_discriminator(channels: int, filters: int, layers: int) -> nn.Sequential:
    """PatchGAN: (B, channels, X, Y, Z) -> one logit for each patch, (B, 1, ...)."""
    parts: list[nn.Module] = [nn.Conv3d(channels, filters, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    widths = [filters * min(2**layer, 8) for layer in range(layers + 1)]
    for layer, (inside, outside) in enumerate(pairwise(widths), start=1):
        stride, kernel, padding = (2, 4, 1) if layer < layers else (1, 3, 1)  # pix2pix: kernel 4, which loses a voxel
        conv = nn.Conv3d(inside, outside, kernel, stride=stride, padding=padding, bias=False)
        parts += [conv, group_norm(outside), nn.LeakyReLU(0.2)]
    network = nn.Sequential(*parts, nn.Conv3d(widths[-1], 1, 3, padding=1))
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.normal_(module.weight, std=0.02)
    return network


class ConditionalGan:
    """Generator and discriminator, one step of each for every batch."""

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        train: TrainConfig,
        arithmetic: Arithmetic,
        settings: GanConfig,
        channels: int,
    ) -> None:
        """Raises ValueError for invalid settings."""
        if settings.filters < 1 or settings.layers < 1 or settings.l1_weight < 0:
            raise ValueError("--gan.filters and --gan.layers must be at least 1, --gan.l1-weight at least 0")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(train.seed)
            discriminator = patch_discriminator(channels + 1, settings.filters, settings.layers)
        self.network, self.discriminator = arithmetic.place(network), arithmetic.place(discriminator)
        self.loss, self.train, self.arithmetic, self.settings = loss, train, arithmetic, settings
        self.forward: Any = torch.compile(network) if train.compile else network
        rate = train.learning_rate if settings.learning_rate is None else settings.learning_rate
        self.optimisers = {
            "optimiser": adam(network.parameters(), train),
            "discriminator_optimiser": adam(discriminator.parameters(), replace(train, learning_rate=rate)),
        }

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the discriminator and one of the generator; returns the image loss and both adversarial ones."""
        self.network.train()
        self.discriminator.train()
        brain = batch.masks["brain"]
        image = self.arithmetic.run(self.forward, batch.inputs)
        shown = torch.where(brain, image, BACKGROUND)
        true, drawn = self.logits(batch.inputs, batch.target), self.logits(batch.inputs, shown.detach())
        against = (adversarial(true, real=True) + adversarial(drawn, real=False)) / 2
        descend(self.optimisers["discriminator_optimiser"], against, self.train.clip_norm)

        fooling = adversarial(self.logits(batch.inputs, shown), real=True)
        error = self.loss(image, batch.target, batch.masks)
        descend(self.optimisers["optimiser"], fooling + self.settings.l1_weight * error, self.train.clip_norm)
        return {"loss": error.detach(), "adversarial": fooling.detach(), "discriminator": against.detach()}

    def logits(self, inputs: Tensor, image: Tensor) -> Tensor:
        """The discriminator's logit for each patch; above 0 is true.

        Raises ValueError for a volume too small for its halvings.
        """
        if min(image.shape[2:]) < 2**self.settings.layers:
            size = " x ".join(map(str, image.shape[2:]))
            raise ValueError(f"{size} voxels are too few for {self.settings.layers} halvings; lower --gan.layers")
        return self.arithmetic.run(self.discriminator, torch.cat([inputs, image], dim=1))

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """The image, and as `realism` the share of its patches that the discriminator classifies as true."""
        self.network.eval()
        self.discriminator.eval()
        image = self.arithmetic.run(self.forward, inputs)
        shown = torch.where((inputs > BACKGROUND).any(1, keepdim=True), image, BACKGROUND)
        return {"image": image, "realism": (self.logits(inputs, shown) > 0).float().flatten(1).mean(1)}

    def state_dict(self) -> dict[str, Any]:
        """Weights of both networks and the moments of both optimisers."""
        networks = {"network": self.network.state_dict(), "discriminator": self.discriminator.state_dict()}
        return networks | {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.discriminator.load_state_dict(state["discriminator"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])


def adversarial(logits: Tensor, *, real: bool) -> Tensor:
    """Binary cross-entropy of every patch, with the label true if `real`, else synthetic."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


GAN = MethodSpec(make=ConditionalGan, settings=GanConfig)
