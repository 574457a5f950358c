"""Speed of one split of our nested cross-validation against scikit-learn's randomised search.

    python bench/classifier.py [--patients 100] [--features 3362] [--trials 20] [--repeats 3]

The features are simulated; some depend on the label. Both sides search the same number of settings of the same
classifiers, scalers and selections over five inner folds with one thread. Plain: `RandomizedSearchCV` over a pipeline
of `VarianceThreshold`, scaler, `SelectKBest` and the classifier, a quarter of the trials for each of four classifiers.
Ours does more: the ICC filter on six tables of 30 cases, greedy removal of correlated features, Platt's calibration and
the threshold from out-of-fold scores, permutation importances and a learning curve. The two run alternately; figures
are medians of the elapsed time.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import numpy as np
import pandas as pd
from scipy.stats import loguniform, randint, uniform
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import RobustScaler, StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from lab.config import ClassifierConfig
from lab.experiments.radiomics.nested_run import tune
from lab.radiomics.dataset import Dataset
from lab.radiomics.features.masks import PERTURBATIONS
from lab.radiomics.pipeline.nested import run_split
from lab.radiomics.splits import Split

CLASSIFIERS = {
    "elastic_net": (
        LogisticRegression(penalty="elasticnet", solver="saga", class_weight="balanced", tol=1e-3, max_iter=2000),
        {"C": loguniform(0.03, 10), "l1_ratio": uniform(0, 1)},
    ),
    "random_forest": (
        RandomForestClassifier(n_estimators=100, class_weight="balanced"),
        {"max_depth": randint(2, 7), "min_samples_leaf": randint(1, 11), "max_features": uniform(0.1, 0.5)},
    ),
    "gradient_boosting": (
        GradientBoostingClassifier(),
        {"n_estimators": randint(20, 81), "learning_rate": loguniform(0.02, 0.2), "max_depth": randint(1, 3)},
    ),
    "svm": (SVC(class_weight="balanced"), {"C": loguniform(1e-3, 10), "kernel": ["linear", "rbf"]}),
}


def made(patients: int, features: int) -> Dataset:
    rng = np.random.default_rng(0)
    labels = np.arange(patients) % 2
    names = [f"p{number:04d}" for number in range(patients)]
    values = rng.standard_normal((patients, features))
    values += 0.9 * values[:, rng.integers(0, features, features)]  # textures are correlated with one another
    values[:, :20] += 0.6 * labels[:, None]
    table = pd.DataFrame(values, index=names, columns=[f"T1_original_glcm_F{n}" for n in range(features)])
    changed = table.iloc[: min(30, patients)]
    noise = {name: changed + 0.3 * rng.standard_normal(changed.shape) for name in PERTURBATIONS}
    known = pd.DataFrame({"patient_id": names, "label": labels}, index=names)
    return Dataset(
        features=table,
        table=known,
        event="ill",
        name="made",
        phantom=True,
        digest="",
        perturbed={**noise, "none": changed},
    )


def plain(dataset: Dataset, split: Split, trials: int) -> float:
    train, test = list(split.train), list(split.test)
    best = None
    for name, (classifier, space) in CLASSIFIERS.items():
        steps = [("constant", VarianceThreshold()), ("scale", StandardScaler()), ("select", SelectKBest())]
        spaces = {f"{name}__{key}": values for key, values in space.items()}
        spaces |= {"select__k": randint(2, 65), "scale": [StandardScaler(), RobustScaler()]}
        search = RandomizedSearchCV(
            Pipeline([*steps, (name, classifier)]),
            spaces,
            n_iter=max(1, trials // len(CLASSIFIERS)),
            scoring="roc_auc",
            cv=StratifiedKFold(5, shuffle=True, random_state=0),
            random_state=0,
        ).fit(dataset.features.loc[train], dataset.labels[train])
        best = search if best is None or search.best_score_ > best.best_score_ else best
    assert best is not None
    return float(best.score(dataset.features.loc[test], dataset.labels[test]))


def ours(dataset: Dataset, split: Split, trials: int) -> float:
    return run_split(dataset, split, ClassifierConfig(trials=trials), tune).test_auc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=100)
    parser.add_argument("--features", type=int, default=3362)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    dataset = made(options.patients, options.features)
    names = list(dataset.table.index)
    split = Split(repeat=1, fold=1, train=tuple(names[: 4 * len(names) // 5]), test=tuple(names[4 * len(names) // 5 :]))
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    found = {}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FutureWarning)
        for _ in range(options.repeats + 1):  # the first round is a warm-up
            for name, way in (("plain", plain), ("ours", ours)):
                started = time.perf_counter()
                found[name] = way(dataset, split, options.trials)
                seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    print(f"{options.patients} patients, {options.features} features, {options.trials} trials x 5 inner folds")
    for name, value in median.items():
        print(f"  {name:<6} {value:6.2f} s a split, AUC of its test patients {found[name]:.2f}")
    print(f"  ratio  {median['plain'] / median['ours']:6.2f}")


if __name__ == "__main__":
    main()
