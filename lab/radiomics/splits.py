"""Training and test sets: split by patient, stratified by label, with the same folds as the synthesis arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.data.cohort import fold_patients, split_patients
from lab.radiomics.dataset import Dataset

LEAST_TRAIN, LEAST_TEST = 3, 1
"""Least patients per class: 3 in training for inner folds and search, 1 in the test set for an AUC per split."""
SEED_STEP = 1000
"""Distance between the seeds of two repeats, because the folds of a repeat also use the seeds that follow its own."""


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


def make_splits(
    dataset: Dataset, *, folds: int, repeats: int, fractions: tuple[float, float, float], seed: int
) -> list[Split]:
    """`repeats` times `folds` splits that test every patient once per repeat, or a single split with 0 folds.

    Splits are stratified by label. With the label "enhancing", the first repeat's folds and the single split are those
    of a synthesis study with the same seed, with its `train` and `val` patients together, because the classifier is
    tuned by inner cross-validation. Raises ValueError if a training or test set has too few patients of a class.
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
                f"{split.name}: {counts[1]} patients to {what} on are {dataset.event} and {counts[0]} are not, "
                f"at least {least} of each are needed; take other --folds, or another --label or threshold "
                "(--data.enhancing-ml) that more patients of the smaller class fall under"
            )


def _counts(dataset: Dataset, cases: Sequence[str]) -> tuple[int, int]:
    """Patients with label 0 and with label 1 among the cases."""
    part = dataset.table.loc[list(cases)].drop_duplicates("patient_id")
    return int((part["label"] == 0).sum()), int((part["label"] == 1).sum())
