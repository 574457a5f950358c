"""The pipeline from features to one score, as scikit-learn steps that are fitted on training cases alone.

Order: stability filter, ComBat, informative features, imputation, scaling, ranking, selection, classifier. The
stability filter comes before ComBat because perturbed masks were measured on raw features.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.pipeline import Pipeline

from lab.radiomics.dataset import Dataset
from lab.radiomics.pipeline.cleaning import Informative, MedianImputer, Scaler, StabilityFilter, StabilityTables
from lab.radiomics.pipeline.combat import ComBat
from lab.radiomics.pipeline.search_space import CLASSIFIERS, Params
from lab.radiomics.pipeline.selection import BestUncorrelated, Ranked

CLIP = 0.02  # forest votes are clipped this far from 0 and 1 before the logit
CLEAN, ORDER = ("stability", "combat", "informative", "impute"), ("scale", "rank")
"""Steps that no param changes, and steps that depend on `scaler` and `ranking` alone. The others follow."""


def build_pipeline(
    params: Params,
    *,
    stability: StabilityTables | None = None,
    threshold: float = 0.75,
    combat: str = "",
    seed: int = 0,
) -> Pipeline:
    """An unfitted pipeline from the params of `lab.radiomics.pipeline.search_space.draw`.

    `stability` holds features under perturbed masks; None or empty means no filter. `threshold` is the least ICC.
    `combat` names the batch column, "" means no ComBat. Raises ValueError for an unknown classifier.
    """
    name = str(params["classifier"])
    if name not in CLASSIFIERS:
        raise ValueError(f"classifiers are {', '.join(CLASSIFIERS)}; got {name}")
    features, limit = params.get("features"), float(params.get("correlation_limit", 1.0))
    steps: list[tuple[str, Any]] = [
        ("stability", StabilityFilter(stability, threshold) if stability else "passthrough"),
        ("combat", ComBat(combat) if combat else "passthrough"),
        ("informative", Informative()),
        ("impute", MedianImputer()),
        ("scale", Scaler(str(params.get("scaler", "standard")))),
        ("rank", Ranked(str(params.get("ranking", "anova")))),
        ("select", BestUncorrelated(None if features is None else int(features), limit)),
        ("classify", CLASSIFIERS[name].build(params, seed)),
    ]
    return Pipeline(steps)


def frame(dataset: Dataset, combat: str = "") -> pd.DataFrame:
    """The features as a pipeline's input, with ComBat's batch column. Raises ValueError if that column is unknown."""
    if not combat:
        return dataset.features
    if combat not in dataset.table:
        raise ValueError(f"ComBat by {combat}: there is no such column; there are {', '.join(dataset.table)}")
    column = dataset.table[combat]
    labels = column.map(lambda value: value if isinstance(value, str) else f"{value:g}", na_action="ignore")
    return dataset.features.assign(**{combat: labels.astype("string")})


def pipeline_score(pipeline: Any, cases: pd.DataFrame) -> np.ndarray:
    """(cases,) unbounded scores, higher for label 1: the decision function, or the logit of `predict_proba`.

    `pipeline` is a fitted `Pipeline` or `lab.radiomics.pipeline.ensemble.Ensemble`.
    """
    if hasattr(pipeline, "decision_function"):
        return np.asarray(pipeline.decision_function(cases), np.float64)
    return logit(np.clip(pipeline.predict_proba(cases)[:, 1], CLIP, 1 - CLIP))
