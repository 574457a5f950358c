"""A mean image, and a flow that leads from it to an image as sharp as a true one in one step.

Posterior-mean rectified flow (Ohayon, Michaeli and Elad 2024): of two networks of the paper's family the first
predicts the mean image, the second the velocity from a point near the mean, mean + noise, to the true image. It learns
the flow at any time t between 0 (mean + noise) and 1 (the true image), for many short steps. A single step of that flow
would lead to the mean again, so it also learns the whole way in one step, told by the input `one`:

    image = start + velocity(inputs, mean, start, t = 0, one = 1),    start = mean + noise

The noise has a fixed seed: the same inputs give the same image. Other seeds give other samples, and their spread says
how much the inputs leave open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lab.config import ModelConfig, network_key
from lab.synthesis.networks import BACKGROUND, NetworkSpec
from lab.synthesis.networks.monai_networks import at_least
from lab.synthesis.networks.paper import MODELS, unet


@dataclass(frozen=True, kw_only=True)
class ResidualFlowConfig:
    """The two networks of the method flow."""

    model: str = "model-0"
    """Both networks: `model-0` to `model-4`."""
    width: int = 64
    """Filters of their first level."""
    depth: int = 5
    """Number of halvings."""
    norm: Literal["batch", "instance", "group"] = "batch"
    """Normalisation of the mean's network. That of the velocity is `group`: a batch's statistics depend on t."""
    dropout: float = 0.5
    """Dropout of the mean's network; the velocity has none."""
    noise: float = 0.1
    """Standard deviation of the noise, in normalised units."""
    samples: int = 4
    """Samples from which the spread is estimated, at least 2; the image is the first."""


class ResidualFlow(nn.Module):
    """A network for the mean and one for the velocity."""

    outputs = ("image", "spread")
    """The maps of `everything`: the image, and half the mean absolute difference between two samples."""

    def __init__(self, channels: int, settings: ResidualFlowConfig) -> None:
        super().__init__()
        number = int(network_key(settings.model).removeprefix("model-"))
        size: dict[str, Any] = {"width": settings.width, "depth": settings.depth}
        self.mean = unet(number, ModelConfig(norm=settings.norm, dropout=settings.dropout, **size), channels)
        self.velocity = unet(number, ModelConfig(norm="group", dropout=0.0, **size), channels + 4)
        self.noise, self.samples = settings.noise, settings.samples

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) in [-1, 1] -> image (B, 1, X, Y, Z) in [-1, 1], the sample of the first seed."""
        return self.sample(x, self.mean_image(x), seed=0)

    def everything(self, x: Tensor) -> Tensor:
        """The maps called `outputs`, (B, 2, X, Y, Z)."""
        mean = self.mean_image(x)
        samples = torch.stack(
            [self.sample(x, mean, seed=seed) for seed in range(self.samples)]
        ).float()  # (S, B, 1, ...)
        return torch.cat([samples[0], half_difference(samples)], dim=1)

    def mean_image(self, x: Tensor) -> Tensor:
        """The mean image, background where all inputs are."""
        return shown(x, self.mean(x))

    def sample(self, x: Tensor, mean: Tensor, *, seed: int) -> Tensor:
        """The image that one step leads to from the noise of a seed, which is the same for every case of a batch."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(1, 1, *x.shape[2:], generator=generator).to(x)
        start = shown(x, mean + self.noise * noise)
        still = torch.zeros(len(x), device=x.device)
        return shown(x, (start + self.speed(x, mean, start, still, one=True)).clamp(-1, 1))

    def speed(self, x: Tensor, mean: Tensor, point: Tensor, t: Tensor, *, one: bool) -> Tensor:
        """The velocity (B, 1, X, Y, Z) at a point at times `t` (B,); with `one` that of a single step to time 1."""
        times = t.view(-1, 1, 1, 1, 1).expand_as(point)
        return self.velocity(torch.cat([x, mean, point, times, torch.full_like(point, float(one))], 1))


def shown(x: Tensor, image: Tensor) -> Tensor:
    """The image, background where all inputs are."""
    return torch.where((x > BACKGROUND).any(1, keepdim=True), image, BACKGROUND)


def half_difference(samples: Tensor) -> Tensor:
    """Half the mean absolute difference between two of the samples (S, ...), voxel by voxel."""
    count = len(samples)
    pairs = [(samples[i] - samples[j]).abs() for i in range(count) for j in range(i)]
    return torch.stack(pairs).mean(0) / 2


def residual_flow(settings: ResidualFlowConfig, channels: int) -> nn.Module:
    """The network. Raises ValueError for settings out of range."""
    number = network_key(settings.model).removeprefix("model-")
    if not number.isdigit() or int(number) not in MODELS:
        raise ValueError(f"--residual-flow.model {settings.model}: choose from model-0 to model-{max(MODELS)}")
    at_least(settings.samples, "--residual-flow.samples", 2)
    if settings.noise < 0:
        raise ValueError(f"--residual-flow.noise {settings.noise:g}: at least 0 is needed")
    return ResidualFlow(channels, settings)


RESIDUAL_FLOW = NetworkSpec(
    settings=ResidualFlowConfig,
    build=residual_flow,
    width="width",
    divisor=lambda settings: 2**settings.depth,
    reads_volume=lambda _: (
        "its group normalisation takes statistics over the whole volume, for which its noise is made"
    ),
)
