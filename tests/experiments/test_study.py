"""A study: what is run, what is run again, how it ends when something goes wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from mlflow.exceptions import MlflowException
from patients import logged
from small import grid_study, ran, settings
from watching import look, states

from lab.cli.study_command import exit_code_of
from lab.experiments import worker
from lab.experiments.synthesis import finish, study
from lab.experiments.synthesis.equal_time import with_equal_time
from lab.report.tables.patient_table import BASELINE_NAMES
from lab.synthesis.train import TrainingFailed
from lab.tracking.artifacts import Tag
from lab.tracking.models.network import download_package
from lab.tracking.run import Run
from lab.tracking.store import RUNS, StoreLost, connect

ONE = {"one": {"loss.name": "L1_brain"}}

pytestmark = pytest.mark.usefixtures("no_drawing", "no_calibration")


def test_a_second_call_reports_and_does_nothing_else(tiny_cohort, monkeypatch):
    config = settings(tiny_cohort)
    plan, first = ran("repeat", config)
    assert first.statuses == {"FINISHED"}
    monkeypatch.setattr(worker, "train_trial", lambda *_: pytest.fail("a finished trial was run again"))
    again, second = ran("repeat", config)
    assert again.parent == plan.parent
    assert second.results == first.results
    assert second.metrics == first.metrics
    names = {file.path for file in connect().list_artifacts(plan.parent.id)}
    assert {"report.html", "split.csv", "figures", "tables"} <= names
    assert set(plan.parent.read_table("tables/test_patients.csv")["label"]) == {"one", "two", *BASELINE_NAMES}


def test_more_trials_continue_and_other_settings_start_anew(tiny_cohort, no_report):
    grid = {f"trial {i}": {"train.seed": i} for i in range(4)}
    few, first = ran("more", settings(tiny_cohort, study__trials=2, train__epochs=1), grid)
    more, second = ran("more", settings(tiny_cohort, study__trials=4, train__epochs=1), grid)
    assert (list(first.children), list(second.children)) == (list(grid)[:2], list(grid))
    assert more.parent == few.parent
    assert all(second.children[slot].info.run_id == run.info.run_id for slot, run in first.children.items())
    longer, third = ran("more-epochs", settings(tiny_cohort, train__epochs=1), ONE)
    other = study.run_synthesis_study(grid_study("more-epochs", ONE), settings(tiny_cohort, train__epochs=2))
    assert other.parent != longer.parent
    steps = [m.step for m in connect().get_metric_history(other.parent.children()[0].id, "val/loss")]
    assert (len(third.metrics["one"]["val/loss"]), steps) == (1, [1, 2])


def test_a_trial_that_fails_does_not_end_the_study(tiny_cohort, capsys):
    grid = {"good": {}, "bad": {"train.learning_rate": 1e30, "train.clip_norm": 0.0}, "too": {"loss.name": "L2_brain"}}
    plan, seen = ran("failing", settings(tiny_cohort), grid)
    assert states(seen) == {
        "good": ("FINISHED", "finished"),
        "bad": ("FAILED", "failed"),
        "too": ("FINISHED", "finished"),
    }
    reason = seen.children["bad"].data.tags["failure"]
    assert re.match(r"(train|val)/loss became (nan|inf) in epoch \d; lower --train.learning-rate", reason)
    assert reason in capsys.readouterr().out
    assert {row[1] for row in seen.trials["grid"]} == {"COMPLETE", "FAIL"}
    assert plan.parent.status == "FINISHED"
    assert "good" in set(plan.parent.read_table("tables/trials.csv")["label"])
    assert any(file.path == "failure.txt" for file in connect().list_artifacts(seen.children["bad"].info.run_id))


def test_failed_trials_stay_failed_until_they_are_asked_for(tiny_cohort, monkeypatch, capsys):
    def fail(job, on_epoch):
        raise TrainingFailed("out of memory, say")

    with monkeypatch.context() as patch:
        patch.setattr(worker, "train_trial", fail)
        assert exit_code_of(lambda: ran("retry", settings(tiny_cohort), ONE)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: no trial has finished")
    failed = look(RUNS, "retry")
    assert states(failed) == {"one": ("FAILED", "failed")}
    assert failed.statuses == {"FAILED"}
    assert exit_code_of(lambda: ran("retry", settings(tiny_cohort), ONE)) == 2
    assert len(look(RUNS, "retry").trials["grid"]) == 1

    _, seen = ran("retry", settings(tiny_cohort, study__retry_failed=True), ONE)
    assert seen.statuses == {"FINISHED"}
    assert seen.children["one"].info.run_id == failed.children["one"].info.run_id
    assert not any("failure" in run.data.tags for run in (*seen.parents, *seen.children.values()))
    assert [row[1] for row in seen.trials["grid"]] == ["FAIL", "COMPLETE"]


def test_a_run_that_was_deleted_is_made_again(tiny_cohort, no_report):
    config = settings(tiny_cohort, train__epochs=1)
    _, before = ran("deleted", config)
    connect().delete_run(before.children["one"].info.run_id)
    _, after = ran("deleted", config)
    assert states(after) == states(before)
    assert after.metrics["one"] == before.metrics["one"]
    assert after.children["two"].info.run_id == before.children["two"].info.run_id
    connect().delete_run(after.parents[0].info.run_id)
    _, anew = ran("deleted", config)
    assert anew.statuses == {"FINISHED"}
    assert anew.metrics["two"] == before.metrics["two"]


def test_inputs_patients_and_time_may_differ_between_trials(tiny_cohort, monkeypatch, capsys):
    grid = {
        "all": {},
        "T2": {"data.inputs": ("T2",)},
        "4 patients": {"train.patients": 4},
        "T2, equal time": {"data.inputs": ("T2",), "train.epochs": 1},
    }
    timed = grid_study("varied", grid)
    timed = replace(timed, complete=partial(with_equal_time, reference={"T2, equal time": "all"}))
    config = settings(tiny_cohort, train__epochs=1)
    plan = study.run_synthesis_study(timed, config)
    runs = {run.tags[Tag.SLOT]: run for run in plan.parent.children()}
    assert set(runs) == set(grid)
    said = capsys.readouterr().out
    assert re.search(r"about \d+ s of training left: 4 networks", said)
    assert (runs["T2"].params["data.inputs"], runs["all"].params["train.patients"]) == ("('T2',)", "None")
    assert download_package(runs["T2"].tags[Tag.MODEL]).known["inputs"] == ["T2"]
    trained = {
        slot: set(run.read_table("split.csv").query("split == 'train'")["case_id"]) for slot, run in runs.items()
    }
    assert len(trained["4 patients"]) == 4
    assert trained["4 patients"] < trained["all"]
    tested = runs["4 patients"].read_table("test_patients.csv")
    assert set(tested["case_id"]) == set(runs["T2"].read_table("test_patients.csv")["case_id"])
    monkeypatch.setattr(finish, "finish", lambda *_: None)
    again = study.run_synthesis_study(timed, config)
    assert again.study.grid == plan.study.grid
    assert "4 of 4 trials ended in an earlier call" in capsys.readouterr().out


def draw(trial, best):
    """The sixth trial and later learn nothing."""
    rate = trial.suggest_float("learning_rate", 1e-3, 4e-3, log=True)
    return {"train.learning_rate": rate if trial.number < 5 else 1e-12}


@pytest.mark.parametrize("objective", ["val/mae_brain", "val/ssim_brain"])
def test_the_search_prunes_what_falls_behind(tiny_cohort, no_report, objective):
    config = settings(tiny_cohort, study__search=True, study__trials=8, study__objective=objective)
    _, seen = ran(f"pruning-{objective[4:]}", config, ONE, draw)
    assert [row[1] for row in seen.trials["search"]] == ["COMPLETE"] * 5 + ["PRUNED"] * 2
    assert states(seen)["search 07"] == ("KILLED", "pruned")
    assert len(seen.metrics["search 07"]["val/loss"]) == 1
    assert all(len(row[4]) for row in seen.trials["search"])
    assert set(seen.trials["search"][0][3]) == {"learning_rate"}


@pytest.mark.parametrize("error", [MlflowException("the server is away"), OSError(28, "No space left on device")])
def test_a_lost_store_stops_the_study_and_costs_no_trial(tiny_cohort, monkeypatch, capsys, no_report, error):
    name, config = f"lost-{type(error).__name__}", settings(tiny_cohort, train__epochs=3)
    log_metrics = Run.log_metrics

    def lose(run, figures, step=0):
        if step == 2:
            raise error
        log_metrics(run, figures, step)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log_metrics", lose)
        for _ in range(4):  # more often than a trial may be killed in the same epoch
            assert exit_code_of(lambda: ran(name, config)) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 4
    assert str(error) in printed
    assert "the same command goes on" in printed
    lost = look(RUNS, name)
    assert [row[1] for row in lost.trials["grid"]] == ["RUNNING", "WAITING"]
    _, seen = ran(name, config)
    _, never = ran("never-lost", config)  # once for all errors
    assert seen.results == never.results
    assert seen.children["one"].info.run_id == lost.children["one"].info.run_id
    assert seen.statuses == {"FINISHED"}


def test_a_full_disk_during_a_checkpoint_is_no_failure_of_the_trial(tiny_cohort, monkeypatch, no_report):
    def refuse(*_):
        raise OSError("the checkpoint could not be written")

    with monkeypatch.context() as patch:
        patch.setattr("lab.synthesis.train.save_checkpoint", refuse)
        with pytest.raises(StoreLost, match="could not be written"):
            ran("full-disk", settings(tiny_cohort))
    assert states(look(RUNS, "full-disk")) == {"one": ("KILLED", "interrupted")}
    assert look(RUNS, "full-disk").parents[0].info.status != "RUNNING"
    assert ran("full-disk", settings(tiny_cohort))[1].statuses == {"FINISHED"}


def test_interruption_closes_the_runs_and_the_next_call_goes_on(tiny_cohort, monkeypatch, capsys, no_report):
    log_metrics = Run.log_metrics

    def interrupted(run, figures, step=0):
        log_metrics(run, figures, step)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log_metrics", interrupted)
        assert exit_code_of(lambda: ran("interrupted", settings(tiny_cohort))) == 130
    assert "the same command goes on" in capsys.readouterr().err
    seen = look(RUNS, "interrupted")
    assert seen.statuses == {"KILLED"}
    assert [len(seen.metrics["one"]["train/loss"]), seen.trials["grid"][0][1]] == [1, "RUNNING"]
    after = ran("interrupted", settings(tiny_cohort))[1]
    assert after.statuses == {"FINISHED"}
    assert [step for step, _ in after.metrics["one"]["train/loss"]] == [1, 2]


def test_a_study_starts_from_another_networks_weights(tiny_cohort, capsys, no_finish):
    first, _ = ran("first", settings(tiny_cohort, train__epochs=1), ONE)
    source = first.parent.children()[0]
    config = settings(tiny_cohort, train__epochs=1, train__start_from=source.id, train__learning_rate=1e-12)
    second, _ = ran("second", config, ONE)
    said = f"one: starts from run {source.id}: "
    assert said in capsys.readouterr().out
    [run] = second.parent.children()
    theirs, ours = (download_package(one.tags["model_uri"]) for one in (source, run))
    weights = dict(ours.network.named_parameters())
    for name, tensor in theirs.network.named_parameters():
        assert torch.allclose(weights[name], tensor, atol=1e-9), name
    assert run.params["train.start_from"] == source.id
    assert run.tags["start_weights_sha256"] == theirs.weights_sha256
    assert run.tags["start_taken"].startswith(f"{len(theirs.network.state_dict())} of ")
    other = study.study_key(config, tiny_cohort, ["0" * 64])
    assert len({second.key, other, study.study_key(config, tiny_cohort)}) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__width": 3}, r"no kernel of model-0 .* fits model-0 \(width 3"),
        ({"data__inputs": ("T2", "T1")}, r"its network takes T1, T2, FLAIR, this one T2, T1"),
        ({"train__start_from": "0123"}, "there is no such run"),
        ({"augment__noise": -1.0}, "--augment.noise -1.0: 0 .off. or more"),
        ({"train__patch_sampling": "random"}, "needs the patches' edge, such as --train.patch-mm 64"),
        ({"train__patch_shares": (0.5, 0.5, 0.5)}, "three fractions .* that add up to 1"),
        ({"train__patches_per_patient": 0}, "--train.patches-per-patient 0: at least 1"),
    ],
)
def test_what_no_trial_could_start_with_is_refused_before_anything_is_created(tiny_cohort, changes, message):
    config = settings(tiny_cohort, **({"train__start_from": logged("refused")} | changes))
    with pytest.raises(ValueError, match=message):
        ran("refused-start", config, ONE)
    assert look(RUNS, "refused-start").parents == []


def test_augmentation_and_random_patches_are_parameters_of_a_run(tiny_cohort, no_report):
    grid = {"plain": {}, "changed": {"augment.use": "on", "train.patch_mm": 64.0, "train.patch_sampling": "random"}}
    plan, _ = ran("augmented", settings(tiny_cohort, train__epochs=1), grid)
    plain, changed = (run.params for run in sorted(plan.parent.children(), key=lambda run: run.tags["label"])[::-1])
    assert (plain["augment.use"], plain["augment.noise"], plain["train.patch_sampling"]) == ("off", "0.0", "centre")
    assert (changed["augment.use"], changed["augment.noise"]) == ("on", "0.05")
    assert changed["train.patch_sampling"] == "random"
