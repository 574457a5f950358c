"""Names of the methods, and the baselines of the classifier: tumour volume, age and sex, single sequences, shape.

Single sequences come without shape features, which come from the mask and would add tumour volume. The clinical
baseline uses only what is known before a biopsy, so no grade and no mutations.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lab.radiomics.dataset import SHAPE, Dataset

OURS = "radiomics"
WORC = "WORC"
VOLUME = "tumour volume"
CLINICAL = "clinical (age, sex)"
MASK_SHAPE = "shape of the mask"
BOOSTING = "voxelwise boosting"
SYNTHETIC = "synthetic enhancement"
STATED = "stated probability"
REMARKS = {
    MASK_SHAPE: (
        "the shape features of the mask alone, no scan; where experts drew the masks with the contrast scan in view, "
        "the outline may give the answer away, to this baseline as to all features that are measured in the mask"
    ),
    BOOSTING: (
        "whether single voxels of the tumour enhance, learned from those of the training patients; the score is the "
        "probability that the least enhancing volume reaches"
    ),
}
"""What a reader should know of a method."""

SEXES = {"m": 0.0, "male": 0.0, "f": 1.0, "female": 1.0}
_SHAPE = re.compile(r"(?:^|_)(?:shape(?:2D)?|sf)_")  # pyradiomics' names, and PREDICT's
_SEQUENCE = re.compile(r"^(.+?)_(?:original|log-sigma|wavelet|square|exponential|gradient|logarithm|lbp)")


@dataclass(frozen=True, kw_only=True)
class FeatureBaseline:
    """One baseline, or several of a kind; `features` gives those of each method, or why the data set has none."""

    features: Callable[[Dataset], dict[str, pd.DataFrame | str]]
    settings: dict[str, Any] = field(default_factory=dict)  # fields of `ClassifierConfig` that differ


def one_sequence(sequence: str) -> str:
    """Name of the baseline with the features of one sequence: "T1 only"."""
    return f"{sequence} only"


def synthetic(network: str) -> str:
    """Name of the baseline by enhancing ml of predicted images: "synthetic enhancement (model 1, L1_brain)"."""
    return f"{SYNTHETIC} ({network})"


def stated(network: str) -> str:
    """Name of the baseline by a network's probability that the patient enhances: "stated probability (L1_brain)"."""
    return f"{STATED} ({network})"


def with_drawn(title: str) -> str:
    """Name of our classifier with the features of a network's maps: "radiomics + drawn image"."""
    return f"{OURS} + {title}"


def baseline_datasets(dataset: Dataset) -> dict[str, tuple[Dataset, dict[str, Any]]]:
    """Method -> its data set and differing settings, for all of `BASELINES` that the data set allows."""
    found = {}
    for spec in BASELINES.values():
        for method, columns in spec.features(dataset).items():
            if not isinstance(columns, str):
                found[method] = dataset.with_features(columns), dict(spec.settings)
    return found


def baselines_left_out(dataset: Dataset) -> dict[str, str]:
    """Method -> the reason why the data set does not allow this baseline."""
    found = [item for spec in BASELINES.values() for item in spec.features(dataset).items()]
    return {method: reason for method, reason in found if isinstance(reason, str)}


def sequences(dataset: Dataset) -> list[str]:
    """Names of the sequences that have features, in column order; the mask's shape does not count."""
    return [name for name in dict.fromkeys(map(_sequence, dataset.features)) if name not in ("", SHAPE)]


def _sequence(feature: str) -> str:
    """The sequence of a feature; "" if the name has none."""
    match = _SEQUENCE.match(feature)
    return match.group(1) if match else ""


def _volume(dataset: Dataset) -> dict[str, pd.DataFrame | str]:
    """Logarithm of the tumour volume in ml: volumes spread over orders of magnitude."""
    ml = pd.to_numeric(dataset.table["tumour_ml"]).astype(float)
    found = _usable(pd.DataFrame({"log_tumour_ml": np.log(ml.where(ml > 0))}))
    return {VOLUME: "no tumour volume is known, or all are the same" if found.empty else found}


def _clinical(dataset: Dataset) -> dict[str, pd.DataFrame | str]:
    """Age in years and sex (1 is female); one of them alone if the other is unknown."""
    sex = dataset.table["sex"].map(lambda value: SEXES.get(str(value).lower(), np.nan), na_action="ignore")
    found = _usable(pd.DataFrame({"age": pd.to_numeric(dataset.table["age"]), "sex": sex}).astype(float))
    return {CLINICAL: "neither age nor sex is known of most patients, or all are the same" if found.empty else found}


def _sequences(dataset: Dataset) -> dict[str, pd.DataFrame | str]:
    """The features of each sequence alone, if there are several sequences."""
    names, of = sequences(dataset), dataset.features.columns.map(_sequence)
    if len(names) == 1:
        return {one_sequence(names[0]): "there is no other sequence"}
    return {one_sequence(name): dataset.features.loc[:, of == name] for name in names}


def _mask_shape(dataset: Dataset) -> dict[str, pd.DataFrame | str]:
    """The shape features of the mask."""
    found = _usable(dataset.features[[name for name in dataset.features if _SHAPE.search(name)]])
    return {MASK_SHAPE: "no shape feature is known, or all are the same" if found.empty else found}


def _usable(columns: pd.DataFrame) -> pd.DataFrame:
    """Columns known in more than 60 % of the cases, with more than one value."""
    return columns[[name for name in columns if columns[name].notna().mean() > 0.6 and columns[name].nunique() > 1]]


FEW_COLUMNS: dict[str, Any] = {"classifiers": ("logistic",), "stability": 0.0, "combat": ""}  # no search, no filters
BASELINES: dict[str, FeatureBaseline] = {
    "volume": FeatureBaseline(features=_volume, settings=FEW_COLUMNS),
    "clinical": FeatureBaseline(features=_clinical, settings=FEW_COLUMNS),
    "sequence": FeatureBaseline(features=_sequences),
    "shape": FeatureBaseline(features=_mask_shape, settings={"stability": 0.0}),  # last: results are kept by position
}
