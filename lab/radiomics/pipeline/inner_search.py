"""The search inside a training set: inner cross-validation, tuning, calibration and choice of the threshold.

It uses no test case. Steps that do not depend on a trial's params are fitted once per inner fold, which makes trials
cheap; the results equal those of whole pipelines.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline

from lab.config import ClassifierConfig
from lab.radiomics.dataset import Dataset
from lab.radiomics.pipeline.search_space import CLASSIFIERS, Params, draw, replay
from lab.radiomics.pipeline.steps import CLEAN, ORDER, build_pipeline, frame, pipeline_score
from lab.stats.auc import auc
from lab.stats.decision_curve import youden_threshold
from lab.stats.platt import Line, platt

Tuner = Callable[[Callable[[Any], float], int, int], pd.DataFrame]
"""(objective, trials, seed) -> table of trials: number, value, seconds, started (unix ms) and one column per param."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """Result of a search in its training cases."""

    params: Params
    trials: pd.DataFrame
    inner_auc: float  # mean AUC of the best trial over the inner folds; the best of many, so biased upwards
    line: Line
    threshold: float  # Youden's threshold of the calibrated probability, on inner out-of-fold predictions
    out_of_fold: pd.DataFrame  # patient_id, label, score (uncalibrated): a row per held-out case and repeat


@dataclass
class InnerFolds:
    """Stratified folds of a training set's patients, with a cache of fitted steps."""

    training: Dataset
    settings: ClassifierConfig
    seed: int
    repeats: int = 1
    _kept: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.cases = frame(self.training, self.settings.combat)
        self.labels = self.training.labels.to_numpy()
        self.patients = self.training.patients.to_numpy()
        self.parts = list(self._draw())

    def _draw(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        truth = self.training.labels.groupby(self.training.patients).max()
        smaller = int(truth.value_counts().reindex([0, 1], fill_value=0).min())
        folds = min(self.settings.inner_folds, smaller)
        if folds < 2:
            found = f"{int(truth.sum())} of {len(truth)} training patients are {self.training.event}"
            found += f", asked for were {self.settings.inner_folds} folds"
            raise ValueError(f"the inner cross-validation needs 2 patients of each class and 2 folds; {found}")
        for repeat in range(self.repeats):
            for _, held in StratifiedKFold(folds, shuffle=True, random_state=self.seed + repeat).split(truth, truth):
                inside = np.isin(self.patients, truth.index[held])
                yield np.flatnonzero(~inside), np.flatnonzero(inside)

    def pipeline(self, params: Params) -> Pipeline:
        """An unfitted pipeline with the settings of this search."""
        return unfitted(self.training, self.settings, params, self.seed)

    def held_out(self, params: Params) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each fold, the positions of its held-out cases and their scores by a pipeline fitted on the others."""
        found = []
        for number, (_, held) in enumerate(self.parts):
            whole = self.pipeline(params)
            train, valid, labels = self._ordered(number, params, whole)
            last = whole[len(CLEAN) + len(ORDER) :]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # a trial that does not converge scores poorly
                last.fit(train, labels)
            found.append((held, pipeline_score(last, valid)))
        return found

    def mean_auc(self, params: Params) -> float:
        """Mean over the folds of the AUC of held-out patients."""
        scored = self.held_out(params)
        return float(np.mean([patient_auc(self.patients[h], self.labels[h], values) for h, values in scored]))

    def _ordered(self, number: int, params: Params, whole: Pipeline) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
        """A fold's training and held-out cases before feature selection, and the training labels."""
        fit, held = self.parts[number]
        labels = self.labels[fit]
        if (number,) not in self._kept:
            clean = whole[: len(CLEAN)]
            train = clean.fit_transform(self.cases.iloc[fit], labels)
            self._kept[(number,)] = train, clean.transform(self.cases.iloc[held])
        key = (number, params.get("scaler"), params.get("ranking"))
        if key not in self._kept:
            train, valid = self._kept[(number,)]
            order = whole[len(CLEAN) : len(CLEAN) + len(ORDER)]
            self._kept[key] = order.fit_transform(train, labels), order.transform(valid)
        return *self._kept[key], labels


def unfitted(training: Dataset, settings: ClassifierConfig, params: Params, seed: int) -> Pipeline:
    """The unfitted pipeline of some params for a training set."""
    tables = training.perturbed if settings.stability > 0 else None
    return build_pipeline(params, stability=tables, threshold=settings.stability, combat=settings.combat, seed=seed)


def search(folds: InnerFolds, tune: Tuner) -> SearchResult:
    """Tune on the inner folds, calibrate the best params and choose their threshold. Raises ValueError if all fail."""
    settings = folds.settings

    def objective(trial: Any) -> float:
        return folds.mean_auc(draw(trial, settings.classifiers))

    alone = CLASSIFIERS.get(settings.classifiers[0]) if len(settings.classifiers) == 1 else None
    if alone is not None and not alone.searched:
        trials = _one_trial(folds, settings.classifiers)
    else:
        trials = tune(objective, settings.trials, folds.seed)
    best = best_trial(trials)
    params = replay(best, settings.classifiers)
    scored = folds.held_out(params)
    positions = np.concatenate([held for held, _ in scored])
    scores = np.concatenate([values for _, values in scored])
    labels, patients = folds.labels[positions], folds.patients[positions]
    out_of_fold = pd.DataFrame({"patient_id": patients, "label": labels, "score": scores})
    line = platt_by_patient(out_of_fold)
    threshold = youden_threshold(*patient_means(patients, labels, line.probabilities(scores)))
    inner_auc = float(best["value"])
    return SearchResult(
        params=params, trials=trials, inner_auc=inner_auc, line=line, threshold=threshold, out_of_fold=out_of_fold
    )


def platt_by_patient(out_of_fold: pd.DataFrame) -> Line:
    """Platt scaling of out-of-fold scores (see `SearchResult`), with equal weight for every patient."""
    rows = out_of_fold.groupby("patient_id")["label"].transform("size").to_numpy()
    return platt(out_of_fold["label"].to_numpy(), out_of_fold["score"].to_numpy(), 1 / rows)


def best_trial(trials: pd.DataFrame) -> Mapping[str, Any]:
    """The row with the highest value, the first of equals. Raises ValueError if none has a value."""
    finished = trials[pd.to_numeric(trials["value"]).notna()]
    if finished.empty:
        raise ValueError(f"none of {len(trials)} trials gave a figure")
    row = finished.sort_values(["value", "number"], ascending=[False, True], kind="stable").iloc[0]
    return {str(name): value for name, value in row.items() if pd.notna(value)}


def patient_means(patients: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label and mean score of every patient. Raises ValueError if a patient has two labels."""
    names, member, sizes = np.unique(np.asarray(patients, str), return_inverse=True, return_counts=True)
    truth = np.bincount(member, labels) / sizes
    mixed = ~np.isin(truth, (0, 1))
    if mixed.any():
        raise ValueError(f"patient {names[mixed][0]} has label 0 in one case and 1 in another")
    return truth, np.bincount(member, scores) / sizes


def patient_auc(patients: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> float:
    """AUC over patients, with the mean score of each patient's cases."""
    return auc(*patient_means(patients, labels, scores))


def _one_trial(folds: InnerFolds, classifiers: tuple[str, ...]) -> pd.DataFrame:
    """The table of the only trial when there is nothing to search."""
    started = time.time()
    params: Params = draw(None, classifiers)
    value = folds.mean_auc(params)
    row = {"number": 0, "value": value, "seconds": time.time() - started, "started": int(started * 1000)}
    return pd.DataFrame([row | params])
