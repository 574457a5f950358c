"""The start of WORC's own process: `python -m lab.radiomics.worc.child JOB.json PIPE`; see `worc_process`.

Importing WORC writes to the home directory and reads fastr's configuration from disk, so nothing of it is imported
before this process has an environment of its own, and never by the lab itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lab.radiomics.worc.fastr import run_network
from lab.radiomics.worc.statistics import evaluate
from lab.radiomics.worc.training import Job, train_split

TASKS: dict[str, Callable[[Job], Any]] = {"split": train_split, "evaluate": evaluate, "network": run_network}


def main() -> None:
    """Do one job; its result is written last, to the file that the job names."""
    job: Job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    threading.Thread(target=_follow, args=(int(sys.argv[2]),), daemon=True).start()
    import WORC  # noqa: F401  before fastr, which reads its configuration once

    np.random.seed(job["seed"])  # noqa: NPY002 WORC draws from the global state
    result = TASKS[job["task"]](job)
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")


def _follow(pipe: int) -> None:
    """End with the parent, with all that was started here: its end of the pipe closes, however it ends."""
    os.read(pipe, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
