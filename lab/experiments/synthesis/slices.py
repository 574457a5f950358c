"""Slice figures of a few test patients with every network's image, on the study's parent run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from lab.config import Config
from lab.data.batches import Batch, CaseStore, Prediction, image_of, map_of
from lab.data.cohort import Cohort
from lab.experiments.synthesis.configurations import Configuration, fold_of
from lab.experiments.synthesis.scoring import Scorer, Volumes
from lab.experiments.synthesis.trial import TrialJob
from lab.report.figures.sheets import slice_figure, trial_slices
from lab.report.figures.slices import Stated, patient_from
from lab.report.tables.patient_table import is_baseline
from lab.report.tables.strongest import best_truth
from lab.tracking import artifacts


def log_slices(scorer: Scorer, patients: pd.DataFrame, configurations: list[Configuration]) -> None:
    """Log sheets of a few test patients with every network's image to the parent run."""
    plan = scorer.plan
    losses = {one.label: one.loss for one in configurations}
    for why, case in chosen_cases(patients).items():
        found, rows = predicted_volumes(scorer, configurations, case), patients[patients["case_id"] == case]
        sheet = slice_figure(
            slice_patient(plan.cohort, case, plan.config),
            {label: one.image for label, one in found.items()},
            phantom=plan.cohort.phantom,
            scores={row.label: f"MAE {row.mae_brain:.3f}" for row in rows.itertuples()},
            groups=losses,
            stated=stated_probabilities(found, rows),
        )
        plan.parent.log_figure(sheet, artifacts.figure(f"slices_{why}"))


def chosen_cases(patients: pd.DataFrame) -> dict[str, str]:
    """Name -> case id of the test patients to draw, each once.

    Where networks state a probability, the patients of the best, the median and the worst Dice at its threshold. By
    brain MAE the best, the median and the worst, and the median ones among enhancing and among non-enhancing tumours.
    Both figures are means over the networks.
    """
    networks = patients[~patients["trial"].map(is_baseline)]
    dice = networks.groupby("case_id")[f"probability_dice_{best_truth(patients)}"].mean().dropna()
    placed = dice.sort_values(ascending=False, kind="stable").reset_index()
    ranked = networks.groupby(["case_id", "enhancing"])["mae_brain"].mean().sort_values().reset_index()
    enhancing = ranked["enhancing"].astype(bool)
    wanted = {
        "place_best": placed.head(1),
        "place_median": placed,
        "place_worst": placed.tail(1),
        "enhancing": ranked[enhancing],
        "not_enhancing": ranked[~enhancing],
        "best": ranked.head(1),
        "median": ranked,
        "worst": ranked.tail(1),
    }
    chosen: dict[str, str] = {}
    for why, among in wanted.items():
        if len(among) and (case := str(among["case_id"].iloc[len(among) // 2])) not in chosen.values():
            chosen[why] = case
    return chosen


def predicted_volumes(scorer: Scorer, configurations: list[Configuration], case: str) -> dict[str, Volumes]:
    """Label -> prediction for a test patient, of every network and baseline."""
    fold = next(fold for fold in range(len(scorer.plan.splits)) if case in scorer.plan.cases("test", fold))
    found: dict[str, Volumes] = {}
    for one in configurations:
        run = next((run for run in one.runs if fold_of(run) == fold), None)
        if run is not None:
            found[one.label] = scorer.volumes_by_network(run, case)
    for name, (baseline, beside) in scorer.baselines("test", fold).items():
        found[name] = scorer.volumes(baseline, beside, case)
    return found


def stated_probabilities(found: Mapping[str, Volumes], rows: pd.DataFrame) -> dict[str, Stated]:
    """Label -> the stated probability with the threshold chosen on validation patients, of those that state one.

    `rows` are the patient's rows of the per-patient table.
    """
    truth = best_truth(rows)
    thresholds = dict(zip(rows["label"], rows[f"probability_threshold_{truth}"]))
    return {
        label: Stated(probability=one.probability, threshold=float(thresholds[label]))
        for label, one in found.items()
        if one.probability is not None
    }


def log_trial_slices(
    job: TrialJob,
    cases: Sequence[str],
    store: CaseStore,
    predict: Callable[[Batch], Prediction],
    thresholds: Mapping[str, float],
) -> None:
    """Log slices of a few cases of the store, with the stated probability where there is one.

    `thresholds` are those of `choose_thresholds`.
    """
    images, stated = [], []
    threshold = thresholds.get("probability_threshold_expert", thresholds.get("probability_threshold_rule", math.nan))
    for case in cases:
        prediction = predict(store.batch([store.case_ids.index(case)]))
        images.append(image_of(prediction)[0, 0].cpu().numpy())
        if (probability := map_of(prediction, "probability")) is not None:
            stated.append(Stated(probability=probability[0, 0].cpu().numpy(), threshold=threshold))
    patients = [slice_patient(job.cohort, case, job.config) for case in cases]
    label = f"{job.label}, validation patients"
    figure = trial_slices(patients, images, label=label, phantom=job.cohort.phantom, stated=stated)
    job.run.log_figure(figure, artifacts.SLICES)


def slice_patient(cohort: Cohort, case_id: str, config: Config) -> Any:
    """A patient in the form that the slice figures need."""
    data = config.data
    how: dict[str, Any] = {"threshold": data.enhancement_threshold, "enhancing_ml": data.enhancing_ml}
    return patient_from(cohort, case_id, inputs=data.inputs, target=data.target, **how)
