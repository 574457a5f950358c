"""Contract tests over NETWORKS, METHODS and BASELINES: what each entry promises to the rest of the lab."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training import INPUTS, Killed, assert_same, change, load_state

from lab.config import Config, LossConfig, ModelConfig, TrainConfig, network_key
from lab.data.batches import Batch, CaseStore, image_of
from lab.evaluation.evaluate import evaluate
from lab.inference.tiling import exact as exact_tiles
from lab.inference.tiling import predict_named, why_not_exact
from lab.report.tables.patient_table import BASELINE_NAMES
from lab.synthesis import Registry, group, settings_of
from lab.synthesis.baselines import BASELINES, Training
from lab.synthesis.device import choose
from lab.synthesis.losses import make_loss
from lab.synthesis.methods import METHODS
from lab.synthesis.networks import (
    NETWORKS,
    NetworkSpec,
    build_from_record,
    build_network,
    count_parameters,
    match_parameters,
    measure,
    parameters_of,
)
from lab.synthesis.networks.monai_networks import DynUNetConfig
from lab.synthesis.train import Fitted, fit

CPU = choose("cpu", "float32")
SMALL: dict[str, dict[str, Any]] = {
    "segresnet": {"init_filters": 4, "blocks_down": (1, 1, 1), "blocks_up": (1, 1)},
    "dynunet": {"filters": 3, "levels": 3},
    "attention-unet": {"channels": 2, "levels": 3},
    "swin-unetr": {"feature_size": 12, "window_size": 3},
    "place-unet": {"filters": 3, "image_filters": 2},
    "residual-flow": {"width": 3, "depth": 2, "samples": 2},
}


def small(name: str, channels: int = 3, **changes: Any) -> nn.Module:
    kind = NETWORKS[name].settings
    fields = {"width": 3, "depth": 2} if kind is ModelConfig else SMALL.get(name, {})
    settings = kind(**(fields | changes))
    network: nn.Module = build_network(name, settings, channels, seed=5)
    return network


def volume(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_keeps_the_shape_is_finite_and_every_weight_learns(name):
    network = small(name, channels=2)
    image = network(volume(2, 2, 9, 33, 6))
    assert image.shape == (2, 1, 9, 33, 6)
    assert image.abs().max() <= 1
    image.sub(0.3).square().mean().backward()
    gradients = [p.grad for p in network.parameters() if p.requires_grad]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    with torch.no_grad():
        assert network.eval()(volume(1, 2, 3, 2, 1)).shape == (1, 1, 3, 2, 1)
        for parameter in network.parameters():
            parameter.mul_(3)
        assert network(volume(1, 2, 9, 33, 6)).abs().max() <= 1


@pytest.mark.parametrize("name", NETWORKS)
def test_the_seed_alone_determines_a_networks_weights_and_its_record_builds_it_again(name):
    torch.manual_seed(1)
    first = small(name)
    torch.manual_seed(2)
    again = small(name)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    record = first.origin.record()
    assert record["id"] == name
    other = build_from_record(record, 3)
    other.load_state_dict(first.state_dict())
    x = volume(1, 3, 8, 8, 9)
    with torch.no_grad():
        assert torch.equal(other.eval()(x), first.eval()(x))


def test_records_of_earlier_versions_are_read_and_what_is_not_known_is_refused():
    old = {"id": 3, "width": 4, "depth": 2, "norm": "batch", "dropout": 0.5}
    assert build_from_record(old, 3).origin.name == "model-3" == network_key("3")
    with pytest.raises(ValueError, match="model-3 has no setting speed: another version"):
        build_from_record(old | {"speed": 1}, 3)
    with pytest.raises(ValueError, match="there is no network 'theirs'; choose from model-0, "):
        build_from_record({"id": "theirs"}, 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_are_exact_unless_there_is_a_reason_why_not(name):
    network, x = small(name).eval(), volume(1, 3, 96, 8, 8)
    reason = why_not_exact(network, 8, (96, 8, 8))
    assert not (reason and name.startswith("model-"))
    assert not (name in SMALL and "statistics over the whole volume" not in reason)
    if not reason:
        with torch.no_grad():
            torch.testing.assert_close(exact_tiles(network, x, 8, CPU), network(x), atol=2e-6, rtol=0)


def test_an_unknown_receptive_field_is_measured_and_tiles_are_exact_with_it():
    network = small("dynunet", norm="batch").eval()
    x = volume(1, 3, 120, 8, 8)
    with torch.no_grad():
        whole = network(x)
    assert why_not_exact(network, 16, (120, 8, 8)) == ""
    torch.testing.assert_close(exact_tiles(network, x, 16, CPU), whole, atol=2e-6, rtol=0)
    first, last = measure.receptive_field(network, (40, 48), limit=200)
    assert 8 <= 40 - first <= 40
    assert 8 <= last - 48 <= 40


@pytest.mark.parametrize("model", [0, 1, 3])
def test_measuring_finds_what_the_papers_networks_say_of_themselves(model):
    network, step = small(f"model-{model}", width=8).eval(), 4
    first, last = measure.receptive_field(network, (40, 44), limit=100)
    before, behind = measure.margins(network, channels=3, step=step, limit=100)
    assert (before, behind) == (-((first - 40) // step) * step, -(-(last - 44) // step) * step)
    told = measure.bytes_needed(network, (48, 48, 48)) / 48**3
    assert measure.bytes_per_voxel(network, channels=3, step=step) == pytest.approx(told, rel=0.4)


def test_an_unbounded_receptive_field_is_found_and_memory_is_never_nothing():
    network = small("attention-unet").eval()  # instance normalisation in its skips
    assert measure.margins(network, channels=3, step=4, limit=30) is None
    assert measure.bytes_needed(network, (64, 64, 64)) > 64**3 * 4 * 3
    assert measure.bytes_needed(nn.Identity(), (64, 64, 64)) > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_counted_before_a_network_is_built(name):
    network = small(name)
    assert parameters_of(name, network.origin.settings, 3) == count_parameters(network)


def test_widths_are_matched_by_parameters():
    target = parameters_of("model-0", ModelConfig(width=8, depth=3), 3)
    for name in ("segresnet", "dynunet", "attention-unet"):  # SwinUNETR's narrowest is larger
        settings, count = match_parameters(name, NETWORKS[name].settings(), 3, target)
        assert count == count_parameters(build_network(name, settings, 3))
        assert 0.6 < count / target < 1.6
    settings, count = match_parameters("dynunet", DynUNetConfig(), 3, 1)
    assert settings.filters == 1  # the narrowest


@pytest.mark.parametrize("registry", [NETWORKS, METHODS], ids=["networks", "methods"])
def test_settings_are_frozen_dataclasses_with_defaults_that_a_config_gives(registry):
    for name, spec in registry.items():
        if spec.settings is None:
            continue
        assert spec.settings.__dataclass_params__.frozen
        config = Config()
        assert settings_of(config, name, spec.settings) == spec.settings()
        other = dataclasses.replace(config, options={group(name): "mine"})
        assert spec.settings is ModelConfig or settings_of(other, name, spec.settings) == "mine"
        if isinstance(spec, NetworkSpec):
            assert spec.width in {item.name for item in dataclasses.fields(spec.settings)}


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="there is no method 'magic'; choose from supervised, adversarial"):
        METHODS.find("magic")
    assert len(Registry("thing", {"a": "math:pi"})) == 1


@pytest.mark.parametrize("name", METHODS)
def test_a_method_steps_predicts_and_its_state_comes_back(tiny_cohort, name):
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:2], inputs=("T1", "T2", "FLAIR"), target="T1GD")
    spec, train = METHODS[name], TrainConfig(learning_rate=1e-3)

    def fresh() -> Any:
        loss = make_loss(LossConfig(name="L1_brain"))
        return spec.make(small(spec.network or "model-0"), loss, train, CPU, spec.settings and spec.settings(), 3)

    method, batch = fresh(), store.batch([0, 1])
    before = {key: value.clone() for key, value in method.network.state_dict().items()}
    figures = method.train_step(batch)
    assert figures["loss"] > 0
    learner = getattr(method, "learner", method.network)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learner.parameters())
    assert all(value.isfinite() and not value.requires_grad for value in figures.values())
    assert any(not torch.equal(before[key], value) for key, value in method.network.state_dict().items())
    found = method.predict(batch.inputs)
    assert found["image"].shape == batch.target.shape
    assert all(values.shape == (2,) for key, values in found.items() if key not in ("image", "probability"))
    other = fresh()
    other.load_state_dict(copy.deepcopy(method.state_dict()) | {"progress": 1})
    assert all(torch.equal(values, found[key]) for key, values in other.predict(batch.inputs).items())
    torch.manual_seed(0)
    step = method.train_step(batch)
    torch.manual_seed(0)
    assert step == other.train_step(batch)
    assert_same_state(method.state_dict(), other.state_dict())


@pytest.mark.parametrize("name", METHODS)
def test_a_method_killed_in_an_epoch_and_resumed_equals_never_killed(tiny_cohort, tmp_path, name):
    cases, spec = tiny_cohort.index.index, METHODS[name]
    stores = (CaseStore(tiny_cohort, cases[:4], **INPUTS), CaseStore(tiny_cohort, cases[4:7], **INPUTS))
    settings = change(epochs=3)

    def trained(path: Path, steps: int | None = None) -> Fitted:
        loss = make_loss(LossConfig(name="L1_brain"))
        method = spec.make(small(spec.network or "model-0"), loss, settings, CPU, spec.settings and spec.settings(), 3)
        step, left = method.train_step, iter(range(steps or 100))

        def until_killed(batch: Batch) -> Any:
            if next(left, None) is None:
                raise Killed
            return step(batch)

        method.train_step = until_killed
        return fit(method, *stores, settings, arithmetic=CPU, checkpoint=path)

    whole = trained(tmp_path / "whole")
    with pytest.raises(Killed):
        trained(tmp_path / "killed", steps=3)  # two steps an epoch: in the middle of the second
    assert load_state(tmp_path / "killed")["progress"]["epoch"] == 1
    assert_same(trained(tmp_path / "killed"), whole)
    states = [load_state(tmp_path / kind) for kind in ("whole", "killed")]
    for state in states:
        del state["progress"]  # has the clock; compared above
    assert_same_state(*states)


def assert_same_state(one: Any, other: Any) -> None:
    """Equal bit for bit: weights, moments of optimisers, counters."""
    if isinstance(one, Mapping):
        assert one.keys() == other.keys()
        for key in one:
            assert_same_state(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_network_is_packaged_as_it_is_validated_and_bfloat16_agrees(tiny_cohort, name):
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:2], inputs=("T1", "T2", "FLAIR"), target="T1GD")
    spec, batch, images = METHODS[name], store.batch([0, 1]), []
    for arithmetic in (CPU, choose("cpu", "bfloat16")):
        network, loss = small(spec.network or "model-0"), make_loss(LossConfig(name="L1_brain"))
        method = spec.make(network, loss, TrainConfig(), arithmetic, spec.settings and spec.settings(), 3)
        images.append(method.predict(batch.inputs)["image"])
        assert all(value.isfinite() for value in method.train_step(batch).values())
    exact, rough = images
    assert 0 < (exact - rough).abs().max() < 0.05

    validated = method.predict(batch.inputs)["image"]
    brain = batch.masks["brain"]
    package = arithmetic.place(build_from_record(method.network.origin.record(), 3))
    package.load_state_dict(method.network.state_dict())
    packaged = image_of(predict_named(package, batch.inputs, brain=brain, arithmetic=arithmetic))
    assert torch.equal(packaged[brain], validated[brain])


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_fitted_and_predicts(tiny_cohort, name):
    spec, cases = BASELINES[name], list(tiny_cohort.index.index[:3])
    inputs = spec.inputs or ("T1", "T2", "FLAIR")
    predict = spec.fit(Training(cohort=tiny_cohort, case_ids=cases, inputs=inputs, target="T1GD"))
    table = evaluate(predict, CaseStore(tiny_cohort, cases, inputs=inputs, target="T1GD"))
    assert table["mae_brain"].between(0, 0.5).all()


def test_reports_know_the_baselines():
    assert tuple(BASELINES) == BASELINE_NAMES
