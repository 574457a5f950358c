"""The training patients of a trial that has fewer."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from lab.experiments.plan import with_fewer


def test_fewer_training_patients_are_part_of_more_and_enhance_as_often():
    patients = [f"p{i:03d}" for i in range(40)]
    table = {"case_id": patients, "patient_id": patients, "enhancing": [i % 4 > 0 for i in range(40)]}
    split = pd.DataFrame(table).assign(split=["train"] * 32 + ["val"] * 4 + ["test"] * 4)
    parts = {count: with_fewer(split, count, 7) for count in (1, 8, 16, 32)}
    trained = [set(part.loc[part["split"] == "train", "patient_id"]) for part in parts.values()]
    assert [len(part) for part in trained] == list(parts)
    assert all(few < more for few, more in itertools.pairwise(trained))
    assert [int(part.query("split == 'train'")["enhancing"].sum()) for part in parts.values()][1:] == [6, 12, 24]
    assert all(part[part["split"] != "train"]["case_id"].tolist() == patients[32:] for part in parts.values())
    assert with_fewer(split, None, 7) is split
    assert trained[1] != set(with_fewer(split, 8, 8).query("split == 'train'")["patient_id"])
    with pytest.raises(ValueError, match=r"--train.patients 33: from 1 to 32"):
        with_fewer(split, 33, 7)
