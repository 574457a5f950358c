"""What a finished study leaves on its parent run and prints on the screen."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from lab.report.boxes import box_plots
from lab.report.console import as_text
from lab.report.cost import cost_against_quality
from lab.report.curves import learning_curves
from lab.report.figures import Figure, save
from lab.report.findings import findings
from lab.report.note import study_note
from lab.report.page import report_page
from lab.report.pairs import pairs_table
from lab.report.published import Comparison, comparable
from lab.report.search import search_figure
from lab.report.sheets import slice_figure
from lab.report.stats import paired_tests
from lab.report.tables import as_csv, as_markdown, is_rival, paper_table, plural, summarise
from lab.track import runs
from lab.track.plan import Plan
from lab.track.searched import importances, search_trials, shown_settings
from lab.track.store import connect
from lab.track.trial import drawn
from lab.track.view import closing, leave_view

Pictures = Callable[[list[str]], Mapping[str, dict[str, np.ndarray]]]
Figures = dict[str, tuple[str, Figure]]
"""File name -> caption and figure."""
CASES = {
    "enhancing": "an enhancing tumour and the median error among these",
    "not_enhancing": "a tumour that does not enhance and the median error among these",
    "hardest": "the highest error",
}


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
    """Write tables, figures and the page to the parent run, mark the best trial, tell the user where it all is.

    The best trial is the one with the best objective on validation patients; the test patients have no say in it.
    """
    parent, phantom, question = plan.parent, plan.cohort.phantom, plan.study.question
    grid = trials.loc[trials["phase"] == "grid", "trial"]
    best = best_trial(trials, plan.config.study.objective)
    mark_best(plan, str(trials.set_index("trial").loc[best, "run_id"]))
    comparison = compare(plan)
    table = paper_table(
        patients, study=plan.study.name, comparison=comparison, phantom=phantom, dataset=plan.cohort.name, beside=grid
    )
    names = {str(key): str(label) for key, label in zip(patients["trial"], patients["label"])}
    tests = paired_tests(patients, against=[best, *(trial for trial in table.rows["trial"] if is_rival(trial))])
    words = findings(patients, tests, phantom=phantom, best=best)
    searched = search_trials(plan)
    words[1:1] = about_search(searched, trials[trials["phase"] == "search"])

    figures = {
        **slice_figures(plan, patients, pictures),
        **number_figures(plan, patients, trials, histories, reference, tests, best=best),
        **search_figures(plan, searched, trials),
    }
    page = report_page(
        title=f"Study {plan.study.name}",
        question=question,
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
    tables = {"test_patients": patients, "trials": trials, "paired_tests": tests, "search": searched}
    for name, content in tables.items():
        if not content.empty:
            runs.log_table(parent, content, f"tables/{name}.csv")
    for name, (_, figure) in figures.items():
        runs.log_file(parent, f"figures/{name}.png", partial(save, figure))
    validation = dict(zip(trials["trial"], trials["val/mae_brain"])) | dict(reference)
    note = study_note(question, words, table, validation=validation, best=best, phantom=phantom)
    runs.log_settings(parent, {}, {runs.NOTE: note, "best": names[str(best)]})
    if len(trials) not in runs.logged_steps(parent, "study/trials"):  # a report made again is not more work
        runs.log_metrics(parent, {"study/seconds": seconds, "study/trials": len(trials)}, step=len(trials))
    runs.end(parent, "FINISHED", state="finished")

    points = "\n".join(textwrap.fill(point, 118, initial_indent="- ", subsequent_indent="  ") for point in words)
    print(f"\n{as_text(table)}\n\n{points}\n")
    view = leave_view(plan.study.name, parent, plan.config.study.objective)
    print(closing(plan.study.name, parent, view, seconds))


def best_trial(trials: pd.DataFrame, objective: str) -> Any:
    """The trial with the best objective on validation patients."""
    ranked = trials.sort_values(objective, ascending="ssim" not in objective, kind="stable")
    return ranked["trial"].iloc[0]


def mark_best(plan: Plan, run_id: str) -> None:
    """The best trial's run carries the tag `best`, no other does."""
    for run in runs.children(plan.study.name, plan.parent):
        if run.info.run_id == run_id:
            connect().set_tag(run_id, "best", "yes")
        elif "best" in run.data.tags:
            connect().delete_tag(run.info.run_id, "best")


def slice_figures(plan: Plan, patients: pd.DataFrame, pictures: Pictures) -> Figures:
    """The best, the median and the worst test patient, with every network's image."""
    shown = chosen_cases(patients)
    images = pictures(list(shown.values()))
    losses = patients.dropna(subset=["loss"]).drop_duplicates("label").set_index("label")["loss"].to_dict()
    found = {}
    for why, case in shown.items():
        scores = {row.label: f"MAE {row.mae_brain:.3f}" for row in patients[patients["case_id"] == case].itertuples()}
        patient = drawn(plan.cohort, case, plan.config)
        sheet = slice_figure(patient, images[case], phantom=plan.cohort.phantom, scores=scores, groups=losses)
        caption = f"Test patient with {CASES[why]} (mean over networks)"
        found[f"slices_{why}"] = (caption, sheet)
    return found


def number_figures(
    plan: Plan,
    patients: pd.DataFrame,
    trials: pd.DataFrame,
    histories: Mapping[Any, pd.DataFrame],
    reference: Mapping[str, float],
    tests: pd.DataFrame,
    *,
    best: Any,
) -> Figures:
    """Box plots, paired tests, learning curves and cost."""
    phantom = plan.cohort.phantom
    found: Figures = {"boxes": ("Every test patient", box_plots(patients, phantom=phantom))}
    if tests["p_holm"].notna().any():
        names = {str(key): str(label) for key, label in zip(patients["trial"], patients["label"])}
        order = [str(trial) for trial in summarise(patients)["trial"]]
        figure = pairs_table(tests, phantom=phantom, order=order, names=names, best=str(best))
        found["paired_tests"] = ("Networks against the references, brain MAE", figure)
    curves = learning_curves(histories, trials, phantom=phantom, reference=reference)
    found["learning_curves"] = ("Learning curves", curves)
    found["cost"] = ("Cost against quality", cost_against_quality(trials, patients, phantom=phantom))
    return found


def search_figures(plan: Plan, searched: pd.DataFrame, trials: pd.DataFrame) -> Figures:
    """History and importances of the guided search, where there was one."""
    if searched.empty or searched["value"].isna().all():
        return {}
    objective = plan.config.study.objective
    grid = trials[trials["phase"] == "grid"]
    start = float(grid.loc[grid["trial"] == best_trial(grid, objective), objective].iloc[0]) if len(grid) else None
    figure = search_figure(searched, importances(plan), objective=objective, phantom=plan.cohort.phantom, start=start)
    return {"search": ("The guided search", figure)}


def about_search(searched: pd.DataFrame, chosen: pd.DataFrame) -> list[str]:
    """What the row of the best search trial stands for, as a point of the findings."""
    if searched.empty or chosen.empty:
        return []
    label = str(chosen["label"].iloc[0])
    row = searched[searched["label"] == label].drop(columns=["number", "label", "state", "value"]).iloc[0]
    return [
        f"{label} is the best of {plural(len(searched), 'trial')} of the guided search on validation patients: "
        f"{chosen['base'].iloc[0]} with {shown_settings(dict(row))}."
    ]


def compare(plan: Plan) -> Comparison:
    """Whether the published figures may stand beside this study's."""
    config = plan.config
    return comparable(
        phantom=plan.cohort.phantom,
        dataset=plan.cohort.dataset,
        spacing_mm=plan.cohort.spacing_mm,
        width=config.model.width,
        depth=config.model.depth,
        inputs=config.data.inputs,
        target=config.data.target,
        patch_mm=config.train.patch_mm,
    )


def chosen_cases(patients: pd.DataFrame) -> dict[str, str]:
    """Test patients to draw: an enhancing and a silent tumour of middling error, and the hardest patient of all."""
    networks = patients[~patients["trial"].map(is_rival)]
    ranked = networks.groupby(["case_id", "enhancing"])["mae_brain"].mean().sort_values().reset_index()
    chosen: dict[str, str] = {}
    for why, among in (
        ("enhancing", ranked[ranked["enhancing"].astype(bool)]),
        ("not_enhancing", ranked[~ranked["enhancing"].astype(bool)]),
        ("hardest", ranked.tail(1)),
    ):
        if len(among) and among["case_id"].iloc[len(among) // 2] not in chosen.values():
            chosen[why] = str(among["case_id"].iloc[len(among) // 2])
    return chosen


def cohort_shown(plan: Plan) -> dict[str, str]:
    """The cohort in the report's list of facts."""
    cohort = plan.cohort
    counts = plan.split.groupby("split")["patient_id"].nunique()
    return {
        "data": "phantom (simulated)" if cohort.phantom else cohort.name,
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
