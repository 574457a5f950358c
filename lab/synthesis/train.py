"""Training one network: Adam, early stopping, a checkpoint every epoch, exact resume.

Every random draw of an epoch (order, flips, dropout) is a function of the seed and the epoch's number, so a run that
was killed and goes on from its checkpoint is the run that was never killed, bit for bit on the CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lab.config import TrainConfig
from lab.data.batches import Batch, CaseStore, plan_epoch
from lab.synthesis.arithmetic import Arithmetic, peak_memory_mb
from lab.synthesis.checkpoint import load_checkpoint, save_checkpoint
from lab.synthesis.metrics import METRICS

Loss = Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor]
WATCHED = ("mae_brain", "mae_tumour")  # validation metrics of every epoch


class TrainingFailed(RuntimeError):
    """A trial that cannot go on, with the reason in words for its user."""


@dataclass
class Progress:
    """What a training run has come to; the checkpoint is this and the tensors."""

    epoch: int = 0  # epochs done
    best_epoch: int = 0
    best_loss: float = math.inf
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Fitted:
    """A trained network, at its best epoch, and how it got there."""

    network: nn.Module
    progress: Progress
    stopped_early: bool
    peak_memory_mb: float


def fit(
    network: nn.Module,
    loss: Loss,
    train: CaseStore,
    val: CaseStore,
    settings: TrainConfig,
    *,
    arithmetic: Arithmetic,
    checkpoint: Path | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> Fitted:
    """Train `network` until the validation loss has not improved for `patience` epochs.

    `checkpoint` is written atomically after each epoch, and where it exists training goes on from it. `on_epoch` gets
    each epoch's figures (`epoch`, `train/loss`, `val/loss`, `val/mae_brain`, `val/mae_tumour`, `seconds`) and may
    raise to end the trial. Raises TrainingFailed when the loss is not finite or memory runs out, ValueError when the
    checkpoint belongs to other settings.
    """
    network = arithmetic.place(network)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, betas=settings.betas)
    settings_text = repr((asdict(settings) | {"epochs": None, "patience": None}, train.case_ids, arithmetic.name))
    progress, best = Progress(), snapshot(network)
    if checkpoint is not None and checkpoint.exists():
        state = load_checkpoint(checkpoint, settings_text)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        progress, best = Progress(**state["progress"]), state["best"]

    forward: Any = torch.compile(network) if settings.compile else network
    stopped = False
    while progress.epoch < settings.epochs and not stopped:
        started = time.perf_counter()
        with advice_on_memory(settings):
            figures = run_epoch(forward, optimiser, loss, train, val, settings, arithmetic, progress.epoch)
        progress.epoch += 1
        progress.seconds += time.perf_counter() - started
        figures = {"epoch": progress.epoch, **figures, "seconds": progress.seconds}
        progress.history.append(figures)
        if figures["val/loss"] < progress.best_loss:
            progress.best_loss, progress.best_epoch = figures["val/loss"], progress.epoch
            best = snapshot(network)
        stopped = progress.epoch - progress.best_epoch >= settings.patience
        if checkpoint is not None:
            tensors = {"network": network.state_dict(), "best": best, "optimiser": optimiser.state_dict()}
            save_checkpoint(checkpoint, settings_text, tensors | {"progress": asdict(progress)})
        if on_epoch is not None:
            on_epoch(figures)
    network.load_state_dict(best)
    stopped = stopped or progress.epoch - progress.best_epoch >= settings.patience
    return Fitted(network.eval(), progress, stopped, peak_memory_mb(arithmetic.device))


def run_epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss: Loss,
    train: CaseStore,
    val: CaseStore,
    settings: TrainConfig,
    arithmetic: Arithmetic,
    epoch: int,
) -> dict[str, float]:
    """One pass over the training cases and one over the validation cases."""
    plan = plan_epoch(len(train), batch_size=settings.batch_size, flip=settings.flip, seed=settings.seed, epoch=epoch)
    network.train()
    total = torch.zeros((), device=arithmetic.device)
    with torch.random.fork_rng(devices=[arithmetic.device] if arithmetic.device.type == "cuda" else []):
        torch.manual_seed(settings.seed * 1_000_003 + epoch)  # dropout draws from the global generator alone
        for batch in train.batches(plan):
            value = loss(arithmetic.run(network, batch.inputs), batch.target, batch.masks)
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            if settings.clip_norm > 0:
                nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
            optimiser.step()
            total += value.detach() * len(batch.case_ids)
    train_loss = float(total) / sum(len(entries) for entries in plan)
    if not math.isfinite(train_loss):
        raise TrainingFailed(
            f"the loss became {train_loss} in epoch {epoch + 1}; lower --train.learning-rate "
            f"(now {settings.learning_rate:g}) or --train.clip-norm, or use --train.precision float32"
        )
    network.eval()
    figures = validate(network, loss, val, settings.batch_size, arithmetic)
    if not math.isfinite(figures["val/loss"]):
        raise TrainingFailed(f"the validation loss became {figures['val/loss']} in epoch {epoch + 1}")
    return {"train/loss": train_loss, **figures}


@torch.no_grad()
def validate(
    network: nn.Module, loss: Loss, val: CaseStore, batch_size: int, arithmetic: Arithmetic
) -> dict[str, float]:
    """Mean loss and watched metrics over the validation cases; cases without the region are not counted."""
    losses: list[float] = []
    scores: dict[str, list[float]] = {name: [] for name in WATCHED}
    plan = [[(i, False) for i in range(at, min(at + batch_size, len(val)))] for at in range(0, len(val), batch_size)]
    for batch in val.batches(plan):
        prediction = arithmetic.run(network, batch.inputs)
        for i in range(len(batch.case_ids)):
            one = slice(i, i + 1)
            losses.append(float(loss(prediction[one], batch.target[one], take(batch, one))))
        for name, values in scores.items():
            region = batch.masks[name.split("_")[1]].flatten(1).any(1)
            values += METRICS[name](prediction, batch.target, batch.masks)[region].tolist()
    means = {f"val/{name}": sum(values) / len(values) for name, values in scores.items() if values}
    return {"val/loss": sum(losses) / len(losses), **means}


def take(batch: Batch, part: slice) -> dict[str, Tensor]:
    """The masks of some cases of a batch."""
    return {name: mask[part] for name, mask in batch.masks.items()}


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights that later steps do not change."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


@contextmanager
def advice_on_memory(settings: TrainConfig) -> Iterator[None]:
    """Turn an out-of-memory error, on GPU or CPU, into one that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own kind is a RuntimeError; on a CPU only the text tells
        text = str(error) or "no memory"
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "memory" not in text:
            raise
        raise TrainingFailed(
            f"out of memory. Lower --train.batch-size (now {settings.batch_size}), then --model.width, or raise "
            f"--spacing, or train on patches (--train.patch-mm 64). The allocator said: {text.splitlines()[0]}"
        ) from error
