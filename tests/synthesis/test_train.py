"""Training: repeatable, resumable bit for bit, stopped in time, and clear when it cannot go on."""

from __future__ import annotations

import dataclasses
import errno
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lab.config import AugmentConfig, LossConfig, TrainConfig
from lab.data.batches import CaseStore
from lab.data.cohort import Cohort
from lab.stats.agreement import concordance
from lab.synthesis import train as training
from lab.synthesis.checkpoint import load_checkpoint, save_checkpoint
from lab.synthesis.device import Arithmetic, choose
from lab.synthesis.losses import make_loss
from lab.synthesis.losses.image_losses import Loss
from lab.synthesis.methods.supervised import Supervised
from lab.synthesis.networks.paper import build
from lab.synthesis.train import Fitted, TrainingFailed, fit, validate

CPU = choose("cpu", "float32")
PLAIN = choose("cpu", "float32", channels_last=False)
SETTINGS = TrainConfig(epochs=4, batch_size=2, learning_rate=1e-3, flip="random", device="cpu", seed=3)
L1, L1_BRAIN, L1_TUMOUR = (make_loss(LossConfig(name=name)) for name in ("L1", "L1_brain", "L1_tumour"))
INPUTS = {"inputs": ("T1", "T2", "FLAIR"), "target": "T1GD"}


class Killed(Exception):
    """Stands for kill -9: nothing of `fit` runs after it."""


@pytest.fixture(scope="module")
def stores(tiny_cohort: Cohort) -> tuple[CaseStore, CaseStore]:
    cases = tiny_cohort.index.index
    return CaseStore(tiny_cohort, cases[:5], **INPUTS), CaseStore(tiny_cohort, cases[5:8], **INPUTS)


def network(seed: int = 0) -> nn.Module:
    return build(0, width=2, depth=2, seed=seed)


def train(stores: tuple[CaseStore, CaseStore], settings: TrainConfig = SETTINGS, **options: Any) -> Fitted:
    fresh = options.pop("network", None) or network()
    loss = options.pop("loss", L1_BRAIN)
    arithmetic = options.pop("arithmetic", CPU)
    method = Supervised(fresh, loss, settings, arithmetic)
    return fit(method, *stores, settings, arithmetic=arithmetic, **options)


def scores(network: nn.Module, loss: Loss, store: CaseStore, batch_size: int, arithmetic: Arithmetic = CPU) -> Any:
    with torch.no_grad():
        return validate(lambda inputs: {"image": arithmetic.run(network.eval(), inputs)}, loss, store, batch_size)


def change(**settings: Any) -> TrainConfig:
    return dataclasses.replace(SETTINGS, **settings)


def figures(fitted: Fitted) -> list[dict[str, float]]:
    """The history without the clock."""
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in fitted.progress.history]


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def assert_same(one: Fitted, other: Fitted) -> None:
    assert_same_weights(one.network, other.network)
    assert figures(one) == figures(other)
    assert (one.progress.best_epoch, one.progress.best_loss) == (other.progress.best_epoch, other.progress.best_loss)
    assert one.stopped_early == other.stopped_early


def scripted(values: list[float]) -> Callable[..., dict[str, float]]:
    """A stand-in for `validate` that gives these losses, epoch by epoch."""
    remaining = list(values)
    return lambda *_: {"val/loss": remaining.pop(0)}


def killing(loss: Callable[..., Tensor], calls: int) -> Callable[..., Tensor]:
    """The loss until it was called so often; then the process is gone."""
    count = 0

    def counted(*arguments: Any) -> Tensor:
        nonlocal count
        count += 1
        if count > calls:
            raise Killed
        return loss(*arguments)

    return counted


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


@pytest.mark.parametrize("arithmetic", [CPU, PLAIN, choose("cpu", "bfloat16")], ids=lambda a: a.name)
@pytest.mark.parametrize("killed_after", [1, 3])
def test_killed_between_epochs_and_resumed_equals_never_killed(stores, tmp_path, arithmetic, killed_after):
    path = tmp_path / "trial" / "checkpoint"
    whole = train(stores, arithmetic=arithmetic, checkpoint=tmp_path / "whole")

    def kill(epoch: dict[str, float]) -> None:
        if epoch["epoch"] == killed_after:
            raise Killed

    with pytest.raises(Killed):
        train(stores, arithmetic=arithmetic, checkpoint=path, on_epoch=kill)
    told: list[float] = []
    fitted = train(stores, arithmetic=arithmetic, checkpoint=path, on_epoch=lambda epoch: told.append(epoch["epoch"]))
    assert_same(fitted, whole)
    assert told == list(range(killed_after, SETTINGS.epochs + 1))  # the one that nobody may have heard of comes again
    same_state(path, tmp_path / "whole")


def same_state(one: Path, other: Path) -> None:
    """Two checkpoints hold the same network, best network and Adam state."""
    states = [torch.load(path, weights_only=True) for path in (one, other)]
    for part in ("network", "best"):
        for name, tensor in states[0][part].items():
            assert torch.equal(tensor, states[1][part][name]), (part, name)
    moments = [state["optimiser"]["state"] for state in states]
    assert moments[0].keys() == moments[1].keys()
    assert moments[0]
    for key, entries in moments[0].items():
        assert set(entries) == {"step", "exp_avg", "exp_avg_sq"}
        for name, tensor in entries.items():
            assert torch.equal(tensor, moments[1][key][name]), (key, name)


@pytest.mark.parametrize("where", ["whole", "patches"])
def test_killed_with_augmentation_and_random_patches_and_resumed_equals_never_killed(tiny_cohort, tmp_path, where):
    cases, patches = tiny_cohort.index.index, {"patch": 8, "margin": 2, "shares": (0.3, 0.5, 0.2)}
    stores = (
        CaseStore(tiny_cohort, cases[:5], **INPUTS, **(patches if where == "patches" else {})),
        CaseStore(tiny_cohort, cases[5:8], **INPUTS),
    )
    options = {"settings": change(patches_per_patient=2), "augment": AugmentConfig(use="on")}
    whole = train(stores, **options)
    path = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        train(stores, **options, loss=killing(L1_BRAIN, 2 * (5 + 3) + 2), checkpoint=path)
    assert load_state(path)["progress"]["epoch"] == 2
    with pytest.raises(ValueError, match=r"augment.noise was 0.05 and is 0.1"):
        train(stores, **options | {"augment": AugmentConfig(use="on", noise=0.1)}, checkpoint=path)
    assert_same(train(stores, **options, checkpoint=path), whole)
    assert figures(train(stores, options["settings"])) != figures(whole)


def test_a_resumed_run_has_the_weights_it_started_from(stores, tmp_path):
    """Whatever the new network holds: it is named by the hash of what it started from."""
    path, options = tmp_path / "checkpoint", {"start_sha256": "a" * 64}
    whole = train(stores, **options, network=network(7))
    train(stores, change(epochs=2), **options, network=network(7), checkpoint=path)
    assert_same(train(stores, change(start_from="renamed"), **options, network=network(8), checkpoint=path), whole)
    with pytest.raises(ValueError, match=r"weights of --train.start-from was aaa.* and is bbb"):
        train(stores, start_sha256="b" * 64, checkpoint=path)
    with pytest.raises(ValueError, match=r"weights of --train.start-from was aaa.* and is None"):
        train(stores, checkpoint=path)


def test_killed_in_the_middle_of_an_epoch_and_resumed_equals_never_killed(stores, tmp_path):
    path, loss = tmp_path / "checkpoint", L1_BRAIN
    whole = train(stores)
    calls_of_an_epoch = 3 + 3  # three batches, three validation cases
    with pytest.raises(Killed):
        train(stores, loss=killing(loss, 2 * calls_of_an_epoch + 2), checkpoint=path)
    assert load_state(path)["progress"]["epoch"] == 2
    with pytest.raises(Killed):  # and again, before another epoch is done
        train(stores, loss=killing(loss, 4), checkpoint=path)
    assert_same(train(stores, checkpoint=path), whole)


def test_killed_before_the_first_epoch_is_done_starts_again(stores, tmp_path):
    with pytest.raises(Killed):
        train(stores, loss=killing(L1_BRAIN, 2), checkpoint=tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()
    assert_same(train(stores, checkpoint=tmp_path / "checkpoint"), train(stores))


def load_state(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def test_a_run_that_had_stopped_early_does_not_go_on(stores, tmp_path, monkeypatch):
    settings, path = change(epochs=9, patience=2), tmp_path / "checkpoint"
    monkeypatch.setattr(training, "validate", scripted([0.5, 0.6, 0.7]))
    stopped = train(stores, settings, checkpoint=path)
    assert stopped.stopped_early
    monkeypatch.setattr(training, "validate", scripted([]))  # would fail at a fourth epoch
    again = train(stores, settings, checkpoint=path)
    assert_same(again, stopped)
    assert again.progress.epoch == 3
    assert not again.network.training


def test_patience_counts_on_after_a_resume(stores, tmp_path, monkeypatch):
    losses, settings, path = [0.5, 0.4, 0.45, 0.6, 0.7, 0.1], change(epochs=9, patience=3), tmp_path / "checkpoint"
    monkeypatch.setattr(training, "validate", scripted(losses))
    whole = train(stores, settings)
    assert (whole.progress.epoch, whole.progress.best_epoch, whole.stopped_early) == (5, 2, True)
    monkeypatch.setattr(training, "validate", scripted(losses[:4]))
    with pytest.raises(IndexError):
        train(stores, settings, checkpoint=path)
    monkeypatch.setattr(training, "validate", scripted(losses[4:]))
    assert_same(train(stores, settings, checkpoint=path), whole)


def test_a_longer_run_may_go_on_from_a_shorter_one(stores, tmp_path):
    path = tmp_path / "checkpoint"
    train(stores, change(epochs=2), checkpoint=path)
    assert_same(train(stores, change(epochs=4, patience=7), checkpoint=path), train(stores))


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


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"settings": change(learning_rate=5e-4)}, r"learning_rate was 0.001 and is 0.0005"),
        ({"settings": change(seed=4)}, r"seed was 3 and is 4"),
        ({"arithmetic": PLAIN}, r"arithmetic was cpu float32 channels-last and is cpu float32;"),
        ({"network": build(1, width=2, depth=2)}, "network was"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(stores, tmp_path, other, message):
    path = tmp_path / "checkpoint"
    train(stores, change(epochs=1), checkpoint=path)
    with pytest.raises(ValueError, match=message) as caught:
        train(stores, **({"settings": SETTINGS} | other), checkpoint=path)
    assert str(path) in str(caught.value)


def test_a_checkpoint_of_other_patients_is_refused(stores, tiny_cohort, tmp_path):
    train(stores, change(epochs=1), checkpoint=tmp_path / "checkpoint")
    fewer = CaseStore(tiny_cohort, stores[0].case_ids[:4], **INPUTS)
    with pytest.raises(ValueError, match="training patients was"):
        train((fewer, stores[1]), checkpoint=tmp_path / "checkpoint")
    with pytest.raises(ValueError, match="validation patients was"):
        train((stores[0], fewer), checkpoint=tmp_path / "checkpoint")


def test_another_gpu_of_the_machine_may_go_on():
    first, second = (Arithmetic(torch.device("cuda", index), True, True) for index in (0, 1))
    method = Supervised(network(), L1, SETTINGS, CPU)
    described = [
        training.identify(method, *[STUB] * 2, change(device=f"cuda:{i}"), a) for i, a in enumerate((first, second))
    ]
    assert described[0] == described[1]
    assert described[0] != training.identify(method, STUB, STUB, SETTINGS, CPU)


STUB: Any = type("Stub", (), {"case_ids": ("a",)})()


@pytest.mark.parametrize("content", ["half", "empty", "text", "no settings"])
def test_a_damaged_checkpoint_is_named(stores, tmp_path, content):
    path = tmp_path / "checkpoint"
    train(stores, change(epochs=1), checkpoint=path)
    whole = path.read_bytes()
    if content == "no settings":
        torch.save({"network": {}}, path)
    else:
        path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "text": b"not a checkpoint"}[content])
    with pytest.raises(ValueError, match=r"not a whole checkpoint .*; delete it to train from the start") as caught:
        train(stores, checkpoint=path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_bit_of_a_checkpoint_that_was_turned_is_noticed(tmp_path, share):
    """torch itself goes on with the other weight."""
    path = tmp_path / "checkpoint"
    save_checkpoint(path, {"lr": 1}, {"weights": torch.arange(5000.0)})
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 8
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["weights"], torch.arange(5000.0))
    with pytest.raises(ValueError, match=r"not a whole checkpoint \(ValueError: .* was changed\); delete it"):
        load_checkpoint(path, {"lr": 1})


def test_a_checkpoint_cannot_bring_code_along(tmp_path):
    path = tmp_path / "checkpoint"
    torch.save({"settings": {}, "network": Killed}, path)  # a class: unpickling it would import and could run code
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        load_checkpoint(path, {})


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write failed")])
def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch, error):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, {"seed": 1}, {"epoch": 1})

    def full(_: Any, file: Any) -> None:
        file.write(b"the first bytes still fit")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match=r"could not be written .*; free some space and run again") as caught:
            save_checkpoint(path, {"seed": 1}, {"epoch": 2})
    assert str(path) in str(caught.value)
    assert load_checkpoint(path, {"seed": 1})["epoch"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]


def test_a_kill_while_writing_keeps_the_old_checkpoint_and_leaves_nothing_for_ever(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, {}, {"epoch": 1})

    def killed(_: Any, file: Any) -> None:
        file.write(b"half")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", killed)
        with pytest.raises(Killed):
            save_checkpoint(path, {}, {"epoch": 2})
    assert load_checkpoint(path, {})["epoch"] == 1
    save_checkpoint(path, {}, {"epoch": 3})
    assert load_checkpoint(path, {})["epoch"] == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]


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
        concordance(drawn, true, torch.ones(1, true.size, dtype=torch.float64).numpy())[0], abs=1e-6
    )
    assert (seen == pytest.approx(0, abs=1e-6)) is not half  # the same everywhere is chance


def test_without_t1_among_the_inputs_contrast_is_not_watched(tiny_cohort):
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:2], inputs=("T2",), target="T1GD")
    assert store.t1 is None
    assert "val/contrast_tumour" not in scores(Brighter(0.5), L1, store, 2, PLAIN)
