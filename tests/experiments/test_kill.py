"""kill -9 in the middle of a study, run again: same trials, same best, same metrics as a study never killed."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pytest
from small import architecture
from watching import Seen, look, start, wait_until

from lab.data.cohort import Cohort
from lab.tracking.store import RUNS

pytestmark = pytest.mark.slow

SETTINGS = [
    *("--models", "0", "1", "--losses", "L1_brain", "--epochs", "5", "--seed", "3"),
    *("--model.width", "4", "--model.depth", "2", "--train.batch-size", "4", "--train.learning-rate", "2e-3"),
    *("--workers", "1", "--search", "--trials", "4", "--augment.use", "on"),
]
"""Two trials of the grid and two of the guided search."""


@dataclass(frozen=True)
class Killed:
    """A study that was killed twice, looked at after every kill, and one never killed."""

    second: Seen
    searching: Seen
    end: Seen
    never: Seen


@pytest.fixture(scope="module")
def killed(tiny_cohort: Cohort, no_drawing: None, no_calibration: None) -> Killed:
    """Both studies end in this process, the one that was killed by going on with what its processes left."""
    words = ["--data", str(tiny_cohort.path), *SETTINGS]
    never = architecture("never", words)

    def kill(count: int) -> Seen:
        """Start the study, kill -9 it and all its processes when so many trials are in their second epoch."""
        process = start(RUNS, *words)
        second_epoch = "SELECT count(*) FROM metrics NATURAL JOIN runs WHERE key = 'train/loss' AND step = 2"
        ours = "experiment_id IN (SELECT experiment_id FROM experiments WHERE name = 'architecture')"
        wait_until(RUNS / "mlflow.db", f"{second_epoch} AND {ours}", count, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return look(RUNS)

    return Killed(kill(2), kill(4), architecture("architecture", words), never)


def test_the_kills_came_in_the_middle(killed):
    second, searching = killed.second, killed.searching
    assert [state for _, state, *_ in second.trials["grid"]] == ["COMPLETE", "RUNNING"]
    assert [state for _, state, *_ in searching.trials["search"]] == ["COMPLETE", "RUNNING"]
    assert (len(second.children), len(searching.children)) == (2, 4)


def test_nothing_is_left_running(killed):
    assert killed.end.statuses == {"FINISHED"}
    assert len(killed.end.parents) == 1


def test_same_trials_same_best_same_metrics_as_never_killed(killed):
    end, never = killed.end.results, killed.never.results
    assert len(never["labels"]) == 4
    assert never["best"] == killed.end.best != []
    for part, expected in never.items():
        assert end[part] == expected, part
    assert killed.end.metrics["parent"] == killed.never.metrics["parent"]


def test_no_step_is_missing_or_logged_twice(killed):
    for slot, metrics in killed.end.metrics.items():
        for name, history in metrics.items():
            steps = [step for step, _ in history]
            assert len(set(steps)) == len(steps), f"{slot}: {name} has steps {steps}"
        if slot != "parent":
            assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3, 4, 5]


def test_a_killed_trial_goes_on_in_its_own_run(killed):
    for earlier in (killed.second, killed.searching):
        for slot, child in earlier.children.items():
            assert killed.end.children[slot].info.run_id == child.info.run_id
    for earlier, slot in ((killed.second, killed.second.trials["grid"][1][0]), (killed.searching, "search 02")):
        before, after = earlier.metrics[slot]["train/loss"], killed.end.metrics[slot]["train/loss"]
        assert 2 <= len(before) < 5
        assert after[: len(before)] == before


def test_the_flags_do_what_they_say(killed):
    grid = [f"model {model}, L1_brain" for model in (0, 1)]
    assert list(killed.never.children) == [*grid, "search 01", "search 02"]
    for slot, child in killed.never.children.items():
        params = child.data.params
        assert (params["train.epochs"], params["train.seed"], params["train.batch_size"]) == ("5", "3", "4")
        if slot in grid:
            assert slot == f"{params['model.id'].replace('-', ' ')}, {params['loss.name']}"
