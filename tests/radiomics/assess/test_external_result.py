"""What is kept of a test on another cohort, and what its interval says."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from judged import external_result

from lab.radiomics.assess.external import FACTS, ExternalTest, unlike_names
from lab.stats.auc import delong_interval
from lab.stats.decision_curve import at_threshold


def test_it_is_read_as_it_was_written(tmp_path):
    test = external_result(1.5)
    test.write_tables(tmp_path)
    with pytest.raises(OSError, match=FACTS):  # a kill at this point: the test is not finished
        ExternalTest.read(tmp_path)
    (tmp_path / FACTS).write_text(json.dumps(test.facts))
    found = ExternalTest.read(tmp_path)
    assert found.facts == test.facts
    pd.testing.assert_frame_equal(found.assessment.performance, test.assessment.performance)
    assert found.metrics() == pytest.approx(test.metrics())
    assert found.describe() == test.describe()


def test_its_figures_are_those_of_its_predictions():
    test = external_result(1.2, ones=18, zeros=12, far=3)
    labels, scores = test.predictions["label"], test.predictions["score"]
    expected, metrics = delong_interval(labels, scores), test.metrics()
    assert [metrics[f"external/scans-1/auc{end}"] for end in ("", "_low", "_high")] == pytest.approx(expected[:3])
    share = at_threshold(labels, scores, 0.5).set_index("figure").loc["specificity"]
    assert metrics["external/scans-1/specificity_high"] == pytest.approx(share["high"])
    assert (metrics["external/scans-1/prevalence"], test.training_prevalence) == (0.6, 0.8)
    assert metrics["external/scans-1/out_of_distribution"] == test.far == 3
    twice = test.predictions.assign(patient_id="P000")  # three scans of one patient
    assert ExternalTest(**{**test.facts, "predictions": twice, "assessment": test.assessment}).far == 1


@pytest.mark.parametrize(
    ("effect", "count", "held_out", "shown", "open_"),
    [
        (2.0, 20, 0.8, True, False),
        (0.6, 6, 0.7, False, True),
        (0.0, 150, 0.8, False, False),
        (-2.0, 20, 0.4, False, False),
    ],
)
def test_an_interval_is_above_chance_or_too_wide_or_chance(effect, count, held_out, shown, open_):
    test = external_result(effect, ones=count, zeros=count)
    assert (test.above_chance, test.inconclusive(held_out)) == (shown, open_)


def test_cohorts_of_one_name_are_told_apart():
    tests = [external_result(1.0, slug="a-1"), external_result(1.0, slug="b-2"), external_result(1.0, name="C")]
    found = unlike_names(tests)
    assert [one.name for one in found] == ["Elsewhere (scans), a-1", "Elsewhere (scans), b-2", "C"]
    assert set(found[0].assessment.accuracy["method"]) == {"Elsewhere (scans), a-1"}
    assert found[0].assessment.main == found[0].predictions["method"].iloc[0] == "Elsewhere (scans), a-1"
