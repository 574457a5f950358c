"""The note at the top of a trial's page: the answer first, nothing made up."""

from __future__ import annotations

import math

import pytest

from lab.report.text.notes import trial_note

NETWORK = {
    "mae_brain": 0.0831,
    "mae_tumour": 0.2012,
    "ssim_brain": 0.7,
    "dice_pooled_rule": 0.314,
    "dice_pooled_expert": math.nan,
    "hallucinated_ml_rule": 0.84,
    "contrast_rule": 0.5,
}
BASELINES = {"copy T1": {"mae_brain": 0.0912, "dice_pooled_rule": 0.0}, "linear regression": {"mae_brain": 0.087}}


def note(figures=NETWORK, baselines=BASELINES, *, phantom=False, best=False, artifacts=()):
    return trial_note("model 0, L1_brain", figures, baselines, phantom=phantom, best=best, artifacts=artifacts)


def cells(text: str) -> dict[str, list[str]]:
    """First cell of each row of the table -> the others."""
    rows = [line.replace("&emsp;", "").strip("| ").split("|") for line in text.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_the_first_line_is_the_answer():
    assert note().splitlines()[0] == (
        "**model 0, L1\\_brain**: test MAE brain 0.083 (copy T1 0.091, linear regression 0.087)."
    )


def test_a_phantom_is_called_one_and_the_best_is_called_the_best():
    first = note(phantom=True, best=True).splitlines()[0]
    assert first.startswith("**Phantom: simulated patients")
    assert "best of its study on validation patients" in first
    assert "phantom" not in note().lower()


def test_the_network_stands_beside_the_baselines_and_gaps_are_gaps():
    table = cells(note())
    assert table["mean over test patients"] == ["model 0, L1\\_brain", "copy T1", "linear regression"]
    assert table["MAE, brain: lower is better"] == ["0.083", "0.091", "0.087"]
    assert table["pooled Dice (rule): higher is better"] == ["0.31", "0.00", "-"]
    assert table["pooled Dice (expert): higher is better"] == ["-", "-", "-"]
    assert table["contrast concordance, pooled: higher is better"] == ["-", "-", "-"]
    assert len(table) == 9


@pytest.mark.parametrize("figures", [{}, dict.fromkeys(NETWORK, math.nan)])
def test_without_figures_there_is_still_a_note(figures):
    first = note(figures, {}).splitlines()[0]
    assert first == "**model 0, L1\\_brain**: test MAE brain -."
    assert all(set(row) == {"-"} for name, row in cells(note(figures, {})).items() if ":" in name)


def test_artifacts_are_named_last():
    text = note(artifacts=["slices.png: two patients", "test_patients.csv"])
    assert text.splitlines()[-1] == "Under Artifacts: `slices.png` (two patients), `test_patients.csv`."
    assert "Artifacts" not in note()
