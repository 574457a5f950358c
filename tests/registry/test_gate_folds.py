"""A cross-validated network is judged by all its folds, each patient by a network that had not learned from them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from gated import failed, folded_runs, network_run, patients, refused, split_of, tags, through

from lab.registry.patients import common_patients, of_all_folds, read_tested
from lab.report.tables.model_figures import network_figures
from lab.tracking.run import Run
from lab.tracking.store import connect


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("lab.registry.candidate.network_figures", partial(network_figures, resamples=50))
    monkeypatch.setattr("lab.tracking.models.network.attach_code", lambda _: None)


def read(run: str, name: str = "the candidate"):
    return read_tested(Run(run), name)


def test_each_fold_alone_would_be_too_few_and_all_together_pass():
    """24 patients in 3 folds: 8 each, and at least 10 are asked for."""
    first, second, _ = folded_runs("folded", 24, 0.6)
    verdict = through(first, "folded").verdict
    assert verdict.passed
    assert {check.n for check in verdict.checks if check.figure == "contrast concordance"} == {24}
    assert verdict.notes == (
        "The candidate is judged over 3 folds (24 patients, each scored by a network that had not learned from them); "
        "the version holds the network of fold 1.",
    )
    assert connect().get_model_version("folded", "1").run_id == first
    text = Run(first).read_text("registered/folded-version-1/model_card.md")
    for part in (
        "24 test patients, of whom each was trained or validated on in the other folds. It is judged over 3 folds",
        "the version holds the network of fold 1",
        "| GE | MAE, brain |",
        "- patients in test: 8",
    ):
        assert part in text, part
    assert tags("folded")["interval/contrast_concordance"].endswith("n = 24")
    verdict = refused(second, "folded")  # the same network on another fold: no better than itself
    assert failed(verdict) == [("contrast concordance", "champion, version 1")]
    assert "Version 1 is judged over 3 folds" in verdict.notes[1]
    assert "the version holds the network of fold 2" in verdict.notes[0]
    assert verdict.notes[-1] == "Compared on 24 test patients of both (24 scans)."


def test_a_folded_network_that_is_no_better_than_its_rivals_is_refused():
    run = folded_runs("poor", 24, 0.2)[0]
    assert failed(refused(run, "poor")) == [("contrast concordance", "linear regression")]


def test_seeds_are_averaged_and_a_fold_that_is_missing_is_told():
    found = folded_runs("seeds", 24, 0.5, seeds=2, tested=2)
    own = read(found[0])
    assert len(own.patients) == 16
    assert "judged over 2 of 3 folds (16 patients" in own.notes[0]
    assert "the mean of 2 seeds" in own.notes[0]
    both = pd.concat([Run(run).read_table("test_patients.csv") for run in found[:2]])
    expected = both.groupby("case_id")["mae_brain"].mean()
    ours = own.patients.set_index("case_id").loc[expected.index, "mae_brain"]
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    assert len(own.learned) == 8  # the fold that nobody was tested in


def test_rows_of_patients_whom_a_fold_has_learned_from_are_left_out():
    found = folded_runs("leaky", 12, 0.5)
    one = connect().get_run(found[1])
    table = Run(found[1]).read_table("test_patients.csv")
    leaked = pd.concat([table, patients([0], 1.0, mae=0.0).assign(vendor="GE")])
    Run(one.info.run_id).log_table(leaked, "test_patients.csv")
    own = read(found[0])
    assert own.patients["case_id"].is_unique
    assert own.patients.set_index("case_id").loc["case-000", "mae_brain"] > 0.09


def test_against_a_champion_with_one_split_only_those_count_whom_it_has_not_seen():
    """The unfolded champion was tested on 12, trained on 8 and validated on 4 of the 24."""
    champion = network_run(
        "unfolded", patients(range(12), 0.3, noise=8), split=split_of(range(12), range(12, 20), range(20, 24))
    )
    through(champion, "beside-folds", force="to be compared with")
    run = folded_runs("beside", 24, 0.6)[1]
    verdict = through(run, "beside-folds").verdict
    assert verdict.checks[0].n == 12
    assert verdict.notes[1:] == (
        "12 of the 24 test patients of the candidate do not count: version 1 was trained or chosen on them and would "
        "be flattered.",
        "Compared on 12 test patients of both (12 scans).",
    )
    back, forth = read(run), read_tested(Run(champion), "version 1")
    assert back.learned == set()
    ours, theirs, _ = common_patients(forth, back, least=10)
    assert list(ours["case_id"]) == list(theirs["case_id"])
    assert len(ours) == 12


def test_a_study_without_folds_is_judged_by_its_own_run_alone():
    run = Run(network_run("alone", patients(range(12), 0.5)))
    assert of_all_folds(run) == [run]
    assert read_tested(run, "it").notes == ()


def test_runs_of_other_networks_and_unfinished_ones_do_not_count():
    found = folded_runs("among", 12, 0.5)
    client = connect()
    client.set_tag(found[1], "label", "another")
    client.set_tag(found[2], "state", "failed")
    assert of_all_folds(Run(found[0])) == [Run(found[0])]
