"""Tiles give the whole volume's voxels where that is possible, and say what they do where it is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lab.inference import tiling as tiles
from lab.inference.tiling import SHARE, Way, choose_way, exact, needed_bytes, predict_by, predict_image, why_not_exact
from lab.synthesis.device import choose
from lab.synthesis.networks.measure import receptive_field
from lab.synthesis.networks.paper import MODELS, UNet, build

CPU = choose("cpu", "float32")


def network(model: int, depth: int = 2, **changes) -> UNet:
    """Random weights everywhere, also in the running statistics."""
    net = build(model, width=3, depth=depth, **changes).eval()
    generator = torch.Generator().manual_seed(model)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.copy_(torch.rand(len(module.running_mean), generator=generator) - 0.5)
            module.running_var.copy_(torch.rand(len(module.running_var), generator=generator) + 0.5)
    return net


def volume(*shape: int) -> Tensor:
    return torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("depth", "shape", "edge"), [(1, (18, 9, 49), 4), (2, (70, 12, 13), 8)])
def test_exact_tiles_are_the_whole_volume(model, depth, shape, edge):
    net, x = network(model, depth), volume(*shape)
    with torch.no_grad():
        whole = net(x)
    seen = []
    hook = net.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    tiled = exact(net, x, edge, CPU)
    hook.remove()
    torch.testing.assert_close(tiled, whole, atol=2e-6, rtol=0)
    assert len(seen) > 2
    assert max(shape) > max(size[shape.index(max(shape))] for size in seen)  # no tile saw the longest side whole


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("depth", [1, 2])
def test_what_a_voxel_depends_on_is_what_its_gradient_says(model, depth):
    net = network(model, depth).double()
    size, narrow = 80, 8
    for voxel in (36, 37, 39):
        x = volume(size, narrow, narrow).double().requires_grad_()
        net(x)[0, 0, voxel].sum().backward()
        touched = x.grad[0].abs().amax(dim=(0, 2, 3)).nonzero().flatten()
        first, last = receptive_field(net, (voxel, voxel + 1), limit=size)
        assert first <= touched.min()
        assert touched.max() < last
        assert touched.min() - first <= 2**depth  # and hardly more
        assert last - 1 - touched.max() <= 2**depth


def test_a_halo_that_is_too_small_shows(monkeypatch):
    """So the tests above can fail."""
    monkeypatch.setattr(tiles, "receptive_field", lambda net, voxels, limit: voxels)
    net, x = network(1), volume(40, 12, 12)
    with torch.no_grad():
        assert (exact(net, x, 8, CPU) - net(x)).abs().max() > 1e-3


def test_why_there_is_no_exact_way():
    assert why_not_exact(network(1), 24, (80, 80, 80)) == ""
    assert "reaches through the whole volume" in why_not_exact(network(4, depth=5), 32, (160, 192, 160))
    assert "times the work" in why_not_exact(network(1, depth=5), 32, (160, 192, 160))
    assert "instance normalisation" in why_not_exact(network(1, norm="instance"), 8, (80, 80, 80))
    assert "group normalisation" in why_not_exact(network(1, norm="group"), 8, (80, 80, 80))
    assert why_not_exact(nn.Identity(), 8, (80, 80, 80)) == ""  # measured: a voxel depends on itself


def test_the_way_follows_memory(monkeypatch):
    shallow, deep, shape = network(1), network(1, depth=5), (160, 192, 160)
    assert choose_way(shallow, shape, CPU) == Way(kind="whole")
    whole = needed_bytes(shallow, shape, CPU)
    for share in (0.6, 0.3):
        monkeypatch.setattr("lab.data.batches.free_memory", lambda _, share=share: share * whole / SHARE)
        way = choose_way(shallow, shape, CPU)
        assert way.kind == "exact"
        assert way.edge % 4 == 0
        held = tiles._with_halo(shallow, way.edge, shape)
        more = tiles._with_halo(shallow, way.edge + 4, shape)
        assert needed_bytes(shallow, held, CPU) <= share * whole < needed_bytes(shallow, more, CPU)
        way = choose_way(deep, shape, CPU)
        assert (way.kind, way.edge % 32) == ("blended", 0)
        assert needed_bytes(deep, (way.edge,) * 3, CPU) <= share * whole
    monkeypatch.setattr("lab.data.batches.free_memory", lambda _: 1)
    with pytest.raises(ValueError, match="are free"):
        choose_way(shallow, shape, CPU)


def test_the_way_that_is_asked_for():
    net, shape = network(1), (80, 40, 40)
    assert choose_way(net, shape, CPU, edge=23) == Way(kind="exact", edge=24)
    assert choose_way(net, shape, CPU, edge=80) == Way(kind="whole")
    patches = choose_way(net, shape, CPU, trained_on=20)
    assert (patches.kind, patches.edge) == ("blended", 20)
    assert "trained on patches" in patches.reason
    assert choose_way(net, (16, 16, 16), CPU, trained_on=20) == Way(kind="whole")
    assert choose_way(network(1, norm="instance"), shape, CPU, edge=1).edge == 8  # two voxels at the bottom
    with pytest.raises(ValueError, match="--tile 0"):
        choose_way(net, shape, CPU, edge=0)


class Edgy(nn.Module):
    """Another value on the outermost voxels of what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.ones_like(x[:, :1]) / 2
        y[..., 1:-1, 1:-1, 1:-1] = 0
        return y


def test_blended_tiles_tell_how_far_they_lie_apart():
    x = volume(20, 20, 20)
    brain = torch.ones(1, 1, 20, 20, 20, dtype=torch.bool)
    way = Way(kind="blended", edge=8)
    blended, seam = predict_by(Edgy(), x, brain=brain, arithmetic=CPU, way=way)
    torch.testing.assert_close(blended, predict_image(Edgy(), x, brain=brain, arithmetic=CPU, window=(8, 8, 8)))
    assert 0.05 < seam <= 0.25  # the largest SD of two values that lie 1/2 apart
    brain[..., :3] = False
    image, seam = predict_by(nn.Identity(), x[:, :1], brain=brain, arithmetic=CPU, way=way)
    torch.testing.assert_close(image, torch.where(brain, x[:, :1], -1.0), atol=1e-6, rtol=0)
    assert seam < 1e-3


def test_every_way_draws_background_outside_the_brain():
    net, x = network(1), volume(40, 12, 12)
    brain = x[:, :1] > 0
    images = []
    for way in (Way(kind="whole"), Way(kind="exact", edge=8), Way(kind="blended", edge=16)):
        image, _ = predict_by(net, x, brain=brain, arithmetic=CPU, way=way)
        assert (image[~brain] == -1).all()
        images.append(image)
    torch.testing.assert_close(images[0], images[1], atol=2e-6, rtol=0)
    assert 1e-6 < (images[0] - images[2]).abs().max() < 0.5
