"""The classifier for new patients: tuned and fitted on all patients, with bootstrap refits for its interval."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from lab.config import ClassifierConfig
from lab.io.case_file import file_sha256
from lab.radiomics.dataset import Dataset
from lab.radiomics.pipeline.ensemble import Ensemble
from lab.radiomics.pipeline.fitted import Facts, Final
from lab.radiomics.pipeline.inner_search import InnerFolds, SearchResult, Tuner, calibrate, refit, search
from lab.radiomics.pipeline.mahalanobis import fit_distance
from lab.stats.platt import Line

__all__ = ["Final", "fit_final"]

REFITS = 50
DRAWS = 20  # bootstrap samples tried per refit, until one can be fitted
REPEATS = 2  # repeats of the inner cross-validation, with different folds
REFIT_TREES = 40  # trees of a refitted forest; 50 forests of full size would take 10 MB and seconds to load
REFIT_SETTINGS = 2  # settings that a refit averages, drawn from those of the classifier; ten would load for a minute
COVERS = (
    "95 % interval on the logit scale from {refits} refits on resampled patients: it covers which patients happened to "
    "be in training, in selection, fit and calibration. It does not cover the choice of the params, how features vary "
    "with scanner and mask, or patients unlike those in training (see novelty)."
)
AVERAGED = (
    " Each refit averages {few} of the {all} settings, drawn anew: so few vary a little more than all of them would."
)


def fit_final(
    dataset: Dataset,
    settings: ClassifierConfig,
    tune: Tuner,
    *,
    parameters: Path | None = None,
    spacing_mm: float | None = None,
    refits: int | None = None,
) -> Final:
    """Tune, calibrate and fit on all patients, with `refits` (`REFITS`) refits on bootstrapped patients.

    `parameters` is the file of the feature settings, `spacing_mm` the voxel size; `Final.predict` checks both. No
    figure of the result estimates its performance: use `lab.radiomics.pipeline.nested.run_split`. Raises ValueError as
    `run_split` does.
    """
    refits = REFITS if refits is None else refits
    folds = InnerFolds(dataset, settings, settings.seed, repeats=REPEATS)
    found = search(folds, tune)
    model = refit(dataset, settings, found, settings.seed).pruned()
    rng = np.random.default_rng([settings.seed, 5])
    refitted = tuple(_retried(dataset, settings, found, rng) for _ in range(refits))
    needed = {name for one in (model, *(other for other, _ in refitted)) for name in one.features}
    ordered = [str(name) for name in dataset.features if name in needed]
    truth = dataset.labels.groupby(dataset.patients).max()
    several = {"few": REFIT_SETTINGS, "all": len(found.averaged)}
    return Final(
        model=model,
        line=found.line,
        refits=refitted,
        distance=fit_distance(model.known(folds.cases), folds.patients),
        facts=Facts(
            event=dataset.event,
            features=tuple(ordered + [settings.combat] * bool(settings.combat)),
            combat=settings.combat,
            averaged=found.averaged,
            inner_auc=found.inner_auc,
            threshold=found.threshold,
            patients=len(truth),
            events=int(truth.sum()),
            dataset=dataset.name,
            digest=dataset.digest,
            phantom=dataset.phantom,
            parameters_sha256=file_sha256(parameters) if parameters else "",
            spacing_mm=spacing_mm,
            covers=COVERS.format(refits=refits) + AVERAGED.format(**several) * (several["all"] > REFIT_SETTINGS),
        ),
    )


def _retried(
    dataset: Dataset, settings: ClassifierConfig, found: SearchResult, rng: np.random.Generator
) -> tuple[Ensemble, Line]:
    """As `_refit`, with a new sample if one has too few cases of a scanner, or with perturbed masks, to fit on."""
    for _ in range(DRAWS - 1):
        try:
            return _refit(dataset, settings, found, rng)
        except ValueError:
            continue
    return _refit(dataset, settings, found, rng)


def _refit(
    dataset: Dataset, settings: ClassifierConfig, found: SearchResult, rng: np.random.Generator
) -> tuple[Ensemble, Line]:
    """Model and calibration line on a bootstrap sample of patients within each class, with all their cases."""
    truth = dataset.labels.groupby(dataset.patients).max()
    classes = [np.sort(truth.index[truth == label]) for label in (0, 1)]
    sample = np.concatenate([rng.choice(patients, len(patients)) for patients in classes])
    rows = {patient: np.flatnonzero(dataset.patients == patient) for patient in set(sample)}
    positions = np.concatenate([rows[patient] for patient in sample])
    chosen = np.arange(len(found.averaged))
    if len(chosen) > REFIT_SETTINGS:
        chosen = np.sort(rng.choice(chosen, REFIT_SETTINGS, replace=False))
    seed = int(rng.integers(2**31))
    held = {patient: part.index.to_numpy() for patient, part in found.out_of_fold.groupby("patient_id")}
    copies = [found.out_of_fold.loc[held[patient]].assign(patient_id=str(n)) for n, patient in enumerate(sample)]
    scores = found.scores[np.ix_(np.concatenate([held[patient] for patient in sample]), chosen)]
    lines, line = calibrate(pd.concat(copies), scores)
    averaged = tuple({**found.averaged[n], "forest_trees": REFIT_TREES} for n in chosen)
    resampled = dataclasses.replace(found, averaged=averaged, lines=lines)
    return refit(dataset, settings, resampled, seed, rows=positions).pruned(), line
