"""Findings about enhancement: nothing is claimed that the intervals and the corrected tests do not carry."""

import pandas as pd
import pytest
from constructed import long_table

from lab.report.tables.paired_tests import paired_tests
from lab.report.tables.scorecard import pooled_scorecard
from lab.report.text.findings import findings
from lab.report.text.notes import study_note

REFERENCES = [0, "copy T1", "linear regression"]


def told(patients: pd.DataFrame, *, best: int = 0, tests: pd.DataFrame | None = None, card=None) -> list[str]:
    if tests is None:
        tests = paired_tests(patients, against=REFERENCES)
    card = pooled_scorecard(patients, resamples=200) if card is None else card
    return findings(patients, tests, phantom=False, best=best, card=card)


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    return long_table({"faint": (0, "L1", 0.1), "bright": (1, "L1", 0.9)}, patients=24)


def edited(card: pd.DataFrame, figure: str, **values: float) -> pd.DataFrame:
    """The card with other values of one figure of the networks."""
    chosen = (card["figure"] == figure) & ~card["rival"]
    changed = card.copy()
    for column, value in values.items():
        changed.loc[chosen, column] = value
    return changed


def test_the_highest_figures_are_named_for_each_definition(patients):
    words = told(patients)
    for truth in ("By the paper's rule", "By the expert label"):
        kappa, area, volume = (point for point in words if point.startswith(truth))
        assert "highest kappa of 2 networks is 0." in kappa
        assert "bright; best on validation: 0." in kappa
        assert "highest AUC" in area
        assert "in the 12 patients who do not enhance (bright)" in volume


def test_intervals_that_hold_chance_are_told(patients):
    card = pooled_scorecard(patients, resamples=50)
    assert "2 of 2 intervals hold 0.5, chance" in " ".join(told(patients, card=edited(card, "auc", low=0.4, high=0.9)))
    assert "hold 0.5" not in " ".join(told(patients, card=edited(card, "auc", low=0.6, high=0.9)))


def test_no_difference_is_claimed_without_a_test(patients):
    tests = paired_tests(patients, against=REFERENCES)
    clear = " ".join(told(patients, tests=tests))
    assert "against copy T1 2 better, 0 worse, 0 without a difference" in clear
    unsure = " ".join(told(patients, tests=tests.assign(p_holm=1.0)))
    assert "0 of the " in unsure
    assert not any(word in unsure for word in ("better", "worse", "differ "))
    few = long_table({"faint": (0, "L1", 0.1), "bright": (1, "L1", 0.9)}, patients=4)
    assert "No paired test on contrast concordance was made" in " ".join(told(few))


def test_findings_put_enhancement_after_the_image_metrics(patients):
    tests, card = paired_tests(patients, against=REFERENCES), pooled_scorecard(patients, resamples=50)
    words = findings(patients, tests, phantom=True, best=0, card=card)
    assert words[0].startswith("Best on validation: faint")
    assert words[3].startswith("The highest concordance of synthetic and true contrast")
    assert words[-1] == "Nothing here can be carried over to real patients."
    assert len(findings(patients, tests, phantom=False, best=0)) == 3


def test_the_note_has_the_enhancement_of_the_expert_or_else_the_rule(patients):
    for table, definition in ((patients, "expert"), (long_table({"net": (0, "L1", 0.5)}, expert=False), "rule")):
        card = pooled_scorecard(table, resamples=50)
        shared = {"validation": {0: 0.1}, "best": 0, "phantom": True}
        note = study_note("Which?", ["Answer.", "More."], table, card=card, **shared)
        rows = [line for line in note.splitlines() if line.startswith("|")]
        assert f"AUC, {definition}" in rows[0]
        assert len({row.count("|") for row in rows[:1] + rows[2:]}) == 1
        own = card[(card["trial"] == 0) & (card["definition"] == definition)].set_index("figure")["value"]
        first = next(row for row in rows if "**" in row)
        cells = [cell.strip() for cell in first.replace("&emsp;", "").split("|")][-4:-1]
        expected = [own["auc"], own["dice_pooled"], own["hallucinated_ml"]]
        assert [float(cell) for cell in cells] == pytest.approx(expected, abs=0.051)
        assert "Dice" not in study_note("Which?", ["Answer."], table, **shared)
