"""Several seeds and several folds: which networks are trained, who is tested, what the tables hold."""

from __future__ import annotations

import pandas as pd
import pytest
from small import ran, settings

from lab.data.cohort import fold_patients
from lab.tracking.run import Run

TWO = {"one": {"loss.name": "L1_brain"}, "two": {"loss.name": "L2_brain"}}

pytestmark = pytest.mark.usefixtures("no_drawing", "no_calibration")


@pytest.fixture(scope="module")
def folded(tiny_cohort, no_drawing, no_calibration):
    """Two networks, two seeds, two folds."""
    return ran("folded", settings(tiny_cohort, study__repeats=2, study__folds=2, train__epochs=1), TWO)


def test_every_network_has_every_seed_and_fold(folded):
    _, seen = folded
    assert len(seen.children) == 8
    assert {"one, fold 1", "two, fold 2", "one, seed 1, fold 2"} <= set(seen.children)
    drawn = {(r.data.tags["label"], r.data.params["train.seed"], r.data.tags["fold"]) for r in seen.children.values()}
    assert len(drawn) == 8


def test_each_patient_is_tested_once_and_never_trained_on_where_tested(folded, tiny_cohort):
    plan, seen = folded
    tested = [case for fold in range(2) for case in plan.cases("test", fold)]
    assert sorted(tested) == sorted(tiny_cohort.index.index)
    for slot, run in seen.children.items():
        fold = int(run.data.tags["fold"]) - 1
        table = Run(run.info.run_id).read_table("test_patients.csv")
        assert list(table["case_id"]) == plan.cases("test", fold), slot
        split = Run(run.info.run_id).read_table("split.csv").set_index("case_id")["split"]
        assert set(split[table["case_id"]]) == {"test"}


def test_seeds_are_averaged_before_patients_are_counted(folded, tiny_cohort):
    plan, seen = folded
    patients = plan.parent.read_table("tables/test_patients.csv")
    assert (patients.groupby("trial")["case_id"].nunique() == len(tiny_cohort.index)).all()
    assert not patients.duplicated(["trial", "case_id"]).any()
    case = plan.cases("test", 1)[0]
    of_seeds = []
    for slot in ("one, fold 2", "one, seed 1, fold 2"):
        table = Run(seen.children[slot].info.run_id).read_table("test_patients.csv").set_index("case_id")
        of_seeds.append(table.loc[case, "mae_brain"])
    mine = patients[(patients["label"] == "one") & (patients["case_id"] == case)]
    assert mine["mae_brain"].item() == pytest.approx(sum(of_seeds) / 2, rel=1e-9)
    assert of_seeds[0] != of_seeds[1]


def test_the_spread_over_seeds_and_folds_is_kept(folded):
    plan, seen = folded
    spread = plan.parent.read_table("tables/spread.csv")
    assert len(spread) == 8
    assert set(zip(spread["seed"], spread["fold"])) == {(seed, fold) for seed in (0, 1) for fold in (1, 2)}
    row = spread[(spread["label"] == "two") & (spread["seed"] == 1) & (spread["fold"] == 2)].iloc[0]
    run = seen.children["two, seed 1, fold 2"]
    assert row["mae_brain"] == pytest.approx(run.data.metrics["test/mae_brain"], rel=1e-6)
    assert row["n"] == len(plan.cases("test", 1))


def test_repeats_can_be_added_later(tiny_cohort, no_report):
    once, before = ran("later", settings(tiny_cohort, train__epochs=1), TWO)
    twice, after = ran("later", settings(tiny_cohort, train__epochs=1, study__repeats=2), TWO)
    assert once.parent == twice.parent
    assert set(after.children) - set(before.children) == {"one, seed 1", "two, seed 1"}
    assert all(after.children[s].info.run_id == run.info.run_id for s, run in before.children.items())


def draw(trial, best):
    """A learning rate."""
    return {"train.learning_rate": trial.suggest_float("learning_rate", 1e-3, 4e-3, log=True)}


def test_the_winner_of_the_search_gets_the_other_seeds(tiny_cohort):
    config = settings(tiny_cohort, train__epochs=1, study__repeats=2, study__search=True, study__trials=3)
    plan, seen = ran("confirmed", config, {"one": TWO["one"]}, draw)
    (winner,) = plan.winner
    confirmed = {slot: run for slot, run in seen.children.items() if run.data.tags["phase"] == "confirm"}
    assert set(confirmed) == {f"{winner}, seed 1"}
    rates = {run.data.params["train.learning_rate"] for run in [*confirmed.values(), seen.children[winner]]}
    assert len(rates) == 1
    trials = plan.parent.read_table("tables/trials.csv").set_index("label")
    assert trials["runs"].to_dict() == {"one": 2, winner: 2}


def test_folds_are_stratified_and_hold_everybody_once():
    enhancing = pd.Series([i % 3 == 0 for i in range(20)], index=[f"p{i:02d}" for i in range(20)])
    folds = fold_patients(enhancing, 4, (0.6, 0.2, 0.2), seed=0)
    tested = [{patient for patient, part in fold.items() if part == "test"} for fold in folds]
    assert sorted(patient for part in tested for patient in part) == sorted(enhancing.index)
    assert all(len(part) == 5 and 1 <= enhancing[list(part)].sum() <= 2 for part in tested)
    assert all({"train", "val", "test"} == set(fold.values()) and len(fold) == 20 for fold in folds)
    assert folds == fold_patients(enhancing, 4, (0.6, 0.2, 0.2), seed=0)


@pytest.mark.parametrize(("count", "fractions"), [(1, (0.6, 0.2, 0.2)), (19, (0.6, 0.2, 0.2)), (4, (1.0, 0.0, 0.0))])
def test_folds_that_cannot_be_made_are_refused(count, fractions):
    enhancing = pd.Series([i % 2 == 0 for i in range(20)], index=[f"p{i:02d}" for i in range(20)])
    with pytest.raises(ValueError, match=r"--folds|folds need"):
        fold_patients(enhancing, count, fractions, seed=0)
