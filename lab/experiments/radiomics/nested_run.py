"""Our classifier and the baselines on all splits, in parallel: results kept per split, trials logged as MLflow runs."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from lab.config import ClassifierConfig
from lab.experiments.radiomics.experiment import Experiment
from lab.io.case_file import write_atomically
from lab.io.pool import run_all
from lab.radiomics.baselines import OURS
from lab.radiomics.dataset import Dataset
from lab.radiomics.features.image_features import PARAMETERS
from lab.radiomics.pipeline.final import Final, fit_final
from lab.radiomics.pipeline.nested import SplitResult, run_split
from lab.radiomics.pipeline.search_space import Params
from lab.radiomics.splits import Split
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run

STARTUP = 8
"""Random trials before the sampler starts, as in the studies of networks."""
KILLED = "its process was killed three times, probably for lack of memory; run again with fewer --workers"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One method on one split, to run in its own process."""

    method: str
    split: Split
    dataset: Dataset
    settings: ClassifierConfig
    path: Path

    def run(self) -> SplitResult:
        """Tune, refit and predict; the result is on disk before this returns."""
        ours = self.method == OURS
        result = run_split(self.dataset, self.split, self.settings, tune, method=self.method, learning=ours)
        write_atomically(self.path, result.to_json().encode())
        return result

    def finished(self) -> SplitResult | None:
        """The result of an earlier call; None if the file is missing or damaged."""
        try:
            return SplitResult.from_json(self.path.read_text())
        except (OSError, ValueError, KeyError):
            return None


def run_splits(experiment: Experiment, methods: Mapping[str, tuple[Dataset, ClassifierConfig]]) -> list[SplitResult]:
    """Results of every method on every split, in the order of methods and splits; finished ones are read, not run.

    Each result is logged to MLflow as soon as it is there. Raises ChildProcessError if a process was killed repeatedly.
    """
    pieces = {
        (method, split.name): Piece(
            method=method,
            split=split,
            dataset=dataset,
            settings=settings,
            path=experiment.folder / f"{number}-{split.repeat}-{split.fold}.json",
        )
        for number, (method, (dataset, settings)) in enumerate(methods.items())
        for split in experiment.data.splits
    }
    found = {key: piece.finished() for key, piece in pieces.items()}
    done = {key: result for key, result in found.items() if result is not None}
    for result in done.values():
        log_split(experiment, result)
    if done:
        print(f"  {len(done)} of {len(pieces)} were finished before", flush=True)
    waiting = {key: piece for key, piece in pieces.items() if key not in done}
    started = time.monotonic()
    for (method, name), made in run_all(waiting, experiment.data.settings.classifier.workers):
        if made is None:
            raise ChildProcessError(f"{method}, {name}: {KILLED}")
        done[method, name] = made
        print(
            f"  [{len(done):>{len(str(len(pieces)))}}/{len(pieces)}] {method}, {name}: AUC {made.test_auc:.2f} on its "
            f"test patients, {made.inner_auc:.2f} within training ({made.what}, {made.seconds:.0f} s)",
            flush=True,
        )
        log_split(experiment, made)
    if waiting:
        print(f"  {len(waiting)} in {time.monotonic() - started:.0f} s", flush=True)
    return [done[key] for key in pieces]


def log_split(experiment: Experiment, result: SplitResult) -> None:
    """Log one split of our classifier as a child run, with its trials below it; logged splits stay unchanged."""
    if result.method != OURS:
        return
    name = result.split.name
    run = experiment.open_child(name, role="split", split=name)
    if run.tags.get(Tag.STATE) != "finished":
        log_trials(experiment, run, result.trials, name)
        run.describe(
            described(result.averaged), {Tag.LABEL: result.method, Tag.PHANTOM: experiment.data.dataset.phantom}
        )
        run.log_table(result.predictions, artifacts.PREDICTIONS)
        run.log_table(result.trials, artifacts.TRIALS)
        run.log_table(result.chosen, artifacts.CHOSEN)
        figures = {"test/auc": result.test_auc, "val/auc": result.inner_auc, "val/threshold": result.threshold}
        run.log_metrics_once(figures | {"cost/seconds": result.seconds}, known_by="test/auc")
    run.end("finished")


def described(averaged: Sequence[Params]) -> Params:
    """The best settings as parameters of a run, with `averaged`, the number of averaged settings, if it is not one."""
    return {**averaged[0], **({"averaged": len(averaged)} if len(averaged) > 1 else {})}


def log_trials(experiment: Experiment, run: Run, trials: pd.DataFrame, name: str) -> None:
    """Log the trials of a search as runs with their true times; logged trials stay unchanged."""
    there = {trial.tags.get(Tag.NUMBER) for trial in run.children()}
    for row in trials.to_dict("records"):
        number, began, seconds = str(int(row.pop("number"))), int(row.pop("started")), float(row.pop("seconds"))
        value = row.pop("value")
        if number not in there:
            run.add_finished(
                f"{name}, trial {number}",
                tags={Tag.ROLE: "trial", Tag.NUMBER: number, Tag.STUDY_KEY: experiment.key},
                params={key: drawn for key, drawn in row.items() if drawn == drawn and drawn is not None},
                metrics={"val/auc": value, "cost/seconds": seconds},
                began_ms=began,
                ended_ms=began + int(1000 * seconds),
            )


def make_final(experiment: Experiment, folder: Path) -> Final:
    """The classifier for new patients, tuned and fitted on all patients; the folder is complete or absent.

    The trials of its search are in `trials.csv` in the folder.
    """
    searched: list[pd.DataFrame] = []

    def noted(objective: Callable[[Any], float], trials: int, seed: int) -> pd.DataFrame:
        searched.append(tune(objective, trials, seed))
        return searched[-1]

    data = experiment.data
    radiomics = data.settings.radiomics
    how: dict[str, Any] = {}
    if radiomics.features is None:
        how = {"parameters": radiomics.parameters or PARAMETERS, "spacing_mm": data.cohort.spacing_mm}
    final = fit_final(data.dataset, data.settings.classifier, noted, **how)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "final"
        final.save(made)
        searched[0].to_csv(made / artifacts.TRIALS, index=False)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return final


def tune(objective: Callable[[Any], float], trials: int, seed: int) -> pd.DataFrame:
    """Maximise `objective` over a number of trials: columns number, value, started (ms), seconds, and the settings.

    The study stays in memory: a search takes seconds, and the caller keeps its result. Settings that a trial did not
    draw are missing in its row.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # errors are raised, so Optuna need not log them
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    rows: list[dict[str, Any]] = []

    def timed(trial: optuna.Trial) -> float:
        started = time.time()
        value = objective(trial)
        seconds = time.time() - started
        rows.append(
            {"number": trial.number, "value": value, "started": int(1000 * started), "seconds": seconds, **trial.params}
        )
        return value

    study.optimize(timed, n_trials=trials)
    return pd.DataFrame(rows)
