"""A classifier that was not shown to be better than chance says so in every answer, and gives no verdict."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from learnable import make_dataset, random_search

from lab.config import ClassifierConfig
from lab.io.sealed_json import read_sealed
from lab.radiomics.assess.outer_estimate import NOT_SHOWN, UNKNOWN, OuterEstimate
from lab.radiomics.pipeline.final import fit_final
from lab.radiomics.pipeline.fitted import FACTS, Final

ROW = {"patients": 28, "events": 22, "auc": 0.30, "auc_low": 0.12, "auc_high": 0.58, "slope": -0.2, "slope_low": -1.0}
ROW |= {"slope_high": 0.6, "note": ""}


def outer(**changes: float) -> OuterEstimate:
    found = OuterEstimate.of(ROW | changes)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def final() -> Final:
    settings = ClassifierConfig(classifiers=("elastic_net",), trials=1, inner_folds=2, stability=0)
    return fit_final(make_dataset(patients=24, features=6), settings, random_search, refits=2)


def judged(final: Final, known: OuterEstimate | None) -> Final:
    return dataclasses.replace(final, facts=dataclasses.replace(final.facts, outer=known))


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (outer(), "on 28 held-out patients its AUC is 0.30 (95 % interval 0.12 to 0.58)"),
        (outer(auc=0.7, auc_low=0.5, auc_high=0.85), "its AUC is 0.70"),
        (outer(auc=0.2, auc_low=0.1, auc_high=0.4), "its AUC is 0.20"),
        (None, "is unknown"),
    ],
)
def test_without_skill_there_is_no_verdict_and_every_row_says_why(known, said, final, tmp_path):
    judged(final, known).save(tmp_path)
    found = Final.load(tmp_path).predict(make_dataset(patients=4, features=6).features)
    assert [value is None for value in found["positive"]] == [True] * 4
    assert set(found["caution"]) == {final.facts.caution if known is None else known.doubt}
    assert found["caution"].iloc[0].startswith(NOT_SHOWN)
    assert said in found["caution"].iloc[0]
    assert found["probability"].between(0, 1).all()


def test_with_skill_the_verdict_stands(final):
    cases = make_dataset(patients=4, features=6).features
    found = judged(final, outer(auc=0.8, auc_low=0.51, auc_high=0.95)).predict(cases)
    assert found["positive"].tolist() == (found["probability"] >= final.facts.threshold).tolist()
    assert set(found["caution"]) == {""}
    assert set(found["auc"]) == {0.8}
    assert set(found["calibration_slope"]) == {-0.2}
    assert found.index.equals(cases.index)


def test_what_is_told_of_a_model_is_the_outer_figure_and_not_the_inner(final):
    told = judged(final, outer()).facts.as_dict()
    assert (told["auc"], told["auc_low"], told["auc_high"], told["auc_patients"]) == (0.30, 0.12, 0.58, 28)
    assert (told["calibration_slope"], told["prevalence"]) == (-0.2, 0.5)
    assert "inner_auc" not in told
    assert judged(final, outer()).facts.describe() == (
        "AUC 0.30 (0.12 to 0.58) and calibration slope -0.20 (-1.00 to 0.60) on 28 held-out patients; in training "
        "12 of 24 patients (50%) were enhancing"
    )
    assert "AUC on held-out patients unknown" in final.facts.describe()
    assert "slope" not in outer(slope=math.nan).describe()
    nobody = final.facts.as_dict()
    assert nobody["auc"] is None
    assert nobody["caution"] == UNKNOWN
    json.dumps([told, nobody], allow_nan=False)


def test_a_model_of_an_earlier_version_is_read_and_its_skill_is_unknown(final, tmp_path):
    final.save(tmp_path)
    record = read_sealed(tmp_path / FACTS)
    del record["facts"]["outer"]
    (tmp_path / FACTS).write_text(json.dumps(record))
    assert Final.load(tmp_path).facts.caution == UNKNOWN


def test_an_estimate_that_does_not_exist_is_none():
    assert OuterEstimate.of(ROW | {"auc_low": math.nan}) is None
    assert outer(slope=math.nan).calibration_slope is None


@pytest.mark.parametrize(
    "known", [{"auc": 0.9}, {"auc_low": "high"}, {"auc_low": 0.9}, {"auc_high": 7.0}, {"auc_low": math.nan}, [1]]
)
def test_a_changed_estimate_is_refused(known, final, tmp_path):
    judged(final, outer()).save(tmp_path)
    record = json.loads((tmp_path / FACTS).read_text())
    record["facts"]["outer"] = {**record["facts"]["outer"], **known} if isinstance(known, dict) else known
    (tmp_path / FACTS).write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"final\.json"):
        Final.load(tmp_path)
