"""Whole volumes and overlapping tiles give the same image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lab.inference.tiling import predict_image
from lab.synthesis.device import choose
from lab.synthesis.networks.paper import build

CPU = choose("cpu", "float32")
SHAPE = (19, 24, 17)
WINDOWS = [(8, 8, 8), (16, 16, 16), (19, 8, 30)]


class Pointwise(nn.Module):
    """A network whose value at a voxel hangs on that voxel alone."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape[2:]))
        return torch.tanh(x[:, :1] - 2 * x[:, 1:2] * x[:, 2:])


def inputs(batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def everywhere(batch: int = 1) -> Tensor:
    return torch.ones(batch, 1, *SHAPE, dtype=torch.bool)


@pytest.mark.parametrize("overlap", [0.25, 0.5])
@pytest.mark.parametrize("window", WINDOWS)
def test_tiles_of_a_pointwise_network_leave_no_seam(window, overlap):
    network, x = Pointwise(), inputs(2)
    tiled = predict_image(network, x, brain=everywhere(2), arithmetic=CPU, window=window, overlap=overlap)
    assert set(network.seen) == {tuple(min(edge, size) for edge, size in zip(window, SHAPE))}
    assert len(network.seen) > 2
    torch.testing.assert_close(tiled, network(x), atol=1e-5, rtol=1e-5)


def test_tiles_weigh_their_middle_more_than_their_edge():
    class Edge(nn.Module):
        """Wrong on the outermost voxels of what it is given, as networks are."""

        def forward(self, x: Tensor) -> Tensor:
            y = torch.ones_like(x[:, :1])
            y[..., 2:-2, 2:-2, 2:-2] = 0
            return y

    image = predict_image(Edge(), inputs(), brain=everywhere(), arithmetic=CPU, window=(12, 12, 12), overlap=0.5)
    inside = image[..., 6:-6, 6:-6, 6:-6]
    assert inside.max() < 0.3  # a plain mean of the tiles gives up to 1/2 and more


def test_a_window_as_large_as_the_volume_is_the_volume():
    network, x = build(1, width=2, depth=2).eval(), inputs()
    whole = predict_image(network, x, brain=everywhere(), arithmetic=CPU)
    assert torch.equal(predict_image(network, x, brain=everywhere(), arithmetic=CPU, window=(32, 24, 32)), whole)


@pytest.mark.parametrize("window", [None, *WINDOWS])
def test_outside_the_brain_is_exactly_background(window):
    x, brain = inputs(), everywhere()
    brain[..., :5] = False
    brain[..., 3:6, 7:9, :] = False
    image = predict_image(build(0, width=2, depth=2), x, brain=brain, arithmetic=CPU, window=window)
    assert (image[~brain] == -1).all()
    assert (image[brain] > -1).all()
    assert image.shape == (1, 1, *SHAPE)
    assert image.dtype == torch.float32


def test_the_network_is_judged_in_evaluation_mode_without_gradient():
    network, x = build(1, width=2, depth=2, dropout=0.5).train(), inputs()
    first = predict_image(network, x, brain=everywhere(), arithmetic=CPU)
    assert not network.training
    assert not first.requires_grad
    assert torch.equal(predict_image(network, x, brain=everywhere(), arithmetic=CPU), first)


def test_bfloat16_comes_back_as_float32():
    network, x = build(1, width=2, depth=2), inputs()
    exact = predict_image(network, x, brain=everywhere(), arithmetic=CPU)
    rough = predict_image(network, x, brain=everywhere(), arithmetic=choose("cpu", "bfloat16"))
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.1
