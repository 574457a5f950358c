"""The search space: the classifiers, and the values that their settings may take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

Params = dict[str, bool | int | float | str]
Range = tuple[float, float] | list[str]  # bounds of an integer or a float, or a list of choices

TREES = 100
LOGARITHMIC = ("features", "net_c", "boosting_rate", "svm_c")  # settings drawn on a logarithmic scale
COMMON: dict[str, Range] = {  # settings of every searched pipeline
    "scaler": ["standard", "robust"],
    "ranking": ["anova", "auc"],
    "correlation_limit": (0.6, 0.95),
    "features": (2, 64),
}


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec:
    """A classifier and its search space."""

    build: Callable[[Params, int], Any]  # (params, seed) -> the unfitted classifier
    space: dict[str, Range] = field(default_factory=dict)
    searched: bool = True  # if False, the other steps are fixed too, and the classifier gets every column


CLASSIFIERS: dict[str, ClassifierSpec] = {
    "elastic_net": ClassifierSpec(
        # below 0.03 the L1 penalty drops every feature with a hundred patients
        space={"net_c": (0.03, 10.0), "net_l1": (0.0, 1.0)},
        build=lambda p, seed: LogisticRegression(
            penalty="elasticnet",
            solver="saga",
            C=float(p["net_c"]),
            l1_ratio=float(p["net_l1"]),
            class_weight="balanced",
            tol=1e-3,
            max_iter=2000,
            random_state=seed,
        ),
    ),
    "random_forest": ClassifierSpec(
        space={"forest_depth": (2, 6), "forest_leaf": (1, 10), "forest_share": (0.1, 0.6)},
        build=lambda p, seed: RandomForestClassifier(
            n_estimators=int(p.get("forest_trees", TREES)),
            max_depth=int(p["forest_depth"]),
            min_samples_leaf=int(p["forest_leaf"]),
            max_features=float(p["forest_share"]),
            class_weight="balanced",
            random_state=seed,
        ),
    ),
    "gradient_boosting": ClassifierSpec(
        space={
            "boosting_stages": (20, 80),
            "boosting_rate": (0.02, 0.2),
            "boosting_depth": (1, 2),
            "boosting_share": (0.5, 1.0),
        },
        # has no class weights; calibration corrects for the prevalence
        build=lambda p, seed: GradientBoostingClassifier(
            n_estimators=int(p["boosting_stages"]),
            learning_rate=float(p["boosting_rate"]),
            max_depth=int(p["boosting_depth"]),
            subsample=float(p["boosting_share"]),
            random_state=seed,
        ),
    ),
    "svm": ClassifierSpec(
        space={"svm_kernel": ["linear", "rbf"], "svm_c": (1e-3, 10.0)},
        build=lambda p, seed: SVC(
            C=float(p["svm_c"]), kernel=str(p["svm_kernel"]), class_weight="balanced", random_state=seed
        ),
    ),
    "logistic": ClassifierSpec(
        searched=False,
        # for one or two columns: the weak ridge matters only for separable classes
        build=lambda p, seed: LogisticRegression(C=100.0, class_weight="balanced", max_iter=1000),
    ),
}


def searched(classifiers: Sequence[str]) -> bool:
    """Whether there are settings to search for."""
    return len(classifiers) != 1 or classifiers[0] not in CLASSIFIERS or CLASSIFIERS[classifiers[0]].searched


def draw(trial: Any, classifiers: Sequence[str]) -> Params:
    """Params of a pipeline (`steps.build_pipeline`) from a trial. Raises ValueError for unknown classifiers."""
    return _params(partial(_suggest, trial), classifiers)


def replay(values: Mapping[str, Any], classifiers: Sequence[str]) -> Params:
    """The params of a row of a table of trials. Raises ValueError if the table lacks one."""
    try:
        return _params(partial(_known, values), classifiers)
    except KeyError as error:
        raise ValueError(f"the table of trials has no column {error}; it has {', '.join(map(str, values))}") from None


def _params(value: Callable[[str, Range], Any], classifiers: Sequence[str]) -> Params:
    unknown = [name for name in classifiers if name not in CLASSIFIERS]
    if unknown or not classifiers:
        raise ValueError(f"classifiers are {', '.join(CLASSIFIERS)}; got {', '.join(unknown) or 'none'}")
    one = classifiers[0] if len(classifiers) == 1 else value("classifier", list(classifiers))
    if not CLASSIFIERS[one].searched:
        return {"classifier": one}
    space = COMMON | CLASSIFIERS[one].space
    return {"classifier": one, **{name: value(name, space[name]) for name in space}}


def _suggest(trial: Any, name: str, values: Range) -> Any:
    if isinstance(values, list):
        return trial.suggest_categorical(name, values)
    suggest = trial.suggest_int if isinstance(values[0], int) else trial.suggest_float
    return suggest(name, *values, log=name in LOGARITHMIC)


def _known(row: Mapping[str, Any], name: str, values: Range) -> Any:
    """A value converted to its type, which a table loses if the column has empty cells."""
    kind = str if isinstance(values, list) else type(values[0])
    return kind(row[name])
