"""The time that a study's training will still take, from the epochs that were measured.

It is an upper limit where trials stop early; scoring, which follows the training, is not part of it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from lab.experiments.plan import PHASES, Plan
from lab.io.files import plural
from lab.tracking.view import duration

EPOCH_SECONDS = "epoch_seconds"
"""Attribute of a trial: its mean seconds an epoch."""


@dataclass(frozen=True)
class Open:
    """A trial that has not ended."""

    label: str
    epochs: int
    """Epochs that are left."""
    rate: float | None
    """Seconds an epoch, where it has been measured."""


def seconds_left(trials: Sequence[Open], rates: dict[str, list[float]], workers: int) -> float:
    """Seconds until the last of the open trials ends, with `workers` side by side.

    `rates` are measured seconds an epoch by label. A trial without its own rate takes the mean of its label, else that
    of all. Raises ValueError where nothing was measured.
    """
    usual = statistics.fmean(rate for label in rates.values() for rate in label)
    times = [
        one.epochs * (one.rate or (statistics.fmean(rates[one.label]) if one.label in rates else usual))
        for one in trials
    ]
    return max(sum(times) / workers, max(times, default=0.0))


class TimeLeft:
    """The time left as one trial sees it."""

    def __init__(self, plan: Plan, phase: str, trial: optuna.Trial) -> None:
        self.plan, self.phase, self.trial = plan, phase, trial
        self.started, self.epochs = time.monotonic(), 0

    def measured(self, figures: dict[str, float]) -> bool:
        """Count an epoch; returns whether it was the first of this call, whose time is noted at once."""
        self.epochs += 1
        if self.epochs == 1:
            self.trial.set_user_attr(EPOCH_SECONDS, figures["seconds"] / figures["epoch"])
        return self.epochs == 1

    def ended(self) -> None:
        """Note the time an epoch took in this call, with the trial's beginning and end."""
        if self.epochs:
            self.trial.set_user_attr(EPOCH_SECONDS, (time.monotonic() - self.started) / self.epochs)

    def all_measured(self) -> bool:
        """Whether every trial that runs now has had an epoch."""
        running = (one for one in self.plan.queue(self.phase).by_slot().values() if one.state == TrialState.RUNNING)
        return all(EPOCH_SECONDS in one.user_attrs for one in running)

    def text(self) -> str:
        """How long the training of the open trials takes; empty where all have ended.

        It is "at most" that long where each trial's rate is known, else "about".
        """
        trials, rates = self._open_trials()
        if not trials or not rates:
            return ""
        workers = min(self.plan.config.study.workers, len(trials))
        beside = f", {workers} at a time" if workers > 1 else ""
        left = duration(seconds_left(trials, rates, workers))
        known = all(one.rate or one.label in rates for one in trials)
        how = "at most" if known else "about"
        return f"{how} {left} of training left: {plural(len(trials), 'network')}{beside}"

    def _open_trials(self) -> tuple[list[Open], dict[str, list[float]]]:
        """The trials that have not ended, those of later phases too, and the rates measured so far."""
        config, found, rates = self.plan.config, [], dict[str, list[float]]()
        for phase in PHASES[PHASES.index(self.phase) :]:
            slots = {slot.name: slot for slot in self.plan.slots(phase)} if phase != "search" else {}
            known = self.plan.queue(phase).by_slot() if phase == self.phase else {}
            names = self.plan.names(phase)
            if phase == "confirm" and config.study.search and not self.plan.winner:
                names = [""] * (config.study.repeats * len(self.plan.splits) - 1)
            for name in names:
                label = slots[name].label if name in slots else ""
                epochs = slots[name].settings.get("train.epochs", config.train.epochs) if label else config.train.epochs
                done, rate = 0, None
                if name in known:
                    done, rate = len(known[name].intermediate_values), known[name].user_attrs.get(EPOCH_SECONDS)
                if rate is not None:
                    rates.setdefault(label, []).append(rate)
                if name not in known or not known[name].state.is_finished():
                    found.append(Open(label, max(0, epochs - done), rate))
        return found, rates
