"""Who is trained on and who is tested: nobody twice, both classes everywhere, the synthesis arm's folds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lab.data.cohort import fold_patients, split_patients
from lab.radiomics.dataset import Dataset
from lab.radiomics.splits import make_splits

FRACTIONS = (0.6, 0.2, 0.2)


def dataset(labels, scans=1):
    ids = [f"p{number:02d}" for number in range(len(labels))]
    cases = [f"{patient}-{scan}" for patient in ids for scan in range(scans)]
    table = pd.DataFrame({"patient_id": np.repeat(ids, scans), "label": np.repeat(labels, scans)}, index=cases)
    features = pd.DataFrame({"T1_a": np.arange(float(len(cases)))}, index=cases)
    return Dataset(features=features, table=table, event="enhancing", name="made", phantom=False, digest="0")


def test_every_patient_is_tested_once_a_repeat_with_all_scans():
    made = dataset([0, 1] * 12, scans=2)
    splits = make_splits(made, folds=4, repeats=3, fractions=FRACTIONS, seed=0)
    assert len(splits) == 12
    for repeat in (1, 2, 3):
        tested = [case for split in splits if split.repeat == repeat for case in split.test]
        assert sorted(tested) == list(made.table.index)
    for split in splits:
        patients = made.patients
        assert not set(patients[list(split.train)]) & set(patients[list(split.test)])
        assert made.labels[list(split.test)].mean() == 0.5
    assert splits[0].test != splits[4].test
    assert splits[5].name == "repeat 2, fold 2"


def test_the_first_repeat_has_the_folds_of_the_synthesis_arm():
    made = dataset([0, 1, 1] * 8)
    positive = made.labels.groupby(made.patients).max() == 1
    splits = make_splits(made, folds=3, repeats=2, fractions=FRACTIONS, seed=5)
    for split, parts in zip(splits, fold_patients(positive, 3, FRACTIONS, 5)):
        assert set(made.patients[list(split.test)]) == {name for name, part in parts.items() if part == "test"}
    (one,) = make_splits(made, folds=0, repeats=4, fractions=FRACTIONS, seed=5)
    parts = split_patients(positive, FRACTIONS, 5)
    assert set(made.patients[list(one.test)]) == {name for name, part in parts.items() if part == "test"}


def test_too_few_of_a_class_is_said_in_words():
    with pytest.raises(ValueError, match=r"to train on are enhancing and 2 are not, at least 3 of each"):
        make_splits(dataset([1] * 20 + [0] * 3), folds=3, repeats=1, fractions=FRACTIONS, seed=0)
    with pytest.raises(ValueError, match=r"to test on are enhancing and 0 are not, at least 1"):
        make_splits(dataset([1] * 20 + [0] * 4), folds=6, repeats=1, fractions=FRACTIONS, seed=0)


def test_a_data_set_keeps_its_tables_together():
    made = dataset([0, 1] * 3)
    with pytest.raises(ValueError, match="same cases"):
        Dataset(features=made.features.iloc[::-1], table=made.table, event="", name="", phantom=False, digest="")
    with pytest.raises(ValueError, match="0 or 1"):
        dataset([0, 2])
    assert list(made.part(["p03-0", "p01-0"]).features.index) == ["p03-0", "p01-0"]


def test_shuffled_labels_stay_with_patients_and_keep_their_number():
    made = dataset([0, 1, 1] * 10, scans=2)
    dealt = made.shuffled(1)
    assert dealt.labels.sum() == made.labels.sum()
    assert (dealt.labels.groupby(dealt.patients).nunique() == 1).all()
    assert dealt.labels.tolist() != made.labels.tolist()
    assert dealt.digest != made.digest
    assert dealt.labels.equals(made.shuffled(1).labels)
