"""What a study leaves for those who look at it: the saved view, the last lines, the best trial, the search."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import pytest
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from small import ran, settings

from lab.experiments.synthesis.search_results import search_trials, shown_settings
from lab.tracking import view
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run
from lab.tracking.store import connect, experiment_id

FIGURES = {
    "train/loss": 0.2,
    "val/loss": 0.3,
    "val/mae_brain": 0.1,
    "val/dice_pooled_rule": 0.4,
    "test/mae_brain": 0.12,
    "test/contrast_pooled": 0.3,
    "test/dice_pooled_rule": 0.5,
    "test/contrast_rule": 0.7,
    "cost/train_seconds": 9.0,
}


def unpacked(experiment: str, key: str) -> dict:
    tags = connect().get_experiment(experiment_id(experiment)).tags
    head, _, data = tags[f"mlflow.sharedViewState.{key}"].partition(";")
    assert head == "deflate"
    return json.loads(zlib.decompress(base64.b64decode(data)))


def study_of(experiment: str, trials: Sequence[str], **more: float) -> Run:
    """A parent with a trial for each label; `more` are metrics, "__" for the slash."""
    client = connect()
    parent = client.create_run(experiment_id(experiment), run_name="study").info.run_id
    figures = FIGURES | {name.replace("__", "/"): value for name, value in more.items()}
    for label in trials:
        tags = {Tag.PARENT: parent, "label": label}
        child = client.create_run(experiment_id(experiment), run_name=label, tags=tags).info.run_id
        client.log_batch(child, metrics=[Metric(name, value, 0, 0) for name, value in figures.items()])
    return Run(parent)


def left(experiment: str, parent: Run, *options: Any) -> tuple[dict, dict]:
    """The states of the table and of the charts as they are in the store."""
    keys = view.save_views(parent, "val/mae_brain", *options)
    assert keys is not None
    return unpacked(experiment, keys["table"]), unpacked(experiment, keys["charts"])


def test_the_views_show_the_trials_of_one_study_flat_and_best_first():
    for state in left("seen", study_of("seen", ["one", "two"])):
        parent = connect().search_runs([experiment_id("seen")], "run_name = 'study'")[0].info.run_id
        assert state["searchFilter"] == f"tags.`mlflow.parentRunId` = '{parent}'"
        assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`val/mae_brain`", True)
        assert state["runsHiddenMode"] == "SHOW_ALL"
        assert "groupBy" not in state


def test_the_columns_are_those_that_any_trial_has():
    parent = study_of("columns", ["one"], test__dice_pooled_expert=float("nan"))
    table, _ = left("columns", parent, ["model.id"])
    shown = ["val/mae_brain", "test/mae_brain", "test/contrast_pooled", "test/dice_pooled_rule", "cost/train_seconds"]
    assert table["selectedColumns"] == ["tags.`best`", *(f"metrics.`{name}`" for name in shown), "params.`model.id`"]
    assert table["columnOrder"][2:] == table["selectedColumns"]
    assert set(table["columnOrder"]) == set(table["columnWidths"])

    table, _ = left("columns", study_of("columns", ["one"], test__dice_pooled_expert=0.3), [], ("grid", "search"))
    assert "metrics.`test/dice_pooled_expert`" in table["selectedColumns"]
    assert table["selectedColumns"][:2] == ["tags.`best`", "tags.`phase`"]


@pytest.mark.parametrize(
    ("objective", "ascending"),
    [
        ("val/mae_balanced", True),
        ("val/ssim_tumour", False),
        ("val/dice_pooled_rule", False),
        ("val/hallucinated_ml_rule", True),
    ],
)
def test_ranking_follows_the_objective(objective, ascending):
    assert view.view_state("a1b2", objective)["orderByAsc"] is ascending


def test_trials_of_one_label_stand_behind_their_mean():
    table, charts = left("repeats", study_of("repeats", ["one", "two", "one"]))
    for state in (table, charts):
        assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "label"}]
    assert table["groupsExpanded"] == {"tag.label.one": False, "tag.label.two": False}
    assert charts["groupsExpanded"] == {}


def test_every_chart_has_data_and_stands_in_a_section_that_is_open():
    _, state = left("charts", study_of("charts", ["one"], val__sharpness=0.5), ["model.id", "loss.name"])
    cards, sections = state["compareRunCharts"], {entry["uuid"]: entry for entry in state["compareRunSections"]}
    assert len({card["uuid"] for card in cards}) == len(cards)
    assert all(sections[card["metricSectionId"]]["display"] for card in cards)
    bars = {(card["metricKey"], card["metricSectionId"]) for card in cards if card["type"] == "BAR"}
    assert bars == {
        ("test/contrast_pooled", "Higher is better"),
        ("test/dice_pooled_rule", "Higher is better"),
        ("val/mae_brain", "Lower is better"),
        ("test/mae_brain", "Lower is better"),
        ("test/contrast_rule", "Nearer to 1 is better"),
    }
    dots = [(card["xaxis"]["key"], card["yaxis"]["key"]) for card in cards if card["type"] == "SCATTER"]
    against = [("test/mae_brain", f"test/{name}") for name in ("contrast_pooled", "dice_pooled_rule")]
    assert dots == [*against, ("cost/train_seconds", "test/mae_brain")]
    (lines,) = (card for card in cards if card["type"] == "PARALLEL")
    assert lines["selectedParams"] == ["model.id", "loss.name"]
    assert lines["selectedMetrics"] == ["val/dice_pooled_rule", "val/mae_brain"]
    assert [card["metricKey"] for card in cards if card["type"] == "LINE"] == [
        "train/loss",
        "val/loss",
        "val/mae_brain",
    ]
    assert [name for name, entry in sections.items() if not entry["display"]] == [
        "cost",
        "val",
    ]  # of what has no curve or bar


def test_charts_of_a_search_compare_what_all_its_trials_have():
    _, state = left("search charts", study_of("search charts", ["one"]), ["loss.name"], ("grid", "search"))
    bars = {card["metricKey"] for card in state["compareRunCharts"] if card["type"] == "BAR"}
    assert bars == {"val/mae_brain", "val/dice_pooled_rule"}


def test_links_lead_to_the_views():
    study = study_of("linked", [])
    pages = view.links(study, {"table": "a1b2", "charts": "a1b2-charts"})
    start = f"http://localhost:5000/#/experiments/{experiment_id('linked')}/runs"
    assert pages["all trials"].startswith(f"{start}?viewStateShareKey=a1b2&")
    assert pages["charts"].startswith(f"{start}?viewStateShareKey=a1b2-charts&compareRunsMode=CHART&")
    assert pages["this study"].startswith(f"{start}/{study.id}?")


def test_the_note_compares_no_more_than_twelve():
    ids = [f"{number:032x}" for number in range(20)]
    text = view.note_links(study_of("linked", []), {"table": "a1b2", "charts": "a1b2-charts"}, ids)
    place = re.search(r"\[the best 12 side by side\]\(#/compare-runs\?(.*)\)", text)
    assert place is not None
    query = parse_qs(place[1])
    assert json.loads(query["runs"][0]) == ids[:12]
    assert json.loads(query["experiments"][0]) == [experiment_id("linked")]
    assert text.count("](#/") == 3
    assert view.note_links(study_of("linked", []), None, []) == ""


def test_a_store_that_refuses_the_view_is_not_spoken_of(monkeypatch, capsys):
    def refuse(*_):
        raise MlflowException("tags are not allowed here")

    monkeypatch.setattr(connect(), "set_experiment_tag", refuse)
    study = study_of("refused", ["one"])
    assert view.save_views(study, "val/mae_brain") is None
    assert list(view.links(study, None)) == ["this study"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("seconds", "text"), [(48.3, "48 s"), (234, "3 min 54 s"), (7500, "2 h 5 min")])
def test_durations(seconds, text):
    assert view.duration(seconds) == text


def test_settings_of_a_search_trial_are_readable():
    drawn = {"width": 12, "norm": "batch", "learning_rate": 0.00312}
    assert shown_settings(drawn) == "width 12, norm batch, learning rate 0.0031"


def draw(trial, best):
    return {"train.learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True)}


def test_a_study_with_a_search_says_what_was_best_and_leaves_its_figure(
    tiny_cohort, no_drawing, no_calibration, capsys
):
    config = settings(tiny_cohort, study__search=True, study__trials=3, study__prune=False, train__epochs=1)
    plan, seen = ran("searched", config, {"one": {"loss.name": "L1_brain"}}, draw)
    lines = capsys.readouterr().out.splitlines()
    report = lines[next(i for i, line in enumerate(lines) if line.startswith("searched: ")) :]
    assert [line for line in report if len(line) > 120 and "/" not in line] == []  # paths are as long as they are
    assert any(line.startswith("- Best on validation: ") for line in lines)
    assert any("all trials" in line and "viewStateShareKey" in line for line in lines)

    best = [run for run in seen.children.values() if run.data.tags.get("best") == "yes"]
    lowest = min(seen.children.values(), key=lambda run: run.data.metrics["val/mae_brain"])
    assert [run.info.run_id for run in best] == [lowest.info.run_id]
    parent = connect().get_run(plan.parent.id)
    assert parent.data.tags["best"] == lowest.data.tags["label"]
    note = parent.data.tags[Tag.NOTE]
    assert f"**{lowest.data.tags['label']}**".replace("_", "\\_") in note
    assert note.startswith("**Phantom")
    assert "loss.name" not in parent.data.params  # the trials differ in it

    assert "Guided search" in plan.parent.read_text("report.html")
    table = search_trials(plan)
    assert table["state"].tolist() == ["finished", "finished"]
    assert table["learning_rate"].between(1e-3, 1e-2).all()
    shown = plan.parent.read_table("tables/trials.csv")
    assert shown["phase"].tolist() == ["grid", "search"]
