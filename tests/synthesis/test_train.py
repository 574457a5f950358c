"""Training: repeatable, stopped in time, and clear when it cannot go on; `test_resume` kills it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training import (
    CPU,
    INPUTS,
    L1,
    L1_BRAIN,
    L1_TUMOUR,
    PLAIN,
    SETTINGS,
    assert_same,
    assert_same_weights,
    change,
    figures,
    load_state,
    scripted,
    train,
)

from lab.data.batches import CaseStore
from lab.stats.agreement import weighted_concordance
from lab.synthesis import train as training
from lab.synthesis.device import Arithmetic
from lab.synthesis.losses.image_losses import Loss
from lab.synthesis.networks.paper import build
from lab.synthesis.train import TrainingFailed, validate


def scores(network: nn.Module, loss: Loss, store: CaseStore, batch_size: int, arithmetic: Arithmetic = CPU) -> Any:
    with torch.no_grad():
        return validate(lambda inputs: {"image": arithmetic.run(network.eval(), inputs)}, loss, store, batch_size)


@pytest.mark.parametrize("flip", ["both", "random", "none"])
def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(stores, flip):
    torch.manual_seed(1)
    first = train(stores, change(flip=flip, epochs=2))
    torch.manual_seed(2)
    again = train(stores, change(flip=flip, epochs=2))
    assert_same(first, again)
    other = train(stores, change(flip=flip, epochs=2, seed=4))
    assert figures(other) != figures(first)


def test_dropout_draws_anew_in_every_epoch(stores):
    seeds: list[int] = []

    def watched(*arguments: Any) -> Tensor:
        if torch.is_grad_enabled():
            seeds.append(torch.initial_seed())
        return L1_BRAIN(*arguments)

    train(stores, loss=watched)
    assert len(set(seeds)) == SETTINGS.epochs


def test_training_leaves_the_global_generator_alone(stores):
    before = torch.get_rng_state()
    train(stores, change(epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_training_stops_after_patience_epochs_without_a_better_loss(stores, monkeypatch):
    monkeypatch.setattr(training, "validate", scripted([0.5, 0.4, 0.4, 0.41]))  # equal is not better
    fitted = train(stores, change(epochs=9, patience=2))
    assert (fitted.progress.epoch, fitted.progress.best_epoch, fitted.stopped_early) == (4, 2, True)
    monkeypatch.setattr(training, "validate", scripted([0.5, 0.4, 0.4, 0.41]))
    assert not train(stores, change(epochs=4, patience=3)).stopped_early


def test_the_best_epochs_weights_come_back_in_evaluation_mode(stores, monkeypatch):
    monkeypatch.setattr(training, "validate", scripted([0.5, 0.4, 0.6, 0.7]))
    fitted = train(stores)
    monkeypatch.setattr(training, "validate", scripted([0.5, 0.4]))
    assert_same_weights(fitted.network, train(stores, change(epochs=2)).network)
    monkeypatch.setattr(training, "validate", scripted([0.5, 0.4, 0.6, 0.3]))
    last = train(stores).network
    with pytest.raises(AssertionError):
        assert_same_weights(fitted.network, last)
    assert not any(module.training for module in last.modules())


def test_what_comes_back_scores_what_was_recorded(stores):
    fitted = train(stores)
    with torch.no_grad():
        again = scores(fitted.network, L1_BRAIN, stores[1], 2)
    best = fitted.progress.history[fitted.progress.best_epoch - 1]
    assert again == {name: best[name] for name in again}
    assert again["val/loss"] == pytest.approx(again["val/mae_brain"], abs=1e-6)
    assert fitted.progress.best_loss == min(epoch["val/loss"] for epoch in fitted.progress.history)


def test_validation_does_not_depend_on_the_batch_size(stores):
    fitted = train(stores, change(epochs=1))
    one, three = (scores(fitted.network, L1_TUMOUR, stores[1], size) for size in (1, 3))
    assert one == pytest.approx(three, rel=1e-5)


def test_the_training_loss_is_the_mean_over_patients_also_with_a_batch_that_is_not_full(stores):
    values: list[tuple[int, float]] = []

    def watched(prediction: Tensor, target: Tensor, masks: dict[str, Tensor]) -> Tensor:
        value = L1_BRAIN(prediction, target, masks)
        if torch.is_grad_enabled():
            values.append((len(target), value.item()))
        return value

    [epoch] = figures(train(stores, change(epochs=1), loss=watched))
    assert [patients for patients, _ in values] == [2, 2, 1]
    assert epoch["train/loss"] == pytest.approx(sum(n * value for n, value in values) / 5)


@pytest.mark.parametrize("model", [0, 1])
def test_two_patients_are_learned_by_heart(tiny_cohort, model):
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:2], **INPUTS)
    eager = build(model, width=8, depth=2, dropout=0.0)
    settings = change(epochs=80, batch_size=2, learning_rate=1e-2, flip="none", patience=80)
    history = figures(train((store, store), settings, network=eager))
    assert history[-1]["train/loss"] < 0.35 * history[0]["train/loss"]


@pytest.mark.parametrize("flip", ["both", "random", "none"])
def test_an_epoch_shows_every_patient_as_the_flip_mode_says(stores, monkeypatch, flip):
    shown: list[str] = []
    batches = CaseStore.batches

    def watched(store: CaseStore, plan: Any, **options: Any) -> Any:
        for batch in batches(store, plan, **options):
            shown.extend(batch.case_ids if store is stores[0] else ())
            yield batch

    monkeypatch.setattr(CaseStore, "batches", watched)
    train(stores, change(epochs=1, flip=flip))
    assert sorted(shown) == sorted(stores[0].case_ids * (2 if flip == "both" else 1))


def test_the_gradient_is_clipped(stores, monkeypatch):
    norms: list[float] = []
    step = torch.optim.Adam.step

    def watched(optimiser: torch.optim.Adam, *arguments: Any) -> Any:
        gradients = [p.grad for group in optimiser.param_groups for p in group["params"]]
        norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())
        return step(optimiser, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    train(stores, change(epochs=1, clip_norm=0.0))
    free, norms = norms, []
    train(stores, change(epochs=1, clip_norm=free[0] / 4))
    assert min(free) > 0
    assert norms[0] == pytest.approx(free[0] / 4, rel=1e-3)
    assert max(norms) <= free[0] / 4 * 1.001


def test_adam_gets_the_settings(stores, tmp_path):
    path = tmp_path / "checkpoint"
    train(stores, change(epochs=1, learning_rate=3e-4, betas=(0.5, 0.9)), checkpoint=path)
    group = load_state(path)["optimiser"]["param_groups"][0]
    assert (group["lr"], tuple(group["betas"]), group["weight_decay"]) == (3e-4, (0.5, 0.9), 0)


@pytest.mark.parametrize("where", ["train", "val"])
def test_a_loss_that_is_not_a_number_ends_the_trial_with_advice(stores, tmp_path, where):
    def broken(prediction: Tensor, target: Tensor, masks: dict[str, Tensor]) -> Tensor:
        value = L1_BRAIN(prediction, target, masks)
        return value * math.nan if torch.is_grad_enabled() == (where == "train") else value

    with pytest.raises(TrainingFailed, match=rf"{where}/loss became nan in epoch 1; lower --train.learning-rate"):
        train(stores, loss=broken, checkpoint=tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_says_what_to_lower(stores, error):
    def greedy(*_: Tensor) -> Tensor:
        raise error

    with pytest.raises(TrainingFailed, match=r"out of memory\. Lower --train\.batch-size \(now 2\)") as caught:
        train(stores, loss=greedy)
    for advice in ("--model.width", "--spacing", "--train.patch-mm"):
        assert advice in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_error_stays_what_it_is(stores):
    def wrong(*_: Tensor) -> Tensor:
        raise RuntimeError("unsupported memory format option")

    with pytest.raises(RuntimeError, match="unsupported memory format") as caught:
        train(stores, loss=wrong)
    assert not isinstance(caught.value, TrainingFailed)


def test_a_bottleneck_of_one_voxel_is_explained(stores):
    with pytest.raises(ValueError, match=r"5 halvings .* 20 x 24 x 20 voxels .* --model.depth 4"):
        train(stores, change(batch_size=1), network=build(0, width=2, depth=5))


@pytest.mark.parametrize("setting", ["epochs", "patience", "batch_size"])
def test_senseless_settings_are_refused(stores, setting):
    with pytest.raises(ValueError, match="at least 1"):
        train(stores, change(**{setting: 0}))


class Brighter(nn.Module):
    """Adds a level to the T1 everywhere, or only in one half of the volume."""

    def __init__(self, level: float, half: bool = False) -> None:
        super().__init__()
        self.level, self.half = level, half

    def forward(self, inputs: Tensor) -> Tensor:
        image = inputs[:, :1].clone()
        image[..., : image.shape[-1] // 2 if self.half else None] += self.level
        return image


@pytest.mark.parametrize(("level", "half"), [(0.0, False), (0.5, False), (0.5, True)])
def test_contrast_is_watched_by_lins_concordance_inside_the_tumours(stores, level, half):
    val, network = stores[1], Brighter(level, half)
    seen = scores(network, L1, val, 2, PLAIN)["val/contrast_tumour"]
    batch = val.batch(range(len(val)))
    tumour, t1 = batch.masks["tumour"], batch.inputs[:, :1]
    drawn, true = ((image - t1)[tumour].numpy() for image in (network(batch.inputs), batch.target))
    assert seen == pytest.approx(
        weighted_concordance(drawn, true, torch.ones(1, true.size, dtype=torch.float64).numpy())[0], abs=1e-6
    )
    assert (seen == pytest.approx(0, abs=1e-6)) is not half  # the same everywhere is chance


def test_without_t1_among_the_inputs_contrast_is_not_watched(tiny_cohort):
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:2], inputs=("T2",), target="T1GD")
    assert store.t1 is None
    assert "val/contrast_tumour" not in scores(Brighter(0.5), L1, store, 2, PLAIN)
