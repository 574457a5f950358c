"""A study from its first trial to its report: created, continued, run in parallel, finished."""

from __future__ import annotations

import dataclasses
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from lab.config import Config, fingerprint, flatten, override
from lab.data.cohort import Cohort
from lab.data.source import obtain
from lab.synthesis.train import TrainingFailed
from lab.track import runs
from lab.track.screen import Screen
from lab.track.store import RUNS, connect
from lab.track.trial import Job, discard, train_trial
from lab.track.trials import SLOT, Queue, reporter

Settings = Mapping[str, Any]
"""Settings of one trial that differ from the study's, by dotted name."""
ATTEMPTS = 3
SEARCH_TRIALS = 20


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a script in `studies/` defines. The functions must be importable, since workers are processes."""

    name: str
    question: str
    grid: dict[str, Settings]
    """Label of each trial of the grid and its settings."""
    search: Callable[[optuna.Trial, Config], Settings] | None = None
    """Draws the settings of a trial of the guided search round the best of the grid."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study on one cohort with all settings made out; what a worker gets."""

    study: Study
    config: Config
    cohort: Cohort
    split: pd.DataFrame
    key: str
    parent: str

    @property
    def folder(self) -> Path:
        """Locks and checkpoints of the study."""
        return RUNS / "work" / f"{self.study.name}-{self.key}"

    def queue(self, phase: str) -> Queue:
        """The trials of `grid` or `search`."""
        objective = self.config.study.objective
        return Queue(
            name=f"{self.study.name}-{self.key}-{phase}",
            direction="maximize" if "ssim" in objective else "minimize",
            folder=self.folder / phase,
            seed=self.config.train.seed,
            prune=phase == "search" and self.config.study.prune,
        )


def run(study: Study, config: Config) -> Plan:
    """Run or continue a study and leave its report on the parent run.

    Trials that were finished stay, one that was killed goes on in its MLflow run from its last epoch, a trial that
    fails never ends the study. Raises ValueError or an OSError where the data or the settings do not allow a start.
    """
    started = time.monotonic()
    check(study, config)
    cohort = obtain(config.data, config.phantom, RUNS)
    split = cohort.split(config.data.split, config.data.split_seed)
    key = study_key(config, cohort)
    name = f"{study.name}{' phantom' if cohort.phantom else ''} {cohort.spacing_mm:g} mm {key[:6]}"
    parent = runs.find_or_create(study.name, name, identity={"study_key": key, "role": "study"})
    plan = Plan(study=study, config=config, cohort=cohort, split=split, key=key, parent=parent)
    tags = {"cohort_digest": cohort.digest, "phantom": cohort.phantom, "seed": config.train.seed}
    shared = {name: value for name, value in flatten(config).items() if not name.startswith("study.")}
    runs.log_settings(parent, shared, tags)
    runs.log_cohort(parent, cohort, cohort.phantom)
    runs.log_table(parent, split, "split.csv")

    grid = list(study.grid)[: config.study.trials]
    queue = plan.queue("grid")
    queue.plan({label: study.grid[label] for label in grid})
    if config.study.retry_failed:
        queue.retry_failed()
    work_through(plan, "grid", grid)
    if config.study.search and study.search is not None:
        count = SEARCH_TRIALS if config.study.trials is None else max(0, config.study.trials - len(grid))
        slots = [f"search {number + 1:02d}" for number in range(count)]
        plan.queue("search").plan({slot: {} for slot in slots})
        work_through(plan, "search", slots)

    from lab.track.finish import finish

    finish(plan, started)
    return plan


def check(study: Study, config: Config) -> None:
    """Raises ValueError for settings that no trial could run with, before anything is made."""
    from lab.synthesis.arithmetic import choose
    from lab.synthesis.losses import make_loss

    for settings in study.grid.values():
        trial = override(config, dict(settings))
        make_loss(trial.loss.name, trial.loss.mix_weights)
    choose(config.train.device, config.train.precision, config.train.channels_last)
    if config.study.trials is not None and config.study.trials < 1:
        raise ValueError(f"--trials {config.study.trials}: at least 1 is needed")
    if config.train.epochs < 1 or config.train.batch_size < 1 or config.study.workers < 1:
        raise ValueError("--epochs, --train.batch-size and --workers must be at least 1")
    if config.study.objective not in OBJECTIVES:
        raise ValueError(f"--study.objective {config.study.objective}: known are {', '.join(OBJECTIVES)}")


OBJECTIVES = tuple(f"val/{m}_{r}" for m in ("mae", "mse", "ssim") for r in ("image", "brain", "tumour"))


def study_key(config: Config, cohort: Cohort) -> str:
    """Digest of all that makes results comparable: cohort, split and settings, but not how many trials or workers."""
    settings = flatten(config)
    left = ("data.path", "data.processes", "data.layout", "train.device")
    kept = {k: v for k, v in settings.items() if k not in left and not k.startswith(("study.", "phantom."))}
    return fingerprint([cohort.digest, kept, config.study.objective])


def work_through(plan: Plan, phase: str, slots: list[str]) -> None:
    """Run all open trials of a phase, here or in `workers` processes."""
    count = min(plan.config.study.workers, len(slots))
    if count <= 1:
        work(plan, phase, slots, 0)
        return
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(plan, phase, slots, i), name=f"worker {i}") for i in range(count)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        for worker in workers:
            worker.terminate()
        raise
    if any(worker.exitcode for worker in workers):  # killed, by the system's memory killer perhaps: go on alone
        print("A worker died; its trial goes on from its last epoch in this process.", flush=True)
        work(plan, phase, slots, 0)


def work(plan: Plan, phase: str, slots: list[str], worker: int) -> None:
    """Claim and run trials until none is left."""
    if multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends its workers
    queue, connected = plan.queue(phase), connect()
    assert connected is not None
    while True:
        with queue.claimed(slots) as trial:
            if trial is None:
                return
            run_one(plan, phase, queue, trial, slots, worker)


def run_one(plan: Plan, phase: str, queue: Queue, trial: optuna.Trial, slots: list[str], worker: int) -> None:
    """Run one trial to its end and write down how it ended."""
    slot = trial.user_attrs[SLOT]
    config, label = trial_config(plan, phase, trial)
    config = on_device(config, worker)
    screen = Screen(slots.index(slot) + 1, len(slots), label, config.train.epochs, alone=plan.config.study.workers == 1)
    identity = {"study_key": plan.key, "slot": slot, "phase": phase}
    run_id = runs.find_or_create(plan.study.name, label, identity=identity, parent=plan.parent)
    checkpoint = plan.folder / f"{run_id}.checkpoint"
    job = Job(
        config=config,
        cohort=plan.cohort,
        split=plan.split,
        run_id=run_id,
        label=label,
        checkpoint=checkpoint,
        workers=plan.config.study.workers,
    )
    told = reporter(trial, config.study.objective, queue.prune)

    def on_epoch(figures: dict[str, float]) -> None:
        screen.epoch(figures)
        told(figures)

    try:
        count_attempt(trial)
        value = train_trial(job, on_epoch)
    except optuna.TrialPruned:
        screen.end("pruned: behind the other trials")
        runs.end(run_id, "KILLED", state="pruned")
        queue.tell(trial, None, TrialState.PRUNED)
    except KeyboardInterrupt:
        runs.end(run_id, "KILLED", state="interrupted")
        raise
    except Exception as error:  # whatever ends a trial must not end the study; it is shown and kept
        reason = str(error) if isinstance(error, TrainingFailed | OSError | ValueError) else repr(error)
        screen.end(f"failed: {reason}")
        runs.log_text(run_id, traceback.format_exc(), "failure.txt")
        runs.end(run_id, "FAILED", state="failed", failure=reason[:4000])
        queue.tell(trial, None, TrialState.FAIL)
    else:
        screen.end(f"{config.study.objective} {value:.4f}")
        runs.end(run_id, "FINISHED", state="finished")
        queue.tell(trial, value, TrialState.COMPLETE)
    discard(checkpoint)


def count_attempt(trial: optuna.Trial) -> None:
    """Raises TrainingFailed when a trial has been killed several times without an epoch in between."""
    epochs = len(trial.storage.get_trial(trial._trial_id).intermediate_values)
    before = trial.user_attrs.get("attempts", [0, 0])
    attempts = before[1] + 1 if before[0] == epochs else 1
    trial.set_user_attr("attempts", [epochs, attempts])
    if attempts > ATTEMPTS:
        raise TrainingFailed(
            f"killed {ATTEMPTS} times in epoch {epochs + 1}, probably for memory: lower --train.batch-size, "
            "--model.width or --workers, then run again with --study.retry-failed"
        )


def trial_config(plan: Plan, phase: str, trial: optuna.Trial) -> tuple[Config, str]:
    """The settings of a trial and its label."""
    slot = trial.user_attrs[SLOT]
    if phase == "grid":
        return override(plan.config, dict(plan.study.grid[slot])), slot
    assert plan.study.search is not None
    base = override(plan.config, dict(plan.study.grid[best_slot(plan)]))
    drawn = plan.study.search(trial, base)
    text = ", ".join(f"{k.split('.')[1]} {v:.2g}" if isinstance(v, float) else f"{v}" for k, v in drawn.items())
    return override(base, dict(drawn)), f"{slot}: {text}"


def best_slot(plan: Plan) -> str:
    """The grid's trial with the best objective."""
    queue = plan.queue("grid")
    done = {slot: t.value for slot, t in queue.by_slot().items() if t.state == TrialState.COMPLETE}
    values = {slot: value for slot, value in done.items() if value is not None and slot in plan.study.grid}
    if not values:
        raise ValueError("no trial of the grid has finished, so there is nothing to search around")
    return (max if queue.direction == "maximize" else min)(values, key=lambda slot: values[slot])


def on_device(config: Config, worker: int) -> Config:
    """The config with a GPU of its own for each worker, where there are GPUs and none was named."""
    import torch

    if config.train.device != "auto" or torch.cuda.device_count() < 2:
        return config
    device = f"cuda:{worker % torch.cuda.device_count()}"
    return dataclasses.replace(config, train=dataclasses.replace(config.train, device=device))
