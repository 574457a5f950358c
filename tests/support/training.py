"""A training of a small network on a few of the tiny cohort, and what it shares with another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lab.config import LossConfig, TrainConfig
from lab.data.batches import CaseStore
from lab.synthesis.device import choose
from lab.synthesis.losses import make_loss
from lab.synthesis.methods.supervised import Supervised
from lab.synthesis.networks.paper import build
from lab.synthesis.train import Fitted, fit

CPU = choose("cpu", "float32")
PLAIN = choose("cpu", "float32", channels_last=False)
SETTINGS = TrainConfig(epochs=4, batch_size=2, learning_rate=1e-3, flip="random", device="cpu", seed=3)
L1, L1_BRAIN, L1_TUMOUR = (make_loss(LossConfig(name=name)) for name in ("L1", "L1_brain", "L1_tumour"))
INPUTS = {"inputs": ("T1", "T2", "FLAIR"), "target": "T1GD"}


class Killed(Exception):
    """Stands for kill -9: nothing of `fit` runs after it."""


def network(seed: int = 0) -> nn.Module:
    return build(0, width=2, depth=2, seed=seed)


def train(stores: tuple[CaseStore, CaseStore], settings: TrainConfig = SETTINGS, **options: Any) -> Fitted:
    fresh = options.pop("network", None) or network()
    loss = options.pop("loss", L1_BRAIN)
    arithmetic = options.pop("arithmetic", CPU)
    method = Supervised(fresh, loss, settings, arithmetic)
    return fit(method, *stores, settings, arithmetic=arithmetic, **options)


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


def load_state(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)
