"""The paper's networks, small ones and such without memory, and what the tests ask of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lab.synthesis.networks.paper import MODELS, UNet, build

IDS = sorted(MODELS)
FINE_TUNED = [1, 2, 3, 4]
PAPER = {"in_channels": 3, "width": 64, "depth": 5, "norm": "batch", "dropout": 0.5}


def meta(model: int, **changes: object) -> UNet:
    """A network of the paper's size without memory for its weights."""
    with torch.device("meta"):
        return UNet(**(PAPER | changes | MODELS[model]))  # type: ignore[arg-type]


def tiny(model: int, **changes: object) -> UNet:
    return build(model, **({"width": 4, "depth": 3} | changes))  # type: ignore[arg-type]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def strided(network: nn.Module) -> list[nn.Conv3d | nn.ConvTranspose3d]:
    """The (de)convolutions that change the grid, in their order."""
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    return [m for m in convolutions if m.stride == (2, 2, 2)]
