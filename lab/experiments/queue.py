"""A study's queue of trials in Optuna: planning, claims by workers, continuation after a kill, results.

Every trial is a numbered slot that is queued before any worker starts, so the budget is exact. A worker holds a file
lock while its trial runs. The lock ends with the process: a trial in state RUNNING with a free lock was killed, and is
continued as the same Optuna trial in the same MLflow run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock, Timeout
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from lab.io.sealed_json import fingerprint
from lab.tracking.store import trial_storage

SLOT = "slot"


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The trials of one phase of a study (its grid, or its guided search)."""

    name: str
    """Name of the Optuna study."""
    direction: Literal["minimize", "maximize"]
    folder: Path
    """Folder of the lock files."""
    seed: int
    prune: bool = False

    def open(self, slot: str = "") -> optuna.Study:
        """The Optuna study; seed and slot determine its sampler, so a repeated draw gives the same settings."""
        seed = int(fingerprint([self.seed, slot], 8), 16) % 2**31
        return optuna.create_study(
            storage=trial_storage(),
            study_name=self.name,
            direction=self.direction,
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5) if self.prune else optuna.pruners.NopPruner(),
        )

    def plan(self, slots: Mapping[str, Mapping[str, Any]]) -> None:
        """Queue the slots that are missing, each with its fixed parameters."""
        with self.lock("plan"):
            study = self.open()
            known = {trial.user_attrs.get(SLOT) for trial in study.get_trials(deepcopy=False)}
            for slot, params in slots.items():
                if slot not in known:
                    study.enqueue_trial(dict(params), user_attrs={SLOT: slot})

    def repeat(self, wanted: Callable[[str, FrozenTrial], bool]) -> None:
        """Queue slots again whose last trial is `wanted`, with the same parameters."""
        with self.lock("plan"):
            study = self.open()
            for slot, trial in self.by_slot().items():
                if wanted(slot, trial):
                    kept = {name: value for name, value in trial.user_attrs.items() if name != "attempts"}
                    study.enqueue_trial(trial.params, user_attrs=kept)

    def unfinished(self, slots: Sequence[str]) -> list[str]:
        """Slots that wait or run, in any process."""
        return [slot for slot, trial in self.by_slot().items() if slot in slots and not trial.state.is_finished()]

    @contextmanager
    def claimed(self, slots: Sequence[str]) -> Iterator[optuna.Trial | None]:
        """A trial of these slots to work on, killed ones first; None when all are finished or taken."""
        trial, held = None, None
        with self.lock("claim"):
            for frozen in sorted(self.by_slot().values(), key=lambda t: (t.state != TrialState.RUNNING, t.number)):
                slot = frozen.user_attrs[SLOT]
                if slot not in slots or frozen.state not in (TrialState.RUNNING, TrialState.WAITING):
                    continue
                held = self._try_lock(slot)
                if held is None:
                    continue
                study = self.open(slot)
                if frozen.state == TrialState.WAITING:
                    trial_storage().set_trial_state_values(frozen._trial_id, state=TrialState.RUNNING)
                trial = optuna.Trial(study, frozen._trial_id)
                break
        try:
            yield trial
        finally:
            if held is not None:
                held.release()

    def tell(self, trial: optuna.Trial, value: float | None, state: TrialState) -> FrozenTrial:
        """Record how a trial ended."""
        return self.open().tell(trial.number, value, state=state)

    def by_slot(self) -> dict[str, FrozenTrial]:
        """The last trial of every slot, in the order of planning."""
        trials = self.open().get_trials(deepcopy=False)
        return {trial.user_attrs[SLOT]: trial for trial in trials if SLOT in trial.user_attrs}

    def lock(self, name: str) -> FileLock:
        """A lock between processes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / f"{name}.lock")

    def _try_lock(self, slot: str) -> FileLock | None:
        lock = self.lock(f"trial-{fingerprint(slot)}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock


def reporter(trial: optuna.Trial, metric: str, prune: bool) -> Callable[[dict[str, float]], None]:
    """Callback for each epoch's figures: reports `metric` and raises TrialPruned when the trial falls behind.

    A metric that is measured only at the end is replaced by a figure of every epoch: enhancement by the concordance of
    the contrast inside the tumour, others (SSIM is slow) by brain MAE, negated where higher is better.
    """
    reported = set(trial.storage.get_trial(trial._trial_id).intermediate_values)
    sign = -1 if trial.study.direction == StudyDirection.MAXIMIZE else 1

    def watched(figures: dict[str, float]) -> float:
        if metric in figures:
            return figures[metric]
        if metric.startswith(("val/contrast", "val/dice", "val/kappa", "val/voxel")):
            return figures.get("val/contrast_tumour", 0.0)
        return sign * figures["val/mae_brain"]

    def report(figures: dict[str, float]) -> None:
        step = int(figures["epoch"])
        if step not in reported:
            trial.report(watched(figures), step)
        if prune and trial.should_prune():
            raise optuna.TrialPruned

    return report
