"""Hundreds of damaged files, as the commands read them: refused by name, or read as if nothing were; see `fuzzing`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fuzzing
import pytest

PROCESSES = (("scans", "lists"), ("cohort", "models"))
"""Groups of files that one process damages one after the other; the processes run at once."""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_damaged_files_are_refused_by_name_or_read_right(tmp_path):
    root = Path(fuzzing.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "LAB_RUNS": str(tmp_path / "runs")}
    children = []
    for number, groups in enumerate(PROCESSES):
        place = tmp_path / str(number)
        place.mkdir()
        command = [sys.executable, fuzzing.__file__, str(place), *groups]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        children.append(subprocess.Popen(command, env=environment, cwd=tmp_path, **pipes))
    try:
        said = [child.communicate(timeout=360) for child in children]
    finally:
        for child in children:
            child.kill()
    assert all(child.returncode == 0 for child in children), "\n".join(errors for _, errors in said)
    found = [json.loads(out.splitlines()[-1]) for out, _ in said]
    failures = [failure for one in found for failure in one["failures"]]
    assert not failures, "\n".join(failures)
    assert all(one["seen"]["refused"] > 60 and one["peak"] < fuzzing.MEMORY for one in found)
    assert sum(sum(one["seen"].values()) for one in found) >= 200
