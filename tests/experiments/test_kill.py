"""kill -9 in the middle of a study, run again: same trials, same best, same metrics as a study never killed."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import psutil
import pytest
from watching import ARCHITECTURE, Seen, finished, look, start

from lab.cli.study_command import plain, settings_for
from lab.data.cohort import Cohort
from lab.experiments.synthesis.study import Study, run
from lab.tracking.store import RUNS

pytestmark = pytest.mark.slow

SETTINGS = [
    *("--models", "0", "1", "--losses", "L1_brain", "L2_brain", "--epochs", "5", "--seed", "3"),
    *("--model.width", "4", "--model.depth", "2", "--train.batch-size", "4", "--train.learning-rate", "2e-3"),
    *("--workers", "1", "--search", "--trials", "7", "--augment.use", "on"),
]
"""Four trials of the grid and three of the guided search."""


@dataclass(frozen=True)
class Killed:
    """A store that was killed several times, looked at after every kill, and the store of a study never killed."""

    third: Seen
    searching: Seen
    end: Seen
    never: Seen


@pytest.fixture(scope="module")
def never(tiny_cohort: Cohort, no_drawing: None) -> Seen:
    """The same study from its first to its last trial in this process."""
    spec = spec_from_file_location("architecture_study", ARCHITECTURE)
    assert spec is not None
    assert spec.loader is not None
    script = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(script)
    settings = settings_for(script.Architecture, ["--data", str(tiny_cohort.path), *SETTINGS], varied={})
    run(Study(name="never", question="", grid=script.grid(settings), search=script.search), plain(settings))
    return look(RUNS, "never")


@pytest.fixture(scope="module")
def killed(never: Seen, tiny_cohort: Cohort, fresh_databases: Path, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    words = ["--data", str(tiny_cohort.path), *SETTINGS]
    runs = Path(shutil.copytree(fresh_databases, tmp_path_factory.mktemp("killed") / "runs"))

    def kill(query: str, count: int) -> Seen:
        """Start the study, kill -9 it and all its processes as soon as the query counts so many; what is left."""
        process = start(runs, *words)
        wait_until(runs / "mlflow.db", query, count, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return look(runs)

    second_epoch = "SELECT count(*) FROM metrics WHERE key = 'train/loss' AND step = 2"
    third, searching = kill(second_epoch, 3), kill(second_epoch, 6)
    finished(start(runs, *words))
    return Killed(third, searching, look(runs), never)


def wait_until(database: Path, query: str, count: int, process: subprocess.Popen[str]) -> None:
    """Watch a SQLite database until a query counts at least so many. Fails when the process ends before."""
    while process.poll() is None:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            try:
                (found,) = connection.execute(query).fetchone()
            except sqlite3.OperationalError:  # locked
                found = 0
        if found >= count:
            return
        time.sleep(0.01)
    pytest.fail(f"the study ended before it was killed: {process.communicate()}")


def test_the_kills_came_in_the_middle(killed):
    third, searching = killed.third, killed.searching
    assert [state for _, state, *_ in third.trials["grid"]] == ["COMPLETE", "COMPLETE", "RUNNING", "WAITING"]
    assert [state for _, state, *_ in searching.trials["search"]] == ["COMPLETE", "RUNNING", "WAITING"]
    assert len(third.children) == 3


def test_nothing_is_left_running(killed):
    assert killed.end.statuses == {"FINISHED"}
    assert len(killed.end.parents) == 1


def test_same_trials_same_best_same_metrics_as_never_killed(killed):
    end, never = killed.end.results, killed.never.results
    assert len(never["labels"]) == 7
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
    for earlier in (killed.third, killed.searching):
        for slot, child in earlier.children.items():
            assert killed.end.children[slot].info.run_id == child.info.run_id
    slot = killed.third.trials["grid"][2][0]
    before, after = killed.third.metrics[slot]["train/loss"], killed.end.metrics[slot]["train/loss"]
    assert 2 <= len(before) < 5
    assert after[: len(before)] == before


def test_the_flags_do_what_they_say(killed):
    grid = [f"model {model}, {loss}" for loss in ("L1_brain", "L2_brain") for model in (0, 1)]
    assert list(killed.never.children) == sorted([*grid, "search 01", "search 02", "search 03"])
    for slot, child in killed.never.children.items():
        params = child.data.params
        assert (params["train.epochs"], params["train.seed"], params["train.batch_size"]) == ("5", "3", "4")
        if slot in grid:
            assert slot == f"{params['model.id'].replace('-', ' ')}, {params['loss.name']}"


def trained(metrics: dict[str, Any]) -> dict[str, Any]:
    """Without what is measured of a study's best network alone."""
    return {name: values for name, values in metrics.items() if not name.startswith("coverage/")}


def test_two_workers_one_interrupted_one_killed(killed, tiny_cohort: Cohort, runs_folder: Path):
    """Ctrl-C closes the runs; a worker that is killed leaves its trial to the others; all figures stay the same."""
    words = ["--data", str(tiny_cohort.path), *SETTINGS, "--workers", "2", "--study.no-search", "--trials", "4"]
    both_train = "SELECT count(DISTINCT run_uuid) FROM metrics WHERE key = 'train/loss'"
    process = start(runs_folder, *words, cores=2)
    wait_until(runs_folder / "mlflow.db", both_train, 2, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = finished(process, code=130)
    assert "the same command goes on" in err
    told = [line for line in err.splitlines() if line.startswith("Traceback")]
    assert len(told) <= err.count("Exception ignored")  # a signal in Python's own callbacks is shown, whoever starts it
    interrupted = look(runs_folder)
    assert "RUNNING" not in interrupted.statuses
    assert interrupted.parents[0].info.status == "KILLED"

    process = start(runs_folder, *words, cores=2)
    third_runs = "SELECT count(DISTINCT run_uuid) FROM metrics WHERE key = 'train/loss' AND step = 1"
    wait_until(runs_folder / "mlflow.db", third_runs, 3, process)
    workers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    finished(process)
    seen = look(runs_folder)
    assert seen.statuses == {"FINISHED"}
    for slot, child in seen.children.items():
        # another network is the best of fewer: which of them was calibrated is no matter here
        assert trained(seen.metrics[slot]) == trained(killed.never.metrics[slot]), slot
        assert slot not in interrupted.children or interrupted.children[slot].info.run_id == child.info.run_id
    assert sorted(seen.trials["grid"]) == sorted(killed.never.trials["grid"])


WORKER = """
import multiprocessing, os, signal, time

def body():
    from lab.experiments import worker
    worker.work = lambda *_: (print("works", flush=True), time.sleep(300))
    worker.work_apart(None, "grid", [], 0)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=body)
    process.start()
    print(process.pid, flush=True)
    process.join()
"""


def test_a_worker_ends_with_its_driver(runs_folder: Path, tmp_path: Path):
    """However the driver ends: an orphan would hold its trial's lock for as long as it trains."""
    (tmp_path / "driver.py").write_text(WORKER)
    process = start(runs_folder, script=tmp_path / "driver.py")
    assert process.stdout is not None
    worker = psutil.Process(int(process.stdout.readline()))
    assert process.stdout.readline() == "works\n"
    process.kill()
    assert psutil.wait_procs([worker], timeout=20)[1] == []
    process.communicate()
