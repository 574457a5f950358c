"""Every figure is registered once, whole, and exact where the truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from constructed import long_table

from lab.data.batches import CaseStore
from lab.evaluation import figures as module
from lab.evaluation.evaluate import KNOWN, evaluate, means
from lab.evaluation.figure_spec import FigureSpec, JudgedCase, number_text
from lab.evaluation.figures import ERRORS, FIGURES, TRUTHS, group_figures, pooling_of, shown_in, spec_of, truth_in_words
from lab.evaluation.place.voxel_counts import COUNTS, choose_thresholds
from lab.evaluation.pooled import pooled
from lab.report.tables.patient_table import lower_is_better, metric_name, per_patient
from lab.report.tables.scorecard import pooled_scorecard, scorecard_tables

CASE_FIGURES = [name for name, spec in FIGURES.items() if spec.of_case]
SCANNED = {"sharpness": 0.2, "checkerboard": 1e-9}
"""How near the true scan itself comes to its own ideal, which noise bounds."""


@pytest.fixture(scope="module")
def perfect(tiny_cohort) -> pd.DataFrame:
    """The true scans, judged as predictions, with probabilities of 1 where the rule finds enhancement."""
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:4], inputs=("T1", "T2"), target="T1GD")

    def predict(batch):
        enhancing = (batch.target - batch.inputs[:, :1] > 0.3).float()
        tumour = batch.masks["tumour"].float()
        return {"image": batch.target, "probability": enhancing, "core": enhancing, "tumour": tumour}

    return evaluate(predict, store, choose_thresholds(evaluate(predict, store)))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_described_in_full(name):
    spec = FIGURES[name]
    assert spec.title
    assert spec.decimals >= 0
    assert spec.direction in ("lower", "higher", "nearer to 0", "nearer to 1", "none")
    assert (spec.unit == "ml") == (spec.unit != "%" and ("_ml" in name or name in ("ml", *shown_ml())))
    assert pooling_of(name).words
    assert spec.of_case or spec.pooling or name == "dice_painted"
    if "card" in spec.shown:
        assert spec.meaning or spec.title in ("AUC",)
        assert spec.direction != "none"


def shown_ml() -> list[str]:
    return [name for name in FIGURES if name.startswith(("bias_", "ml_", "midline_"))]


def test_the_columns_of_the_table_are_the_figures_of_a_case(perfect):
    expected = [
        name if not FIGURES[name].truths else f"{name}_{truth}"
        for name in CASE_FIGURES
        for truth in (TRUTHS if FIGURES[name].truths else [""])
    ]
    assert set(perfect.columns) == {*KNOWN, *COUNTS, *expected}


@pytest.mark.parametrize("name", [name for name in CASE_FIGURES if FIGURES[name].direction != "none"])
def test_every_figure_of_a_case_is_exact_for_the_true_scan(perfect, name):
    columns = [name] if not FIGURES[name].truths else [f"{name}_rule"]
    ideal = {"lower": 0, "nearer to 0": 0, "nearer to 1": 1, "higher": 1}[FIGURES[name].direction]
    others = {
        "overlap_ml": "ml_rule",
        "contrast_overlap_ml": "ml_rule",
        "probability_overlap_ml": "ml_rule",
        "core_overlap_ml": "ml_rule",
        "found": "lesions_rule",
        "cnr": "cnr_true_rule",
        "checkerboard": "checkerboard_true",
    }
    for column in columns:
        found = perfect[column].dropna()
        wanted = perfect[others[name]].dropna() if name in others else np.full(len(found), ideal)
        np.testing.assert_allclose(found, wanted, atol=SCANNED.get(name, 1e-6))


@pytest.mark.parametrize("name", group_figures("pooled", truths=True))
def test_every_pooled_figure_is_exact_for_the_true_scan(perfect, name):
    row = pooled(perfect, resamples=5).set_index(["definition", "figure"]).loc[("rule", name)]
    if name.endswith("_threshold"):
        assert 0 < row["value"] <= 0.5
    elif FIGURES[name].direction == "none":  # the limits of agreement round a bias of 0
        assert row["value"] == pytest.approx(0, abs=1e-6)
    elif name == "cnr":
        assert row["value"] == pytest.approx(perfect["cnr_true_rule"].mean())
    elif np.isfinite(row["value"]):  # the phantom's patients may all enhance
        ideal = 1.0 if FIGURES[name].direction in ("higher", "nearer to 1") else 0.0
        assert row["value"] == pytest.approx(ideal, abs=1e-6)


def test_one_entry_makes_a_column_a_metric_a_pooled_figure_and_a_column_of_the_card(monkeypatch, tiny_cohort):
    def brightness(case: JudgedCase) -> float:
        return float(case.prediction[case.brain].mean())

    spec = FigureSpec(
        title="brightness", decimals=2, direction="higher", measure=brightness, shown=("pooled", "card", "effects")
    )
    monkeypatch.setitem(module.FIGURES, "brightness", spec)
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:3], inputs=("T1", "T2"), target="T1GD")
    table = evaluate(lambda batch: batch.target, store)
    assert table["brightness"].between(-1, 1).all()
    assert means(table, "test")["test/brightness"] == pytest.approx(table["brightness"].mean())
    assert "brightness" in set(pooled(table, resamples=5)["figure"])
    assert "brightness" in shown_in("effects")
    card = pooled_scorecard(table.assign(trial=0, label="net", model=0, loss="L1"), resamples=5)
    heads = [column.head for part in scorecard_tables(card, phantom=True) for column in part.columns]
    assert "brightness" in heads


def test_every_column_and_every_pooled_figure_of_a_study_is_registered():
    patients = long_table({"net": (0, "L1", 0.5)}, patients=6)
    figures = pooled(patients[patients["trial"] == 0], resamples=20)
    assert set(figures["figure"]) <= set(FIGURES)
    assert set(figures["definition"]) == {*TRUTHS, ""}
    assert set(ERRORS) <= set(FIGURES)


@pytest.mark.parametrize(
    ("column", "title", "low"),
    [
        ("mae_brain", "MAE, brain", True),
        ("ssim_tumour", "SSIM, tumour", False),
        ("dice_rule", "Dice (rule)", False),
        ("hallucinated_ml_expert", "hallucinated volume (expert, ml)", True),
        ("sensitivity_rule", "sensitivity (rule)", False),
        ("mae_balanced", "balanced MAE", True),
        ("dice_unheard_of", "DICE, unheard of", False),  # not registered: named by its first word
        ("loss", "loss", True),
    ],
)
def test_names_and_directions(column, title, low):
    assert metric_name(column) == title
    assert lower_is_better(column) is low


def test_numbers_are_written_with_their_decimals_and_in_their_unit():
    assert FIGURES["lesions_found"].text(0.254) == "25"
    assert FIGURES["bias_ml"].text(-0.04) == "0.0"  # no minus before a zero
    assert FIGURES["bias_ml"].text(-1.26) == "-1.3"
    assert FIGURES["mse_brain"].text(0.00126) == "0.0013"
    assert number_text(float("nan"), 2) == number_text(float("inf"), 2) == "-"
    assert number_text(0.5, 1, signed=True) == "+0.5"


def test_distance_to_the_ideal_follows_the_direction():
    assert FIGURES["auc"].loss(0.9) < FIGURES["auc"].loss(0.2)
    assert FIGURES["bias_ml"].loss(-1) == FIGURES["bias_ml"].loss(1) > FIGURES["bias_ml"].loss(0)
    assert FIGURES["contrast"].loss(0.9) < FIGURES["contrast"].loss(1.2)
    assert np.isnan(spec_of("ml_rule").loss(3))


def test_a_definition_of_truth_is_named_in_words():
    assert truth_in_words("rule") == "the paper's rule, T1GD - T1 > 0.3 within 3 mm of the tumour"
    assert "0.25" in truth_in_words("rule", threshold=0.25)
    assert "expert label" in truth_in_words("expert")


def test_scans_of_one_patient_are_averaged_in_every_column():
    patients = long_table({"net": (0, "L1", 0.5)}, patients=4)
    twice = patients.assign(patient_id=patients["case_id"].replace({"case-002": "case-000"}))
    merged = per_patient(twice[twice["trial"] == 0]).set_index("patient_id")
    own = patients[patients["trial"] == 0].set_index("case_id")
    for column in ("mae_brain", "dice_rule", "sharpness"):
        expected = own.loc[["case-000", "case-002"], column].mean()
        assert merged.loc["case-000", column] == pytest.approx(expected)
