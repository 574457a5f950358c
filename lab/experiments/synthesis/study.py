"""A study from its first trial to its report: creation, continuation, parallel work, end."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from lab.config import Config, TrainConfig, flatten, identifying, override
from lab.data.cohort import PARTS, Cohort
from lab.evaluation.figures import shown_in
from lab.experiments.parent_run import open_parent
from lab.experiments.plan import Plan, Study, varied
from lab.experiments.synthesis.trial import patch_edge, remove_checkpoint
from lab.experiments.worker import search_winner, work, work_apart
from lab.io.files import plural
from lab.io.sealed_json import fingerprint
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.store import RUNS, clear_errors

__all__ = ["Plan", "Study", "run_synthesis_study"]

OBJECTIVES = tuple(f"val/{figure}" for figure in shown_in("objective"))
GRACE_S = 10.0
"""Time in which interrupted workers may close their runs."""


def run_synthesis_study(study: Study, config: Config) -> Plan:
    """Run or continue a study and write its report to the parent run.

    The grid comes first, then the guided search where requested, then the search's winner with the grid's other seeds
    and folds. Finished trials stay, a killed trial continues in its MLflow run from its last epoch, and a failed trial
    never ends the study. Raises ValueError or an OSError where data or settings prevent a start or no trial finishes,
    StoreLost (an OSError too) where the store can no longer be written.
    """
    started = time.monotonic()
    starts = check_study(study, config)
    from lab.data.case import has_target
    from lab.data.source import obtain  # a continued study needs no preparation
    from lab.experiments.synthesis.covariates import check_covariates

    if not has_target(config.data):
        raise ValueError(f"--data.target {config.data.target} is for classifiers; networks are trained on a target")
    cohort = obtain(config.data, config.phantom, RUNS)
    splits = split_up(config, cohort)
    check_patches(study, config, cohort.spacing_mm)
    check_covariates(study, config, cohort, splits)
    with clear_errors():
        plan = open_plan(study, config, cohort, splits, starts)
        note_other_threads(plan)
    with clear_errors(goes_on="epoch"), plan.parent.ending():
        if study.complete is not None:
            plan = replace(plan, study=replace(study, grid=study.complete(plan), complete=None))
        train(plan, "grid")
        train(plan, "search")
        plan = replace(plan, winner=search_winner(plan))
        if config.study.search:
            train(plan, "confirm")

        from lab.experiments.synthesis.finish import finish

        with FileLock(plan.folder / "finish.lock"):
            finish(plan, started)
    return plan


def train(plan: Plan, phase: str) -> None:
    """Queue the slots of a phase and run those that are open."""
    slots = plan.names(phase)
    if slots:
        plan.queue(phase).plan({slot: {} for slot in slots})
        work_through(plan, phase, slots)


def check_study(study: Study, config: Config) -> list[str]:
    """Hashes of the weights that trials start from.

    Raises ValueError, before anything is created, for settings that no trial could run with.
    """
    import torch

    from lab.data.augment import check_augment
    from lab.experiments.synthesis.covariates import covariates_of
    from lab.experiments.synthesis.trial import build_method, starting_weights
    from lab.synthesis.device import choose

    choose(config.train.device, config.train.precision, config.train.channels_last)
    if not study.grid:
        raise ValueError("the study has no trials")
    if config.study.search and study.search is None:
        raise ValueError(f"--search: {study.name} has no guided search, its grid is all there is; leave the flag out")
    if config.study.trials is not None and config.study.trials < 1:
        raise ValueError(f"--trials {config.study.trials}: at least 1 is needed")
    least = (config.train.epochs, config.train.batch_size, config.train.patience, config.study.workers)
    if min(*least, config.study.repeats) < 1:
        raise ValueError("--epochs, --train.batch-size, --train.patience, --workers and --repeats must be at least 1")
    if not config.train.learning_rate > 0:
        raise ValueError(f"--train.learning-rate {config.train.learning_rate:g} must be above 0")
    if config.study.objective not in OBJECTIVES:
        raise ValueError(f"--study.objective {config.study.objective}: known are {', '.join(OBJECTIVES)}")
    covariates_of(study, config)
    starts: set[str] = set()
    for settings in study.grid.values():
        trial = override(config, dict(settings))
        check_augment(trial.augment)
        check_sampling(trial.train)
        start = starting_weights(trial)
        if start is not None:
            starts.add(start.sha256)
        with torch.device("meta"):  # builds the network for its errors alone, without memory
            build_method(trial, choose("meta", "float32"), start)
    return sorted(starts)


def check_sampling(train: TrainConfig) -> None:
    """Raises ValueError for random patches without a size, and for wrong shares or numbers of them."""
    shares = train.patch_shares
    if train.patch_sampling == "random" and train.patch_mm is None:
        raise ValueError("--train.patch-sampling random needs the patches' edge, such as --train.patch-mm 64")
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(
            f"--train.patch-shares {shares}: three fractions (enhancing, tumour, brain) that add up to 1 are needed"
        )
    if train.patches_per_patient < 1:
        raise ValueError(f"--train.patches-per-patient {train.patches_per_patient}: at least 1 is needed")


def check_patches(study: Study, config: Config, spacing_mm: float) -> None:
    """Raises ValueError for patches that are too small at this voxel size for their network or their loss."""
    from lab.synthesis import settings_of
    from lab.synthesis.losses import LOSSES
    from lab.synthesis.networks import NETWORKS

    for label, settings in study.grid.items():
        trial = override(config, dict(settings))
        edge = patch_edge(trial.train, spacing_mm)
        if edge is None:
            continue
        found = f"{label}: a patch of {trial.train.patch_mm:g} mm is {edge} voxels of {spacing_mm:g} mm"
        if edge < (least := LOSSES[trial.loss.name].least_edge):
            raise ValueError(f"{found}, {trial.loss.name} needs {least}; take larger patches or smaller voxels")
        spec = NETWORKS[trial.model.id]
        if edge <= (divisor := spec.divisor(settings_of(trial, trial.model.id, spec.settings))):
            halvings = divisor.bit_length() - 1
            raise ValueError(
                f"{found}, of which {halvings} halvings leave one; use a shallower network (--model.depth)"
            )


def split_up(config: Config, cohort: Cohort) -> tuple[pd.DataFrame, ...]:
    """The split, or one for each fold. Raises ValueError where a part has no patients."""
    data, folds = config.data, config.study.folds
    if folds:
        splits = cohort.folds(folds, data.split, data.split_seed)
    else:
        splits = [cohort.split(data.split, data.split_seed)]
    for split in splits:
        counts = {part: int((split["split"] == part).sum()) for part in PARTS}
        if not all(counts.values()):
            found = ", ".join(f"{part} {count}" for part, count in counts.items())
            raise ValueError(
                f"{cohort.path}: every part of the split needs a patient, found {found}; change --data.split or --folds"
            )
    return tuple(splits)


def open_plan(
    study: Study, config: Config, cohort: Cohort, splits: tuple[pd.DataFrame, ...], starts: Sequence[str] = ()
) -> Plan:
    """The study's parent run, found or created, with its settings and its cohort."""
    key = study_key(config, cohort, starts)
    name = f"{study.name}{' phantom' if cohort.phantom else ''} {cohort.spacing_mm:g} mm {key[:6]}"
    changed = varied(study.grid.values())
    shared = {k: v for k, v in flatten(config).items() if k not in changed and not k.startswith("study.")}
    parent = open_parent(
        study.name,
        name,
        key=key,
        question=study.question,
        cohort=cohort,
        params=shared,
        tags={Tag.SEED: config.train.seed},
    )
    numbered = [split.assign(fold=fold) if len(splits) > 1 else split for fold, split in enumerate(splits, start=1)]
    parent.log_table(pd.concat(numbered, ignore_index=True), artifacts.SPLIT)
    return Plan(study=study, config=config, cohort=cohort, splits=splits, key=key, parent=parent)


def study_key(config: Config, cohort: Cohort, starts: Sequence[str] = ()) -> str:
    """Digest of everything that makes results comparable, without numbers of trials and workers.

    That is the cohort, the split, the settings, and the hashes of weights that trials start from, since an alias moves.
    """
    settings = identifying(flatten(config))
    left = ("data.path", "data.processes", "data.layout", "data.labels", "train.device")
    kept = {k: v for k, v in settings.items() if k not in left and not k.startswith(("study.", "phantom."))}
    return fingerprint([cohort.digest, kept, config.study.objective, config.study.folds, *starts])


def note_other_threads(plan: Plan) -> None:
    """Print a note where earlier trials were computed on a CPU with another number of threads.

    They stay in one study, so that a study can be continued with more workers.
    """
    import torch

    from lab.synthesis.device import use_threads

    use_threads(plan.config.study.workers)
    threads = str(torch.get_num_threads())
    found = [run.tags for run in plan.parent.children()]
    other = sorted({tags.get(Tag.THREADS, threads) for tags in found if tags.get(Tag.DEVICE) == "cpu"} - {threads})
    if other:
        print(
            f"Earlier trials were computed with {' or '.join(other)} threads, new ones use {threads} (cores divided by "
            "--workers). The number of threads changes rounding: figures differ as they do between seeds",
            flush=True,
        )


def work_through(plan: Plan, phase: str, slots: list[str]) -> None:
    """Run all open trials of a phase, here or in `workers` processes."""
    renew(plan, phase)
    waiting = plan.queue(phase).unfinished(slots)
    if len(waiting) < len(slots):
        print(f"{len(slots) - len(waiting)} of {plural(len(slots), 'trial')} ended in an earlier call", flush=True)
    count = min(plan.config.study.workers, len(waiting))
    if count <= 1:
        work(plan, phase, slots, 0)
        return
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work_apart, args=(plan, phase, slots, i)) for i in range(count)]
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: no Ctrl-C while a worker starts
    try:
        for worker in workers:
            worker.start()
    finally:
        signal.signal(signal.SIGINT, previous)
    try:
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        for worker in workers:
            worker.terminate()  # as Ctrl-C: it closes its run
        for worker in workers:
            worker.join(GRACE_S)
            worker.kill()
        raise
    if any(worker.exitcode for worker in workers):  # killed, perhaps for memory: continue alone
        print("A worker process ended early; this process continues its trials.", flush=True)
        work(plan, phase, slots, 0)


def renew(plan: Plan, phase: str) -> None:
    """Queue trials again whose runs were deleted in MLflow and, where requested, those that failed."""
    children = [run for run in plan.parent.children() if run.tags.get(Tag.PHASE) == phase]
    there = {run.tags[Tag.SLOT]: plan.checkpoint(run) for run in children}
    for slot, trial in plan.queue(phase).by_slot().items():
        if slot in there and trial.state.is_finished():
            remove_checkpoint(there[slot])  # killed after everything else was done

    def again(slot: str, trial: FrozenTrial) -> bool:
        failed = trial.state == TrialState.FAIL and plan.config.study.retry_failed
        return trial.state.is_finished() and (failed or slot not in there)

    plan.queue(phase).repeat(again)
