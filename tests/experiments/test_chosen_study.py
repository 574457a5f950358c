"""Of several finished runs of a study none is taken in silence."""

from __future__ import annotations

import pytest
from gated import EXPERIMENT, finished_run

from lab.__main__ import main
from lab.experiments.synthesis.record import chosen_study, find_study


def study(name: str, auc: str, patients: int) -> str:
    facts = {"auc": auc, "dataset": "BraTS", "patients": patients}
    return finished_run(name, {"role": "study", "state": "finished"}, {"classifier.json": facts})


@pytest.fixture(scope="module")
def two() -> tuple[str, str]:
    return study("old", "0.60 (0.40 to 0.80)", 28), study("new", "0.70 (0.60 to 0.80)", 90)


def test_several_runs_are_told_apart_and_none_is_taken(two, capsys):
    with pytest.raises(ValueError, match="study 'gated' has 2 finished runs") as caught:
        chosen_study(EXPERIMENT, newest=False)
    for part in (*two, "BraTS, n = 28, AUC 0.60 (0.40 to 0.80)", "n = 90, AUC 0.70", "--run ID", "--newest"):
        assert part in str(caught.value)
    assert main(["promote", "--study", EXPERIMENT, "--name", "any"]) == 2
    assert "has 2 finished runs" in capsys.readouterr().err
    assert main(["promote", "--run", EXPERIMENT, "--name", "any"]) == 2  # a study's name in place of a run's
    assert "has 2 finished runs" in capsys.readouterr().err


def test_the_newest_is_taken_where_that_is_asked_for_and_is_said(two, capsys):
    assert chosen_study(EXPERIMENT, newest=True).id == two[1]
    assert find_study(EXPERIMENT).id == two[1]
    said = capsys.readouterr().out
    assert f"Using {two[1]} of " in said
    assert "the newest of 2 finished runs" in said
    assert main(["promote", "--study", EXPERIMENT, "--name", "any", "--newest"]) == 2  # which holds no model
    assert f"Using run {two[1]}, the newest of study gated" in capsys.readouterr().out


def test_a_control_with_shuffled_labels_is_never_taken(two):
    facts = {"auc": "0.50 (0.40 to 0.60)", "dataset": "BraTS", "patients": 90, "shuffled": True}
    control = finished_run("control", {"role": "study", "state": "finished"}, {"classifier.json": facts})
    assert find_study(EXPERIMENT).id == control  # its report can be read
    assert chosen_study(EXPERIMENT, newest=True).id == two[1]
    with pytest.raises(ValueError, match="has 2 finished runs"):
        chosen_study(EXPERIMENT, newest=False)
    assert chosen_study(control, newest=False).id == control


def test_a_run_is_taken_as_it_is(two):
    assert chosen_study(two[0], newest=False).id == two[0]
