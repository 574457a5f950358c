"""No promise without what it turned out to hold, and no verdict without skill that was shown."""

from __future__ import annotations

import pytest

from lab.evaluation.calibration_text import coverage_at, describe_coverage, describe_doubt, enhancement_verdict

TEST = {"n": 8, "auc": 0.9, "auc_low": 0.7, "auc_high": 1.0}
SKILLED = {"slope": 4.0, "intercept": -2.0, "patients": 20, "flat": False, "test": TEST}


def row(region: str, value: float | None, low: float | None, high: float | None, n: int = 28, **changes) -> dict:
    return {"looks": 2, "level": 0.9, "region": region, "value": value, "low": low, "high": high, "n": n} | changes


ROWS = [row("everywhere", 0.921, 0.91, 0.94), row("tumour", 0.91, 0.87, 0.95), row("enhancing", 0.62, 0.52, 0.72, 22)]


def test_coverage_is_told_by_region_with_interval_and_patients():
    assert describe_coverage(ROWS) == (
        "coverage on test patients: whole brain 92% (91% to 94%, n = 28), "
        "tumour and 3 mm round it 91% (87% to 95%, n = 28), inside true enhancement 62% (52% to 72%, n = 22)"
    )
    assert describe_coverage(ROWS, tumour_known=False).endswith("; all with the tumour's mask, which is missing here")


def test_what_was_not_measured_is_said():
    assert "inside true enhancement not measured" in describe_coverage(ROWS[:2])
    assert "whole brain 90% (n = 1)" in describe_coverage([row("everywhere", 0.9, None, None, 1)])
    for nothing in ((), [row("everywhere", None, None, None, 0)]):
        assert describe_coverage(nothing) == "coverage was not measured: there were no test patients"


def test_other_looks_and_levels_are_not_mixed_in():
    others = [row("everywhere", 0.1, 0.1, 0.1, looks=1), row("everywhere", 0.5, 0.5, 0.5, level=0.5)]
    assert coverage_at({"coverage": [*others, *ROWS]}, 2) == ROWS
    assert coverage_at({}, 2) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"flat": True}, "does not rank enhancing validation scans"),
        ({"test": {"n": 8}}, "could not be tested"),
        ({"test": {}}, "could not be tested"),
        ({"test": {"n": 8, "auc": 0.6, "auc_low": 0.3, "auc_high": 0.8}}, "better than chance: AUC 0.60"),
        ({"test": TEST | {"auc_low": 0.5}}, "better than chance"),
    ],
)
def test_a_probability_that_is_worth_little_is_doubted_and_gives_no_verdict(changes, said):
    known = SKILLED | changes
    assert said in describe_doubt(known)
    assert bool(said) == bool(describe_doubt(known))
    assert enhancement_verdict(known, 0.75, predicted=True) == ((None, describe_doubt(known)) if said else (True, ""))


@pytest.mark.parametrize(
    ("known", "said"), [({}, "was not calibrated"), ({"missing": "all 6 validation scans enhance"}, "all 6 validation")]
)
def test_without_a_probability_there_is_no_verdict(known, said):
    for predicted in (True, False):
        found, why = enhancement_verdict(known, None, predicted=predicted)
        assert found is None
        assert said in why


def test_a_verdict_needs_the_tumour_and_volume_and_probability_that_agree():
    assert enhancement_verdict(SKILLED, 0.2, predicted=False) == (False, "")
    found, why = enhancement_verdict(SKILLED, 0.75, predicted=False)
    assert found is None
    assert "(too little for enhancement) and the probability of 0.75 disagree" in why
    assert enhancement_verdict(SKILLED, 0.1, predicted=True)[0] is None
    assert "no mask" in enhancement_verdict(SKILLED, None, predicted=False)[1]
