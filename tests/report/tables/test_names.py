"""Every column has a name, a number of decimals and a direction."""

import numpy as np
import pytest
from constructed import long_table

from lab.evaluation.figures import DEFINITIONS, PATIENT, POOLED, definition_words, name_of
from lab.evaluation.pooled import pooled
from lab.report.tables.patient_table import COLUMNS, lower_is_better, metric_name, per_patient

KNOWN = {"trial", "label", "model", "loss", "case_id", "patient_id", "enhancing"}


def test_every_column_and_every_pooled_figure_is_registered():
    patients = long_table({"net": (0, "L1", 0.5)}, patients=6)
    assert set(patients.columns) - KNOWN <= set(PATIENT)
    figures = pooled(patients[patients["trial"] == 0], resamples=20)
    assert set(figures["figure"]) <= set(POOLED)
    assert set(figures["definition"]) == {*DEFINITIONS, ""}
    assert set(COLUMNS) <= set(PATIENT)


@pytest.mark.parametrize(
    ("column", "title", "low"),
    [
        ("mae_brain", "MAE, brain", True),
        ("ssim_tumour", "SSIM, tumour", False),
        ("dice_rule", "Dice (rule)", False),
        ("hallucinated_ml_expert", "hallucinated ml (expert)", True),
        ("sensitivity_rule", "sensitivity (rule)", False),
        ("checkerboard", "checkerboard", True),
        ("mae_balanced", "balanced MAE", True),
        ("dice_unheard_of", "DICE, unheard of", False),  # not registered: told by its first word
        ("loss", "loss", True),
    ],
)
def test_names_and_directions(column, title, low):
    assert metric_name(column) == title
    assert lower_is_better(column) is low


def test_values_are_written_with_their_decimals_and_in_their_unit():
    assert POOLED["lesions_found"].text(0.254) == "25"
    assert POOLED["bias_ml"].text(-0.04) == "0.0"  # no minus before a zero
    assert POOLED["bias_ml"].text(-1.26) == "-1.3"
    assert PATIENT["mse_brain"].text(0.00126) == "0.0013"
    assert POOLED["auc"].text(float("nan")) == "-"


def test_distance_to_the_ideal_follows_the_direction():
    assert POOLED["auc"].loss(0.9) < POOLED["auc"].loss(0.2)
    assert POOLED["bias_ml"].loss(-1) == POOLED["bias_ml"].loss(1) > POOLED["bias_ml"].loss(0)
    assert POOLED["contrast"].loss(0.9) < POOLED["contrast"].loss(1.2)
    assert np.isnan(name_of("ml_rule").loss(3))


def test_a_definition_of_truth_is_named_in_words():
    assert definition_words("rule") == "the paper's rule, T1GD - T1 > 0.3 within 3 mm of the tumour"
    assert "0.25" in definition_words("rule", threshold=0.25)
    assert "expert label" in definition_words("expert")


def test_scans_of_one_patient_are_averaged_in_every_column():
    patients = long_table({"net": (0, "L1", 0.5)}, patients=4)
    twice = patients.assign(patient_id=patients["case_id"].replace({"case-002": "case-000"}))
    merged = per_patient(twice[twice["trial"] == 0]).set_index("patient_id")
    own = patients[patients["trial"] == 0].set_index("case_id")
    for column in ("mae_brain", "dice_rule", "sharpness"):
        expected = own.loc[["case-000", "case-002"], column].mean()
        assert merged.loc["case-000", column] == pytest.approx(expected)
