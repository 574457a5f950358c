"""A training that goes on: bit for bit what was never killed, and never from a checkpoint of something else."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training import (
    CPU,
    INPUTS,
    L1,
    L1_BRAIN,
    PLAIN,
    SETTINGS,
    Killed,
    assert_same,
    change,
    figures,
    load_state,
    network,
    scripted,
    train,
)

from lab.config import AugmentConfig
from lab.data.batches import CaseStore
from lab.synthesis import train as training
from lab.synthesis.checkpoint import load_checkpoint, save_checkpoint
from lab.synthesis.device import Arithmetic, choose
from lab.synthesis.methods.supervised import Supervised
from lab.synthesis.networks.paper import build


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
