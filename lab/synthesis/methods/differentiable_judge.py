"""Training against the scorecard itself: a soft form of "does it enhance where the patient does" beside the image loss.

By the scorecard a voxel enhances where the image exceeds the T1 by a threshold a. A sigmoid makes that differentiable,
p = sigmoid((image - T1 - a) / b), and the loss is 1 - Dice of p with the enhancing voxels (the expert's label, else the
paper's rule inside the tumour), over the tumour, where enhancing and other voxels weigh the same however many there
are. A loss of `LOSSES` cannot do this, since it does not see the T1.

A `feature_weight` above 0 adds AFP, the anatomical feature-prioritised loss (Longuefosse et al. 2024): the mean
absolute difference between the features that a frozen segmentation network has of the synthetic image and of the true
one. The lab's finished networks do not serve, since they take no contrast scan, and one trained on another fold would
know the test patients. So a small network learns to segment the tumour and its enhancing part in the true T1 and T1GD
of the training patients, in the first `feature_steps` steps, which are without AFP; then it is frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.config import TrainConfig
from lab.data.batches import Batch
from lab.synthesis.device import Arithmetic
from lab.synthesis.losses.image_losses import Loss, Masks
from lab.synthesis.methods import MethodSpec
from lab.synthesis.methods.supervised import Supervised, descend
from lab.synthesis.networks import BACKGROUND

SEGMENTER_RATE = 2e-3
"""Step size of the segmentation network's Adam."""


@dataclass(frozen=True, kw_only=True)
class DifferentiableJudgeConfig:
    """The scorecard as a loss."""

    weight: float = 0.3
    """Weight of the soft Dice beside the image loss (--loss.name)."""
    threshold: float = 0.15
    """Rise over the T1 above which a voxel enhances, in normalised units. The paper's rule has 0.3, at which even the
    true scan agrees less with the expert than at 0.15."""
    softness: float = 0.1
    """Width of the sigmoid, in normalised units."""
    feature_weight: float = 0.0
    """Weight of AFP; 0 turns it off."""
    feature_steps: int = 200
    """First steps, in which the segmentation network of AFP learns and is not used."""


class Segmenter(nn.Module):
    """A small network that finds the enhancing part and the tumour in T1 and T1GD."""

    def __init__(self, filters: int = 8) -> None:
        super().__init__()
        self.fine = nn.Conv3d(2, filters, 3, padding=1)
        self.coarse = nn.Conv3d(filters, 2 * filters, 3, stride=2, padding=1)
        self.wide = nn.Conv3d(2 * filters, 2 * filters, 3, padding=2, dilation=2)
        self.joined = nn.Conv3d(3 * filters, filters, 3, padding=1)
        self.logits = nn.Conv3d(filters, 2, 1)

    def features(self, x: Tensor) -> list[Tensor]:
        """(B, 2, X, Y, Z) -> the maps after each layer, two of them at half the grid."""
        full = F.leaky_relu(self.fine(x), 0.1)
        half = F.leaky_relu(self.coarse(full), 0.1)
        wide = F.leaky_relu(self.wide(half), 0.1)
        back = F.interpolate(wide, size=full.shape[2:], mode="nearest")
        return [full, half, wide, F.leaky_relu(self.joined(torch.cat([full, back], 1)), 0.1)]

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, X, Y, Z) -> logits of the enhancing part and of the tumour, (B, 2, X, Y, Z)."""
        return self.logits(self.features(x)[-1])

    def distance(self, pair: Tensor) -> Tensor:
        """Mean over layers of the mean absolute difference between the features of a batch's two halves."""
        first, second = zip(*(part.float().chunk(2) for part in self.features(pair)))
        return torch.stack([(one - other).abs().mean() for one, other in zip(first, second)]).mean()


class DifferentiableJudge(Supervised):
    """A network that minimises an image loss, the soft Dice of its contrast and, where asked for, AFP."""

    best_by = "val/contrast_tumour"
    """The best epoch has the highest concordance of contrast in the tumour; the image loss is best without a judge."""

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        train: TrainConfig,
        arithmetic: Arithmetic,
        settings: DifferentiableJudgeConfig,
        channels: int,
    ) -> None:
        """Raises ValueError for settings out of range."""
        if min(settings.weight, settings.feature_weight, settings.feature_steps) < 0 or not settings.softness > 0:
            raise ValueError(
                "--differentiable-judge.weight, feature-weight and feature-steps must be at least 0, softness above 0"
            )
        super().__init__(network, loss, train, arithmetic)
        self.settings, self.step = settings, 0
        self.segmenter: Segmenter | None = None
        if settings.feature_weight:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(train.seed)
                self.segmenter = Segmenter()
            arithmetic.place(self.segmenter)
            self.segmenter_optimiser = torch.optim.Adam(self.segmenter.parameters(), lr=SEGMENTER_RATE)

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One step of Adam; returns the image loss, the soft Dice's and, with AFP, both of its losses."""
        assert batch.t1 is not None  # `MethodSpec.needs_t1`
        self.network.train()
        image = self.arithmetic.run(self.forward, batch.inputs)
        error = self.loss(image, batch.target, batch.masks)
        judged = soft_dice(image - batch.t1, batch.masks, self.settings)
        total, figures = error + self.settings.weight * judged, {"loss": error, "soft_dice": judged}
        if self.segmenter is not None:
            figures |= self.feature_losses(self.segmenter, image, batch)
            total = total + self.settings.feature_weight * figures["features"]
        descend(self.optimiser, total, self.train.clip_norm)
        self.step += 1
        return {name: value.detach() for name, value in figures.items()}

    def feature_losses(self, segmenter: Segmenter, image: Tensor, batch: Batch) -> dict[str, Tensor]:
        """AFP as `features`, 0 in the first steps, and `segmentation`, the segmenter's own loss, of which it learns."""
        learns = self.step < self.settings.feature_steps
        segmenter.requires_grad_(learns)
        true = torch.cat([batch.t1, batch.target], 1)  # type: ignore[list-item]
        own = segmentation_loss(self.arithmetic.run(segmenter, true), batch.masks)
        if learns:
            descend(self.segmenter_optimiser, own, self.train.clip_norm)
            return {"features": torch.zeros_like(own), "segmentation": own}
        synthetic = torch.cat([batch.t1, torch.where(batch.masks["brain"], image, BACKGROUND)], 1)  # type: ignore[list-item]
        return {
            "features": self.arithmetic.run(segmenter.distance, torch.cat([synthetic, true])),
            "segmentation": own,
        }

    def state_dict(self) -> dict[str, Any]:
        """Weights, Adam's moments and the number of steps; with AFP the segmenter's, too."""
        state = super().state_dict() | {"step": self.step}
        if self.segmenter is not None:
            state |= {"segmenter": self.segmenter.state_dict()}
            state |= {"segmenter_optimiser": self.segmenter_optimiser.state_dict()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        super().load_state_dict(state)
        self.step = state["step"]
        if self.segmenter is not None:
            self.segmenter.load_state_dict(state["segmenter"])
            self.segmenter_optimiser.load_state_dict(state["segmenter_optimiser"])


def soft_dice(contrast: Tensor, masks: Masks, settings: DifferentiableJudgeConfig) -> Tensor:
    """1 - Dice of the soft enhancement of `contrast`, image - T1 (B, 1, X, Y, Z), over the tumour; mean over patients.

    With the means of the soft enhancement over the enhancing and over the other voxels of a tumour, e and o, the Dice
    of voxels that weigh 1 / (number of their kind) is 2 e / (1 + e + o). Where no voxel enhances e is 1, so that it
    falls with o alone; where all do o is 0. A patient without a tumour has a loss of 0.
    """
    soft = torch.sigmoid((contrast - settings.threshold) / settings.softness)
    enhancing = masks["enhancing"]
    inside = mean_of(soft, enhancing, empty=1.0)
    outside = mean_of(soft, masks["tumour"] & ~enhancing, empty=0.0)
    return (1 - 2 * inside / (1 + inside + outside)).mean()


def mean_of(values: Tensor, mask: Tensor, *, empty: float) -> Tensor:
    """Mean over the mask of each patient, (B,); `empty` where the mask is."""
    count = mask.flatten(1).sum(1)
    total = values.masked_fill(~mask, 0).flatten(1).sum(1)
    return torch.where(count > 0, total / count.clamp(min=1), empty)


def segmentation_loss(logits: Tensor, masks: Masks) -> Tensor:
    """1 - soft Dice over the batch and cross-entropy over the brain, of logits (B, 2, X, Y, Z) of both regions."""
    truth, brain = torch.cat([masks["enhancing"], masks["tumour"]], 1).float(), masks["brain"].float()
    found = logits.sigmoid() * brain
    overlap, both = (found * truth).sum((0, 2, 3, 4)), (found + truth).sum((0, 2, 3, 4))
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * brain
    return 1 - ((2 * overlap + 1) / (both + 1)).mean() + entropy.sum() / (2 * brain.sum()).clamp(min=1)


DIFFERENTIABLE_JUDGE = MethodSpec(make=DifferentiableJudge, settings=DifferentiableJudgeConfig, needs_t1=True)
