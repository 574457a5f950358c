"""One worker of a study, which claims and runs trials and records how they ended, until none is left.

A fault of the trial (a loss that is not finite, too little memory) fails the trial, and the study continues. A fault of
the machine (a full disk, a lost tracking server) or Ctrl-C stops the study and leaves the trial as it is; the same
command continues from the last epoch.
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
from optuna.trial import FixedTrial, TrialState

from lab.config import Config, override
from lab.experiments.plan import Plan, Settings, with_fewer
from lab.experiments.queue import SLOT, Queue, reporter
from lab.experiments.synthesis.trial import TrialJob, remove_checkpoint, train_trial
from lab.experiments.time_left import TimeLeft
from lab.io.interruption import handle_worker_signals, in_terminal
from lab.io.pool import end_with_parent
from lab.synthesis.train import TrainingFailed
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run
from lab.tracking.store import StoreLost, connect, server_trouble, store_trouble, unless_absent

ATTEMPTS, BASE = "attempts", "base"
ATTEMPTS_ALLOWED = 3
LOOK_EVERY_S = 1.0
SHOW_EVERY_S = 10.0


def work_apart(plan: Plan, phase: str, slots: list[str], worker: int) -> None:
    """`work` in a separate process, which ends with its parent or on request, without a traceback."""
    handle_worker_signals()
    end_with_parent()
    try:
        work(plan, phase, slots, worker)
    except KeyboardInterrupt:
        sys.exit(130)
    except StoreLost:  # the parent process tries by itself and reports
        sys.exit(1)


def work(plan: Plan, phase: str, slots: list[str], worker: int) -> None:
    """Claim and run trials until all are finished; waits for the last trials of other processes.

    Takes over a trial whose process is killed meanwhile. Raises StoreLost.
    """
    connect()
    queue = plan.queue(phase)
    first = True
    while True:
        with queue.claimed(slots) as trial:
            if trial is not None:
                run_one(plan, phase, queue, trial, slots, worker, say_left=first)
                first = False
                continue
        if not queue.unfinished(slots):
            return
        time.sleep(LOOK_EVERY_S)


def run_one(
    plan: Plan, phase: str, queue: Queue, trial: optuna.Trial, slots: list[str], worker: int, *, say_left: bool = False
) -> None:
    """Run one trial and record how it ended. Raises StoreLost.

    With `say_left` print the time left after its first epoch, unless another trial that runs has yet to end its own.
    """
    slot = trial.user_attrs[SLOT]
    config, label = trial_config(plan, phase, trial)
    config = on_device(config, worker)
    progress = ProgressLine(
        slots.index(slot) + 1, len(slots), slot, config.train.epochs, alone=plan.config.study.workers == 1
    )
    identity = {Tag.STUDY_KEY: plan.key, Tag.SLOT: slot, Tag.PHASE: phase}
    run = Run.open(plan.study.name, slot, identity=identity, parent=plan.parent)
    checkpoint = plan.checkpoint(run)
    job = TrialJob(
        config=config,
        cohort=plan.cohort,
        split=with_fewer(plan.splits[config.study.fold], config.train.patients, config.data.split_seed),
        run=run,
        label=label,
        checkpoint=checkpoint,
        workers=plan.config.study.workers,
    )
    report = reporter(trial, config.study.objective, queue.prune)

    left = TimeLeft(plan, phase, trial)

    def on_epoch(figures: dict[str, float]) -> None:
        progress.epoch(figures)
        report(figures)
        if left.measured(figures) and say_left and left.all_measured():
            progress.note(left.text())

    try:
        count_attempt(trial)
        value = train_trial(job, on_epoch)
    except optuna.TrialPruned:
        progress.end("pruned: behind the other trials")
        run.end("pruned")
        queue.tell(trial, None, TrialState.PRUNED)
    except KeyboardInterrupt:
        pause(trial, run)
        raise
    except Exception as error:  # no error of a trial may end the study; it is shown and kept
        if store_trouble(error):
            progress.end("stopped: the tracking store cannot be written")
            pause(trial, None if server_trouble(error) else run)
            raise StoreLost.because(error) from error
        reason = str(error) if isinstance(error, TrainingFailed | ValueError) else repr(error)
        progress.end(f"failed: {reason}")
        note_failure(run, reason)
        queue.tell(trial, None, TrialState.FAIL)
    else:
        left.ended()
        run.end("finished")
        queue.tell(trial, value, TrialState.COMPLETE)
        progress.end(f"{config.study.objective} {value:.4f}", left.text())
    remove_checkpoint(checkpoint)


def pause(trial: optuna.Trial, run: Run | None) -> None:
    """Leave a trial for the next call to continue, without counting this end as one of its attempts."""
    with contextlib.suppress(Exception):  # best effort: otherwise the next call finds it killed
        epochs, attempts = trial.user_attrs[ATTEMPTS]
        trial.set_user_attr(ATTEMPTS, [epochs, attempts - 1])
    if run is not None:
        with contextlib.suppress(Exception):
            run.end("interrupted")


def note_failure(run: Run, reason: str) -> None:
    """Record the reason and the traceback of a failed trial, unless its run was deleted meanwhile."""

    def note() -> None:
        run.log_text(traceback.format_exc(), artifacts.FAILURE)
        run.end("failed", failure=reason[:4000])

    unless_absent(note)


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
    if BASE not in trial.user_attrs:  # stored, since the grid may have grown when the trial is continued
        trial.set_user_attr(BASE, dict(plan.study.grid[best_label(plan)]))
    return override(plan.config, dict(sampled_settings(plan, trial, trial.user_attrs[BASE]))), name


def sampled_settings(plan: Plan, trial: optuna.trial.BaseTrial, base: Settings) -> Settings:
    """All settings of a search trial drawn around `base`, in Optuna's form (lists for tuples)."""
    assert plan.study.search is not None
    fixed = plan.once({name: tuple(v) if isinstance(v, list) else v for name, v in base.items()})
    suggesting = cast(optuna.Trial, trial)  # a finished trial returns its parameters through the same calls
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
    return {best.user_attrs[SLOT]: sampled_settings(plan, FixedTrial(best.params), best.user_attrs[BASE])}


def on_device(config: Config, worker: int) -> Config:
    """The config with a GPU for each worker, where there are GPUs and none was named."""
    import torch

    if config.train.device != "auto" or torch.cuda.device_count() < 2:
        return config
    device = f"cuda:{worker % torch.cuda.device_count()}"
    return dataclasses.replace(config, train=dataclasses.replace(config.train, device=device))


class ProgressLine:
    """The progress of one trial: a line that is rewritten in a terminal, a line every few seconds elsewhere."""

    def __init__(self, number: int, total: int, label: str, epochs: int, *, alone: bool) -> None:
        """`alone` is false where several trials write to the same screen."""
        self.head = f"[{number:>{len(str(total))}}/{total}] {label:<24}"
        self.epochs, self.live = epochs, alone and in_terminal()
        self.started = self.last = time.monotonic()

    def epoch(self, figures: dict[str, float]) -> None:
        """Show the progress of the trial."""
        now = time.monotonic()
        if not self.live and now - self.last < SHOW_EVERY_S:
            return
        self.last = now
        shown = f"{self.head} epoch {int(figures['epoch'])}/{self.epochs}  loss {figures['train/loss']:.4f}"
        shown += f"  val MAE brain {figures['val/mae_brain']:.4f}"
        self._write(shown, again=self.live)

    def note(self, text: str) -> None:
        """Print a line of its own, unless it is empty."""
        if text:
            self._write(text, again=False)

    def end(self, text: str, left: str = "") -> None:
        """Print the trial's last line, with the time that is left for others."""
        took = f"{time.monotonic() - self.started:.0f} s"
        self._write(f"{self.head} {text}  ({took}{'; ' * bool(left)}{left})", again=False)

    def _write(self, text: str, *, again: bool) -> None:
        start = "\r\033[K" if self.live else ""
        sys.stdout.write(f"{start}{text}{'' if again else chr(10)}")
        sys.stdout.flush()
