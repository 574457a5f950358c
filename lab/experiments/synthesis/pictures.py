"""Slices of a few test patients with the image of every network, as figures of the study's parent run."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from lab.data.batches import Batch, CaseStore
from lab.experiments.plan import Plan
from lab.experiments.synthesis.groups import Group, fold_of
from lab.experiments.synthesis.networks import predictor, rivals, store
from lab.experiments.synthesis.trial import drawn
from lab.report.figures.sheets import slice_figure
from lab.report.figures.style import save
from lab.report.tables.patient_table import is_rival
from lab.synthesis.baselines import Rival
from lab.synthesis.device import Arithmetic
from lab.tracking import runs


def draw_slices(
    plan: Plan, patients: pd.DataFrame, made: list[Group], weights: list[np.ndarray], arithmetic: Arithmetic
) -> None:
    """Sheets of a few test patients with every network's image, as figures of the parent run."""
    losses = {group.label: group.loss for group in made}
    for why, case in chosen_cases(patients).items():
        images = synthetic_images(plan, made, weights, arithmetic, case)
        scores = {row.label: f"MAE {row.mae_brain:.3f}" for row in patients[patients["case_id"] == case].itertuples()}
        patient = drawn(plan.cohort, case, plan.config)
        sheet = slice_figure(patient, images, phantom=plan.cohort.phantom, scores=scores, groups=losses)
        runs.log_file(plan.parent, f"figures/slices_{why}.png", partial(save, sheet))


def chosen_cases(patients: pd.DataFrame) -> dict[str, str]:
    """Test patients to draw, by brain MAE averaged over the networks: a name for each, and its case id.

    The best, the median and the worst, and the median ones among the tumours that enhance and that do not.
    """
    networks = patients[~patients["trial"].map(is_rival)]
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


def synthetic_images(
    plan: Plan, made: list[Group], weights: list[np.ndarray], arithmetic: Arithmetic, case: str
) -> dict[str, np.ndarray]:
    """Label -> synthetic image (X, Y, Z) of a test patient, of every network and of the rivals."""
    fold = next(fold for fold in range(len(plan.splits)) if case in plan.cases("test", fold))
    images: dict[str, np.ndarray] = {}
    for group in made:
        run = next((run for run in group.runs if fold_of(run) == fold), None)
        if run is not None:
            images[group.label] = image(predictor(plan, run, arithmetic), store(plan, run, arithmetic), case)
    for name, (rival, cases) in rivals(plan, "test", fold, weights[fold]).items():
        images[name] = image(rival, cases, case)
    return images


def image(predict: Rival, cases: CaseStore, case: str) -> np.ndarray:
    """What is synthesised of one case, (X, Y, Z)."""
    batch: Batch = cases.batch([cases.case_ids.index(case)])
    return predict(batch)[0, 0].float().cpu().numpy()
