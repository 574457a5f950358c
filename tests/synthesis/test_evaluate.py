"""The per-patient table and its means."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from lab.data.batches import Batch, CaseStore
from lab.data.cohort import BRAIN, TUMOUR, Cohort
from lab.synthesis.evaluate import evaluate, means
from lab.synthesis.metrics import METRICS, score

PERFECT = {"mae": 0.0, "mse": 0.0, "ssim": 1.0}


@pytest.fixture
def store(tiny_cohort: Cohort) -> CaseStore:
    return CaseStore(tiny_cohort, tiny_cohort.index.index[:4], inputs=("T1", "T2"), target="T1GD")


def truth(batch: Batch) -> Tensor:
    return batch.target


def copy(batch: Batch) -> Tensor:
    return batch.inputs[:, :1]


def without(monkeypatch: pytest.MonkeyPatch, case: str, flag: int) -> None:
    """From now on a case has no voxel of a region."""
    load = Cohort.load

    def emptied(cohort: Cohort, case_id: str) -> tuple[np.ndarray, np.ndarray]:
        image, mask = load(cohort, case_id)
        return image, mask & np.uint8(255 - flag) if case_id == case else mask

    monkeypatch.setattr(Cohort, "load", emptied)


def test_the_truth_scores_perfectly(store):
    table = evaluate(truth, store)
    for name in METRICS:
        assert table[name].tolist() == pytest.approx([PERFECT[name.split("_")[0]]] * 4, abs=1e-6)


def test_a_row_says_who_the_patient_is(store, tiny_cohort):
    table = evaluate(copy, store)
    assert list(table.columns) == [
        "case_id",
        "patient_id",
        "enhancing",
        *score(
            *[torch.zeros(1, 1, 11, 11, 11)] * 2,
            {"brain": torch.ones(1, 1, 11, 11, 11).bool(), "tumour": torch.ones(1, 1, 11, 11, 11).bool()},
        ),
    ]
    assert set(table.columns[3:]) == set(METRICS)
    assert table["case_id"].tolist() == list(store.case_ids)
    assert table["enhancing"].tolist() == tiny_cohort.index.loc[list(store.case_ids), "enhancing"].astype(int).tolist()
    assert set(table["enhancing"]) == {0, 1}
    assert table["patient_id"].tolist() == tiny_cohort.index.loc[list(store.case_ids), "patient_id"].tolist()


def test_the_figures_are_the_metrics_of_each_case(store):
    table = evaluate(copy, store)
    for index in range(4):
        batch = store.batch([index])
        for name, metric in METRICS.items():
            expected = metric(copy(batch), batch.target, batch.masks).item()
            assert table[name][index] == pytest.approx(expected, rel=1e-5), name
    assert table["mae_brain"].nunique() == 4


@pytest.mark.parametrize(("flag", "region"), [(TUMOUR, "tumour"), (BRAIN, "brain")])
def test_a_region_that_a_case_does_not_have_is_an_empty_cell(tiny_cohort, monkeypatch, tmp_path: Path, flag, region):
    cases = tiny_cohort.index.index[:3]
    options = {"inputs": ("T1",), "target": "T1GD", "resident": False}
    full = evaluate(copy, CaseStore(tiny_cohort, cases, **options))
    without(monkeypatch, cases[1], flag)
    table = evaluate(copy, CaseStore(tiny_cohort, cases, **options))
    gone = [name for name in METRICS if name.endswith(region)]
    assert table.loc[1, gone].isna().all()
    assert table.drop(columns=gone).notna().all(axis=None)
    pd.testing.assert_frame_equal(table.drop(index=1), full.drop(index=1))
    figures = means(table, "val")
    for name in gone:
        assert figures[f"val/{name}"] == pytest.approx(full[name][[0, 2]].mean())
    table.to_csv(tmp_path / "table.csv", index=False)
    assert pd.read_csv(tmp_path / "table.csv")[gone[0]].isna().tolist() == [False, True, False]


def test_means_are_named_for_the_tracking_store(store):
    table = evaluate(copy, store)
    figures = means(table, "test")
    assert set(figures) == {f"test/{name}" for name in METRICS}
    assert figures["test/mae_brain"] == pytest.approx(sum(table["mae_brain"]) / 4)
    assert all(type(value) is float for value in figures.values())


def test_a_region_that_nobody_has_has_no_mean(store):
    table = evaluate(copy, store)
    table[["mae_tumour", "mse_tumour", "ssim_tumour"]] = float("nan")
    assert set(means(table, "val")) == {f"val/{name}" for name in METRICS if not name.endswith("tumour")}


def test_a_part_of_a_cohort_can_be_judged(tiny_cohort):
    part = dataclasses.replace(tiny_cohort, index=tiny_cohort.index.iloc[3:5])
    table = evaluate(truth, CaseStore(part, list(part.index.index), inputs=("T1",), target="T1GD"))
    assert table["case_id"].tolist() == list(part.index.index)
