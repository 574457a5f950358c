"""What a store holds of a study, in a form that tests can compare."""

from __future__ import annotations

import functools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.entities import Run

ROOT = Path(__file__).parents[2]
QUICK = Path(__file__).parent / "quick"
"""On PYTHONPATH: no injected faults, no rendered figures."""
ARCHITECTURE = ROOT / "studies" / "architecture.py"
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
TIMES = ("cost/train_seconds", "cost/seconds_per_volume", "cost/peak_memory_mb", "study/seconds")
PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class Seen:
    """A study as its store has it."""

    parents: list[Run]
    children: dict[str, Run]
    """By slot."""
    metrics: dict[str, dict[str, list[tuple[int, float]]]]
    """Slot -> metric -> every (step, value), without times; the parent's under "parent"."""
    trials: dict[str, list[tuple[str, str, Any, Any, Any]]]
    """Phase -> slot, state, value, parameters and intermediate values of each Optuna trial."""

    @property
    def statuses(self) -> set[str]:
        """Of all runs."""
        return {run.info.status for run in (*self.parents, *self.children.values())}

    @property
    def best(self) -> list[str]:
        """Slots of the runs that are marked as the best."""
        return [slot for slot, run in self.children.items() if "best" in run.data.tags]

    @property
    def results(self) -> dict[str, Any]:
        """All that a study which was killed and continued must share with one that was not."""
        labels = {slot: run.data.tags["label"] for slot, run in self.children.items()}
        params = {slot: run.data.params for slot, run in self.children.items()}
        return {
            "labels": labels,
            "params": params,
            "states": states(self),
            "metrics": {slot: self.metrics[slot] for slot in self.children},
            "best": self.best,
            "trials": self.trials,
        }


def states(seen: Seen) -> dict[str, tuple[str, str]]:
    """Slot -> MLflow's status of the run, and the trial's own state."""
    return {slot: (run.info.status, run.data.tags["state"]) for slot, run in seen.children.items()}


def look(runs: Path, study: str = "architecture") -> Seen:
    """The store under `runs`, without what takes time to compute again."""
    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        return Seen([], {}, {}, {})
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [run for run in found if PARENT not in run.data.tags]
    own = {run.info.run_id for run in parents}  # trials of a deleted study stay behind
    children = [run for run in found if run.data.tags.get(PARENT) in own]
    slots = [run.data.tags["slot"] for run in children]
    assert len(set(slots)) == len(slots), f"a trial has two runs: {sorted(slots)}"
    named = dict(sorted(zip(slots, children)))
    metrics = histories(runs / "mlflow.db", {run.info.run_id: slot for slot, run in named.items()})
    if parents:
        metrics |= histories(runs / "mlflow.db", {parents[0].info.run_id: "parent"})
    return Seen(parents, named, metrics, trials(runs, study))


def histories(database: Path, slots: dict[str, str]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Slot -> every step of every metric of a run, doubled ones too; `slots` by run id.

    MLflow's own client asks once for each metric, which takes seconds.
    """
    found: dict[str, dict[str, list[tuple[int, float]]]] = {slot: {} for slot in slots.values()}
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT run_uuid, key, step, value FROM metrics ORDER BY key, step, timestamp")
        for run_id, name, step, value in rows:
            if run_id in slots and name not in TIMES:
                found[slots[run_id]].setdefault(name, []).append((step, value))
    return found


@functools.cache
def trial_storage(runs: Path) -> optuna.storages.RDBStorage:
    """Optuna's store, opened once: it checks its tables for a while."""
    return optuna.storages.RDBStorage(f"sqlite:///{runs / 'optuna.db'}")


def trials(runs: Path, study: str) -> dict[str, list[tuple[str, str, Any, Any, Any]]]:
    """Optuna's trials of each phase."""
    storage = trial_storage(runs)
    found = {}
    for name in optuna.get_all_study_names(storage):
        if name.startswith(f"{study}-"):
            loaded = optuna.load_study(study_name=name, storage=storage).get_trials()
            rows = [(t.user_attrs["slot"], t.state.name, t.value, t.params, t.intermediate_values) for t in loaded]
            found[name.rpartition("-")[2]] = rows
    return found


def start(runs: Path, *words: str, script: Path = ARCHITECTURE, cores: int = 1) -> subprocess.Popen[str]:
    """A study as a user starts it, in a process group of its own."""
    env = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}  # MLflow sets it itself
    env |= {"LAB_RUNS": str(runs), "OMP_NUM_THREADS": "1", "PYTHONPATH": quick_path(env.get("PYTHONPATH", str(ROOT)))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # as from a terminal, also where these tests were themselves started in the background and Ctrl-C is ignored
    pipes["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with on_cores(cores):
        return subprocess.Popen(
            [sys.executable, str(script), *words], cwd=ROOT, env=env, start_new_session=True, **pipes
        )


def quick_path(*folders: object) -> str:
    """PYTHONPATH of these folders with `QUICK` in front."""
    return os.pathsep.join(map(str, (QUICK, *folders)))


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Hold this process, and those that it starts, to a number of cores, where the system can.

    Each worker of pytest-xdist starts from a core of its own, other runs of pytest from any.
    """
    if not CORES:
        yield
        return
    before = os.sched_getaffinity(0)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    first = (int(worker.removeprefix("gw")) if worker else os.getpid()) % len(CORES)
    order = sorted(CORES, reverse=True)
    os.sched_setaffinity(0, (order[first:] + order[:first])[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def wait_until(database: Path, query: str, count: int, process: subprocess.Popen[str]) -> None:
    """Watch a SQLite database until a query counts at least so many. Fails when the process ends before."""
    while process.poll() is None:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            try:
                (found,) = connection.execute(query).fetchone()
            except sqlite3.OperationalError:  # locked
                found = 0
        if found >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"the study ended before it was killed: {process.communicate()}")


def finished(process: subprocess.Popen[str], code: int = 0, timeout: float = 240) -> tuple[str, str]:
    """Wait for a process; its stdout and stderr. Fails where the exit code is another."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == code, f"exit code {process.returncode}, expected {code}\n{out}\n{err}"
    return out, err
