"""What a classifier must beat to be worth its trouble: tumour volume, age and sex, one sequence alone.

All go through the same splits and the same `run_split`. The sequences are given without the features of the tumour's
shape, which come from the mask and would let volume in by the back door. Age and sex are what is known before a biopsy;
grade and mutations are not, so they are not among the clinical columns.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pandas as pd

from lab.radiomics.dataset import Dataset
from lab.radiomics.features.case_features import SHAPE
from lab.radiomics.method_names import CLINICAL, VOLUME, one_sequence

PLAIN: dict[str, Any] = {"classifiers": ("logistic",), "stability": 0.0, "combat": ""}
"""Settings for one or two columns: nothing to search, to filter or to harmonise."""
SEXES = {"m": 0.0, "male": 0.0, "f": 1.0, "female": 1.0}
_SEQUENCE = re.compile(r"^(.+?)_(?:original|log-sigma|wavelet|square|exponential|gradient|logarithm|lbp)")


def rival_datasets(dataset: Dataset) -> dict[str, tuple[Dataset, dict[str, Any]]]:
    """Method -> its data set and the settings that differ (for `dataclasses.replace`).

    What cannot be had from this data set is not among them; `rivals_left_out` says why.
    """
    found: dict[str, tuple[Dataset, dict[str, Any]]] = {}
    for method, columns in ((VOLUME, _volume(dataset)), (CLINICAL, _clinical(dataset))):
        if not columns.empty:
            found[method] = dataclasses.replace(dataset, features=columns, perturbed={}), dict(PLAIN)
    names = sequences(dataset)
    for sequence in names if len(names) > 1 else ():
        own = [name for name in dataset.features if _sequence(name) == sequence]
        found[one_sequence(sequence)] = dataset.with_features(own), {}
    return found


def rivals_left_out(dataset: Dataset) -> dict[str, str]:
    """Method -> why it is not among the rivals."""
    reasons = {}
    if _volume(dataset).empty:
        reasons[VOLUME] = "no tumour volume is known, or all are the same"
    if _clinical(dataset).empty:
        reasons[CLINICAL] = "neither age nor sex is known of most patients, or all are the same"
    names = sequences(dataset)
    if len(names) == 1:
        reasons[one_sequence(names[0])] = "there is no other sequence"
    return reasons


def sequences(dataset: Dataset) -> list[str]:
    """The sequences that features are of, in their order; the mask's shape is none."""
    return [name for name in dict.fromkeys(map(_sequence, dataset.features)) if name not in ("", SHAPE)]


def _sequence(feature: str) -> str:
    """What a feature is of; "" where its name does not say."""
    match = _SEQUENCE.match(feature)
    return match.group(1) if match else ""


def _volume(dataset: Dataset) -> pd.DataFrame:
    """Logarithm of the tumour's millilitres: volumes spread over orders of magnitude."""
    ml = pd.to_numeric(dataset.table["tumour_ml"]).astype(float)
    return _usable(pd.DataFrame({"log_tumour_ml": np.log(ml.where(ml > 0))}))


def _clinical(dataset: Dataset) -> pd.DataFrame:
    """Age in years and sex (1 female); either alone where the other is not known."""
    sex = dataset.table["sex"].map(lambda value: SEXES.get(str(value).lower(), np.nan), na_action="ignore")
    age = pd.to_numeric(dataset.table["age"])
    return _usable(pd.DataFrame({"age": age, "sex": sex}).astype(float))


def _usable(columns: pd.DataFrame) -> pd.DataFrame:
    """Columns that are known of most cases and differ between them."""
    return columns[[name for name in columns if columns[name].notna().mean() > 0.6 and columns[name].nunique() > 1]]
