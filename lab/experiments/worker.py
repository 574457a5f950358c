"""One worker of a study: it claims trials, runs them and writes down how they ended, until none is left.

What ends a trial is its own (a loss that is not finite, too little memory: it has failed, the study goes on) or the
machine's (a full disk, a lost tracking server, Ctrl-C: the trial is left as it is, the study stops, and the same
command goes on from the last epoch).
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import sys
import time
import traceback
from typing import cast

import optuna
from mlflow.exceptions import MlflowException
from optuna.trial import FixedTrial, TrialState

from lab.config import Config, override
from lab.experiments.plan import Plan, Settings
from lab.experiments.queue import SLOT, Queue, reporter
from lab.experiments.screen import Screen
from lab.experiments.synthesis.trial import Job, discard, train_trial
from lab.io.interruption import handle_worker_signals
from lab.io.pool import end_with_parent
from lab.synthesis.train import TrainingFailed
from lab.tracking import runs
from lab.tracking.store import StoreLost, connect, store_trouble

ATTEMPTS, BASE = "attempts", "base"
ATTEMPTS_ALLOWED = 3
LOOK_EVERY_S = 1.0


def work_apart(plan: Plan, phase: str, slots: list[str], worker: int) -> None:
    """`work` as a process of its own: it ends with its parent, on request, and without a traceback."""
    handle_worker_signals()
    end_with_parent()
    try:
        work(plan, phase, slots, worker)
    except KeyboardInterrupt:
        sys.exit(130)
    except StoreLost:  # the driver tries by itself and reports
        sys.exit(1)


def work(plan: Plan, phase: str, slots: list[str], worker: int) -> None:
    """Claim and run trials until all are done; the last trials of other processes are waited for.

    A trial whose process is killed meanwhile is taken over. Raises StoreLost.
    """
    connect()
    queue = plan.queue(phase)
    while True:
        with queue.claimed(slots) as trial:
            if trial is not None:
                run_one(plan, phase, queue, trial, slots, worker)
                continue
        if not queue.unfinished(slots):
            return
        time.sleep(LOOK_EVERY_S)


def run_one(plan: Plan, phase: str, queue: Queue, trial: optuna.Trial, slots: list[str], worker: int) -> None:
    """Run one trial to its end and write down how it ended. Raises StoreLost."""
    slot = trial.user_attrs[SLOT]
    config, label = trial_config(plan, phase, trial)
    config = on_device(config, worker)
    screen = Screen(slots.index(slot) + 1, len(slots), slot, config.train.epochs, alone=plan.config.study.workers == 1)
    identity = {"study_key": plan.key, "slot": slot, "phase": phase}
    run_id = runs.find_or_create(plan.study.name, slot, identity=identity, parent=plan.parent)
    checkpoint = plan.checkpoint(run_id)
    job = Job(
        config=config,
        cohort=plan.cohort,
        split=plan.splits[config.study.fold],
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
        pause(trial, run_id)
        raise
    except Exception as error:  # whatever ends a trial must not end the study; it is shown and kept
        if store_trouble(error):
            screen.end("stopped: what is tracked cannot be written")
            pause(trial, None if isinstance(error, MlflowException) else run_id)
            raise StoreLost.because(error) from error
        reason = str(error) if isinstance(error, TrainingFailed | ValueError) else repr(error)
        screen.end(f"failed: {reason}")
        note_failure(run_id, reason)
        queue.tell(trial, None, TrialState.FAIL)
    else:
        screen.end(f"{config.study.objective} {value:.4f}")
        runs.end(run_id, "FINISHED", state="finished")
        queue.tell(trial, value, TrialState.COMPLETE)
    discard(checkpoint)


def pause(trial: optuna.Trial, run_id: str | None) -> None:
    """Leave a trial such that the next call goes on with it; this end does not count as one of its attempts."""
    with contextlib.suppress(Exception):  # best effort: where nothing can be written, the next call finds it killed
        epochs, attempts = trial.user_attrs[ATTEMPTS]
        trial.set_user_attr(ATTEMPTS, [epochs, attempts - 1])
    if run_id is not None:
        with contextlib.suppress(Exception):
            runs.end(run_id, "KILLED", state="interrupted")


def note_failure(run_id: str, reason: str) -> None:
    """The reason and the traceback of a failed trial, unless somebody deleted its run meanwhile."""
    try:
        runs.log_text(run_id, traceback.format_exc(), "failure.txt")
        runs.end(run_id, "FAILED", state="failed", failure=reason[:4000])
    except MlflowException as error:
        if store_trouble(error):
            raise


def count_attempt(trial: optuna.Trial) -> None:
    """Raises TrainingFailed when a trial has been killed several times without an epoch in between."""
    epochs = len(trial.storage.get_trial(trial._trial_id).intermediate_values)
    before = trial.user_attrs.get(ATTEMPTS, [0, 0])
    attempts = before[1] + 1 if before[0] == epochs else 1
    trial.set_user_attr(ATTEMPTS, [epochs, attempts])
    if attempts > ATTEMPTS_ALLOWED:
        raise TrainingFailed(
            f"killed {ATTEMPTS_ALLOWED} times with {epochs} epochs done, probably for memory: lower "
            "--train.batch-size, --model.width or --workers, then run again with --study.retry-failed"
        )


def trial_config(plan: Plan, phase: str, trial: optuna.Trial) -> tuple[Config, str]:
    """The settings of a trial and the label of the network that it trains."""
    name = trial.user_attrs[SLOT]
    if phase != "search":
        slot = next(slot for slot in plan.slots(phase) if slot.name == name)
        return override(plan.config, dict(slot.settings)), slot.label
    if BASE not in trial.user_attrs:  # kept, since the grid may have grown when the trial is continued
        trial.set_user_attr(BASE, dict(plan.study.grid[best_label(plan)]))
    return override(plan.config, dict(drawn_settings(plan, trial, trial.user_attrs[BASE]))), name


def drawn_settings(plan: Plan, trial: optuna.trial.BaseTrial, base: Settings) -> Settings:
    """All settings of a trial of the search that was drawn round `base`, as Optuna keeps it (lists for tuples)."""
    assert plan.study.search is not None
    fixed = plan.once({name: tuple(v) if isinstance(v, list) else v for name, v in base.items()})
    suggesting = cast(optuna.Trial, trial)  # a finished trial's parameters are asked for in the same way
    return {**fixed, **plan.study.search(suggesting, override(plan.config, dict(fixed)))}


def best_label(plan: Plan) -> str:
    """The grid's network with the best objective, averaged over its seeds and folds."""
    done = {slot: t.value for slot, t in plan.queue("grid").by_slot().items() if t.state == TrialState.COMPLETE}
    values: dict[str, list[float]] = {}
    for slot in plan.slots("grid"):
        value = done.get(slot.name)
        if value is not None:
            values.setdefault(slot.label, []).append(value)
    if not values:
        raise ValueError("no trial of the grid has finished, so there is nothing to search around")
    return (min if plan.lower else max)(values, key=lambda label: statistics.fmean(values[label]))


def search_winner(plan: Plan) -> dict[str, Settings]:
    """Label and settings of the guided search's best trial; empty where none has finished."""
    done = [trial for trial in plan.queue("search").by_slot().values() if trial.state == TrialState.COMPLETE]
    if not done:
        return {}
    best = (min if plan.lower else max)(done, key=lambda trial: trial.value or 0.0)
    return {best.user_attrs[SLOT]: drawn_settings(plan, FixedTrial(best.params), best.user_attrs[BASE])}


def on_device(config: Config, worker: int) -> Config:
    """The config with a GPU of its own for each worker, where there are GPUs and none was named."""
    import torch

    if config.train.device != "auto" or torch.cuda.device_count() < 2:
        return config
    device = f"cuda:{worker % torch.cuda.device_count()}"
    return dataclasses.replace(config, train=dataclasses.replace(config.train, device=device))
