"""Slice figures of a few test patients with every network's image, on the study's parent run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lab.experiments.synthesis.configurations import Configuration, fold_of
from lab.experiments.synthesis.scoring import Scorer
from lab.experiments.synthesis.trial import slice_patient
from lab.report.figures.sheets import slice_figure
from lab.report.tables.patient_table import is_baseline
from lab.tracking import artifacts


def log_slices(scorer: Scorer, patients: pd.DataFrame, configurations: list[Configuration]) -> None:
    """Log sheets of a few test patients with every network's image to the parent run."""
    plan = scorer.plan
    losses = {one.label: one.loss for one in configurations}
    for why, case in chosen_cases(patients).items():
        images = synthetic_images(scorer, configurations, case)
        scores = {row.label: f"MAE {row.mae_brain:.3f}" for row in patients[patients["case_id"] == case].itertuples()}
        patient = slice_patient(plan.cohort, case, plan.config)
        sheet = slice_figure(patient, images, phantom=plan.cohort.phantom, scores=scores, groups=losses)
        plan.parent.log_figure(sheet, artifacts.figure(f"slices_{why}"))


def chosen_cases(patients: pd.DataFrame) -> dict[str, str]:
    """Name -> case id of the test patients to draw, by brain MAE averaged over the networks.

    The best, the median and the worst, and the median ones among enhancing and among non-enhancing tumours.
    """
    networks = patients[~patients["trial"].map(is_baseline)]
    ranked = networks.groupby(["case_id", "enhancing"])["mae_brain"].mean().sort_values().reset_index()
    enhancing = ranked["enhancing"].astype(bool)
    wanted = {
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


def synthetic_images(scorer: Scorer, configurations: list[Configuration], case: str) -> dict[str, np.ndarray]:
    """Label -> synthetic image (X, Y, Z) of a test patient, for every network and baseline."""
    fold = next(fold for fold in range(len(scorer.plan.splits)) if case in scorer.plan.cases("test", fold))
    images: dict[str, np.ndarray] = {}
    for one in configurations:
        run = next((run for run in one.runs if fold_of(run) == fold), None)
        if run is not None:
            images[one.label] = scorer.image_by_network(run, case)
    for name, (baseline, beside) in scorer.baselines("test", fold).items():
        images[name] = scorer.image(baseline, beside, case)
    return images
