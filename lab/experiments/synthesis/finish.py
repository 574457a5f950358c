"""The end of a study: the test patients are read, once, and all that the report needs is left on the parent run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import Run

from lab.config import flatten, override
from lab.data.batches import CaseStore
from lab.data.cohort import PARTS
from lab.evaluation.conformal import COLUMNS as COVERAGE_COLUMNS
from lab.evaluation.evaluate import evaluate, evaluate_inside, means
from lab.experiments.plan import Plan, varied
from lab.experiments.synthesis.groups import (
    ABOUT,
    Group,
    all_rows,
    averaged,
    fold_of,
    groups,
    objective_of,
    series_name,
    spread,
)
from lab.experiments.synthesis.networks import linear_weights, predictor, rivals, store, trial_settings
from lab.experiments.synthesis.pictures import draw_slices
from lab.experiments.synthesis.record import FACTS
from lab.experiments.synthesis.report import write_report
from lab.experiments.synthesis.search_results import importances, search_trials
from lab.experiments.synthesis.trial import patch_edge
from lab.inference.calibrate import Calibrated
from lab.inference.calibrate_run import COVERAGE, calibrate_study_run
from lab.report.tables.patient_table import plural
from lab.report.text.trial_note import trial_note
from lab.synthesis.device import Arithmetic, choose, use_threads
from lab.tracking import runs
from lab.tracking.run import Run as TrackedRun
from lab.tracking.store import connect

TESTED = "test_patients.csv"
OWN_PATCH, SAME_VOXELS = "test_own_patch.csv", "test_same_voxels.csv"
RIVALS = "rivals/{part}_patients.csv"


def finish(plan: Plan, started: float) -> None:
    """Score the finished networks and the rivals on the test patients, note all facts, write the report."""
    use_threads(1)
    arithmetic = choose(plan.config.train.device, plan.config.train.precision, plan.config.train.channels_last)
    made = groups(plan)
    if not made:
        raise ValueError(
            "no trial has finished; the reasons are in the runs' `failure` tags. --study.retry-failed tries again"
        )
    count = plural(sum(len(group.runs) for group in made), "network")
    print(f"Scoring {count} and 2 rivals on the test patients", flush=True)
    for group in made:
        for run in group.runs:
            if run.data.tags.get("tested") != "yes":
                test_trial(plan, run, arithmetic)
    rows = all_rows(made, lambda run: runs.read_table(run.info.run_id, TESTED))
    weights = linear_weights(plan)
    tables = {part: rival_table(plan, part, weights) for part in ("val", "test")}
    for part, table in tables.items():
        runs.log_table(plan.parent, table, RIVALS.format(part=part))
    patients = pd.concat([averaged(rows), tables["test"]], ignore_index=True)
    best = objective_of(made, plan.config.study.objective, lower=plan.lower)
    mark_best(plan, best)
    annotate(plan, made, best, tables["test"])
    keep(plan, patients, made, rows, weights)
    runs.log_table(plan.parent, calibrate_best(plan, best, arithmetic), "tables/coverage.csv")
    runs.log_table(plan.parent, true_scans(plan), "tables/true_scans.csv")
    reference = tables["val"].groupby("trial", sort=False)["mae_brain"].mean().to_dict()
    runs.log_text(plan.parent, json.dumps(facts(plan, made, best, reference), indent=2), FACTS)
    draw_slices(plan, patients, made, weights, arithmetic)
    write_report(plan.parent, seconds=time.monotonic() - started)


def keep(plan: Plan, patients: pd.DataFrame, made: list[Group], rows: pd.DataFrame, weights: list[np.ndarray]) -> None:
    """The tables of which the report is made."""
    found = {"test_patients": patients, "trials": summary(made), "search": search_trials(plan)}
    if plan.config.study.repeats > 1 or plan.config.study.folds:
        found["spread"] = spread(rows)
    shares = importances(plan)
    found["importances"] = pd.DataFrame({"setting": list(shares), "share": list(shares.values())})
    if smallest_patch(plan) is not None:
        for name, file in (("own_patch", OWN_PATCH), ("same_voxels", SAME_VOXELS)):
            found[name] = averaged(all_rows(made, partial(inside_table, name=file)))
        beside = rival_table(plan, "test", weights, inside=smallest_patch(plan))  # which have no patch of their own
        found["same_voxels"] = pd.concat([found["same_voxels"], beside], ignore_index=True)
    for name, table in found.items():
        if not table.empty:
            runs.log_table(plan.parent, table, f"tables/{name}.csv")


def facts(plan: Plan, made: list[Group], best: Group, reference: Mapping[str, float]) -> dict[str, Any]:
    """What the report says of the study besides its figures; plain values that JSON can hold."""
    cohort, config = plan.cohort, plan.config
    counts = pd.concat(plan.splits).groupby("split")["patient_id"].nunique()
    sizes = " / ".join(str(counts.get(part, 0)) for part in ("train", "val", "test"))
    if config.study.folds:
        sizes = f"{config.study.folds} folds, each patient tested once"
    changed = varied(plan.study.grid.values())
    shared = {name: value for name, value in flatten(config).items() if name not in changed}
    return {
        "study": plan.study.name,
        "question": plan.study.question,
        "phantom": cohort.phantom,
        "dataset": cohort.dataset,
        "data": cohort.name,
        "objective": config.study.objective,
        "best": best.trial,
        "varied": changed,
        "reference": dict(reference),
        "comparison": {
            "spacing_mm": cohort.spacing_mm,
            "width": config.model.width,
            "depth": config.model.depth,
            "inputs": list(config.data.inputs),
            "target": config.data.target,
        },
        "runs": {str(group.trial): [run.info.run_id for run in group.runs] for group in made},
        "cohort": {
            "data": "phantom (simulated)" if cohort.phantom else cohort.name,
            "patients": str(cohort.index["patient_id"].nunique()),
            "scans that enhance": f"{int(cohort.index['enhancing'].sum())} of {len(cohort.index)}",
            "left out": str(cohort.manifest["counts"]["left_out"]),
            "train / val / test patients": sizes,
            "grid": f"{' x '.join(map(str, cohort.shape))} voxels of {cohort.spacing_mm:g} mm",
            "digest": cohort.digest,
        },
        "settings": {k: str(v) for k, v in shared.items() if not k.startswith(("study.", "data.p"))},
    }


def summary(made: list[Group]) -> pd.DataFrame:
    """One row a network: settings, cost and validation figures as means over its runs, how they ended."""
    rows: list[dict[str, Any]] = []
    for group in made:
        params, tags = group.runs[0].data.params, [run.data.tags for run in group.runs]
        names = {name for run in group.runs for name in run.data.metrics if name.startswith(("cost/", "val/"))}
        state = "stopped early" if all(tag.get("stopped_early") == "True" for tag in tags) else "finished"
        row = {"trial": group.trial, "label": group.label, "model": group.model, "loss": group.loss}
        row |= {"phase": group.phase, "base": f"model {params['model.id']}, {group.loss}", "runs": len(group.runs)}
        row |= {"model_id": params["model.id"]}
        row |= {"size": series_name("train.patch_mm", params), "state": state}
        row |= {"run_id": group.runs[0].info.run_id}
        rows.append(row | {name.removeprefix("cost/"): group.mean(name) for name in sorted(names - {"val/loss"})})
    return pd.DataFrame(rows)


def mark_best(plan: Plan, best: Group) -> None:
    """The runs of the network that was best on validation patients carry the tag `best`, no others do."""
    chosen = {run.info.run_id for run in best.runs}
    for run in runs.children(plan.study.name, plan.parent):
        if run.info.run_id in chosen:
            connect().set_tag(run.info.run_id, "best", "yes")
        elif "best" in run.data.tags:
            connect().delete_tag(run.info.run_id, "best")


def annotate(plan: Plan, made: list[Group], best: Group, beside: pd.DataFrame) -> None:
    """The note at the top of every trial's page: the network beside the rivals, in a sentence and a table."""
    trivial = {
        str(name): {key.removeprefix("test/"): value for key, value in means(table, "test").items()}
        for name, table in beside.groupby("trial")
    }
    for group in made:
        for run in group.runs:
            figures = connect().get_run(run.info.run_id).data.metrics
            note = trial_note(
                run.info.run_name or group.label,
                {name.removeprefix("test/"): value for name, value in figures.items() if name.startswith("test/")},
                trivial,
                phantom=plan.cohort.phantom,
                best=group is best,
                artifacts=("slices.png: two validation patients", "test_patients.csv: every test patient"),
            )
            connect().set_tag(run.info.run_id, runs.NOTE, note)


def test_trial(plan: Plan, run: Run, arithmetic: Arithmetic) -> None:
    """Score one network on the test patients of its fold and log it to its run.

    Where the study has patches, it is also scored inside the smallest one, and a network that was trained on patches
    inside its own, of which it then sees nothing else, as the paper did it.
    """
    predict = predictor(plan, run, arithmetic)
    smallest = smallest_patch(plan)
    edges = [None] if smallest is None else [None, smallest]
    table, *inside = evaluate_inside(predict, store(plan, run, arithmetic), edges)
    runs.log_table(run.info.run_id, with_groups(table, plan.cohort.index), TESTED)
    for same_voxels in inside:
        runs.log_table(run.info.run_id, same_voxels, SAME_VOXELS)
        edge = patch_edge(trial_settings(plan.config, run).train, plan.cohort.spacing_mm)
        own = table if edge is None else evaluate(predict, store(plan, run, arithmetic, patch=edge))
        runs.log_table(run.info.run_id, own, OWN_PATCH)
    if not runs.logged_steps(run.info.run_id, "test/mae_image"):  # killed right here: do not log twice
        runs.log_metrics(run.info.run_id, means(table, "test"))
    connect().set_tag(run.info.run_id, "tested", "yes")


def calibrate_best(plan: Plan, best: Group, arithmetic: Arithmetic) -> pd.DataFrame:
    """Measure what is needed to use the best network on new patients; returns what its intervals hold on test cases.

    Where that cannot be, it is said, and the study goes on to its report.
    """
    print(f"Calibrating {best.label}: intervals, the probability of enhancement, what a strange scan is", flush=True)
    tables = []
    known: dict[int, Calibrated] = {}  # of a fold: seeds share their patients
    for run in best.runs:
        fold = fold_of(run)
        parts = {part: plan.cases(part, fold) for part in PARTS}
        try:
            found = calibrate_study_run(
                TrackedRun(run.info.run_id), plan.cohort, parts, arithmetic, beside=known.get(fold)
            )
        except ValueError as error:
            print(f"  {run.info.run_name} is left without: {error}", flush=True)
            continue
        known |= {} if found is None else {fold: found}
        table = runs.read_table(run.info.run_id, COVERAGE)
        tables.append(table.assign(fold=fold + 1, seed=int(run.data.params["train.seed"])))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COVERAGE_COLUMNS)


def with_groups(table: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """A table of cases with what the cohort knows of each: scanner, grade, age, for the model card's groups."""
    known = [name for name in ABOUT if name in index and index[name].notna().any()]
    return table.join(index[known], on="case_id")


def inside_table(run: Run, name: str) -> pd.DataFrame | None:
    """A run's scores inside patches; None of a run that was tested before the study had patches."""
    return runs.read_table(run.info.run_id, name) if runs.has_file(run.info.run_id, name) else None


def smallest_patch(plan: Plan) -> int | None:
    """Edge in voxels of the smallest patch that a network of the study is trained on; None without patches."""
    trials = (override(plan.config, dict(settings)) for settings in plan.study.grid.values())
    edges = (patch_edge(trial.train, plan.cohort.spacing_mm) for trial in trials)
    return min((edge for edge in edges if edge is not None), default=None)


def rival_table(plan: Plan, part: str, weights: list[np.ndarray], *, inside: int | None = None) -> pd.DataFrame:
    """The rivals' figures of every patient of one part, over all folds, in the long table's columns.

    `weights` are `linear_weights`, `inside` is the edge in voxels of a cube round the tumour to score in.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for fold, fitted in enumerate(weights):
        for name, (rival, cases) in rivals(plan, part, fold, fitted).items():
            (table,) = evaluate_inside(rival, cases, [inside])
            found.setdefault(name, []).append(table.assign(trial=name, label=name, model=None, loss=None))
    return pd.concat([table for tables in found.values() for table in tables], ignore_index=True)


def true_scans(plan: Plan) -> pd.DataFrame:
    """The true scans judged as if they were syntheses: what a perfect network would score."""
    data = plan.config.data
    folds = (plan.cases("test", fold) for fold in range(len(plan.splits)))
    stores = (CaseStore(plan.cohort, cases, inputs=data.inputs, target=data.target, resident=False) for cases in folds)
    return pd.concat([evaluate(lambda batch: batch.target, cases) for cases in stores], ignore_index=True)
