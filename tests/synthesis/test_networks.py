"""Contract tests over the five networks, and each of the method's changes looked for where it should be."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from lab.synthesis.networks import count_parameters, layers, measure
from lab.synthesis.networks import paper as models
from lab.synthesis.networks.layers import AttentionGate, BatchNorm, Residual
from lab.synthesis.networks.paper import MODELS, UNet, build

IDS = sorted(MODELS)
FINE_TUNED = [1, 2, 3, 4]
PAPER = {"in_channels": 3, "width": 64, "depth": 5, "norm": "batch", "dropout": 0.5}
PUBLISHED = re.findall(r"model (\d) +([\d,]+) +\(([\d,]+)\)", models.__doc__ or "")


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


@pytest.mark.parametrize(("inside", "outside", "kernel"), [(6, 4, 3), (7, 1, 4)])
def test_a_transposed_convolution_in_pieces_is_the_same_convolution(monkeypatch, inside, outside, kernel):
    layer = layers.Double(inside, outside, kernel, bias=True)
    x = torch.randn(2, inside, 4, 5, 6)
    whole = layer(x)
    monkeypatch.setattr(layers, "CPU_KERNEL_BYTES", whole[:, 0].numel() * 4 * 3)
    torch.testing.assert_close(layer(x), whole)
    assert whole.shape == (2, outside, 8, 10, 12)


def test_batch_norm_of_channels_last_volumes_is_torchs():
    ours, torchs = BatchNorm(8), nn.BatchNorm3d(8)
    x = torch.randn(2, 8, 5, 6, 7).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    y = x.detach().clone().requires_grad_()
    gradient = torch.randn_like(x)
    ours(x).backward(gradient)
    torchs(y).backward(gradient)
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(ours.running_var, torchs.running_var)
