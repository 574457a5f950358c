"""A study that is killed at any moment goes on as if nothing were, and gives up what kills it again and again."""

from __future__ import annotations

import pkgutil

import pytest
from small import ran, settings
from watching import look, states

from lab.experiments import worker
from lab.tracking.store import RUNS, connect

pytestmark = pytest.mark.usefixtures("no_drawing", "no_calibration")


class KilledHereError(BaseException):
    """Stands for kill -9 within this process: nothing may catch it."""


def test_a_trial_that_is_killed_again_and_again_is_given_up(tiny_cohort, monkeypatch, no_report):
    def die(job, on_epoch):
        raise KilledHereError

    with monkeypatch.context() as patch:
        patch.setattr(worker, "train_trial", die)
        for _ in range(worker.ATTEMPTS_ALLOWED):
            with pytest.raises(KilledHereError):
                ran("given-up", settings(tiny_cohort))
    _, seen = ran("given-up", settings(tiny_cohort))
    assert states(seen) == {"one": ("FAILED", "failed"), "two": ("FINISHED", "finished")}
    assert "killed 3 times with 0 epochs done" in seen.children["one"].data.tags["failure"]


MOMENTS = {
    "before the checkpoint": ("lab.synthesis.train.save_checkpoint", "'epoch': 2", "before"),
    "between checkpoint and figures": ("lab.synthesis.train.save_checkpoint", "'epoch': 2", "after"),
    "between MLflow and Optuna": ("lab.tracking.run.Run.log_metrics", "train/loss", "after"),
    "between the last figures": ("lab.tracking.run.Run.log_metrics", "val/ssim_brain", "after"),
    "between figures and model": ("lab.tracking.models.network.log_network", "", "before"),
    "after the model": ("lab.tracking.models.network.log_network", "", "after"),
    "between MLflow's end and Optuna's": ("lab.experiments.queue.Queue.tell", "", "before"),
    "before the checkpoint goes": ("lab.experiments.worker.remove_checkpoint", "", "before"),
    "between two trials": ("lab.tracking.run.Run.end", "'finished'", "after"),
    "test figures logged and not marked": ("lab.tracking.run.Run.log_metrics", "test/mae_image", "after"),
    "in the report": ("lab.experiments.synthesis.report.study_page", "", "before"),
}
"""What is killed: before or after the first call of a function in whose arguments a word occurs."""


def test_a_kill_at_any_moment_changes_nothing(tiny_cohort, monkeypatch):
    monkeypatch.setattr(worker, "ATTEMPTS_ALLOWED", len(MOMENTS))
    config = settings(tiny_cohort)
    never = ran("moments-never", config)[1]
    for moment, (target, word, when) in MOMENTS.items():
        with monkeypatch.context() as patch:
            kill_at(patch, target, word, when)
            with pytest.raises(KilledHereError):
                ran("moments", config)
        assert len(look(RUNS, "moments").parents) == 1, moment
    seen = ran("moments", config)[1]
    assert seen.results == never.results
    assert seen.metrics == never.metrics
    assert seen.statuses == {"FINISHED"}
    for run in seen.children.values():
        query = f"source_run_id = '{run.info.run_id}'"
        assert len(connect().search_logged_models([run.info.experiment_id], query)) == 1
    assert not list((RUNS / "work").glob("moments-*/*.checkpoint"))


def kill_at(patch, target, word, when):
    """Let a call of a function, one in whose arguments the word occurs, be the last thing that this process does."""
    original = pkgutil.resolve_name(target)

    def last(*args, **kwargs):
        if word not in repr((args, kwargs)):
            return original(*args, **kwargs)
        if when == "after":
            original(*args, **kwargs)
        raise KilledHereError

    patch.setattr(target, last)
