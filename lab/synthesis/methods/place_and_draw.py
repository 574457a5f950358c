"""Training of a network that says where the tumour enhances and draws the image from it.

The place head learns the enhancing part, the whole tumour and its core by soft Dice and cross-entropy. The image head
learns by the image loss (`--loss.name`), whose gradient ends there, in two parts: an image as any network learns it,
which the loss drives to the median of what is likely and so hides whatever is less likely than not; and the amount by
which the true image lies above that where it enhances. At the end of training a threshold of the probability is chosen
on the validation patients, that of the highest kappa. Above it the image shows the whole amount, below it none.

Brain MAE cannot be lowest at the same time: where a voxel enhances with a probability below 0.5, drawing it costs more
on average than it gains. What is drawn in vain looks as certain as what is not.

The network that is validated and packaged is the moving average of the weights (Polyak and Juditsky 1992). The best
epoch is that with the highest average precision of the probability over the validation patients' brains, which counts
what is stated outside the tumour too, or with the highest AUC inside the tumours.

The recipe of 153 to 209 patients: `--train.batch-size 4 --train.learning-rate 2e-3 --train.flip random`, 900 steps.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from lab.config import TrainConfig
from lab.data.batches import Batch, CaseStore
from lab.evaluation.enhancement import near
from lab.evaluation.place.voxel_counts import best_threshold, count_voxels
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
    best_by: Literal["precision", "auc"] = "precision"
    """Figure of the validation patients that is highest in the best epoch: average precision over all brain voxels, or
    AUC inside the tumours, the mean over patients. With few of them the latter is often highest in an early epoch."""
    softness: float = 0.1
    """Width of the step from nothing to the whole rise at the chosen threshold, in units of the probability's logit."""


class PlaceAndDraw:
    """A network that learns and one that follows it."""

    def __init__(
        self,
        network: Any,
        loss: Loss,
        train: TrainConfig,
        arithmetic: Arithmetic,
        settings: PlaceAndDrawConfig,
        channels: int,
    ) -> None:
        """Raises ValueError for settings out of range."""
        if settings.steps < 1 or settings.warm_up < 0 or not 0 <= settings.average < 1:
            raise ValueError("--place-and-draw.steps must be at least 1, warm-up 0, average from 0 to below 1")
        if settings.softness <= 0:
            raise ValueError("--place-and-draw.softness must be above 0")
        network.draw_plainly()  # whatever the network did that it starts from
        self.learner: Any = arithmetic.place(copy.deepcopy(network))
        self.network: Any = arithmetic.place(network)
        self.loss, self.train, self.arithmetic, self.settings = loss, train, arithmetic, settings
        draw: Any = self.learner.parts_and_logits
        draw = torch.compile(draw) if train.compile else draw
        self.draw = partial(draw, apart=True)
        self.optimiser = torch.optim.AdamW(
            self.learner.parameters(), lr=train.learning_rate, betas=train.betas, weight_decay=settings.weight_decay
        )
        self.step = 0
        self.best_by = f"val/{settings.best_by}_voxels"

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One step of both heads and of the average; returns the losses of the image, its parts and the place head."""
        self.learner.train()
        maps = self.arithmetic.run(self.draw, batch.inputs)
        parts = self.parts_loss(maps[:, :1], maps[:, 1:2], batch)
        place = self.place_loss(maps[:, 2:], batch.masks)
        error = self.loss(compose(batch.inputs, maps.detach(), self.learner.edge), batch.target, batch.masks)
        for entries in self.optimiser.param_groups:
            entries["lr"] = self.train.learning_rate * rate(self.step, self.settings)
        descend(self.optimiser, parts + place, self.train.clip_norm)
        self.step += 1
        self.follow()
        return {"loss": error, "parts": parts.detach(), "place": place.detach()}

    def parts_loss(self, plain: Tensor, amount: Tensor, batch: Batch) -> Tensor:
        """The image loss of `plain` everywhere, and of `plain` + `amount` where it enhances."""
        enhancing = batch.masks["enhancing"]
        within = {name: mask & enhancing for name, mask in batch.masks.items()}
        risen = torch.where(enhancing, plain.detach() + amount, batch.target)
        return self.loss(plain, batch.target, batch.masks) + self.loss(risen, batch.target, within)

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

    def settle(self, val: CaseStore) -> None:
        """Choose the threshold of the drawn image on validation cases, with the weights that are kept.

        It is that of the highest kappa over all voxels near their tumours; without one the image stays as in training.
        """
        cells = []
        for index in range(len(val)):
            batch = val.batch([index])
            brain, tumour, enhancing = (
                batch.masks[name][0, 0].cpu().numpy() for name in ("brain", "tumour", "enhancing")
            )
            region = near(tumour, brain, val.cohort.spacing_mm)
            probability = self.predict(batch.inputs)["probability"][0, 0].cpu().numpy()
            cells.append(count_voxels(probability[region], enhancing[region], "probability"))
        found = best_threshold(pd.Series(cells), "probability")
        if found is not None:
            self.network.draw_above(min(max(found[0], 0.01), 0.99), self.settings.softness)

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
