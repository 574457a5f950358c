"""The classifier's data set: features, labels and clinical columns of the same cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

CLINICAL = ("age", "sex", "grade", "idh", "codeletion", "vendor", "field_strength_t", "tumour_ml")
"""Columns of a cohort's index that are kept beside the features."""
SHAPE = "MASK"  # prefix of shape features, in place of the sequence: `MASK_original_shape_Sphericity`


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Cases with features and a label; `features` and `table` have the same index of case ids."""

    features: pd.DataFrame
    """(cases, features) float64, columns `<sequence>_<pyradiomics name>`, shape as `MASK_original_shape_...`."""
    table: pd.DataFrame  # `patient_id`, `label` (0 or 1) and the columns of `CLINICAL`; unknown values are NaN
    event: str  # name of label 1, as in "48 enhancing"
    name: str
    phantom: bool
    digest: str  # digest of the cohort, the feature settings and the labels
    left_out: dict[str, str] = field(default_factory=dict)  # case id -> reason for its exclusion
    perturbed: dict[str, pd.DataFrame] = field(default_factory=dict)
    """Mask perturbation -> features of some cases under it; empty without a stability filter."""

    def __post_init__(self) -> None:
        if list(self.features.index) != list(self.table.index):
            raise ValueError("features and labels must be of the same cases, in the same order")
        if not self.table["label"].isin((0, 1)).all():
            raise ValueError("labels must be 0 or 1")

    @property
    def labels(self) -> pd.Series:
        """0 or 1 by case id."""
        return self.table["label"].astype(int)

    @property
    def patients(self) -> pd.Series:
        """Patient id by case id."""
        return self.table["patient_id"].astype(str)

    def part(self, cases: Sequence[str]) -> Dataset:
        """The data set of these cases only, in this order; perturbed features are cut to the same cases."""
        kept = {
            name: table.loc[[case for case in table.index if case in set(cases)]]
            for name, table in self.perturbed.items()
        }
        found = list(cases)
        return dataclasses.replace(self, features=self.features.loc[found], table=self.table.loc[found], perturbed=kept)

    def with_features(self, columns: Iterable[str]) -> Dataset:
        """The data set with some of its features only."""
        names = list(columns)
        kept = {name: table[names] for name, table in self.perturbed.items()}
        return dataclasses.replace(self, features=self.features[names], perturbed=kept)

    def with_new_features(self, features: pd.DataFrame) -> Dataset:
        """The data set with other features of the same cases, without perturbed ones."""
        return dataclasses.replace(self, features=features, perturbed={})

    def shuffled(self, seed: int) -> Dataset:
        """The data set with labels shuffled over patients, a negative control: any result on it is chance.

        Every case of a patient gets the label drawn for the patient.
        """
        first = self.table.groupby("patient_id", sort=True)["label"].first()
        drawn = pd.Series(np.random.default_rng([seed, 4]).permutation(first.to_numpy()), index=first.index)
        table = self.table.assign(label=self.table["patient_id"].map(drawn).astype(int))
        return dataclasses.replace(self, table=table, digest=f"{self.digest}-shuffled-{seed}")
