"""Workers of a study: Ctrl-C closes their runs, a killed one leaves its trial to the others, none becomes an orphan."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from small import architecture
from watching import finished, look, start, wait_until

from lab.data.cohort import Cohort

pytestmark = pytest.mark.slow

SETTINGS = [
    *("--models", "0", "1", "--losses", "L1_brain", "L2_brain", "--epochs", "5", "--study.no-search"),
    *("--model.width", "4", "--model.depth", "2", "--train.batch-size", "4", "--train.learning-rate", "2e-3"),
]


def test_one_interrupted_one_killed(tiny_cohort: Cohort, runs_folder: Path, no_drawing: None):
    """All figures are those of one worker that nothing happened to."""
    words = ["--data", str(tiny_cohort.path), *SETTINGS]
    both_train = "SELECT count(DISTINCT run_uuid) FROM metrics WHERE key = 'train/loss'"
    process = start(runs_folder, *words, "--workers", "2", cores=2)
    wait_until(runs_folder / "mlflow.db", both_train, 2, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = finished(process, code=130)
    assert "the same command goes on" in err
    told = [line for line in err.splitlines() if line.startswith("Traceback")]
    assert len(told) <= err.count("Exception ignored")  # a signal in Python's own callbacks is shown, whoever starts it
    interrupted = look(runs_folder)
    assert "RUNNING" not in interrupted.statuses
    assert interrupted.parents[0].info.status == "KILLED"

    process = start(runs_folder, *words, "--workers", "2", cores=2)
    third_runs = "SELECT count(DISTINCT run_uuid) FROM metrics WHERE key = 'train/loss' AND step = 1"
    wait_until(runs_folder / "mlflow.db", third_runs, 3, process)
    workers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    never = architecture("one-worker", [*words, "--workers", "1"])  # meanwhile
    finished(process)
    seen = look(runs_folder)
    assert seen.statuses == {"FINISHED"}
    for slot, child in seen.children.items():
        assert seen.metrics[slot] == never.metrics[slot], slot
        assert slot not in interrupted.children or interrupted.children[slot].info.run_id == child.info.run_id
    assert sorted(seen.trials["grid"]) == sorted(never.trials["grid"])


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
