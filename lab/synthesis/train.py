"""Training with any method: early stopping, a checkpoint every epoch, exact resume.

Every random draw of an epoch (order, flips, dropout) is a function of the seed and the epoch's number, so a killed run
that resumes from its checkpoint equals an uninterrupted one, bit for bit on the CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lab.config import AugmentConfig, TrainConfig
from lab.data.batches import Batch, CaseStore, plan_epoch
from lab.evaluation.image_errors import METRICS
from lab.evaluation.place.voxel_counts import average_precision, count_voxels, voxel_auc
from lab.io.sealed_json import fingerprint
from lab.stats.agreement import concordance_of_sums
from lab.synthesis.checkpoint import load_checkpoint, save_checkpoint
from lab.synthesis.device import Arithmetic, is_out_of_memory, peak_memory_mb
from lab.synthesis.losses.image_losses import Loss
from lab.synthesis.methods import Method
from lab.synthesis.networks import given

WATCHED = {"mae_brain": "brain", "mae_tumour": "tumour", "mae_balanced": "tumour"}
"""Validation metrics of every epoch, and the region that a patient needs for each."""


class TrainingFailed(RuntimeError):
    """A trial that cannot continue, with the reason for the user."""


@dataclass
class Progress:
    """State of a training run; the checkpoint is this and the tensors."""

    epoch: int = 0  # epochs done
    best_epoch: int = 0
    best_loss: float = math.inf
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Fitted:
    """A trained network at its best epoch, and its training history."""

    network: nn.Module
    progress: Progress
    stopped_early: bool
    peak_memory_mb: float


def fit(
    method: Method,
    train: CaseStore,
    val: CaseStore,
    settings: TrainConfig,
    *,
    arithmetic: Arithmetic,
    augment: AugmentConfig | None = None,
    start_sha256: str | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> Fitted:
    """Train until the validation loss, or the figure that the method names, has not improved for `patience` epochs.

    Training images are changed as `augment` says.

    `checkpoint` is written atomically after each epoch; if it exists, training resumes from it. `on_epoch` gets each
    epoch's figures (`epoch`, `train/loss` and the method's others, those of `validate`, `seconds`) and may raise to end
    the trial. A resumed run reports the last finished epoch again, since the kill may have come before `on_epoch`.
    Raises TrainingFailed when the loss is not finite or memory runs out, ValueError when the settings are invalid or
    the checkpoint is damaged or belongs to other settings.
    """
    if settings.epochs < 1 or settings.patience < 1 or settings.batch_size < 1:
        raise ValueError("--epochs, --train.patience and --train.batch-size must be at least 1")
    identity = identify(method, train, val, settings, arithmetic, augment, start_sha256)
    progress, best = Progress(), snapshot(method.network)
    if checkpoint is not None and checkpoint.exists():
        state = load_checkpoint(checkpoint, identity)
        method.load_state_dict(state)
        progress, best = Progress(**state["progress"]), state["best"]
        if on_epoch is not None:
            on_epoch(progress.history[-1])

    while progress.epoch < settings.epochs and not out_of_patience(progress, settings):
        started = time.perf_counter()
        with advice_on_memory(settings):
            figures = run_epoch(method, train, val, settings, arithmetic, progress.epoch, augment)
        progress.epoch += 1
        progress.seconds += time.perf_counter() - started
        figures = {"epoch": progress.epoch, **figures, "seconds": progress.seconds}
        progress.history.append(figures)
        if (loss := ranked(method, figures)) < progress.best_loss:
            progress.best_loss, progress.best_epoch = loss, progress.epoch
            best = snapshot(method.network)
        if checkpoint is not None:
            state = method.state_dict() | {"best": best, "progress": asdict(progress)}
            save_checkpoint(checkpoint, identity, state)
        if on_epoch is not None:
            on_epoch(figures)
    method.network.load_state_dict(best)
    settle: Callable[[CaseStore], None] | None = getattr(method, "settle", None)
    if settle is not None:
        settle(val)
    return Fitted(
        method.network.eval(), progress, out_of_patience(progress, settings), peak_memory_mb(arithmetic.device)
    )


def identify(
    method: Method,
    train: CaseStore,
    val: CaseStore,
    settings: TrainConfig,
    arithmetic: Arithmetic,
    augment: AugmentConfig | None = None,
    start_sha256: str | None = None,
) -> dict[str, Any]:
    """Settings that must be equal in a checkpoint and the run that resumes from it.

    The length of training and the choice between several GPUs may change, and the name of the weights that the network
    started from, not their hash.
    """
    free = ("epochs", "patience", "device", "start_from", "patients")
    kept = {name: value for name, value in asdict(settings).items() if name not in free}
    kept |= {} if start_sha256 is None else {"weights of --train.start-from": start_sha256}
    kept |= {} if augment is None else {f"augment.{name}": value for name, value in asdict(augment).items()}
    shapes = [(name, list(tensor.shape)) for name, tensor in method.network.state_dict().items()]
    return kept | {
        "arithmetic": replace(arithmetic, device=torch.device(arithmetic.device.type)).name,
        "network": fingerprint(shapes),
        "training patients": fingerprint(train.case_ids),
        "validation patients": fingerprint(val.case_ids),
    }


def ranked(method: Method, figures: Mapping[str, float]) -> float:
    """What the best epoch has least of: the validation loss, the method's `rank`, or minus the figure that it names.

    Raises TrainingFailed where no validation patient has that figure.
    """
    rank: Callable[[Mapping[str, float]], float] | None = getattr(method, "rank", None)
    if rank is not None:
        return rank(figures)
    name: str | None = getattr(method, "best_by", None)
    if name is None:
        return figures["val/loss"]
    if name not in figures:
        raise TrainingFailed(f"no validation patient has {name}, by which this method stops: none enhances in part")
    return -figures[name]


def out_of_patience(progress: Progress, settings: TrainConfig) -> bool:
    """Whether the validation loss, or the method's figure, has not improved for `patience` epochs."""
    return progress.epoch - progress.best_epoch >= settings.patience


def run_epoch(
    method: Method,
    train: CaseStore,
    val: CaseStore,
    settings: TrainConfig,
    arithmetic: Arithmetic,
    epoch: int,
    augment: AugmentConfig | None = None,
) -> dict[str, float]:
    """One pass over the training cases and one over the validation cases."""
    plan = plan_epoch(
        len(train),
        batch_size=settings.batch_size,
        flip=settings.flip,
        seed=settings.seed,
        epoch=epoch,
        showings=settings.patches_per_patient,
    )
    totals: dict[str, Tensor] = {}
    with torch.random.fork_rng(devices=[arithmetic.device] if arithmetic.device.type == "cuda" else []):
        torch.manual_seed(settings.seed * 1_000_003 + epoch)  # dropout and methods draw from the global generator
        for batch in train.batches(plan, key=(settings.seed, epoch)):
            shown = batch if augment is None else changed(batch, augment, train)
            with given(method.network, partial(train.cohort.clinical, batch.case_ids), training=True):
                found = method.train_step(shown)
            for name, value in found.items():
                totals[name] = totals.get(name, torch.zeros((), device=value.device)) + value * len(batch.case_ids)
    cases = sum(len(entries) for entries in plan)
    figures = {f"train/{name}": float(total) / cases for name, total in totals.items()}
    if all(math.isfinite(value) for value in figures.values()):
        figures |= validate(method.predict, method.loss, val, settings.batch_size, method.network)
    for name in (*(name for name in figures if name.startswith("train/")), "val/loss"):
        if not math.isfinite(figures[name]):
            raise TrainingFailed(
                f"{name} became {figures[name]} in epoch {epoch + 1}; lower --train.learning-rate (now "
                f"{settings.learning_rate:g}) or --train.clip-norm (now {settings.clip_norm:g}, 0 is off), or use "
                "--train.precision float32. A loss must be finite where a patient's mask is empty"
            )
    return figures


def changed(batch: Batch, settings: AugmentConfig, store: CaseStore) -> Batch:
    """The batch of a store with random changes; without its margin where it has patches."""
    from lab.data.augment import augment  # few trainings need it

    return augment(batch, settings, spacing_mm=store.cohort.spacing_mm, shape=store.shape, t1=store.t1)


@torch.no_grad()
def validate(
    predict: Callable[[Tensor], Mapping[str, Tensor]],
    loss: Loss,
    val: CaseStore,
    batch_size: int,
    network: nn.Module | None = None,
) -> dict[str, float]:
    """Mean loss and watched metrics over the validation cases; no metric counts cases without its region.

    Each case has equal weight in the loss, also in a last batch that is not full. Further figures of `predict` (of a
    method) are averaged. Where T1 is an input, there is also `val/contrast_tumour`: Lin's concordance of synthetic and
    true contrast, their rise over T1, over the voxels of all tumours. Where a probability is predicted, there is also
    `val/auc_voxels`: its AUC for the enhancing voxels inside the tumour, mean over patients with both kinds; and
    `val/precision_voxels`: its average precision over the brain voxels of all patients.
    """
    losses: list[float] = []
    counts: list[str] = []
    scores: dict[str, list[float]] = {name: [] for name in WATCHED}
    sums = torch.zeros(6, dtype=torch.float64, device=val.device)
    plan = [[(i, False) for i in range(at, min(at + batch_size, len(val)))] for at in range(0, len(val), batch_size)]
    for batch in val.batches(plan):
        with given(network, partial(val.cohort.clinical, batch.case_ids)):
            found = dict(predict(batch.inputs))
        prediction, probability = found.pop("image"), found.pop("probability", None)
        for i in range(len(batch.case_ids)):
            one = slice(i, i + 1)
            losses.append(float(loss(prediction[one], batch.target[one], take(batch, one))))
        for name, region_name in WATCHED.items():
            region = batch.masks[region_name].flatten(1).any(1)
            scores[name] += METRICS[name](prediction, batch.target, batch.masks)[region].tolist()
        for name, values in found.items():
            scores.setdefault(name, []).extend(values.tolist())
        if probability is not None:
            scores.setdefault("auc_voxels", []).extend(voxel_aucs(probability, batch.masks))
            values, true = (one[batch.masks["brain"]].cpu() for one in (probability.float(), batch.masks["enhancing"]))
            counts.append(count_voxels(values.numpy(), true.numpy(), "probability"))
        if val.t1 is not None:
            t1, tumour = batch.inputs[:, val.t1 : val.t1 + 1], batch.masks["tumour"]
            x, y = (image[tumour].double() for image in (prediction - t1, batch.target - t1))
            sums += torch.stack([torch.tensor(float(len(x)), device=x.device), x.sum(), x @ x, y.sum(), y @ y, x @ y])
    figures = {f"val/{name}": sum(values) / len(values) for name, values in scores.items() if values}
    if math.isfinite(precision := average_precision(counts, "probability")):
        figures["val/precision_voxels"] = precision
    if sums[0] > 0:
        figures["val/contrast_tumour"] = concordance_of_sums(*sums.tolist())
    return {"val/loss": sum(losses) / len(losses), **figures}


def voxel_aucs(probability: Tensor, masks: Mapping[str, Tensor]) -> list[float]:
    """AUC of a probability (B, 1, X, Y, Z) inside the tumour of each patient with enhancing and other voxels there."""
    found = (
        voxel_auc(enhancing[tumour].cpu().numpy(), value[tumour].float().cpu().numpy())
        for value, tumour, enhancing in zip(probability, masks["tumour"], masks["enhancing"])
    )
    return [value for value in found if math.isfinite(value)]


def take(batch: Batch, part: slice) -> dict[str, Tensor]:
    """The masks of some cases of a batch."""
    return {name: mask[part] for name, mask in batch.masks.items()}


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights that later steps do not change."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


@contextmanager
def advice_on_memory(settings: TrainConfig) -> Iterator[None]:
    """Turn an out-of-memory error, on GPU or CPU, into one that names the settings to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch raises a RuntimeError; on a CPU only its text identifies it
        text = str(error) or "no memory"
        if not is_out_of_memory(error):
            raise
        raise TrainingFailed(
            f"out of memory. Lower --train.batch-size (now {settings.batch_size}), then --model.width, or raise "
            f"--spacing, or train on patches (--train.patch-mm 64). The allocator said: {text.splitlines()[0]}"
        ) from error
