"""The per-patient table and its means."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from lab.config import DataConfig
from lab.data.batches import Batch, CaseStore, patch_window
from lab.data.cohort import BRAIN, ENHANCEMENT, EXPERT, TUMOUR, Cohort
from lab.data.prepare import prepare
from lab.evaluation.artefacts import checkerboard, sharpness
from lab.evaluation.enhancement import SUMS, scorecard
from lab.evaluation.evaluate import evaluate, evaluate_inside, means
from lab.evaluation.figure_spec import FigureSpec
from lab.evaluation.figures import FIGURES
from lab.evaluation.image_errors import METRICS
from lab.evaluation.midline import midline_figures, midline_slab
from lab.evaluation.noise_floor import noise_sd
from lab.evaluation.place.voxel_counts import COUNTS, SCORES, TRUTHS
from lab.evaluation.pooled import pooled

PERFECT = {"mae": 0.0, "mse": 0.0, "ssim": 1.0}
AGAINST = ["ml", "enhances", "overlap_ml", "bias_ml", "dice", "sensitivity", "precision", "lesions", "found", "missed"]
AGAINST += ["false", "hallucinated_ml", "contrast", "cnr", "cnr_true"]
VOXELS = ("counts", "auc", "auc_tumour")
AT_THRESHOLD = ("threshold", "predicted_ml", "overlap_ml", "dice", "hallucinated_ml")
COLUMNS = [
    *["case_id", "patient_id", "enhancing"],
    *["mae_image", "mse_image", "ssim_image", "mae_brain", "mse_brain", "ssim_brain"],
    *["mae_tumour", "mse_tumour", "ssim_tumour", "mae_balanced", "ml_near", "ml_predicted", "enhancement_level"],
    *["contrast_concordance", *SUMS],
    *[f"{name}_{definition}" for definition in ("rule", "expert") for name in AGAINST],
    "probability_level",
    *[f"{score}_{figure}_{truth}" for score in SCORES for truth in TRUTHS for figure in VOXELS],
    *["voxel_auc", "midline_ml_true", "midline_ml_predicted", "midline_ml_false"],
    *["crps_brain", "spread_enhancing", "spread_elsewhere", "spread_ratio"],
    *["tumour_dice", "noise_sd", "floor_mae", "floor_mse"],
    *["checkerboard", "checkerboard_true", "sharpness"],
    *[f"{score}_{figure}_{truth}" for score in SCORES for truth in TRUTHS for figure in AT_THRESHOLD],
]
CASES = Path(__file__).parents[3] / "shared/cases/brats2023-2mm"


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
    assert list(table.columns) == COLUMNS
    assert set(METRICS) <= set(COLUMNS)
    assert all(table[name].dtype == float for name in COLUMNS[3:] if name not in COUNTS)
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
    endings = ("tumour", "balanced") if region == "tumour" else ("brain",)
    gone = [name for name in METRICS if name.endswith(endings)]
    assert table.loc[1, gone].isna().all()
    assert table[[name for name in METRICS if name not in gone]].notna().all(axis=None)
    assert table.loc[1, ["ml_rule", "ml_predicted", "lesions_rule"]].eq(0).all()  # nowhere to look
    pd.testing.assert_frame_equal(table.drop(index=1), full.drop(index=1))
    figures = means(table, "val")
    for name in gone:
        assert figures[f"val/{name}"] == pytest.approx(full[name][[0, 2]].mean())
    table.to_csv(tmp_path / "table.csv", index=False)
    assert pd.read_csv(tmp_path / "table.csv")[gone[0]].isna().tolist() == [False, True, False]


def test_means_are_of_every_figure_and_named_for_the_tracking_store(store):
    table = evaluate(copy, store)
    figures = means(table, "test")
    known = {f"test/{name}" for name in COLUMNS[3:] if table[name].notna().any() and name not in (*SUMS, *COUNTS)}
    over_all = ("dice_pooled_rule", "kappa_rule", "contrast_pooled", "contrast_auc_pooled_rule")
    assert set(figures) == known | {f"test/{name}" for name in over_all}
    assert {f"test/{name}" for name in METRICS} <= set(figures)
    assert figures["test/mae_brain"] == pytest.approx(sum(table["mae_brain"]) / 4)
    assert figures["test/hallucinated_ml_rule"] == pytest.approx(table["hallucinated_ml_rule"].dropna().mean())
    assert all(type(value) is float for value in figures.values())
    figures, card = means(evaluate(brighter, store), "val"), pooled(evaluate(brighter, store), resamples=1)
    same = card.set_index(["definition", "figure"])["value"]
    assert figures["val/dice_pooled_rule"] == pytest.approx(same["rule", "dice_pooled"])
    assert 0 < figures["val/dice_pooled_rule"] < 1


def test_a_region_that_nobody_has_has_no_mean(store):
    table = evaluate(copy, store)
    table[["mae_tumour", "mse_tumour", "ssim_tumour"]] = float("nan")
    named = set(means(table, "val")) & {f"val/{name}" for name in METRICS}
    assert named == {f"val/{name}" for name in METRICS if not name.endswith("tumour")}


def test_a_part_of_a_cohort_can_be_judged(tiny_cohort):
    part = dataclasses.replace(tiny_cohort, index=tiny_cohort.index.iloc[3:5])
    table = evaluate(truth, CaseStore(part, list(part.index.index), inputs=("T1",), target="T1GD"))
    assert table["case_id"].tolist() == list(part.index.index)


def brighter(batch: Batch) -> Tensor:
    """The truth with too much contrast, and a made-up square in the middle."""
    image = batch.target + 0.1
    image[..., 8:12, 10:14, 8:12] += 0.5
    return torch.where(batch.masks["brain"], image, -1.0).clamp(-1, 1)


def test_a_row_is_what_each_part_says_of_the_whole_volume(tiny_cohort):
    cases = list(tiny_cohort.index.index[:3])
    stored = CaseStore(tiny_cohort, cases, inputs=("T2",), target="T1GD")  # no T1 among the inputs
    table = evaluate(brighter, stored)
    for index, case in enumerate(cases):
        image, flags = tiny_cohort.load(case)
        t1, truth = (image[tiny_cohort.channel(name)].astype(np.float32) for name in ("T1", "T1GD"))
        synthesis = brighter(stored.batch([index]))[0, 0].numpy()
        brain, sd = (flags & BRAIN) != 0, noise_sd(truth, (flags & BRAIN) != 0)
        rule = {"spacing_mm": 8.0, "threshold": 0.3}
        expected = scorecard(synthesis, t1, truth, flags, enhancing_ml=0.5, noise_sd=sd, labelled=False, **rule)
        expected |= midline_figures(synthesis, t1, truth, flags, midline_slab(brain, 8.0), **rule)
        expected |= {"noise_sd": sd, "checkerboard_true": checkerboard(truth, brain)}
        expected |= {
            "checkerboard": checkerboard(synthesis, brain),
            "sharpness": sharpness(synthesis, truth, brain, sd),
        }
        for name, value in expected.items():
            assert table[name][index] == pytest.approx(value, nan_ok=True), name
        known = (flags & (TUMOUR | ENHANCEMENT)) == (TUMOUR | ENHANCEMENT)
        assert table["ml_rule"][index] >= known.sum() * 0.512 - 1e-9
    assert table["ml_predicted"].gt(table["ml_rule"]).any()


def test_the_truth_finds_all_lesions_and_invents_none(store):
    table = evaluate(truth, store)
    enhancing = table["enhances_rule"] == 1
    assert enhancing.any()
    assert not enhancing.all()
    for name, value in {"dice": 1, "contrast": 1, "missed": 0, "false": 0, "bias_ml": 0}.items():
        assert table.loc[enhancing, f"{name}_rule"].tolist() == pytest.approx([value] * enhancing.sum())
    assert (table["enhancement_level"] > 0.3).tolist() == enhancing.tolist()
    assert (table["midline_ml_false"] == 0).all()
    assert (table["checkerboard"] == table["checkerboard_true"]).all()
    assert (table["cnr_rule"].dropna() == table["cnr_true_rule"].dropna()).all()


def test_copying_the_t1_shows_no_contrast(store):
    table = evaluate(copy, store)
    assert (table[["ml_predicted", "enhancement_level", "found_rule", "false_rule"]] == 0).all(axis=None)
    assert set(table["contrast_rule"].dropna()) == {0.0}
    assert set(table["hallucinated_ml_rule"].dropna()) == {0.0}


def test_the_settings_of_the_cohort_decide_what_enhances(tiny_cohort):
    cases = list(tiny_cohort.index.index[:4])
    settings = tiny_cohort.manifest["settings"] | {"enhancement_threshold": 0.5, "enhancing_ml": 5.0}
    strict = dataclasses.replace(tiny_cohort, manifest=tiny_cohort.manifest | {"settings": settings})
    bare = dataclasses.replace(
        tiny_cohort, manifest={key: value for key, value in tiny_cohort.manifest.items() if key != "settings"}
    )
    usual, other, default = (
        evaluate(truth, CaseStore(cohort, cases, inputs=("T1",), target="T1GD"))
        for cohort in (tiny_cohort, strict, bare)
    )
    assert (other["ml_rule"] <= usual["ml_rule"]).all()
    assert other["ml_rule"].sum() < usual["ml_rule"].sum()
    assert (other["enhances_rule"] == (other["ml_rule"] >= 5)).all()
    pd.testing.assert_frame_equal(default, usual)


def test_an_expert_s_label_counts_where_the_data_set_ships_one(tiny_cohort, monkeypatch):
    cases = list(tiny_cohort.index.index[:3])
    index = tiny_cohort.index.copy()
    index.loc[cases[:2], "enhancing_by"] = "expert label"
    load = Cohort.load

    def labelled(cohort: Cohort, case_id: str) -> tuple[np.ndarray, np.ndarray]:
        image, mask = load(cohort, case_id)
        return image, mask | np.where(mask & TUMOUR, np.uint8(EXPERT), np.uint8(0))

    monkeypatch.setattr(Cohort, "load", labelled)
    cohort = dataclasses.replace(tiny_cohort, index=index)
    table = evaluate(truth, CaseStore(cohort, cases, inputs=("T1",), target="T1GD"))
    experts = [name for name in COLUMNS if name.endswith("_expert")]
    assert table.loc[2, experts].isna().all()
    tumour_ml = [np.count_nonzero(load(cohort, case)[1] & TUMOUR) * 0.512 for case in cases[:2]]
    assert table["ml_expert"][:2].tolist() == pytest.approx(tumour_ml)
    assert table["precision_rule"].dropna().eq(1).all()


def counted(batch: Batch) -> Tensor:
    counted.calls += 1
    return brighter(batch)


def test_one_prediction_is_scored_in_several_cubes(store, tiny_cohort):
    counted.calls = 0
    whole, cube, small = evaluate_inside(counted, store, [None, 12, 6])
    assert counted.calls == len(store)
    pd.testing.assert_frame_equal(whole, evaluate(brighter, store))
    ssim = [name for name in METRICS if name.startswith("ssim")]
    assert small[ssim].isna().all(axis=None)
    assert cube[ssim].notna().all(axis=None)
    assert list(small.columns) == COLUMNS
    for index, case in enumerate(store.case_ids):
        batch, (_, flags) = store.batch([index]), tiny_cohort.load(case)
        for table, edge in ((cube, 12), (small, 6)):
            window = patch_window(flags, edge)
            wrong = (brighter(batch) - batch.target).abs()[0, 0].numpy()[window]
            assert table["mae_image"][index] == pytest.approx(wrong.mean(), rel=1e-5)
            inside = (flags[window] & TUMOUR) != 0
            assert table["mae_tumour"][index] == pytest.approx(wrong[inside].mean(), rel=1e-5)
    for table in (cube, small):
        pd.testing.assert_series_equal(table["noise_sd"], whole["noise_sd"])
        assert (table["ml_rule"] <= whole["ml_rule"] + 1e-9).all()
        assert (table["midline_ml_true"] <= whole["midline_ml_true"] + 1e-9).all()


def test_patches_are_scored_as_the_same_cubes_of_whole_volumes(tiny_cohort):
    cases = list(tiny_cohort.index.index[:3])
    options = {"inputs": ("T1", "T2"), "target": "T1GD"}
    whole = CaseStore(tiny_cohort, cases, **options)
    patches = CaseStore(tiny_cohort, cases, patch=14, **options)
    expected = evaluate_inside(copy, whole, [14, 12, 8])
    found = [evaluate(copy, patches), *evaluate_inside(copy, patches, [12, 8])]
    for left, right in zip(found, expected):
        pd.testing.assert_frame_equal(left, right)
    pd.testing.assert_frame_equal(*evaluate_inside(copy, patches, [None, 18]))  # no more than was predicted


@pytest.mark.skipif(not CASES.is_dir(), reason="the real cases are not there")
def test_real_cases_make_sense(tmp_path):
    """Copying the T1 shows nothing, the truth everything, a blurred truth something between."""
    tree = tmp_path / "cases"
    tree.mkdir()
    for name in ("BraTS-GLI-00000-000", "BraTS-GLI-01480-000"):  # one enhances by the label, one does not
        (tree / name).symlink_to(CASES / name)
    cohort = prepare(tree, tmp_path / "prepared", DataConfig(spacing_mm=2.0), processes=1)
    store = CaseStore(cohort, list(cohort.index.index), inputs=("T1",), target="T1GD")
    tables = [evaluate(copy, store), evaluate(blurred, store), evaluate(truth, store)]
    assert tables[2]["enhances_expert"].tolist() == [1, 0]
    assert (tables[2]["ml_rule"] > 1).all()  # by the rule both do
    for name in ("sensitivity_rule", "dice_rule", "contrast_rule", "enhancement_level"):
        values = np.array([table[name] for table in tables])
        assert (np.diff(values, axis=0) > 0).all(), name
    copied, *others = (table["midline_ml_predicted"] for table in tables)  # blurring spreads what enhances there
    assert all((other > copied).all() for other in others)
    assert tables[0]["hallucinated_ml_expert"][1] == 0 < tables[2]["hallucinated_ml_expert"][1]
    assert 0.6 < tables[2]["dice_expert"][0] < 0.95
    assert (tables[1]["sharpness"] < 0.8).all()
    assert tables[2]["sharpness"].between(1, 1.05).all()
    assert (tables[2]["checkerboard_true"] < 0.005).all()
    assert (tables[2]["midline_ml_true"] > 5).all()


def blurred(batch: Batch) -> Tensor:
    kernel = torch.tensor([0.25, 0.5, 0.25])
    image = torch.nn.functional.pad(batch.target, (1, 1) * 3, mode="replicate")
    for axis in (2, 3, 4):
        image = sum(k * image.narrow(axis, i, image.shape[axis] - 2) for i, k in enumerate(kernel))
    return torch.where(batch.masks["brain"], image, -1.0)


def test_a_predictor_may_state_a_probability_beside_its_image(tiny_cohort, monkeypatch):
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:2], inputs=("T1", "T2"), target="T1GD")

    def both(batch):
        return {"image": batch.target, "probability": batch.masks["enhancement"].float()}

    seen = FigureSpec(title="seen", decimals=2, direction="none", measure=lambda case: float(case.probability.sum()))
    monkeypatch.setitem(FIGURES, "seen", seen)
    table = evaluate(both, store)
    expected = [store.batch([index]).masks["enhancement"].sum().item() for index in range(2)]
    assert table["seen"].tolist() == expected
    assert table["mae_brain"].eq(0).all()
