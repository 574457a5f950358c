"""Split, balance, digest and opening of a prepared cohort."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scan_trees import brats_tree

from lab.config import DataConfig
from lab.data.cohort import FORMAT, Cohort, is_cohort, open_cohort, read_index, split_patients
from lab.data.prepare import prepare
from lab.data.prepare_worker import VERSION
from lab.io.sealed_json import seal

PAPER_SPLIT = (0.7, 0.15, 0.15)


def cohort_of(enhancing: dict[str, list[bool]]) -> Cohort:
    """A cohort without files: scans per patient."""
    rows = [
        {"case_id": f"{patient}-{number:03d}", "patient_id": patient, "enhancing": value}
        for patient, values in enhancing.items()
        for number, value in enumerate(values)
    ]
    manifest = {"digest": "d" * 32, "counts": {"used": len(rows)}, "channels": ["T1", "T1GD"], "phantom": False}
    return Cohort(Path("cohort"), pd.DataFrame(rows).set_index("case_id"), manifest)


def patients(enhancing: int, others: int) -> pd.Series:
    ids = [f"p{number:03d}" for number in range(enhancing + others)]
    return pd.Series([number < enhancing for number in range(enhancing + others)], index=ids)


def test_the_papers_298_become_208_45_45_in_equal_halves():
    truth = patients(149, 149)
    parts = pd.Series(split_patients(truth, PAPER_SPLIT, 0))
    assert parts.value_counts().to_dict() == {"train": 208, "val": 45, "test": 45}
    enhancing = parts[truth[truth].index].value_counts()
    assert enhancing["train"] in (104, 105)
    assert {enhancing["val"], enhancing["test"]} <= {22, 23}


@pytest.mark.parametrize(("enhancing", "others"), [(24, 4), (3, 3), (1, 2), (2, 1), (50, 0), (7, 30), (3, 0), (2, 4)])
@pytest.mark.parametrize("fractions", [PAPER_SPLIT, (0.5, 0.25, 0.25), (0.98, 0.01, 0.01), (0.8, 0.2, 0.0)])
def test_no_wanted_part_is_empty_and_classes_are_spread(enhancing, others, fractions):
    truth = patients(enhancing, others)
    for seed in range(5):
        parts = pd.Series(split_patients(truth, fractions, seed))
        assert sorted(parts.index) == sorted(truth.index)
        wanted = {name for name, fraction in zip(("train", "val", "test"), fractions) if fraction}
        assert set(parts) == wanted
        sizes = parts.value_counts()
        for name, fraction in zip(("train", "val", "test"), fractions):
            assert abs(sizes.get(name, 0) - fraction * len(truth)) < 3
        if min(enhancing, others) >= 3 and len(truth) >= 10 and fractions == PAPER_SPLIT:
            smaller = truth.index[truth == (enhancing < others)]
            assert set(parts[smaller]) == wanted


def test_two_patients_are_split_without_error():
    assert len(split_patients(patients(1, 1), PAPER_SPLIT, 0)) == 2
    assert split_patients(patients(0, 0), PAPER_SPLIT, 0) == {}


def test_the_split_depends_on_the_seed_alone_not_on_the_order():
    truth = patients(20, 10)
    first = split_patients(truth, PAPER_SPLIT, 0)
    assert split_patients(truth[::-1], PAPER_SPLIT, 0) == first
    assert split_patients(truth, PAPER_SPLIT, 1) != first


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.2, -0.1, -0.1), (0.7, 0.3)])
def test_wrong_fractions(fractions):
    with pytest.raises(ValueError, match="add up to 1"):
        split_patients(patients(3, 3), fractions, 0)


def test_split_is_by_patient_and_one_enhancing_scan_makes_the_patient_enhance():
    cohort = cohort_of({f"p{number}": [False, number % 2 == 0, False] for number in range(12)})
    table = cohort.split((0.5, 0.25, 0.25), 3)
    assert list(table.columns) == ["case_id", "patient_id", "enhancing", "split"]
    assert table["case_id"].is_monotonic_increasing
    assert (table.groupby("patient_id")["split"].nunique() == 1).all()
    per_patient = table.groupby("patient_id").agg({"enhancing": "any", "split": "first"})
    assert per_patient.groupby("split")["enhancing"].mean().between(0.3, 0.7).all()


def test_balanced_keeps_equal_classes_and_changes_the_digest():
    cohort = cohort_of({f"p{number}": [number < 9] for number in range(12)})
    balanced = cohort.balanced(0)
    assert balanced.index["enhancing"].value_counts().to_dict() == {True: 3, False: 3}
    assert balanced.index.index.equals(cohort.balanced(0).index.index)
    assert not balanced.index.index.equals(cohort.balanced(1).index.index)
    assert balanced.digest != cohort.digest == "d" * 32
    assert len(balanced.digest) <= 36
    with pytest.raises(ValueError, match="3 of 3 patients enhance"):
        cohort_of({"a": [True], "b": [True], "c": [True]}).balanced(0)


def test_balance_reaches_the_written_split(tmp_path):
    source = brats_tree(tmp_path / "scans", enhancing=3, others=1)
    cohort = prepare(source, tmp_path / "out", DataConfig(balance=True, spacing_mm=8.0), processes=1)
    table = pd.read_csv(tmp_path / "out" / "split.csv")
    assert table["enhancing"].value_counts().to_dict() == {True: 1, False: 1}
    assert len(cohort.index) == 4


def test_opening_what_prepare_wrote(tmp_path):
    prepared = prepare(brats_tree(tmp_path / "scans", 1, 1), tmp_path / "out", DataConfig(spacing_mm=8.0), processes=1)
    opened = open_cohort(tmp_path / "out")
    pd.testing.assert_frame_equal(opened.index, prepared.index)
    assert is_cohort(tmp_path / "out")
    assert opened.digest == prepared.digest
    assert opened.manifest["format"] == FORMAT
    assert opened.manifest["settings"]["enhancing_ml"] == 0.5
    assert not opened.phantom
    assert opened.index["enhancing"].dtype == bool
    assert np.isfinite(opened.load(opened.index.index[0])[0]).all()
    with pytest.raises(KeyError, match="nobody"):
        opened.load("nobody")
    with pytest.raises(ValueError, match="no ADC"):
        opened.channel("ADC")
    with pytest.raises(ValueError, match="prepared cohort already"):
        prepare(tmp_path / "out", tmp_path / "again", DataConfig())


def test_what_is_no_cohort_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_cohort(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        open_cohort(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    assert not is_cohort(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": FORMAT, "counts": {"used": 1}}))  # of version 0.2.0
    with pytest.raises(ValueError, match=r"prepared by another version of this program, .* run prepare again"):
        open_cohort(tmp_path)
    manifest = {"format": FORMAT, "version": VERSION, "tables": {"index.csv": "0" * 64}}
    (tmp_path / "manifest.json").write_text(json.dumps(seal(manifest)))
    with pytest.raises(ValueError, match=r"index\.csv is missing"):
        open_cohort(tmp_path)
    (tmp_path / "index.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"index\.csv was changed"):
        open_cohort(tmp_path)
    with pytest.raises(ValueError, match=r"index\.csv is damaged"):
        read_index(tmp_path / "index.csv")


def test_case_ids_that_look_like_numbers_stay_text(tmp_path):
    source = brats_tree(tmp_path / "scans", 1, 1)
    rows = ["case_id,T1,T2,FLAIR,T1GD,MASK,enhancing_label"]
    for case_id, number in (("007", 0), ("NA", 1)):
        stem = f"{source}/BraTS-GLI-{number:05d}-000/BraTS-GLI-{number:05d}-000"
        rows.append(f"{case_id},{','.join(f'{stem}-{name}.nii.gz' for name in ('t1n', 't2w', 't2f', 't1c', 'seg'))},3")
    (tmp_path / "scans.csv").write_text("\n".join(rows))
    cohort = prepare(tmp_path / "scans.csv", tmp_path / "out", DataConfig(spacing_mm=8.0), processes=1)
    assert cohort.index.index.tolist() == ["007", "NA"]
    assert cohort.load("NA")[0].shape == (4, 20, 24, 20)
