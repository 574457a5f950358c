"""Contract tests over the five networks: their sizes, their grids, their weights; see `test_layers` for their parts."""

from __future__ import annotations

import re

import pytest
import torch
from networks import IDS, meta, noise, tiny
from torch import nn

from lab.synthesis.networks import count_parameters, layers, measure
from lab.synthesis.networks import paper as models
from lab.synthesis.networks.paper import build

PUBLISHED = re.findall(r"model (\d) +([\d,]+) +\(([\d,]+)\)", models.__doc__ or "")


@pytest.mark.parametrize(("model", "paper", "small"), PUBLISHED)
def test_the_docstring_states_the_parameter_counts(model, paper, small):
    assert count_parameters(meta(int(model))) == int(paper.replace(",", ""))
    assert count_parameters(meta(int(model), width=16)) == int(small.replace(",", ""))


def test_every_model_is_in_the_docstring():
    assert [int(model) for model, _, _ in PUBLISHED] == IDS == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("model", IDS)
def test_every_grid_keeps_its_shape(model, depth):
    network = build(model, width=2, depth=depth).eval()
    for shape in [(13, 7, 9), (16, 32, 8), (1, 33, 5)]:
        with torch.no_grad():
            image = network(noise(1, 3, *shape))
        assert image.shape == (1, 1, *shape)
        assert image.isfinite().all()
        assert image.abs().max() < 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("model", IDS)
def test_any_number_of_inputs_and_all_of_them_count(model, count):
    network = tiny(model, in_channels=count, depth=2).eval()
    x = noise(2, count, 8, 8, 8).requires_grad_()
    network(x)[0].sum().backward()
    assert (x.grad[0].abs().amax((1, 2, 3)) > 0).all()
    assert (x.grad[1] == 0).all()  # the other patient has no say


@pytest.mark.parametrize("model", IDS)
def test_the_papers_grid_ends_at_5_6_5(model):
    with torch.device("meta"):
        network = meta(model).eval()
        sizes: list[tuple[int, ...]] = []
        for block in network.down:
            block.register_forward_hook(lambda _, __, y: sizes.append(tuple(y.shape[1:])))
        image = network(torch.empty(1, 3, 160, 192, 160))
    assert [size[0] for size in sizes] == [64, 128, 256, 512, 512]
    assert sizes[-1] == (512, 5, 6, 5)
    assert image.shape == (1, 1, 160, 192, 160)


def test_a_patch_of_64_ends_at_2():
    sizes = []
    network = meta(1).eval()
    network.down[-1].register_forward_hook(lambda _, __, y: sizes.append(tuple(y.shape[2:])))
    network(torch.empty(1, 3, 64, 64, 64, device="meta"))
    assert sizes == [(2, 2, 2)]


def test_the_padding_is_background_behind_the_last_voxel():
    x = noise(1, 2, 5, 8, 7)
    padded = measure.pad_to_multiple(x, 4)
    assert padded.shape == (1, 2, 8, 8, 8)
    assert torch.equal(padded[:, :, :5, :, :7], x)
    assert (padded[:, :, 5:] == -1).all()
    assert (padded[..., 7:] == -1).all()
    assert measure.pad_to_multiple(x, 1) is x


@pytest.mark.parametrize("model", IDS)
def test_the_image_is_a_tanh(model):
    network = tiny(model).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                module.weight *= 100
    image = network(noise(1, 3, 8, 8, 8))
    assert image.abs().max() <= 1
    assert image.abs().max() > 0.99


@pytest.mark.parametrize("model", IDS)
def test_the_seed_alone_determines_the_weights(model):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = tiny(model, seed=7).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = tiny(model, seed=7).state_dict(), tiny(model, seed=8).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("model", IDS)
def test_channels_last_gives_the_same_image(model):
    network, x = tiny(model).eval(), noise(2, 3, 11, 12, 13)
    with torch.no_grad():
        plain = network(x)
        turned = network.to(memory_format=torch.channels_last_3d)(x.contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(turned, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model", IDS)
def test_bfloat16_gives_nearly_the_same_image_and_trains(model):
    network, x = tiny(model), noise(2, 3, 16, 16, 16)
    with torch.no_grad():
        plain = network.eval()(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(x)
    assert rough.dtype == torch.bfloat16
    assert 0 < (rough.float() - plain).abs().max() < 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network.train()(x).float().abs().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("norm", sorted(layers.NORMS))
@pytest.mark.parametrize("model", IDS)
def test_every_weight_learns_under_every_normalisation(model, norm):
    network = tiny(model, norm=norm, dropout=0.0)
    network(noise(2, 3, 16, 16, 16)).sub(0.3).square().mean().backward()
    # before an instance norm of a constant, say, a weight could be cut off without anybody noticing
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": 5}, "there is no network 'model-5'; choose from model-0, .* swin-unetr"),
        ({"model": 0, "width": 0}, "width 0"),
        ({"model": 0, "depth": 0}, "depth 0"),
        ({"model": 0, "in_channels": 0}, "0 inputs"),
        ({"model": 0, "norm": "layer"}, "normalisation 'layer'; choose from batch, instance, group"),
    ],
)
def test_what_cannot_be_built_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        build(wrong.pop("model"), **wrong)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("model", IDS)
def test_a_bottleneck_of_one_voxel_is_refused_in_words(model, norm):
    network, x = tiny(model, norm=norm), noise(1, 3, 7, 8, 6)
    with pytest.raises(ValueError, match=r"3 halvings .* 7 x 8 x 6 voxels .* --model.depth 2"):
        network(x)
    assert tiny(model, depth=2, norm=norm)(x).isfinite().all()  # the advice holds
    assert tiny(model, norm="group")(x).isfinite().all()


def test_two_patients_or_an_evaluation_can_have_a_bottleneck_of_one_voxel():
    x = noise(2, 3, 8, 8, 8)
    assert tiny(0)(x).isfinite().all()
    assert tiny(0).eval()(x[:1]).isfinite().all()


@pytest.mark.parametrize("model", IDS)
def test_every_model_is_one_graph_for_torch_compile(model):
    network, x = tiny(model, width=2, depth=2).eval(), noise(1, 3, 7, 8, 8)
    graph = torch.compile(network, backend="eager", fullgraph=True)
    assert torch.equal(graph(x), network(x))


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_image():
    network, x = build(0, width=2, depth=1).eval(), noise(1, 3, 8, 8, 8)
    with torch.no_grad():
        plain = network(x)
        try:
            compiled = torch.compile(network)(x)
        except Exception as error:  # no C++ compiler on this machine, say: torch has no common base class for it
            pytest.skip(f"torch.compile does not work here: {str(error).splitlines()[0]}")
    torch.testing.assert_close(compiled, plain, atol=1e-5, rtol=1e-4)
