"""What a study leaves for those who look at it: the saved view, the last lines, the best trial, the search."""

from __future__ import annotations

import base64
import json
import zlib

import pytest
from mlflow.exceptions import MlflowException
from small import ran, settings

from lab.track import runs, view
from lab.track.searched import search_trials, shown_settings
from lab.track.store import connect, experiment_id


def unpacked(experiment: str, key: str) -> dict:
    tags = connect().get_experiment(experiment_id(experiment)).tags
    head, _, data = tags[f"mlflow.sharedViewState.{key}"].partition(";")
    assert head == "deflate"
    return json.loads(zlib.decompress(base64.b64decode(data)))


def test_the_view_shows_the_trials_of_one_study_best_first():
    key = view.leave_view("seen", "a1b2", "val/mae_brain")
    state = unpacked("seen", key)
    assert state["searchFilter"] == "tags.`mlflow.parentRunId` = 'a1b2'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`val/mae_brain`", True)
    assert "metrics.`test/ssim_brain`" in state["selectedColumns"]
    pages = view.links("seen", "a1b2", key)
    assert pages["all trials"].startswith(f"http://localhost:5000/#/experiments/{experiment_id('seen')}/runs?")
    assert f"viewStateShareKey={key}" in pages["all trials"]


def test_the_objective_is_shown_and_ranks_downwards_where_high_is_good():
    state = view.view_state("a1b2", "val/ssim_tumour")
    assert state["orderByAsc"] is False
    assert state["selectedColumns"][:2] == ["tags.`best`", "metrics.`val/ssim_tumour`"]


def test_a_store_that_refuses_the_view_is_not_spoken_of(monkeypatch, capsys):
    def refuse(*_):
        raise MlflowException("tags are not allowed here")

    monkeypatch.setattr(connect(), "set_experiment_tag", refuse)
    assert view.leave_view("refused", "a1b2", "val/mae_brain") is None
    assert list(view.links("refused", "a1b2", None)) == ["this study"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("seconds", "text"), [(48.3, "48 s"), (234, "3 min 54 s"), (7500, "2 h 5 min")])
def test_durations(seconds, text):
    assert view.duration(seconds) == text


def test_settings_of_a_search_trial_are_readable():
    drawn = {"width": 12, "norm": "batch", "learning_rate": 0.00312}
    assert shown_settings(drawn) == "width 12, norm batch, learning rate 0.0031"


def draw(trial, best):
    return {"train.learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True)}


def test_a_study_with_a_search_says_what_was_best_and_leaves_its_figure(tiny_cohort, capsys):
    config = settings(tiny_cohort, study__search=True, study__trials=3, study__prune=False, train__epochs=1)
    plan, seen = ran("searched", config, {"one": {"loss.name": "L1_brain"}}, draw)
    lines = capsys.readouterr().out.splitlines()
    report = lines[next(i for i, line in enumerate(lines) if line.startswith("searched: ")) :]
    assert all(len(line) <= 120 for line in report if "/" not in line)  # paths and links are as long as they are
    assert any(line.startswith("- Best on validation: ") for line in lines)
    assert any("all trials" in line and "viewStateShareKey" in line for line in lines)

    best = [run for run in seen.children.values() if run.data.tags.get("best") == "yes"]
    lowest = min(seen.children.values(), key=lambda run: run.data.metrics["val/mae_brain"])
    assert [run.info.run_id for run in best] == [lowest.info.run_id]
    parent = connect().get_run(plan.parent)
    assert parent.data.tags["best"] == lowest.data.tags["label"]
    note = parent.data.tags[runs.NOTE]
    assert f"**{lowest.data.tags['label']}**".replace("_", "\\_") in note
    assert note.startswith("**Phantom")
    assert "loss.name" not in parent.data.params  # the trials differ in it

    assert "figures/search.png" in {file.path for file in connect().list_artifacts(plan.parent, "figures")}
    table = search_trials(plan)
    assert table["state"].tolist() == ["finished", "finished"]
    assert table["learning_rate"].between(1e-3, 1e-2).all()
    shown = runs.read_table(plan.parent, "tables/trials.csv")
    assert shown["phase"].tolist() == ["grid", "search"]
