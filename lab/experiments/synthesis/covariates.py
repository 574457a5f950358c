"""The clinical covariates of a study's networks: which they are, and what each alone tells of the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lab.config import ClinicalConfig, Config
from lab.data.cohort import Cohort
from lab.experiments.plan import Study
from lab.stats.auc import auc
from lab.synthesis.networks.film import NUMBERS, fit_coding, text_of

GIVES_AWAY = 0.9
"""AUC of a covariate alone for whether a patient enhances, from which it gives the label away."""


def covariates_of(study: Study, config: Config) -> list[str]:
    """Covariates that any network of the grid takes.

    Raises ValueError for a `clinical.drop` that is no probability, or that has nothing to hide.
    """
    taken = [trial.get("clinical.use", config.clinical.use) for trial in study.grid.values()]
    names = [*dict.fromkeys(name for names in taken for name in names)]
    drop = config.clinical.drop
    if not 0 <= drop < 1:
        raise ValueError(f"--clinical.drop {drop:g}: a probability from 0 to below 1 is needed")
    if drop != ClinicalConfig.drop and not names:
        raise ValueError(
            f"--clinical.drop {drop:g} hides known covariates in training, but no network of this study takes any; "
            "add --clinical.use, or leave --clinical.drop out"
        )
    return names


def check_covariates(study: Study, config: Config, cohort: Cohort, splits: Sequence[pd.DataFrame]) -> None:
    """Print what each covariate alone tells of the label, by the training cases of the first fold.

    Raises ValueError for a covariate that too few training cases of a fold know.
    """
    if not (names := covariates_of(study, config)):
        return
    training = [split.loc[split["split"] == "train", "case_id"].tolist() for split in splits]
    for cases in training:
        fit_coding(cohort, cases, names)
    areas = {name: auc_alone(cohort, training[0], name) for name in names}
    print(f"Clinical covariates alone, {describe_alone(areas)}", flush=True)
    for warning in give_away(areas):
        print(f"WARNING: {warning}", flush=True)


def auc_alone(cohort: Cohort, cases: Sequence[str], name: str) -> float | None:
    """AUC of one covariate alone for whether a case enhances; None where those who know it are of one class.

    A category is ranked by the share of its own cases that enhance, so that many rare values make the AUC too high.
    """
    known = [patient[name] for patient in cohort.clinical(cases)]
    labels = cohort.index.loc[list(cases), "enhancing"].to_numpy(bool)
    pairs = [(value, label) for value, label in zip(known, labels) if value is not None]
    true = np.array([label for _, label in pairs], bool)
    if not 0 < true.sum() < len(true):
        return None
    if name in NUMBERS:
        area = auc(true, [float(value) for value, _ in pairs])
        return max(area, 1 - area)
    texts = np.array([text_of(value) for value, _ in pairs])
    return auc(true, [true[texts == text].mean() for text in texts])


def describe_alone(areas: Mapping[str, float | None]) -> str:
    """The AUC of each covariate in a line."""
    shown = ", ".join(f"{name} {'unknown' if area is None else f'{area:.2f}'}" for name, area in areas.items())
    return f"AUC for whether a training case enhances: {shown}"


def give_away(areas: Mapping[str, float | None]) -> list[str]:
    """A warning of each covariate that gives the label away."""
    return [
        f"Alone, {name} gives the label away (AUC {area:.2f} for whether a training case enhances): a network that "
        f"takes it may repeat it and not read the scans. Compare with a network that does without {name}."
        for name, area in areas.items()
        if area is not None and area >= GIVES_AWAY
    ]
