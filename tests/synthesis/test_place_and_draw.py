"""Place and draw: two heads of which neither disturbs the other."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_adversarial import INPUTS

from lab.config import Config, LossConfig, ModelConfig, TrainConfig
from lab.data.batches import CaseStore
from lab.data.cohort import Cohort
from lab.experiments.synthesis.trial import build_method
from lab.inference.tiling import Way, predict_by, predict_image, predict_named
from lab.synthesis.device import choose
from lab.synthesis.losses import make_loss
from lab.synthesis.methods.place_and_draw import PlaceAndDraw, PlaceAndDrawConfig, rate
from lab.synthesis.networks import build_network
from lab.synthesis.networks.place_unet import PlaceUNet, PlaceUNetConfig
from lab.synthesis.train import Fitted, TrainingFailed, fit, voxel_aucs

CPU = choose("cpu", "float32")
TRAIN = TrainConfig(epochs=6, batch_size=2, learning_rate=2e-3, flip="random", device="cpu", seed=3)
SETTINGS = PlaceAndDrawConfig(steps=18, warm_up=2)
SMALL = PlaceUNetConfig(filters=4, image_filters=3)


def network(channels: int = 3) -> PlaceUNet:
    built: PlaceUNet = build_network("place-unet", SMALL, channels, seed=1)
    return built


def method(settings: PlaceAndDrawConfig = SETTINGS, train: TrainConfig = TRAIN) -> PlaceAndDraw:
    return PlaceAndDraw(network(), make_loss(LossConfig()), train, CPU, settings, channels=3)


def train(cohort: Cohort, checkpoint: Path) -> Fitted:
    cases = cohort.index.index
    stores = (CaseStore(cohort, cases[:5], **INPUTS), CaseStore(cohort, cases[5:8], **INPUTS))
    return fit(method(), *stores, TRAIN, arithmetic=CPU, checkpoint=checkpoint)


def volume(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_best_epoch_is_that_of_the_highest_average_precision(fitted):
    history = fitted.progress.history
    names = {"train/loss", "train/parts", "train/place", "val/loss", "val/auc_voxels", "val/mae_brain"}
    assert all(names <= set(figures) for figures in history)
    assert all(0 <= figures["val/auc_voxels"] <= 1 for figures in history)
    found = [figures["val/precision_voxels"] for figures in history]
    assert fitted.progress.best_epoch == found.index(max(found)) + 1
    assert method(replace(SETTINGS, best_by="auc")).best_by == "val/auc_voxels"
    assert history[-1]["train/place"] < history[0]["train/place"]


def test_the_image_loss_moves_the_image_head_alone():
    net = network()
    net.parts_and_logits(volume(1, 3, 8, 8, 8), apart=True)[:, :2].sum().backward()
    moved = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved == {"hidden", "parts"}
    net.parts_and_logits(volume(1, 3, 8, 8, 8), apart=True)[:, 2:].square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_each_part_of_the_image_is_learnt_where_it_belongs(tiny_cohort):
    """The right parts have no error, whatever `amount` is elsewhere, and each wrong one has."""
    batch = CaseStore(tiny_cohort, tiny_cohort.index.index[:4], **INPUTS).batch([0, 1, 2, 3])
    enhancing = batch.masks["enhancing"]
    assert enhancing.any()
    amount = torch.where(enhancing, 0.0, 0.7)
    loss = method().parts_loss
    assert loss(batch.target, amount, batch) == 0
    assert loss(batch.target + 0.1, amount - 0.1 * enhancing, batch) == pytest.approx(0.1, abs=1e-3)
    assert loss(batch.target, amount + 0.1, batch) == pytest.approx(0.1, abs=1e-3)


def test_maps_are_an_image_and_probabilities_with_their_own_backgrounds():
    x = volume(1, 3, 9, 10, 11)
    x[..., :3] = -1
    net = network().eval()
    brain = torch.ones(1, 1, 9, 10, 11, dtype=torch.bool)
    brain[..., :3] = False
    with torch.no_grad():
        assert (net(x)[..., :3] == -1).all()
    found = predict_named(net, x, brain=brain, arithmetic=CPU)
    assert tuple(found) == net.outputs
    assert torch.equal(found["image"], predict_image(net, x, brain=brain, arithmetic=CPU))
    for name in ("probability", "tumour", "core"):
        assert (found[name][..., :3] == 0).all()
        assert ((found[name] >= 0) & (found[name] <= 1)).all()


def test_blended_tiles_have_all_maps_and_a_spread_of_the_image():
    x, net = volume(1, 3, 24, 8, 8), network().eval()
    brain = torch.ones(1, 1, 24, 8, 8, dtype=torch.bool)
    maps, spread = predict_by(net, x, brain=brain, arithmetic=CPU, way=Way(kind="blended", edge=16))
    assert maps.shape == (1, 4, 24, 8, 8)
    assert spread > 0
    whole, _ = predict_by(net, x, brain=brain, arithmetic=CPU, way=Way(kind="whole"))
    assert (maps - whole).abs().mean() < 0.1


def test_prediction_is_the_mean_with_the_mirror_image():
    net, x = network().eval(), volume(1, 3, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(net.everything(x).flip(2), net.everything(x.flip(2)))
        plain = net.parts_and_logits(x)
        assert not torch.equal(net.predicted(x), plain)
        net.mirrored = False
        assert torch.equal(net.predicted(x), plain)


def test_above_the_chosen_threshold_the_whole_rise_is_drawn_and_none_below(tiny_cohort, fitted):
    net = deepcopy(fitted.network)
    assert 0 < net.edge[0].sigmoid() < 1
    assert net.edge[1] == pytest.approx(SETTINGS.softness)
    x = CaseStore(tiny_cohort, tiny_cohort.index.index[5:8], **INPUTS).batch([0]).inputs
    net.draw_above(0.5, 1e-6)
    with torch.no_grad():
        net.edge[0] = net.predicted(x)[:, 2].median()  # half of the voxels are drawn
        plain, amount, logit = net.predicted(x)[:, :3].split(1, 1)
        drawn = (plain + amount * (logit > net.edge[0])).clamp(-1, 1)
        clear = ((logit - net.edge[0]).abs() > 1e-4) & (x > -1).any(1, keepdim=True)
        torch.testing.assert_close(net(x)[clear], drawn[clear])


def test_bfloat16_agrees_with_float32():
    x, net = volume(1, 3, 16, 16, 16), network().eval()
    brain = torch.ones(1, 1, 16, 16, 16, dtype=torch.bool)
    exact, rough = (
        predict_by(net, x, brain=brain, arithmetic=choose("cpu", precision), way=Way(kind="whole"))[0]
        for precision in ("float32", "bfloat16")
    )
    assert 0 < (exact - rough).abs().max() < 0.05


def test_the_learning_rate_rises_and_falls_as_a_function_of_the_step():
    rates = [rate(step, PlaceAndDrawConfig(steps=100, warm_up=9)) for step in range(200)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] < 1
    assert rates[9:101] == sorted(rates[9:101], reverse=True)
    assert rates[100] == rates[199] == pytest.approx(0.01**0.9)


def test_without_an_experts_label_the_rule_inside_the_tumour_is_learnt(tiny_cohort):
    cases = list(tiny_cohort.index.index[:2])
    by_expert = tiny_cohort.index.assign(enhancing_by="expert label")
    batch = CaseStore(tiny_cohort, cases, **INPUTS).batch([0, 1])
    assert torch.equal(batch.masks["enhancing"], batch.masks["enhancement"] & batch.masks["tumour"])
    labelled = CaseStore(replace(tiny_cohort, index=by_expert), cases, **INPUTS).batch([0, 1])
    assert torch.equal(labelled.masks["enhancing"], labelled.masks["expert"])


def test_voxel_aucs_leave_out_patients_with_one_kind_of_voxel():
    tumour = torch.ones(3, 1, 2, 2, 1, dtype=torch.bool)
    enhancing = torch.zeros_like(tumour)
    enhancing[0, 0, 0], enhancing[1] = True, True
    probability = enhancing.float()
    assert voxel_aucs(probability, {"tumour": tumour, "enhancing": enhancing}) == [1.0]


def test_validation_without_enhancement_is_an_error_that_says_so(tiny_cohort):
    none = tiny_cohort.index.assign(enhancing_by="expert label")  # and no voxel has the label
    store = CaseStore(replace(tiny_cohort, index=none), tiny_cohort.index.index[:2], **INPUTS)
    with pytest.raises(TrainingFailed, match="no validation patient has val/precision_voxels"):
        fit(method(), store, store, replace(TRAIN, epochs=1), arithmetic=CPU)


def test_it_trains_its_own_network_only():
    config = Config(train=replace(TRAIN, method="place-and-draw"), model=ModelConfig(id="model-0", width=2, depth=2))
    with pytest.raises(ValueError, match="--method place-and-draw trains the network place-unet, not model-0"):
        build_method(config, CPU)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"warm_up": -1}, {"average": 1.0}, {"softness": 0.0}])
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"--place-and-draw\.(steps|softness) must be"):
        method(PlaceAndDrawConfig(**wrong))


@pytest.mark.parametrize("wrong", [{"filters": 0}, {"levels": 2}, {"image_filters": 0}])
def test_a_network_needs_filters_and_levels(wrong):
    with pytest.raises(ValueError, match="--place-unet"):
        build_network("place-unet", PlaceUNetConfig(**wrong), 3)
