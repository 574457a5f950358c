"""Adversarial training: any network as generator, a 3D patch discriminator, least squares, spectral normalisation.

A conditional GAN after pix2pix (Isola et al. 2017). The discriminator sees the inputs beside a true or a synthetic
image, both without background, and gives each patch a score, trained to be 1 for true and 0 for synthetic ones by least
squares (Mao et al. 2017). Spectral normalisation bounds how steep it is (Miyato et al. 2018); the vectors of its power
iteration are part of the state. The generator has the image loss (`--loss.name`) and, times `weight`, the squared
distance of its patches' scores from 1. Early stopping uses the image loss alone, since adversarial losses do not
measure image quality.

Signs of failure are logged in every epoch: the mean `score_true` and `score_synthetic` (both near 0.5: it tells nothing
apart; near 1 and 0: it is too strong for the generator), the `accuracy` over patches, and the norm of both networks'
gradients before clipping. `warning` puts a run of such epochs into words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from lab.config import TrainConfig
from lab.data.batches import Batch
from lab.synthesis.device import Arithmetic
from lab.synthesis.losses.image_losses import Loss
from lab.synthesis.methods import MethodSpec
from lab.synthesis.methods.supervised import adam, descend
from lab.synthesis.networks import BACKGROUND

WON, LOST = 0.95, 0.55
"""Accuracy from which on the discriminator has won, and up to which it has lost; 0.5 is guessing."""
EPOCHS_IN_A_ROW = 5
"""Epochs won or lost in a row after which there is a warning."""


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """The conditional GAN."""

    weight: float = 0.01
    """Weight of the adversarial loss beside the image loss (--loss.name); 0.01 is pix2pix's 1 to 100."""
    filters: int = 32
    """Filters of the discriminator's first layer; they double with every layer, up to eight times as many."""
    layers: int = 3
    """Halvings of the discriminator; with 3 a patch is 54 voxels wide."""
    learning_rate: float | None = None
    """Step size of the discriminator's Adam; by default that of the generator."""


def patch_discriminator(channels: int, filters: int, layers: int) -> nn.Sequential:
    """PatchGAN: (B, channels, X, Y, Z) -> one score for each patch, (B, 1, ...)."""
    widths = [channels, *(filters * min(2**layer, 8) for layer in range(layers + 1))]
    parts: list[nn.Module] = []
    for layer, (inside, outside) in enumerate(pairwise(widths)):
        stride, kernel = (2, 4) if layer < layers else (1, 3)  # pix2pix: kernel 4 here too, which loses a voxel
        parts += [spectral_norm(nn.Conv3d(inside, outside, kernel, stride=stride, padding=1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*parts, spectral_norm(nn.Conv3d(widths[-1], 1, 3, padding=1)))


class Adversarial:
    """Generator and discriminator, one step of each for every batch."""

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        train: TrainConfig,
        arithmetic: Arithmetic,
        settings: AdversarialConfig,
        channels: int,
    ) -> None:
        """Raises ValueError for invalid settings."""
        if settings.filters < 1 or settings.layers < 1 or settings.weight < 0:
            raise ValueError("--adversarial.filters and --adversarial.layers must be at least 1, weight at least 0")
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # spectral_norm takes seconds without memory
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
        """One step of the discriminator and one of the generator; returns all three losses and the signs of failure."""
        self.network.train()
        self.discriminator.train()
        image = self.arithmetic.run(self.forward, batch.inputs)
        shown = torch.where(batch.masks["brain"], image, BACKGROUND)
        true, synthetic = self.scores(batch.inputs, batch.target), self.scores(batch.inputs, shown.detach())
        against = ((true - 1).square().mean() + synthetic.square().mean()) / 2
        steepness = descend(self.optimisers["discriminator_optimiser"], against, self.train.clip_norm)

        fooling = (self.scores(batch.inputs, shown) - 1).square().mean()
        error = self.loss(image, batch.target, batch.masks)
        total = error + self.settings.weight * fooling
        gradient = descend(self.optimisers["optimiser"], total, self.train.clip_norm)
        right = torch.cat([true > 0.5, synthetic <= 0.5])
        figures = {"loss": error, "adversarial": fooling, "discriminator": against, "accuracy": right.float().mean()}
        figures |= {"score_true": true.mean(), "score_synthetic": synthetic.mean()}
        figures |= {"gradient_generator": gradient, "gradient_discriminator": steepness}
        return {name: value.detach() for name, value in figures.items()}

    def scores(self, inputs: Tensor, image: Tensor) -> Tensor:
        """The discriminator's score for each patch; above 0.5 is true.

        Raises ValueError for a volume too small for its halvings.
        """
        if min(image.shape[2:]) < 2**self.settings.layers:
            size = " x ".join(map(str, image.shape[2:]))
            raise ValueError(
                f"{size} voxels are too few for {self.settings.layers} halvings; lower --adversarial.layers"
            )
        return self.arithmetic.run(self.discriminator, torch.cat([inputs, image], dim=1))

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """The image, and as `realism` the share of its patches that the discriminator classifies as true."""
        self.network.eval()
        self.discriminator.eval()
        image = self.arithmetic.run(self.forward, inputs)
        shown = torch.where((inputs > BACKGROUND).any(1, keepdim=True), image, BACKGROUND)
        return {"image": image, "realism": (self.scores(inputs, shown) > 0.5).float().flatten(1).mean(1)}

    def warning(self, history: Sequence[Mapping[str, float]]) -> str:
        """A sentence once the discriminator has won or lost for `EPOCHS_IN_A_ROW` epochs, else ""."""
        recent = [verdict(figures["train/accuracy"]) for figures in history[-EPOCHS_IN_A_ROW - 1 :]]
        last = recent[-1]
        said_before = len(recent) > EPOCHS_IN_A_ROW and recent[0] == last
        if not last or recent[-EPOCHS_IN_A_ROW:] != [last] * EPOCHS_IN_A_ROW or said_before:
            return ""
        advice = {
            "won": "the generator learns little from it; lower --adversarial.learning-rate or --adversarial.filters",
            "lost": "the generator learns nothing from it; raise --adversarial.learning-rate or --adversarial.filters",
        }[last]
        accuracy = history[-1]["train/accuracy"]
        return f"the discriminator has {last} {EPOCHS_IN_A_ROW} epochs in a row (accuracy {accuracy:.2f}): {advice}"

    def state_dict(self) -> dict[str, Any]:
        """Weights of both networks, with the discriminator's power iteration, and the moments of both optimisers."""
        networks = {"network": self.network.state_dict(), "discriminator": self.discriminator.state_dict()}
        return networks | {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.discriminator.load_state_dict(state["discriminator"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])


def verdict(accuracy: float) -> str:
    """Whether a discriminator of this accuracy has "won" or "lost"; "" for neither."""
    return "won" if accuracy >= WON else "lost" if accuracy <= LOST else ""


ADVERSARIAL = MethodSpec(make=Adversarial, settings=AdversarialConfig)
