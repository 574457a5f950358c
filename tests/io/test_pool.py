"""Jobs in processes: all results come, whatever kills a worker and wherever none can start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.io.pool import run_all

ROOT = Path(__file__).parents[2]
UNGUARDED = """
from dataclasses import dataclass
from lab.io.pool import run_all
@dataclass
class Square:
    number: int
    def run(self):
        return self.number**2
print(sorted(run_all({number: Square(number) for number in range(4)}, 2)))
"""


@dataclass(frozen=True)
class Square:
    number: int

    def run(self) -> int:
        return self.number**2


class Deadly:
    """Kills its process, as the kernel does when memory runs out."""

    def run(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("processes", [1, 2])
def test_every_job_is_done_once(processes):
    assert dict(run_all({number: Square(number) for number in range(5)}, processes)) == {0: 0, 1: 1, 2: 4, 3: 9, 4: 16}


def test_a_job_that_kills_its_worker_costs_only_itself():
    assert dict(run_all({"deadly": Deadly(), "one": Square(1), "two": Square(2)}, 2)) == {
        "deadly": None,
        "one": 1,
        "two": 4,
    }


def test_where_every_job_kills_its_worker_this_process_lives():
    assert dict(run_all({"one": Deadly(), "other": Deadly()}, 2)) == {"one": None, "other": None}


def test_where_no_worker_can_start_this_process_does_the_work(tmp_path):
    """A script without the guard that processes need: every worker runs it anew and dies at its start."""
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED)
    path = {"PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))}
    done = subprocess.run(
        [sys.executable, str(script)], env=os.environ | path, capture_output=True, text=True, timeout=180
    )
    assert done.stdout == "[(0, 0), (1, 1), (2, 4), (3, 9)]\n", done.stderr
