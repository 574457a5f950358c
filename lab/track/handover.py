"""What a finished study leaves on its parent run and prints on the screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from lab.report.boxes import box_plots
from lab.report.console import as_text
from lab.report.cost import cost_against_quality
from lab.report.curves import learning_curves
from lab.report.figures import save
from lab.report.findings import findings
from lab.report.page import report_page
from lab.report.pairs import pairs_table
from lab.report.published import Comparison, comparable
from lab.report.sheets import slice_figure
from lab.report.stats import paired_tests
from lab.report.tables import as_csv, as_markdown, paper_table
from lab.track import runs
from lab.track.store import ROOT, connect, experiment_id
from lab.track.study import Plan
from lab.track.trial import drawn

Pictures = Callable[[list[str]], Mapping[str, dict[str, np.ndarray]]]


def hand_over(
    plan: Plan,
    *,
    patients: pd.DataFrame,
    trials: pd.DataFrame,
    histories: Mapping[Any, pd.DataFrame],
    reference: Mapping[str, float],
    pictures: Pictures,
    seconds: float,
) -> None:
    """Write tables, figures and the page to the parent run, and tell the user where they are."""
    parent, phantom = plan.parent, plan.cohort.phantom
    comparison = compare(plan)
    table = paper_table(patients, study=plan.study.name, comparison=comparison, phantom=phantom, dataset=dataset(plan))
    tests = paired_tests(patients)
    names = dict(zip(patients["trial"].astype(str), patients["label"]))
    order = [str(trial) for trial in table.rows["trial"]]
    words = findings(patients, tests, comparison=comparison, phantom=phantom)
    shown = chosen_cases(patients)
    images = pictures(list(shown.values()))

    figures: dict[str, tuple[str, Any]] = {}
    for why, case in shown.items():
        scores = {row.label: f"MAE {row.mae_brain:.3f}" for row in patients[patients["case_id"] == case].itertuples()}
        sheet = slice_figure(drawn(plan.cohort, case, plan.config), images[case], phantom=phantom, scores=scores)
        figures[f"slices_{why}"] = (f"Test patient with {why.replace('_', ' ')}", sheet)
    figures["boxes"] = ("Every test patient", box_plots(patients, phantom=phantom))
    figures["learning_curves"] = (
        "Learning curves",
        learning_curves(histories, trials, phantom=phantom, reference=reference),
    )
    figures["cost"] = ("Cost against quality", cost_against_quality(trials, patients, phantom=phantom))
    if not tests.empty:
        drawn_tests = pairs_table(
            tests.assign(a=tests["a"].astype(str), b=tests["b"].astype(str)), phantom=phantom, order=order, names=names
        )
        figures["paired_tests"] = ("Paired Wilcoxon tests, Holm-corrected, brain MAE", drawn_tests)

    page = report_page(
        title=f"Study {plan.study.name}",
        question=plan.study.question,
        phantom=phantom,
        table=table,
        findings=words,
        figures=dict(figures.values()),
        cohort=cohort_shown(plan),
        settings=settings_shown(plan),
        trials=trials,
        tests=tests,
        names=names,
    )
    runs.log_text(parent, page, "report.html")
    runs.log_text(parent, as_csv(table), "tables/comparison.csv")
    runs.log_text(parent, as_markdown(table), "tables/comparison.md")
    runs.log_table(parent, patients, "tables/test_patients.csv")
    runs.log_table(parent, trials, "tables/trials.csv")
    runs.log_table(parent, tests, "tables/paired_tests.csv")
    for name, (_, figure) in figures.items():
        runs.log_file(parent, f"figures/{name}.png", partial(save, figure))
    runs.log_settings(parent, {}, {runs.NOTE: f"{plan.study.question}\n\n{words}\n\n{as_markdown(table)}"})
    runs.log_metrics(parent, {"study/seconds": seconds, "study/trials": len(trials)})
    runs.end(parent, "FINISHED", state="finished")

    print(f"\n{as_text(table)}\n\n{words}\n")
    print(closing(plan, seconds))


def closing(plan: Plan, seconds: float) -> str:
    """Where everything is, and the next step."""
    experiment = connect().get_experiment(experiment_id(plan.study.name))
    link = f"#/experiments/{experiment.experiment_id}/runs/{plan.parent}?workflowType=machine_learning"
    folder = connect().get_run(plan.parent).info.artifact_uri.removeprefix("file://")
    return (
        f"Study finished in {seconds:.0f} s. Report, tables and figures: {folder}\n"
        f"Next: run `mlflow ui` in {ROOT} and open http://localhost:5000/{link}"
    )


def compare(plan: Plan) -> Comparison:
    """Whether the published figures may stand beside this study's."""
    config = plan.config
    return comparable(
        phantom=plan.cohort.phantom,
        dataset=dataset(plan),
        spacing_mm=plan.cohort.spacing_mm,
        width=config.model.width,
        depth=config.model.depth,
        inputs=config.data.inputs,
        target=config.data.target,
        patch_mm=config.train.patch_mm,
    )


def dataset(plan: Plan) -> str:
    """Name of the data set for titles: the layout where the manifest knows it."""
    return str(plan.cohort.manifest.get("layout") or plan.cohort.path.name)


def chosen_cases(patients: pd.DataFrame) -> dict[str, str]:
    """Test patients to draw: those whose best, median and worst network error in the brain stand for the others."""
    networks = patients[~patients["trial"].isin(("copy T1", "linear regression"))]
    ranked = networks.groupby("case_id")["mae_brain"].mean().sort_values()
    places = {"the_lowest_error": 0, "the_median_error": len(ranked) // 2, "the_highest_error": len(ranked) - 1}
    chosen: dict[str, str] = {}
    for why, place in places.items():
        if ranked.index[place] not in chosen.values():
            chosen[why] = str(ranked.index[place])
    return chosen


def cohort_shown(plan: Plan) -> dict[str, str]:
    """The cohort in the report's list of facts."""
    cohort = plan.cohort
    counts = plan.split.groupby("split")["patient_id"].nunique()
    return {
        "patients": str(cohort.index["patient_id"].nunique()),
        "scans that enhance": f"{int(cohort.index['enhancing'].sum())} of {len(cohort.index)}",
        "left out": str(cohort.manifest["counts"]["left_out"]),
        "train / val / test patients": " / ".join(str(counts.get(part, 0)) for part in ("train", "val", "test")),
        "grid": f"{' x '.join(map(str, cohort.shape))} voxels of {cohort.spacing_mm:g} mm",
        "digest": cohort.digest,
    }


def settings_shown(plan: Plan) -> dict[str, str]:
    """The settings that all trials share."""
    from lab.config import flatten

    varied = {name for settings in plan.study.grid.values() for name in settings}
    shared = {name: value for name, value in flatten(plan.config).items() if name not in varied}
    return {name: str(value) for name, value in shared.items() if not name.startswith(("study.", "data.p"))}
