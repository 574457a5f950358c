"""Supervised training: one network, one loss, one Adam."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lab.config import TrainConfig
from lab.data.batches import Batch
from lab.synthesis.device import Arithmetic
from lab.synthesis.losses.image_losses import Loss
from lab.synthesis.methods import MethodSpec


class Supervised:
    """A network that minimises a loss."""

    def __init__(self, network: nn.Module, loss: Loss, train: TrainConfig, arithmetic: Arithmetic) -> None:
        self.network, self.loss = arithmetic.place(network), loss
        self.train, self.arithmetic = train, arithmetic
        self.forward: Any = torch.compile(network) if train.compile else network
        self.optimiser = adam(network.parameters(), train)

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One step of Adam; returns the loss."""
        self.network.train()
        value = self.loss(self.arithmetic.run(self.forward, batch.inputs), batch.target, batch.masks)
        descend(self.optimiser, value, self.train.clip_norm)
        return {"loss": value.detach()}

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """The image."""
        self.network.eval()
        return {"image": self.arithmetic.run(self.forward, inputs)}

    def state_dict(self) -> dict[str, Any]:
        """Weights and Adam's moments."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])


def adam(parameters: Iterable[nn.Parameter], train: TrainConfig) -> torch.optim.Adam:
    """Adam with the settings of training."""
    return torch.optim.Adam(parameters, lr=train.learning_rate, betas=train.betas)


def descend(optimiser: torch.optim.Optimizer, value: Tensor, clip_norm: float) -> Tensor:
    """One step down the gradient of `value`, with its norm clipped at `clip_norm`; 0 does not clip.

    Returns the norm before clipping.
    """
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    parameters = [p for entry in optimiser.param_groups for p in entry["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, clip_norm or math.inf)
    optimiser.step()
    return norm


SUPERVISED = MethodSpec(
    make=lambda network, loss, train, arithmetic, settings, channels: Supervised(network, loss, train, arithmetic)
)
