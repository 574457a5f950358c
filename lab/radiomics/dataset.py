"""The classifier's data set: features, labels and clinical columns of the same cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

CLINICAL = ("age", "sex", "grade", "idh", "codeletion", "vendor", "field_strength_t", "tumour_ml")
"""Columns of a cohort's index that are kept beside the features."""
SHAPE = "MASK"  # prefix of shape features, in place of the sequence: `MASK_original_shape_Sphericity`


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Cases with features and a label; `features` and `table` have the same index of case ids."""

    features: pd.DataFrame  # (cases, features) float64, columns `<sequence>_<pyradiomics name>` (shape: `MASK_...`)
    table: pd.DataFrame  # `patient_id`, `label` (0 or 1) and the columns of `CLINICAL`; unknown values are NaN
    event: str  # name of label 1, as in "48 enhancing"
    name: str
    phantom: bool
    digest: str  # digest of the cohort, the feature settings and the labels
    left_out: dict[str, str] = field(default_factory=dict)  # case id -> reason for its exclusion
    perturbed: dict[str, pd.DataFrame] = field(default_factory=dict)  # mask perturbation -> features of some cases

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
        kept = {name: table[table.index.isin(cases)] for name, table in self.perturbed.items()}
        found = list(cases)
        return dataclasses.replace(self, features=self.features.loc[found], table=self.table.loc[found], perturbed=kept)

    def with_features(self, features: pd.DataFrame) -> Dataset:
        """The data set with these features of its cases; perturbed ones remain where they have the same columns."""
        own = features.columns.isin(self.features.columns).all()
        kept = {name: table[features.columns] for name, table in self.perturbed.items()} if own else {}
        return dataclasses.replace(self, features=features, perturbed=kept)

    def shuffled(self, seed: int) -> Dataset:
        """The data set with labels shuffled over patients, a negative control: any result on it is chance."""
        first = self.table.groupby("patient_id", sort=True)["label"].first()
        shuffled = pd.Series(np.random.default_rng([seed, 4]).permutation(first.to_numpy()), index=first.index)
        table = self.table.assign(label=self.table["patient_id"].map(shuffled).astype(int))
        return dataclasses.replace(self, table=table, digest=f"{self.digest}-shuffled-{seed}")
