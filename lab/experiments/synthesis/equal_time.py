"""Equal training time: how many epochs a network gets so that it trains as long as another.

A few training steps and one pass over the validation patients are timed once for each network, without its trial's
results, and noted in the study's run. A study that is continued reads the note, so that its trials stay the same.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

from filelock import FileLock

from lab.config import Config, override
from lab.data.batches import plan_epoch
from lab.experiments.plan import Plan, Settings
from lab.experiments.synthesis.trial import TrialJob, build_method, coding, store, used
from lab.synthesis.device import choose, use_threads
from lab.synthesis.train import changed, validate
from lab.tracking import artifacts

WARM_UP, TIMED = 1, 3
"""Training steps before the clock starts, and timed ones, of which the median counts."""


def with_equal_time(plan: Plan, reference: Mapping[str, str]) -> dict[str, Settings]:
    """The plan's grid with the epochs of some networks changed.

    `reference` maps the label of a network to that of another, whose training time it gets, early stopping aside. Each
    has at least one epoch. Prints what was chosen.
    """
    grid = dict(plan.study.grid)
    labels = list(dict.fromkeys(label for pair in reference.items() for label in pair if pair[0] in grid))
    seconds = epoch_seconds(plan, labels)
    for label, other in reference.items():
        if label not in grid:
            continue
        epochs = epochs_of(plan, other)
        own = max(1, round(epochs * seconds[other] / seconds[label]))
        grid[label] = {**grid[label], "train.epochs": own}
        print(f"{label}: {seconds[label]:.2g} s an epoch, {own} epochs take as long as {epochs} of {other}", flush=True)
    return grid


def epochs_of(plan: Plan, label: str) -> int:
    """Most epochs of a network of the grid."""
    return int(plan.study.grid[label].get("train.epochs", plan.config.train.epochs))


def epoch_seconds(plan: Plan, labels: list[str]) -> dict[str, float]:
    """Seconds of an epoch of each of these networks, from the study's run, or measured and noted there."""
    with FileLock(plan.folder / "time.lock"):
        known = plan.parent.read_json(artifacts.EPOCH_SECONDS) if plan.parent.has_file(artifacts.EPOCH_SECONDS) else {}
        missing = [label for label in labels if label not in known]
        for label in missing:
            print(f"Timing an epoch of {label}", flush=True)
            known[label] = time_epoch(plan, override(plan.config, dict(plan.study.grid[label])))
        if missing:
            plan.parent.log_json(known, artifacts.EPOCH_SECONDS)
    return {label: float(known[label]) for label in labels}


def time_epoch(plan: Plan, config: Config) -> float:
    """Seconds of an epoch with this config: its steps, and the pass over the validation patients.

    Raises as `build_method`.
    """
    config = used(config)
    use_threads(config.study.workers)
    arithmetic = choose(config.train.device, config.train.precision, config.train.channels_last)
    unused: Any = None
    job = TrialJob(
        config=config, cohort=plan.cohort, split=plan.splits[0], run=unused, label="", checkpoint=plan.folder
    )
    train, val = (store(job, part, arithmetic) for part in ("train", "val"))
    method = build_method(config, arithmetic, coding=coding(job, config))
    settings = config.train
    showings = settings.patches_per_patient
    steps = plan_epoch(
        len(train), batch_size=settings.batch_size, flip=settings.flip, seed=0, epoch=0, showings=showings
    )
    wanted = (steps * (WARM_UP + TIMED))[: WARM_UP + TIMED]
    times, began = [], time.perf_counter()
    for batch in train.batches(wanted, key=(0, 0)):
        figures = method.train_step(batch if config.augment.use == "off" else changed(batch, config.augment, train))
        float(figures["loss"])  # waits for the device
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
    validate(method.predict, method.loss, val, settings.batch_size)
    return len(steps) * statistics.median(times[WARM_UP:]) + time.perf_counter() - began
