"""Training and test sets: split by patient, stratified by label, with the same folds as the synthesis arm."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from numpy.typing import ArrayLike

from lab.data.cohort import fold_patients, split_patients
from lab.radiomics.dataset import Dataset

LEAST_TRAIN, LEAST_TEST = 3, 1  # patients per class, for inner folds and search, and for an AUC per split
SEED_STEP = 1000  # distance between the seeds of two repeats: the folds of a repeat also use the seeds after its own


@dataclass(frozen=True, kw_only=True)
class Split:
    """One training and one test set of case ids; no patient is in both."""

    repeat: int
    fold: int
    train: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def name(self) -> str:
        """Display name: "repeat 2, fold 3"."""
        return f"repeat {self.repeat}, fold {self.fold}"


def predictions_table(
    dataset: Dataset, split: Split, scores: ArrayLike, *, method: str, threshold: float
) -> pd.DataFrame:
    """Predictions of a split's test cases, with the `COLUMNS` of `lab.radiomics.assess.assess`."""
    table, patients = dataset.table.loc[list(split.test)], dataset.patients
    train, test = (patients.loc[list(cases)].nunique() for cases in (split.train, split.test))
    place = {"method": method, "repeat": split.repeat, "fold": split.fold, "case_id": list(table.index)}
    place |= {"patient_id": patients[table.index].to_numpy(), "label": table["label"].to_numpy(int)}
    return pd.DataFrame({**place, "score": scores, "threshold": threshold, "train": train, "test": test})


def make_splits(
    dataset: Dataset, *, folds: int, repeats: int, fractions: tuple[float, float, float], seed: int
) -> list[Split]:
    """`repeats` times `folds` splits that test every patient once per repeat, or a single split with 0 folds.

    Splits are stratified by label. With the label "enhancing", the first repeat's folds and the single split are those
    of a synthesis study with the same seed, its `train` and `val` patients together. Raises ValueError if a training or
    test set has too few patients of a class.
    """
    positive = dataset.labels.groupby(dataset.patients).max() == 1
    splits = []
    for repeat in range(repeats if folds else 1):
        if folds:
            parts = fold_patients(positive, folds, fractions, seed + SEED_STEP * repeat)
        else:
            parts = [split_patients(positive, fractions, seed)]
        for fold, part in enumerate(parts):
            tested = dataset.patients.map(part) == "test"
            cases = dataset.table.index
            one = Split(repeat=repeat + 1, fold=fold + 1, train=tuple(cases[~tested]), test=tuple(cases[tested]))
            _check(dataset, one)
            splits.append(one)
    return splits


def _check(dataset: Dataset, split: Split) -> None:
    for what, cases, least in (("train", split.train, LEAST_TRAIN), ("test", split.test, LEAST_TEST)):
        counts = _counts(dataset, cases)
        if min(counts) < least:
            raise ValueError(
                f"{split.name}: {counts[1]} patients to {what} on are {dataset.event} and {counts[0]} are not, at "
                f"least {least} of each are needed; take other --folds, --label or threshold (--data.enhancing-ml)"
            )


def _counts(dataset: Dataset, cases: Sequence[str]) -> tuple[int, int]:
    """Patients with label 0 and with label 1 among the cases."""
    part = dataset.table.loc[list(cases)].drop_duplicates("patient_id")
    return int((part["label"] == 0).sum()), int((part["label"] == 1).sum())
