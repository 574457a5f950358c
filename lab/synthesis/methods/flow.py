"""A mean image by supervised training, and a flow from it to images as sharp as the true ones, drawn in one step.

See `lab.synthesis.networks.residual_flow` for the network and its source. In each step of training

- the mean's network minimises the image loss (`--loss.name`; with an L1 loss the mean image is a median);
- the velocity learns by least squares, at a random time t, to lead from start = mean + noise to the true image: at the
  point (1 - t) start + t true its target is true - start (rectified flow, Liu, Gong and Liu 2023);
- the velocity of the single step learns to lead from a start to where `steps` short ones do (distillation, as there).
  Without that a single step would lead to the mean of all images, whatever the noise.

Both images are without background, and the mean is that of validation, without dropout, with no gradient from the flow.
The best epoch has the lowest CRPS, brain MAE - spread of the samples (Gneiting and Raftery 2007): by the error of one
sample alone, samples without any spread would always be best.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lab.config import TrainConfig
from lab.data.batches import Batch
from lab.synthesis.device import Arithmetic
from lab.synthesis.losses.image_losses import Loss, l2_brain
from lab.synthesis.methods import MethodSpec
from lab.synthesis.methods.supervised import adam, descend
from lab.synthesis.networks.residual_flow import ResidualFlow, shown


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """A flow from the mean image."""

    steps: int = 4
    """Short steps of the flow from which the single one is learnt."""


class Flow:
    """The mean's network and the velocity's, each with its Adam."""

    def __init__(
        self,
        network: ResidualFlow,
        loss: Loss,
        train: TrainConfig,
        arithmetic: Arithmetic,
        settings: FlowConfig,
        channels: int,
    ) -> None:
        """Raises ValueError for fewer than two steps."""
        if settings.steps < 2:
            raise ValueError(f"--flow.steps {settings.steps}: at least 2 are needed; a single one leads to the mean")
        self.network: Any = network
        arithmetic.place(network)
        self.loss, self.train, self.arithmetic, self.settings = loss, train, arithmetic, settings
        self.optimisers = {
            "optimiser": adam(self.network.mean.parameters(), train),
            "velocity_optimiser": adam(self.network.velocity.parameters(), train),
        }

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One step of both networks; returns the image loss and both losses of the velocity."""
        x = batch.inputs
        self.network.train()
        error = self.loss(self.arithmetic.run(self.network.mean, x), batch.target, batch.masks)
        descend(self.optimisers["optimiser"], error, self.train.clip_norm)

        self.network.mean.eval()
        with torch.no_grad():
            mean = shown(x, self.arithmetic.run(self.network.mean, x))
            start = shown(x, mean + self.network.noise * torch.randn_like(mean))
            t = torch.rand(len(x), device=x.device)
            between = t.view(-1, 1, 1, 1, 1)
            point = (1 - between) * start + between * shown(x, batch.target)
            end = self.by_short_steps(x, mean, start)
        flow = l2_brain(self.speed(x, mean, point, t), batch.target - start, batch.masks)
        whole = l2_brain(self.speed(x, mean, start, torch.zeros_like(t), one=True), end - start, batch.masks)
        descend(self.optimisers["velocity_optimiser"], flow + whole, self.train.clip_norm)
        return {"loss": error.detach(), "flow": flow.detach(), "one_step": whole.detach()}

    def by_short_steps(self, x: Tensor, mean: Tensor, point: Tensor) -> Tensor:
        """Where the flow leads to from a start, by Euler's method."""
        for step in range(self.settings.steps):
            t = torch.full((len(x),), step / self.settings.steps, device=x.device)
            point = shown(x, point + self.speed(x, mean, point, t) / self.settings.steps)
        return point

    def speed(self, x: Tensor, mean: Tensor, point: Tensor, t: Tensor, *, one: bool = False) -> Tensor:
        """`ResidualFlow.speed` in the arithmetic of training."""
        return self.arithmetic.run(lambda inputs: self.network.speed(inputs, mean, point, t, one=one), x)

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """The image, and the `spread` of samples: half their mean absolute difference, mean over the brain."""
        maps = self.arithmetic.run(self.network.eval().everything, inputs)
        inside = shown(inputs, torch.ones_like(maps[:, :1])) > 0
        spread = (maps[:, 1:] * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)
        return {"image": maps[:, :1], "spread": spread}

    def rank(self, figures: Mapping[str, float]) -> float:
        """The CRPS of the brain, which the best epoch has least of."""
        return figures["val/mae_brain"] - figures["val/spread"]

    def state_dict(self) -> dict[str, Any]:
        """Weights of both networks and the moments of both optimisers."""
        optimisers = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        return {"network": self.network.state_dict()} | optimisers

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.network.load_state_dict(state["network"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])


FLOW = MethodSpec(make=Flow, settings=FlowConfig, network="residual-flow")
