"""Sentences about enhancement: nothing is claimed that the intervals and the corrected tests do not carry."""

import pandas as pd
import pytest
from constructed import long_table

from lab.report.tables.paired_tests import paired_tests
from lab.report.tables.scorecard import pooled_scorecard
from lab.report.text.findings import about_enhancement, findings
from lab.report.text.notes import study_note

REFERENCES = [0, "copy T1", "linear regression"]


def told(patients: pd.DataFrame, *, best: int = 0, tests: pd.DataFrame | None = None, card=None) -> list[str]:
    if tests is None:
        tests = paired_tests(patients, against=REFERENCES)
    card = pooled_scorecard(patients, resamples=200) if card is None else card
    return about_enhancement(patients, tests, card, best=best)


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


def test_the_first_in_dice_and_auc_is_named_for_each_definition(patients):
    words = told(patients)
    for truth in ("Enhancement by the paper's rule", "Enhancement by the expert label"):
        sentence = next(point for point in words if point.startswith(truth))
        assert "The highest kappa of 2 networks is that of bright, 0." in sentence
        assert "faint, best on validation, has" in sentence
        assert "The highest AUC of 2 networks is that of bright" in sentence
    assert any("paired Wilcoxon tests on Dice (expert)" in point for point in words)


def test_intervals_that_hold_chance_are_told(patients):
    card = pooled_scorecard(patients, resamples=50)
    chance = " ".join(told(patients, card=edited(card, "auc", low=0.4, high=0.9)))
    assert "2 of 2 intervals hold 0.5, which is chance" in chance
    clear = " ".join(told(patients, card=edited(card, "auc", low=0.6, high=0.9)))
    assert "chance" not in clear
    assert "hold 0.5" not in clear


def test_no_difference_is_claimed_without_a_test(patients):
    tests = paired_tests(patients, against=REFERENCES)
    clear = " ".join(told(patients, tests=tests))
    assert "find a difference" in clear
    assert "Against copy T1, better: faint, bright" in clear
    unsure = " ".join(told(patients, tests=tests.assign(p_holm=1.0)))
    assert "find a difference" not in unsure
    assert not any(word in unsure for word in ("better", "worse", "differ "))
    assert "may be chance" in unsure
    few = long_table({"faint": (0, "L1", 0.1), "bright": (1, "L1", 0.9)}, patients=4)
    assert "No paired test on Dice (rule) was made" in " ".join(told(few))


def test_where_nothing_is_drawn_it_is_said_plainly():
    nothing = long_table({"L1": (0, "L1", 0.0), "L2": (0, "L2", 0.0)}, patients=12, expert=False)
    words = " ".join(told(nothing))
    assert "every Dice is 0" in words
    assert "no network predicts any enhancement" in words
    assert "tests on Dice" not in words


def test_hallucination_blur_and_checkerboards_are_told_where_clear(patients):
    words = " ".join(told(patients))
    assert "In patients who do not enhance by the expert label (12), the networks hallucinate" in words
    assert "bright most" in words
    assert "Images of 2 of 2 networks are smoother" in words
    card = pooled_scorecard(patients, resamples=50)
    sharp = edited(edited(card, "sharpness", high=1.1), "checkerboard", low=0.002, value=0.01)
    assert not any("smoother" in point or "Checkerboards" in point for point in told(patients, card=sharp))
    grid = edited(card, "checkerboard", low=0.004, value=0.005, high=0.006)
    assert "Checkerboards: 2 of 2 networks have at least 1.5 times" in " ".join(told(patients, card=grid))


def test_findings_put_enhancement_after_the_image_metrics(patients):
    tests, card = paired_tests(patients, against=REFERENCES), pooled_scorecard(patients, resamples=50)
    words = findings(patients, tests, phantom=True, best=0, card=card)
    assert words[0].startswith("Best on validation: faint")
    assert words[3].startswith("The highest concordance of synthetic and true contrast in and near the tumour of 2")
    assert "contrast concordance" in words[4]
    assert [point.startswith("Enhancement by") for point in words].index(True) == 5
    assert words[-1] == "Nothing here can be carried over to real patients."
    assert not any("Enhancement by" in point for point in findings(patients, tests, phantom=False, best=0))


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
