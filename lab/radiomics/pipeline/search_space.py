"""What is searched for a classifier: the classifiers, and which values each of their settings may take.

The trial that values are drawn from is Optuna's, or anything with the same three methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

Params = dict[str, bool | int | float | str]


class Trial(Protocol):
    """What draws values, as Optuna's trial does."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in [low, high]."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number in [low, high]."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """One of the choices."""


def _elastic_net(trial: Trial) -> Params:
    return {
        # below 0.03 the L1 part leaves no feature at all in a hundred patients
        "net_c": trial.suggest_float("net_c", 0.03, 10.0, log=True),
        "net_l1": trial.suggest_float("net_l1", 0.0, 1.0),
    }


def _random_forest(trial: Trial) -> Params:
    return {
        "forest_depth": trial.suggest_int("forest_depth", 2, 6),
        "forest_leaf": trial.suggest_int("forest_leaf", 1, 10),
        "forest_share": trial.suggest_float("forest_share", 0.1, 0.6),
    }


def _gradient_boosting(trial: Trial) -> Params:
    return {
        "boosting_stages": trial.suggest_int("boosting_stages", 20, 80),
        "boosting_rate": trial.suggest_float("boosting_rate", 0.02, 0.2, log=True),
        "boosting_depth": trial.suggest_int("boosting_depth", 1, 2),
        "boosting_share": trial.suggest_float("boosting_share", 0.5, 1.0),
    }


def _svm(trial: Trial) -> Params:
    return {
        "svm_kernel": trial.suggest_categorical("svm_kernel", ["linear", "rbf"]),
        "svm_c": trial.suggest_float("svm_c", 1e-3, 10.0, log=True),
    }


def _nothing(trial: Trial) -> Params:
    return {}


DRAWS: dict[str, Callable[[Trial], Params]] = {
    "elastic_net": _elastic_net,
    "random_forest": _random_forest,
    "gradient_boosting": _gradient_boosting,
    "svm": _svm,
    "logistic": _nothing,
}
"""Settings of each classifier."""

TREES = 100
CLASSIFIERS: dict[str, Callable[[Params, int], Any]] = {
    "elastic_net": lambda p, seed: LogisticRegression(
        penalty="elasticnet",
        solver="saga",
        C=float(p["net_c"]),
        l1_ratio=float(p["net_l1"]),
        class_weight="balanced",
        tol=1e-3,
        max_iter=2000,
        random_state=seed,
    ),
    "random_forest": lambda p, seed: RandomForestClassifier(
        n_estimators=int(p.get("forest_trees", TREES)),
        max_depth=int(p["forest_depth"]),
        min_samples_leaf=int(p["forest_leaf"]),
        max_features=float(p["forest_share"]),
        class_weight="balanced",
        random_state=seed,
    ),
    # knows no class weights; the calibration afterwards takes care of the prevalence
    "gradient_boosting": lambda p, seed: GradientBoostingClassifier(
        n_estimators=int(p["boosting_stages"]),
        learning_rate=float(p["boosting_rate"]),
        max_depth=int(p["boosting_depth"]),
        subsample=float(p["boosting_share"]),
        random_state=seed,
    ),
    "svm": lambda p, seed: SVC(
        C=float(p["svm_c"]), kernel=str(p["svm_kernel"]), class_weight="balanced", random_state=seed
    ),
    # for one or two columns: a ridge so weak that only separable classes feel it
    "logistic": lambda p, seed: LogisticRegression(C=100.0, class_weight="balanced", max_iter=1000),
}
"""(params, seed) -> an unfitted classifier."""

UNSEARCHED = ("logistic",)
"""Without settings: the other steps are fixed too, and every column is used."""


def draw(trial: Trial, classifiers: Sequence[str]) -> Params:
    """Settings of a pipeline, drawn from a trial: keys of `lab.radiomics.pipeline.steps.build`.

    Raises ValueError for a classifier that is not in `CLASSIFIERS`, or none.
    """
    unknown = [name for name in classifiers if name not in CLASSIFIERS]
    if unknown or not classifiers:
        raise ValueError(f"classifiers are {', '.join(CLASSIFIERS)}; got {', '.join(unknown) or 'none'}")
    one = classifiers[0] if len(classifiers) == 1 else trial.suggest_categorical("classifier", list(classifiers))
    if one in UNSEARCHED:
        return {"classifier": one}
    common: Params = {
        "classifier": one,
        "scaler": trial.suggest_categorical("scaler", ["standard", "robust"]),
        "ranking": trial.suggest_categorical("ranking", ["anova", "auc"]),
        "correlation_limit": trial.suggest_float("correlation_limit", 0.6, 0.95),
        "features": trial.suggest_int("features", 2, 64, log=True),
    }
    return common | DRAWS[one](trial)


class _Replay:
    """A trial whose values are known; kinds are those of the space, which a table loses where a cell is empty."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self.values[name])

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self.values[name])

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        return str(self.values[name])


def replay(values: Mapping[str, Any], classifiers: Sequence[str]) -> Params:
    """The params of a row of a table of trials. Raises ValueError where the table lacks one."""
    try:
        return draw(_Replay(values), classifiers)
    except KeyError as error:
        raise ValueError(f"the table of trials has no column {error}; it has {', '.join(map(str, values))}") from None
