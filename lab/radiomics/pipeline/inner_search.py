"""The search inside a training set: inner cross-validation, tuning, calibration, average and choice of the threshold.

It uses no test case. Steps that do not depend on a trial's params are fitted once per inner fold, which makes trials
cheap; the results equal those of whole pipelines.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline

from lab.config import ClassifierConfig
from lab.radiomics.dataset import Dataset
from lab.radiomics.pipeline.ensemble import AS_IT_IS, Ensemble, fit_ensemble, mean_logits
from lab.radiomics.pipeline.search_space import Params, draw, replay, searched
from lab.radiomics.pipeline.steps import CLEAN, ORDER, build_pipeline, frame, pipeline_score
from lab.stats.auc import auc
from lab.stats.decision_curve import youden_threshold
from lab.stats.platt import Line, platt

Tuner = Callable[[Callable[[Any], float], int, int], pd.DataFrame]
"""(objective, trials, seed) -> table of trials: number, value, seconds, started (unix ms) and one column per param."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """Result of a search in its training cases."""

    averaged: tuple[Params, ...]  # the settings whose calibrated logits are averaged, the best first
    trials: pd.DataFrame
    inner_auc: float  # mean AUC of the average over the inner folds; of the best of many, so biased upwards
    lines: tuple[Line, ...]  # score of each of the averaged settings -> its logit
    line: Line  # mean logit -> calibrated logit
    threshold: float  # Youden's threshold of the calibrated probability, on inner out-of-fold predictions
    out_of_fold: pd.DataFrame  # patient_id and label: a row per held-out case and repeat
    scores: np.ndarray  # (rows of `out_of_fold`, settings), uncalibrated; of several settings without their centre

    @property
    def params(self) -> Params:
        """The best settings."""
        return self.averaged[0]


class HeldOut(NamedTuple):
    """Scores of a fold's held-out cases."""

    positions: np.ndarray
    scores: np.ndarray
    centre: float  # mean score of the cases that the pipeline was fitted to


@dataclass
class InnerFolds:
    """Stratified folds of a training set's patients, with a cache of fitted steps."""

    training: Dataset
    settings: ClassifierConfig
    seed: int
    repeats: int = 1
    _kept: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)
    _scored: dict[tuple[Any, ...], list[HeldOut]] = field(default_factory=dict, repr=False)

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

    def held_out(self, params: Params) -> list[HeldOut]:
        """For each fold, the scores of its held-out cases by a pipeline fitted on the others."""
        key = tuple(sorted(params.items()))
        if key not in self._scored:
            self._scored[key] = self._held_out(params)
        return self._scored[key]

    def _held_out(self, params: Params) -> list[HeldOut]:
        found = []
        for number, (_, held) in enumerate(self.parts):
            whole = unfitted(self.training, self.settings, params, self.seed)
            train, valid, labels = self._ordered(number, params, whole)
            last = whole[len(CLEAN) + len(ORDER) :]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # a trial that does not converge scores poorly
                last.fit(train, labels)
            scores = pipeline_score(last, valid)
            found.append(HeldOut(held, scores, float(pipeline_score(last, train).mean())))
        return found

    def mean_auc(self, params: Params) -> float:
        """Mean over the folds of the AUC of held-out patients."""
        scored = self.held_out(params)
        return float(np.mean([patient_auc(self.patients[h], self.labels[h], values) for h, values, _ in scored]))

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


def refit(
    training: Dataset, settings: ClassifierConfig, found: SearchResult, seed: int, *, rows: np.ndarray | None = None
) -> Ensemble:
    """The averaged settings of a search, fitted on training cases; `rows` are their positions, by default all."""
    rows = np.arange(len(training.table)) if rows is None else rows
    pipelines = [unfitted(training, settings, params, seed) for params in found.averaged]
    cases, labels = frame(training, settings.combat).iloc[rows], training.labels.to_numpy()[rows]
    return fit_ensemble(pipelines, found.lines, cases, labels)


def search(folds: InnerFolds, tune: Tuner) -> SearchResult:
    """Tune on the inner folds, calibrate and average the best settings, and choose the threshold of the average.

    Raises ValueError if all trials fail.
    """
    settings = folds.settings

    def objective(trial: Any) -> float:
        return folds.mean_auc(draw(trial, settings.classifiers))

    if searched(settings.classifiers):
        trials = tune(objective, settings.trials, folds.seed)
    else:
        trials = _one_trial(folds, settings.classifiers)
    averaged = best_settings(trials, settings.classifiers, settings.average)
    scored = [folds.held_out(params) for params in averaged]
    held = [one.positions for one in scored[0]]
    labels, patients = (values[np.concatenate(held)] for values in (folds.labels, folds.patients))
    out_of_fold = pd.DataFrame({"patient_id": patients, "label": labels})
    several = len(averaged) > 1  # a single pipeline has no centre: its score is calibrated as it is
    scores = np.stack([np.concatenate([fold.scores - several * fold.centre for fold in one]) for one in scored], axis=1)
    lines, line = calibrate(out_of_fold, scores)
    logits = mean_logits(lines, scores.T)
    ends = np.cumsum([len(positions) for positions in held])
    starts = ends - [len(positions) for positions in held]
    areas = [patient_auc(patients[a:b], labels[a:b], logits[a:b]) for a, b in zip(starts, ends)]
    return SearchResult(
        averaged=tuple(averaged),
        trials=trials,
        inner_auc=float(np.mean(areas)),
        lines=lines,
        line=line,
        threshold=youden_threshold(*patient_means(patients, labels, line.probabilities(logits))),
        out_of_fold=out_of_fold,
        scores=scores,
    )


def calibrate(out_of_fold: pd.DataFrame, scores: np.ndarray) -> tuple[tuple[Line, ...], Line]:
    """Line of each of the averaged settings, and that of their mean logit, from `SearchResult`'s fields of that name.

    A single setting is calibrated once. Platt scaling, with equal weight for every patient.
    """
    labels = out_of_fold["label"].to_numpy()
    weights = 1 / out_of_fold.groupby("patient_id")["label"].transform("size").to_numpy()
    lines = (AS_IT_IS,) if scores.shape[1] == 1 else tuple(platt(labels, values, weights) for values in scores.T)
    return lines, platt(labels, mean_logits(lines, scores.T), weights)


def best_settings(trials: pd.DataFrame, classifiers: tuple[str, ...], count: int) -> list[Params]:
    """The `count` settings of the highest values, or all if there are fewer; the first of equals, none of them twice.

    Raises ValueError if no trial has a value.
    """
    finished = trials[pd.to_numeric(trials["value"]).notna()]
    if finished.empty:
        raise ValueError(f"none of {len(trials)} trials gave a figure")
    rows = finished.sort_values(["value", "number"], ascending=[False, True], kind="stable").to_dict("records")
    found: list[Params] = []
    for row in rows:
        params = replay({str(name): value for name, value in row.items() if pd.notna(value)}, classifiers)
        if params not in found:
            found.append(params)
        if len(found) == count:
            break
    return found


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
