"""The parts of the five networks: each of the method's changes looked for where it should be."""

from __future__ import annotations

import pytest
import torch
from networks import FINE_TUNED, IDS, meta, noise, strided, tiny
from torch import nn

from lab.synthesis.networks import layers
from lab.synthesis.networks import paper as models
from lab.synthesis.networks.layers import AttentionGate, BatchNorm, Residual
from lab.synthesis.networks.paper import build


@pytest.mark.parametrize("model", IDS)
def test_kernel_sizes(model):
    kernels = {m.kernel_size for m in strided(meta(model))}
    assert kernels == {(4, 4, 4) if model == 0 else (3, 3, 3)}
    assert len(strided(meta(model))) == 10


def test_the_baseline_is_initialised_normal_with_sd_002():
    for module in strided(build(0, width=16, depth=5)):
        if module.weight.numel() > 5000:
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert module.weight.mean().item() == pytest.approx(0, abs=1e-3)
            assert module.weight.abs().max() > 0.05  # tails that a uniform distribution of this sd lacks


@pytest.mark.parametrize("model", FINE_TUNED)
def test_the_others_are_initialised_after_xavier(model):
    checked = 0
    for module in build(model, width=8, depth=3).modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            voxels = module.weight[0, 0].numel()
            bound = (6 / ((module.weight.shape[0] + module.weight.shape[1]) * voxels)) ** 0.5
            assert module.weight.abs().max() <= bound
            if module.weight.numel() > 1000:
                assert module.weight.abs().max() > 0.99 * bound
                assert module.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
                checked += 1
    assert checked >= 5


@pytest.mark.parametrize("model", IDS)
def test_biases_start_at_zero_and_stand_only_where_no_normalisation_follows(model):
    biased = [m for m in tiny(model).modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d) and m.bias is not None]
    assert len(biased) == (1 if model != 3 else 4)  # the image, and the weight of each attention gate
    assert all((m.bias == 0).all() for m in biased)


@pytest.mark.parametrize("model", IDS)
def test_the_first_down_convolution_is_not_normalised_and_the_others_are(model):
    blocks = [block[-1] for block in tiny(model, depth=4).down]
    kinds = [[type(layer) for layer in block] for block in blocks]
    assert kinds[0] == [nn.Conv3d, nn.LeakyReLU]
    assert kinds[1:] == [[nn.Conv3d, BatchNorm, nn.LeakyReLU]] * 3


@pytest.mark.parametrize("model", IDS)
@pytest.mark.parametrize(("depth", "expected"), [(5, [True, True, False, False]), (3, [True, False]), (2, [True])])
def test_dropout_stands_on_the_deepest_up_blocks(model, depth, expected):
    network = tiny(model, depth=depth, dropout=0.3)
    found = [any(isinstance(layer, nn.Dropout) for layer in block) for block in network.up]
    assert found == expected
    drops = [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)]
    assert drops == [0.3] * sum(expected)


@pytest.mark.parametrize("model", IDS)
def test_dropout_acts_in_training_alone(model):
    network, x = tiny(model, norm="group"), noise(1, 3, 16, 16, 16)
    assert not torch.equal(network.train()(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


def test_the_baseline_has_no_full_scale_skip_and_makes_the_image_in_its_last_up_sampling():
    network = tiny(0)
    assert network.front is None
    assert isinstance(network.image, nn.Identity)
    last = strided(network)[-1]
    assert isinstance(last, nn.ConvTranspose3d)
    assert last.out_channels == 1


@pytest.mark.parametrize("model", FINE_TUNED)
def test_the_fine_tuned_have_a_full_scale_skip(model):
    network = tiny(model, width=6).eval()
    assert network.front is not None
    assert (network.front[0].out_channels, network.front[0].stride) == (6, (1, 1, 1))
    assert network.last[1].out_channels == 6
    assert network.image.in_channels == 12
    with torch.no_grad():  # cut everything that comes up: what the skip carries still reaches the image
        network.image.weight[:, :6] = 0
    image = network(noise(1, 3, 16, 16, 16))
    assert image.std() > 0.01


@pytest.mark.parametrize("model", [2, 3, 4])
def test_each_modality_stem_sees_its_own_modality(model):
    network = tiny(model, width=8).eval()
    x, other = noise(1, 3, 8, 8, 8), noise(1, 3, 8, 8, 8, seed=1)
    before = network.stems(x)
    assert before.shape == (1, 12, 8, 8, 8)  # width / 2 filters each
    for modality in range(3):
        changed = x.clone()
        changed[:, modality] = other[:, modality]
        moved = (network.stems(changed) != before).flatten(2).any(2)[0]
        assert moved.view(3, 4).any(1).tolist() == [i == modality for i in range(3)]


def test_the_stems_are_a_convolution_a_normalisation_and_relu():
    stems = meta(2).stems.stems
    assert [type(layer) for layer in stems[0]] == [nn.Conv3d, BatchNorm, nn.ReLU]
    assert [stem[0].out_channels for stem in stems] == [32, 32, 32]
    assert isinstance(meta(1).stems, nn.Identity)


@pytest.mark.parametrize("model", IDS)
def test_only_the_attention_model_has_gates_one_for_every_skip(model):
    gates = [m for m in tiny(model, depth=4).modules() if isinstance(m, AttentionGate)]
    assert len(gates) == (4 if model == 3 else 0)  # three skips and the full-scale one


def test_attention_scales_a_skip_by_weights_between_0_and_1():
    gate = AttentionGate(4, 6, "batch").eval()
    skip, signal = noise(2, 4, 5, 6, 7), noise(2, 6, 5, 6, 7, seed=1)
    weights = gate(skip, signal) / skip
    assert (weights > 0).all()
    assert (weights < 1).all()
    torch.testing.assert_close(weights, weights[:, :1].expand_as(weights))  # one weight a voxel, for all channels
    assert weights.std() > 1e-3
    assert not torch.equal(gate(skip, noise(2, 6, 5, 6, 7, seed=2)), gate(skip, signal))  # the signal steers it


def test_gates_are_used_by_the_network():
    network, x = tiny(3).eval(), noise(1, 3, 16, 16, 16)
    before = network(x)
    for gate in [*network.gates, network.last_gate]:
        closed = gate.weight.bias.detach().clone()
        with torch.no_grad():
            gate.weight.bias.fill_(-50)
        assert not torch.equal(network(x), before)
        with torch.no_grad():
            gate.weight.bias.copy_(closed)
    assert torch.equal(network(x), before)


@pytest.mark.parametrize("model", IDS)
def test_only_the_residual_model_has_a_layer_before_every_strided_convolution(model):
    depth = 4
    network = tiny(model, depth=depth)
    order = [m for m in network.modules() if isinstance(m, Residual) or m in strided(network)]
    kinds = [isinstance(m, Residual) for m in order]
    assert kinds == ([True, False] * 2 * depth if model == 4 else [False] * 2 * depth)


def test_a_residual_layer_adds_to_its_input():
    layer = Residual(4, "batch").eval()
    with torch.no_grad():
        layer.second[0].weight.zero_()
    x = noise(1, 4, 6, 6, 6)
    torch.testing.assert_close(layer(x), x.relu())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_our_batch_norm_is_torchs(training, channels_last):
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    x = 3 * noise(2, 5, 4, 6, 3).contiguous(memory_format=layout) + 1
    seen = []
    for layer in (BatchNorm(5), nn.BatchNorm3d(5)):
        with torch.no_grad():
            layer.weight.copy_(torch.arange(1, 6))
            layer.bias.copy_(torch.arange(5))
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        for _ in range(2):  # the running statistics move
            image = layer.train(training)(leaf)
        (image * noise(*x.shape, seed=1)).sum().backward()
        seen.append([image, leaf.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()])
        assert image.is_contiguous(memory_format=layout)
    for ours, theirs in zip(*seen):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_convolving_two_parts_is_convolving_them_joined():
    convolution, x, skip = nn.Conv3d(7, 1, 3, padding="same"), noise(2, 4, 6, 5, 7), noise(2, 3, 6, 5, 7, seed=1)
    joined = convolution(torch.cat([x, skip], dim=1))
    torch.testing.assert_close(models.convolve_joined(convolution, x, skip), joined, atol=1e-5, rtol=1e-4)


def test_the_normalisation_is_the_one_asked_for():
    kinds = {"batch": BatchNorm, "instance": nn.InstanceNorm3d, "group": nn.GroupNorm}
    for norm, kind in kinds.items():
        found = {type(m) for m in tiny(4, norm=norm).modules() if isinstance(m, tuple(kinds.values()))}
        assert found == {kind}


@pytest.mark.parametrize(("inside", "outside", "kernel"), [(6, 4, 3), (7, 1, 4)])
def test_a_transposed_convolution_in_pieces_is_the_same_convolution(monkeypatch, inside, outside, kernel):
    layer = layers.Double(inside, outside, kernel, bias=True)
    x = noise(2, inside, 4, 5, 6)
    whole = layer(x)
    monkeypatch.setattr(layers, "CPU_KERNEL_BYTES", whole[:, 0].numel() * 4 * 3)
    torch.testing.assert_close(layer(x), whole)
    assert whole.shape == (2, outside, 8, 10, 12)
