"""The end of a study: scores on the test patients, read once, and all report data on the parent run.

Imports for calibration, pictures and report are local, since trials do not need them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from lab.config import flatten
from lab.data.cohort import PARTS
from lab.data.contract import Contract
from lab.evaluation.conformal import COLUMNS as COVERAGE_COLUMNS
from lab.evaluation.evaluate import means
from lab.experiments.plan import Plan, varied, with_fewer
from lab.experiments.synthesis.configurations import (
    Configuration,
    all_rows,
    averaged,
    best_configuration,
    finished_configurations,
    fold_of,
    network_number,
    series_name,
    spread,
)
from lab.experiments.synthesis.scoring import Scorer, trial_settings
from lab.io.files import plural
from lab.io.pool import background, count_cores
from lab.report.tables.patient_table import model_title
from lab.synthesis.baselines import BASELINES
from lab.synthesis.device import choose, use_threads
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag

if TYPE_CHECKING:
    from lab.evaluation.fault_injection import Ood

WORTH_A_PROCESS = 5_000_000
"""Number of voxels above which a separate process is worth its start."""


def finish(plan: Plan, started: float) -> None:
    """Score the finished networks and the baselines on the test patients, record all facts, write the report."""
    use_threads(1)
    arithmetic = choose(plan.config.train.device, plan.config.train.precision, plan.config.train.channels_last)
    configurations = finished_configurations(plan)
    if not configurations:
        raise ValueError(
            "no trial has finished; the reasons are in the runs' `failure` tags. --study.retry-failed tries again"
        )
    count = plural(sum(len(one.runs) for one in configurations), "network")
    print(f"Scoring {count} and {len(BASELINES)} baselines on the test patients", flush=True)
    best = best_configuration(configurations, plan.config.study.objective, lower=plan.lower)
    scorer = Scorer(plan, arithmetic)
    with ood_beside(plan, best) as ood:
        for one in configurations:
            for run in one.runs:
                if run.tags.get(Tag.TESTED) != "yes":
                    scorer.score(run)
        rows = all_rows(configurations, lambda run: run.read_table(artifacts.TEST_PATIENTS))
        edges: list[int | None] = [None] if scorer.smallest_patch is None else [None, scorer.smallest_patch]
        (validated,) = scorer.baseline_tables("val", [None])
        tested, *inside = scorer.baseline_tables("test", edges)
        plan.parent.log_table(validated, artifacts.BASELINES["val"])
        plan.parent.log_table(tested, artifacts.BASELINES["test"])
        patients = pd.concat([averaged(rows), tested], ignore_index=True)
        mark_best(plan, best)
        annotate(plan, configurations, best, tested)
        trials = configuration_table(configurations, plan)
        tables = {"test_patients": patients, "trials": trials, **search_tables(plan)}
        if plan.config.study.repeats > 1 or plan.config.study.folds:
            tables["spread"] = spread(rows)
        if inside:
            tables |= scores_in_patches(configurations, inside[0])
        tables = {name: table for name, table in tables.items() if not table.empty}
        from lab.experiments.synthesis.slices import log_slices

        log_slices(scorer, patients, configurations)
        tables |= {"true_scans": scorer.true_scans(), "coverage": calibrate_best(scorer, best, ood)}
    for name, table in tables.items():
        plan.parent.log_table(table, artifacts.table(name))
    reference = validated.groupby("trial", sort=False)["mae_brain"].mean().to_dict()
    from lab.report.tables.strongest import strongest_baseline

    facts = collect_facts(plan, configurations, best, reference) | {"strongest": strongest_baseline(validated)}
    plan.parent.log_json(facts, artifacts.STUDY)
    from lab.experiments.synthesis.report import write_report

    write_report(plan.parent, seconds=time.monotonic() - started)


def search_tables(plan: Plan) -> dict[str, pd.DataFrame]:
    """The trials of the guided search, and the importance of each setting."""
    from lab.experiments.synthesis.search_results import search_trials, setting_importances

    shares = setting_importances(plan)
    by_setting = pd.DataFrame({"setting": list(shares), "share": list(shares.values())})
    return {"search": search_trials(plan), "importances": by_setting}


def scores_in_patches(configurations: list[Configuration], baselines: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Scores inside patches of a network's own size and of the study's smallest; runs tested without patches are left
    out.

    `baselines`, which have no patch of their own, are scored inside the smallest.
    """

    def rows(name: str) -> pd.DataFrame:
        found = all_rows(configurations, lambda run: run.read_table(name) if run.has_file(name) else None)
        return averaged(found)

    same_voxels = pd.concat([rows(artifacts.TEST_SAME_VOXELS), baselines], ignore_index=True)
    return {"own_patch": rows(artifacts.TEST_OWN_PATCH), "same_voxels": same_voxels}


def collect_facts(
    plan: Plan, configurations: list[Configuration], best: Configuration, reference: Mapping[str, float]
) -> dict[str, Any]:
    """The study's facts for the report, besides its figures; plain JSON values."""
    cohort, config = plan.cohort, plan.config
    counts = pd.concat(plan.splits).groupby("split")["patient_id"].nunique()
    sizes = " / ".join(str(counts.get(part, 0)) for part in ("train", "val", "test"))
    if config.study.folds:
        sizes = f"{config.study.folds} folds, each patient tested once"
    changed = varied(plan.study.grid.values())
    from lab.experiments.synthesis.covariates import auc_alone, covariates_of, describe_alone, give_away

    areas = {name: auc_alone(cohort, plan.cases("train"), name) for name in covariates_of(plan.study, config)}
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
        "warnings": give_away(areas),
        "runs": {str(one.trial): [run.id for run in one.runs] for one in configurations},
        "cohort": {
            "data": "phantom (simulated)" if cohort.phantom else cohort.name,
            "patients": str(cohort.index["patient_id"].nunique()),
            "scans that enhance": f"{int(cohort.index['enhancing'].sum())} of {len(cohort.index)}",
            "left out": str(cohort.manifest["counts"]["left_out"]),
            "train / val / test patients": sizes,
            "grid": f"{' x '.join(map(str, cohort.shape))} voxels of {cohort.spacing_mm:g} mm",
            "digest": cohort.digest,
            **({"covariates alone": describe_alone(areas)} if areas else {}),
        },
        "settings": {k: str(v) for k, v in shared.items() if not k.startswith(("study.", "data.p"))},
    }


def configuration_table(configurations: list[Configuration], plan: Plan) -> pd.DataFrame:
    """One row per network: settings, cost and validation figures as means over its runs, and their states.

    Where the study varies the number of training patients, `patients` is that of each network with all inputs.
    """
    rows: list[dict[str, Any]] = []
    most = min(split.loc[split["split"] == "train", "patient_id"].nunique() for split in plan.splits)
    counted = "train.patients" in varied(plan.study.grid.values())
    for one in configurations:
        params, tags = one.runs[0].params, [run.tags for run in one.runs]
        number, method = network_number(params["model.id"]), params.get("train.method", "supervised")
        names = {name for run in one.runs for name in run.metrics if name.startswith(("cost/", "val/"))}
        state = "stopped early" if all(tag.get(Tag.STOPPED_EARLY) == "True" for tag in tags) else "finished"
        row = {"trial": one.trial, "label": one.label, "model": one.model, "loss": one.loss}
        row |= {"phase": one.phase, "base": f"{model_title(number)}, {one.loss}", "runs": len(one.runs)}
        row |= {"model_id": number if method == "supervised" else f"{number}, {method}"}  # published: supervised
        row |= {"size": series_name("train.patch_mm", params), "state": state}
        own = trial_settings(plan.config, one.runs[0])
        if counted and own.data.inputs == plan.config.data.inputs:
            row |= {"patients": own.train.patients or most}
        row |= {"run_id": one.runs[0].id}
        rows.append(row | {name.removeprefix("cost/"): one.mean(name) for name in sorted(names - {"val/loss"})})
    return pd.DataFrame(rows)


def mark_best(plan: Plan, best: Configuration) -> None:
    """Set the tag `best` on the runs of the network that was best on validation patients, and remove it from others."""
    for run in plan.parent.children():
        if run in best.runs:
            run.set_tags({Tag.BEST: "yes"})
        elif Tag.BEST in run.tags:
            run.delete_tag(Tag.BEST)


def annotate(plan: Plan, configurations: list[Configuration], best: Configuration, beside: pd.DataFrame) -> None:
    """Set the note on every trial's page: the network beside the baselines, in a sentence and a table."""

    from lab.report.text.notes import trial_note

    def tested(figures: Mapping[str, float]) -> dict[str, float]:
        return {name.removeprefix("test/"): value for name, value in figures.items() if name.startswith("test/")}

    baselines = {str(name): tested(means(table, "test")) for name, table in beside.groupby("trial")}
    files = ("slices.png: two validation patients", "test_patients.csv: every test patient")
    for one in configurations:
        for run in one.runs:
            note = trial_note(
                run.name,
                tested(run.metrics),
                baselines,
                phantom=plan.cohort.phantom,
                best=one is best,
                artifacts=files,
            )
            run.set_tags({Tag.NOTE: note})


@contextmanager
def ood_beside(plan: Plan, best: Configuration) -> Iterator[dict[int, Callable[[], Ood]]]:
    """Functions that return the out-of-distribution reference of each fold that the best network still needs.

    The fit takes as long as the rest of a study's end and needs no network, so it runs in a process of its own.
    """
    from lab.evaluation.fault_injection import OodFit
    from lab.inference.calibrate import MOST

    waiting = {fold_of(run) for run in best.runs if run.tags.get(Tag.CALIBRATED) != str(MOST)}
    own = trial_settings(plan.config, best.runs[0])
    contract = Contract.of(plan.cohort, own.data.inputs, own.data.target)
    parts = {fold: parts_of(plan, fold, own.train.patients) for fold in sorted(waiting)}
    jobs = {fold: OodFit(contract=contract, cohort=plan.cohort, parts=part) for fold, part in parts.items()}
    if count_cores() == 1 or sum(job.voxels for job in jobs.values()) < WORTH_A_PROCESS:
        yield {fold: cache(job.run) for fold, job in jobs.items()}
        return
    with background(jobs) as results:
        yield results


def calibrate_best(scorer: Scorer, best: Configuration, ood: Mapping[int, Callable[[], Ood]]) -> pd.DataFrame:
    """Calibrate the best network for new patients; returns the coverage of its intervals on test cases.

    `ood` returns each fold's out-of-distribution reference. A run that cannot be calibrated is reported in a line, and
    the study continues with its report.
    """
    from lab.inference.calibrate_run import calibrate_study_run

    print(f"Calibrating {best.label}: intervals, probability of enhancement, out-of-distribution detection", flush=True)
    plan, tables = scorer.plan, []
    patients = trial_settings(plan.config, best.runs[0]).train.patients
    for run in best.runs:
        fold = fold_of(run)
        try:
            parts = parts_of(plan, fold, patients)
            calibrate_study_run(run, scorer.package(run), plan.cohort, parts, scorer.arithmetic, ood=ood.get(fold))
        except ValueError as error:
            print(f"  {run.name} is not calibrated: {error}", flush=True)
            continue
        table = run.read_table(artifacts.COVERAGE)
        tables.append(table.assign(fold=fold + 1, seed=int(run.params["train.seed"])))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COVERAGE_COLUMNS)


def parts_of(plan: Plan, fold: int, patients: int | None) -> dict[str, list[str]]:
    """Case ids of each part of a fold, for a network trained on this many patients."""
    split = with_fewer(plan.splits[fold], patients, plan.config.data.split_seed)
    return {part: split.loc[split["split"] == part, "case_id"].tolist() for part in PARTS}
