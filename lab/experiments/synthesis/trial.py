"""One trial of a synthesis study: training, validation, logging. It never sees the test patients."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from lab.config import AugmentConfig, Config, ModelConfig, TrainConfig, flatten
from lab.data.batches import Batch, CaseStore, Prediction, image_of
from lab.data.cohort import Cohort
from lab.data.contract import Contract
from lab.evaluation.evaluate import evaluate, means
from lab.evaluation.place.voxel_counts import choose_thresholds
from lab.inference.tiling import predict_named
from lab.io.files import plural
from lab.synthesis import group, settings_of
from lab.synthesis.device import Arithmetic, choose, reset_peak_memory, use_threads
from lab.synthesis.losses import make_loss
from lab.synthesis.methods import METHODS, Method, MethodSpec
from lab.synthesis.networks import NETWORKS, NetworkSpec, build_network, count_parameters, given
from lab.synthesis.train import Fitted, fit
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run

if TYPE_CHECKING:
    from lab.synthesis.networks.film import Coding
    from lab.synthesis.warm_start import Start

PATIENTS_SHOWN = 2


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """Inputs of one trial; plain data that another process can receive."""

    config: Config
    cohort: Cohort
    split: pd.DataFrame
    """Columns case_id and split."""
    run: Run
    label: str
    checkpoint: Path
    workers: int = 1

    def cases(self, part: str) -> list[str]:
        """Case ids of one part of the split."""
        return self.split.loc[self.split["split"] == part, "case_id"].tolist()


def train_trial(job: TrialJob, on_epoch: Callable[[dict[str, float]], None]) -> float:
    """Train and validate one network, log everything to its run, and return the objective's value.

    `on_epoch` gets each epoch's figures and may raise to prune. Raises TrainingFailed with the reason where the trial
    cannot continue.
    """
    config = used(job.config)
    job = replace(job, cohort=as_read(job, config))
    use_threads(job.workers)
    arithmetic = choose(config.train.device, config.train.precision, config.train.channels_last)
    reset_peak_memory(arithmetic.device)
    train, val = (store(job, part, arithmetic) for part in ("train", "val"))
    start = starting_weights(config)
    method = build_method(config, arithmetic, start, coding=coding(job, config))
    tags = {Tag.LABEL: job.label, Tag.DEVICE: arithmetic.name, Tag.SEED: config.train.seed}
    tags |= {Tag.PHANTOM: job.cohort.phantom, Tag.COHORT: job.cohort.digest}
    tags |= {Tag.THREADS: torch.get_num_threads()}  # the last bits of CPU results depend on it
    tags |= {Tag.FOLD: config.study.fold + 1} if config.study.folds else {}
    if start is not None:
        taken = method.network.taken
        tags |= {Tag.START: start.id, Tag.START_WEIGHTS: start.sha256, Tag.START_TAKEN: taken}
        if not job.checkpoint.exists():
            print(f"{job.label}: starts from {start.id}: {taken}", flush=True)
    params = {name: value for name, value in flatten(config).items() if not name.startswith("study.")}
    job.run.describe(params, tags)
    job.run.log_cohort(job.cohort)
    job.run.log_table(job.split, artifacts.SPLIT)
    job.run.log_json(asdict(job.config), artifacts.CONFIG)

    logged = job.run.logged_steps("train/loss")
    first = (config.study.objective, "val/mae_brain", "val/contrast_tumour")  # MLflow's pages open on the first
    history: list[dict[str, float]] = []
    warning: Callable[[list[dict[str, float]]], str] = getattr(method, "warning", lambda _: "")

    def report(figures: dict[str, float]) -> None:
        history.append(figures)
        if said := warning(history):
            print(f"{job.label}: {said}", flush=True)
        step = int(figures["epoch"])
        if step not in logged:  # an epoch logged before a kill is not logged twice
            shown = sorted((name for name in figures if "/" in name), key=lambda name: name not in first)
            job.run.log_metrics({name: figures[name] for name in shown}, step)
        on_epoch(figures)

    fitted = fit(
        method,
        train,
        val,
        config.train,
        arithmetic=arithmetic,
        start_sha256=None if start is None else start.sha256,
        augment=config.augment if config.augment.use == "on" else None,
        checkpoint=job.checkpoint,
        on_epoch=report,
    )
    return log_trained(job, fitted, val, arithmetic)


def log_trained(job: TrialJob, fitted: Fitted, val: CaseStore, arithmetic: Arithmetic) -> float:
    """Log validation figures, slices, cost and the model; returns the objective's value."""
    config = job.config
    whole = val if val.patch is None else store(job, "val", arithmetic, whole=True)
    window = tile(config, job.cohort)

    took: list[float] = []

    def predict(batch: Batch) -> Prediction:
        started = time.perf_counter()
        how = {"brain": batch.masks["brain"], "arithmetic": arithmetic, "window": window}
        with given(fitted.network, partial(job.cohort.clinical, batch.case_ids)):
            found = predict_named(fitted.network, batch.inputs, **how)
        image_of(found)[0, 0, 0, 0].tolist()  # waits for a GPU
        took.append(time.perf_counter() - started)
        return found

    table = evaluate(predict, whole)
    job.run.log_table(table, artifacts.VAL_PATIENTS)
    thresholds = choose_thresholds(table)
    from lab.experiments.synthesis.slices import log_trial_slices

    log_trial_slices(job, table["case_id"].head(PATIENTS_SHOWN).tolist(), whole, predict, thresholds)

    progress = fitted.progress
    cost = {
        "cost/parameters": count_parameters(fitted.network),
        "cost/train_seconds": progress.seconds,
        "cost/seconds_per_volume": statistics.median(took),
        "cost/peak_memory_mb": fitted.peak_memory_mb,
        "cost/epochs": progress.epoch,
        "cost/best_epoch": progress.best_epoch,
    }
    figures = means(table, "val")  # one step after the last epoch, so that the run table shows the network that is kept
    chosen = {f"val/{name}": value for name, value in thresholds.items()}
    job.run.log_metrics_once(figures | chosen, progress.epoch + 1, known_by="val/mae_image")
    job.run.log_metrics_once(cost, known_by="cost/epochs")  # at step 0, for which the UI draws bars
    from lab.tracking.models.network import log_network

    uri = log_network(job.run, fitted.network, contract(config, job.cohort))
    job.run.set_tags({Tag.MODEL: uri, Tag.STOPPED_EARLY: fitted.stopped_early})
    if config.study.objective not in figures:
        raise ValueError(f"{config.study.objective} is defined for none of {plural(len(table), 'validation patient')}")
    return figures[config.study.objective]


def as_read(job: TrialJob, config: Config) -> Cohort:
    """The cohort as the network reads it: its inputs normalised, with landmarks of the training patients alone."""
    if config.data.normalise == "zscore":
        return job.cohort
    from lab.data.normalisation import normalised  # few trainings need it

    return normalised(job.cohort, config.data.normalise, job.cases("train"), config.data.inputs)


def store(job: TrialJob, part: str, arithmetic: Arithmetic, *, whole: bool = False) -> CaseStore:
    """The cases of one part of the split; random patches, and margins for rotations, are for training alone."""
    config = used(job.config)
    edge = None if whole else patch_edge(config.train, job.cohort.spacing_mm)
    margin, shares = 0, None
    if part == "train" and edge is not None:
        from lab.data.augment import margin_of  # few trainings need it

        margin = margin_of(config.augment, edge, job.cohort.spacing_mm)
        shares = config.train.patch_shares if config.train.patch_sampling == "random" else None
    return CaseStore(
        job.cohort,
        job.cases(part),
        inputs=config.data.inputs,
        target=config.data.target,
        device=arithmetic.device,
        patch=edge,
        margin=margin,
        shares=shares,
    )


def used(config: Config) -> Config:
    """The config as it takes effect: options of its own network and method only, no `auto` that a method decides."""
    kinds: dict[str, NetworkSpec | MethodSpec] = {
        config.model.id: NETWORKS.find(config.model.id),
        config.train.method: METHODS.find(config.train.method),
    }
    options = {
        group(name): settings_of(config, name, spec.settings)
        for name, spec in kinds.items()
        if spec.settings not in (None, ModelConfig)
    }
    sampling = config.train.patch_sampling
    if sampling == "auto":
        sampling = METHODS.find(config.train.method).patch_sampling
    train = replace(config.train, patch_sampling=sampling)
    return replace(config, options=options, train=train, augment=augmentation(config))


def augmentation(config: Config) -> AugmentConfig:
    """The random changes of training images, `on` or `off`, with every strength 0 where they are off."""
    augment = config.augment
    if augment.use == "on" or (augment.use == "auto" and METHODS.find(config.train.method).augmented):
        return replace(augment, use="on")
    strengths: dict[str, Any] = {item.name: 0.0 for item in fields(augment) if item.name != "use"}
    return AugmentConfig(use="off", **strengths)


def starting_weights(config: Config) -> Start | None:
    """The weights that training starts from; None for fresh ones. Raises ValueError where they cannot be used."""
    if config.train.start_from is None:
        return None
    from lab.synthesis.warm_start import check_inputs
    from lab.tracking.models.start import read_start

    start = read_start(config.train.start_from)
    check_inputs(start, config.data.inputs)
    return start


def coding(job: TrialJob, config: Config) -> Coding | None:
    """The coding of the network's clinical covariates by the training patients; None without any."""
    if not config.clinical.use:
        return None
    from lab.synthesis.networks.film import fit_coding

    return fit_coding(job.cohort, job.cases("train"), config.clinical.use)


def build_method(
    config: Config, arithmetic: Arithmetic, start: Start | None = None, coding: Coding | None = None
) -> Method:
    """The method of a config with its network and loss, weights initialised from its seed and taken from `start`.

    With a `coding` the network takes clinical covariates. Raises ValueError for an unknown name or invalid settings,
    and where nothing of `start` fits.
    """
    model, train, channels = config.model, config.train, len(config.data.inputs)
    settings = settings_of(config, model.id, NETWORKS.find(model.id).settings)
    network = build_network(model.id, settings, channels, seed=train.seed)
    if coding is not None:
        from lab.synthesis.networks.film import modulate

        modulate(network, coding, drop=config.clinical.drop)
    if start is not None:
        from lab.synthesis.warm_start import take_over

        network.taken = take_over(network, start)
    spec = METHODS.find(train.method)
    if spec.network not in (None, model.id):
        raise ValueError(
            f"--method {train.method} trains the network {spec.network}, not {model.id}; add --model.id "
            f"{spec.network}, or --networks {spec.network} in the study of architectures"
        )
    if spec.needs_t1 and "T1" not in (name.upper() for name in config.data.inputs):
        raise ValueError(
            f"--method {train.method} compares the image with the T1, and --data.inputs are "
            f"{', '.join(config.data.inputs)}; add T1 to them"
        )
    own = settings_of(config, train.method, spec.settings)
    return spec.make(network, make_loss(config.loss), train, arithmetic, own, channels)


def patch_edge(train: TrainConfig, spacing_mm: float) -> int | None:
    """Edge in voxels of the training patches, None for whole volumes."""
    return None if train.patch_mm is None else max(1, round(train.patch_mm / spacing_mm))


def tile(config: Config, cohort: Cohort) -> tuple[int, int, int] | None:
    """The sliding window of a network trained on patches, None for one trained on whole volumes."""
    edge = patch_edge(config.train, cohort.spacing_mm)
    return None if edge is None else (edge, edge, edge)


def contract(config: Config, cohort: Cohort) -> dict[str, Any]:
    """The contract of the study's networks, which is stored with their weights."""
    kept = Contract.of(cohort, config.data.inputs, config.data.target).as_dict()
    return kept | {"patch_mm": config.train.patch_mm, "method": config.train.method}


def remove_checkpoint(checkpoint: Path) -> None:
    """Remove the checkpoint of a finished trial."""
    with contextlib.suppress(FileNotFoundError):
        checkpoint.unlink()
