"""Training of a network that says where the tumour enhances and draws the image from it.

The place head learns the enhancing part, the whole tumour and its core by soft Dice and cross-entropy. The image head
learns by the image loss (`--loss.name`), whose gradient ends there, in two parts: the image where it does not enhance,
and where it does. Weighted by the probability they give the mean of what is likely. One loss over both would give its
median, which hides whatever is less likely than not. The network that is validated and packaged is the moving average
of the weights (Polyak and Juditsky 1992). The best epoch is that with the highest AUC of the probability inside the
validation patients' tumours.

The recipe of 153 to 209 patients: `--train.batch-size 4 --train.learning-rate 2e-3 --train.flip random`, 900 steps.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.config import TrainConfig
from lab.data.batches import Batch
from lab.synthesis.device import Arithmetic
from lab.synthesis.losses.image_losses import Loss
from lab.synthesis.methods import MethodSpec
from lab.synthesis.methods.supervised import descend
from lab.synthesis.networks.place_unet import compose

REGIONS = ("enhancing", "tumour", "core")
"""Masks that the place head learns, in its order."""


@dataclass(frozen=True, kw_only=True)
class PlaceAndDrawConfig:
    """A place head and an image head."""

    steps: int = 900
    """Steps over which the learning rate falls to a hundredth."""
    warm_up: int = 50
    """First steps, over which the learning rate rises."""
    weight_decay: float = 0.02
    """Weight decay of AdamW."""
    average: float = 0.995
    """How much of the moving average of the weights stays in a step."""
    entropy_weight: float = 3.0
    """Weight of the cross-entropy beside Dice."""
    enhancing_weight: float = 1.6
    """Weight of the enhancing part beside the whole tumour and beside its core."""
    deep_weight: float = 0.3
    """Weight of the place loss at a level of half the resolution, to that at the level above it; 0 is off."""


class PlaceAndDraw:
    """A network that learns and one that follows it."""

    best_by = "val/auc_voxels"
    """The figure of validation that is highest in the best epoch."""

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        train: TrainConfig,
        arithmetic: Arithmetic,
        settings: PlaceAndDrawConfig,
        channels: int,
    ) -> None:
        """Raises ValueError for settings out of range."""
        if settings.steps < 1 or settings.warm_up < 0 or not 0 <= settings.average < 1:
            raise ValueError("--place-and-draw.steps must be at least 1, warm-up 0, average from 0 to below 1")
        self.learner: Any = arithmetic.place(copy.deepcopy(network))
        self.network: Any = arithmetic.place(network)
        self.loss, self.train, self.arithmetic, self.settings = loss, train, arithmetic, settings
        draw: Any = self.learner.for_training
        self.draw = torch.compile(draw) if train.compile else draw
        self.optimiser = torch.optim.AdamW(
            self.learner.parameters(), lr=train.learning_rate, betas=train.betas, weight_decay=settings.weight_decay
        )
        self.step = 0

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One step of both heads and of the average; returns the losses of the image, its parts and the place head."""
        self.learner.train()
        maps = self.arithmetic.run(self.draw, batch.inputs)
        parts = self.parts_loss(maps[:, :1], maps[:, 1:2], batch)
        levels = maps[:, 2:].split(len(REGIONS), dim=1)
        weights = [self.settings.deep_weight**level for level in range(len(levels))]
        losses = [weight * self.place_loss(logits, batch.masks) for weight, logits in zip(weights, levels) if weight]
        place = torch.stack(losses).sum() / sum(weights)
        error = self.loss(compose(batch.inputs, maps[:, :5].detach()), batch.target, batch.masks)
        for entries in self.optimiser.param_groups:
            entries["lr"] = self.train.learning_rate * rate(self.step, self.settings)
        descend(self.optimiser, parts + place, self.train.clip_norm)
        self.step += 1
        self.follow()
        return {"loss": error, "parts": parts.detach(), "place": place.detach()}

    def parts_loss(self, change: Tensor, amount: Tensor, batch: Batch) -> Tensor:
        """The image loss of `change` where nothing enhances, and of `change` + `amount` where it enhances."""
        enhancing = batch.masks["enhancing"]
        without = {name: mask & ~enhancing for name, mask in batch.masks.items()}
        within = {name: mask & enhancing for name, mask in batch.masks.items()}
        plain = self.loss(torch.where(enhancing, batch.target, change), batch.target, without)
        risen = torch.where(enhancing, change.detach() + amount, batch.target)
        return plain + self.loss(risen, batch.target, within)

    def place_loss(self, logits: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        """Soft Dice over the batch and cross-entropy over the brain, of logits (B, 3, X, Y, Z)."""
        truth = torch.cat([masks[name] for name in REGIONS], dim=1).float()
        brain = masks["brain"].float()
        found = logits.sigmoid() * brain
        overlap, both = ((found * truth).sum((0, 2, 3, 4)), (found + truth).sum((0, 2, 3, 4)))
        dice = 1 - (2 * overlap + 1) / (both + 1)
        entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * brain
        mean = entropy.sum((0, 2, 3, 4)) / brain.sum().clamp(min=1)
        weights = torch.tensor([self.settings.enhancing_weight, 1.0, 1.0], device=logits.device)
        return (weights * (dice + self.settings.entropy_weight * mean)).sum() / weights.sum()

    @torch.no_grad()
    def follow(self) -> None:
        """One step of the average, which follows quickly at first."""
        stays = min(self.settings.average, self.step / (self.step + 10))
        for own, new in zip(self.network.parameters(), self.learner.parameters()):
            own.lerp_(new, 1 - stays)

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """The average's image and probability of enhancement."""
        maps = self.arithmetic.run(self.network.eval().everything, inputs)
        return {"image": maps[:, :1], "probability": maps[:, 1:2]}

    def state_dict(self) -> dict[str, Any]:
        """Both networks, the optimiser and the number of steps."""
        networks = {"network": self.network.state_dict(), "learner": self.learner.state_dict()}
        return networks | {"optimiser": self.optimiser.state_dict(), "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse."""
        self.network.load_state_dict(state["network"])
        self.learner.load_state_dict(state["learner"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def rate(step: int, settings: PlaceAndDrawConfig) -> float:
    """Factor of the learning rate at a step: a linear rise, then a fall by a power of 0.9 down to 0.01."""
    rise = min(1.0, (step + 1) / (settings.warm_up + 1))
    return rise * max(0.01, 1 - step / settings.steps) ** 0.9


PLACE_AND_DRAW = MethodSpec(
    make=PlaceAndDraw, settings=PlaceAndDrawConfig, augmented=True, patch_sampling="random", network="place-unet"
)
