"""One split of a nested cross-validation: tuned and fitted on its training patients, then applied to its test patients.

Pipeline, calibration and threshold are fixed before any test case is read, including its features. Varma & Simon, BMC
Bioinformatics 2006, show the bias that arises otherwise.
"""

import time

import numpy as np
import pandas as pd

from lab.config import ClassifierConfig
from lab.radiomics.assess.importance import permutation_importance
from lab.radiomics.baselines import OURS
from lab.radiomics.dataset import Dataset
from lab.radiomics.pipeline.ensemble import Ensemble
from lab.radiomics.pipeline.inner_search import InnerFolds, SearchResult, Tuner, patient_auc, refit, search
from lab.radiomics.pipeline.split_result import SplitResult
from lab.radiomics.pipeline.steps import frame, pipeline_score
from lab.radiomics.splits import Split, predictions_table

__all__ = ["SplitResult", "Tuner", "run_split"]

SHARES = (0.4, 0.6, 0.8, 1.0)  # shares of the training patients for the learning curve
NO_CURVE = pd.DataFrame({"n": pd.Series(dtype=int), "score": pd.Series(dtype=float)})


def run_split(
    dataset: Dataset,
    split: Split,
    settings: ClassifierConfig,
    tune: Tuner,
    *,
    method: str = OURS,
    learning: bool = True,
) -> SplitResult:
    """Tune, calibrate and refit on the split's training cases, then predict its test cases.

    Raises ValueError if there are too few training patients for inner folds, and if `tune` gave no finished trial.
    """
    begun = time.perf_counter()
    seed = split_seed(settings.seed, split)
    training = dataset.part(split.train)
    found, model = fit_training(training, settings, tune, seed)
    testing = dataset.part(split.test)
    cases, labels, patients = frame(testing, settings.combat), testing.labels, testing.patients
    scores = pipeline_score(model, cases)
    probabilities = found.line.probabilities(scores)
    predictions = predictions_table(dataset, split, probabilities, method=method, threshold=found.threshold)
    chosen = permutation_importance(model, cases, labels.to_numpy(), patients.to_numpy(), seed=seed)
    curve = _learning(training, testing, settings, found, seed) if learning else NO_CURVE
    return SplitResult(
        split=split,
        method=method,
        predictions=predictions,
        averaged=found.averaged,
        trials=found.trials,
        inner_auc=found.inner_auc,
        threshold=found.threshold,
        line=found.line,
        chosen=chosen,
        learning=curve,
        seconds=time.perf_counter() - begun,
    )


def fit_training(
    training: Dataset, settings: ClassifierConfig, tune: Tuner, seed: int
) -> tuple[SearchResult, Ensemble]:
    """The result of the search in a training set, and its averaged settings refitted on all of it."""
    found = search(InnerFolds(training, settings, seed), tune)
    return found, refit(training, settings, found, seed)


def split_seed(seed: int, split: Split) -> int:
    """A seed derived from `seed` for this split."""
    return int(np.random.SeedSequence([seed, split.repeat, split.fold]).generate_state(1)[0]) % 2**31


def _learning(
    training: Dataset, testing: Dataset, settings: ClassifierConfig, found: SearchResult, seed: int
) -> pd.DataFrame:
    """Test AUC of the tuned settings, refitted on nested parts of the training patients, both classes in proportion.

    They were tuned on all training patients, which biases the AUC of the small parts upwards a little.
    """
    truth = training.labels.groupby(training.patients).max()
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(np.sort(truth.index[truth == label].to_numpy(str))) for label in (0, 1)]
    cases, labels, patients = frame(testing, settings.combat), testing.labels.to_numpy(), testing.patients.to_numpy()
    rows = []
    for share in SHARES:
        kept = np.concatenate([order[: max(2, round(share * len(order)))] for order in orders])
        part = training.part(list(training.table.index[training.patients.isin(kept)]))
        scores = pipeline_score(refit(part, settings, found, seed), cases)
        rows.append((len(kept), patient_auc(patients, labels, scores)))
    return pd.DataFrame(rows, columns=["n", "score"])
