"""WORC in a process of its own: with its own home, no credentials, and an end that cannot be overlooked.

fastr writes the environment that it finds into its temporary folder, WORC writes to the home directory, both leave
files in the working directory, and a WORC experiment that has failed ends like one that has not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""All that a child gets to see of our environment."""
PROGRAM = ("-m", "lab.radiomics.worc.child")
POLL_S = 0.2
LINES = 3
"""Last lines of a log that an error shows."""
WRAPPED = "An unexpected error has occured"
"""How WORC hides an error, spelt as it does."""
CONFIGURATION = """
mounts['output'] = {output!r}
mounts['tmp'] = {tmp!r}
process_pool_worker_number = {workers}
warn_develop = False
# The search draws from numpy's global state, in every process that fastr starts.
__import__('numpy').random.seed({seed})
"""


class WorcFailed(OSError):
    """WORC ended without what it was started for; the message holds its own reason and the path of its log."""


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """A folder for one process: home, fastr's settings, temporary and output folders; and a log that outlives it."""

    folder: Path
    log: Path

    @property
    def tmp(self) -> Path:
        """fastr's temporary folder."""
        return self.folder / "tmp"

    @property
    def output(self) -> Path:
        """fastr's output folder."""
        return self.folder / "output"

    def prepare(self, *, seed: int, workers: int) -> None:
        """Empty folders, and fastr's configuration, which every process that it starts reads from here."""
        shutil.rmtree(self.folder, ignore_errors=True)
        settings = self.folder / "fastr" / "config.d"
        for path in (self.folder / "home", settings, self.tmp, self.output, self.log.parent):
            path.mkdir(parents=True, exist_ok=True)
        shutil.copy(_worc() / "fastrconfig" / "WORC_config.py", settings / "WORC_config.py")
        mounts = {"output": str(self.output), "tmp": str(self.tmp)}
        text = CONFIGURATION.format(**mounts, workers=workers, seed=seed)
        (settings / "lab_config.py").write_text(text, encoding="utf-8")  # after WORC's: they are read in this order

    def environment(self) -> dict[str, str]:
        """From a list of what is allowed, so that no address, password or token of ours is among it."""
        own = {
            "HOME": str(self.folder / "home"),
            "FASTRHOME": str(self.folder / "fastr"),
            "TMPDIR": str(self.tmp),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
            "PYTHONWARNINGS": "ignore",
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
        }
        return {name: os.environ[name] for name in KEPT if name in os.environ} | own

    def run(
        self,
        job: dict[str, Any],
        *,
        timeout_s: float,
        watch: Callable[[], None] = lambda: None,
    ) -> Any:
        """Do a job of `lab.radiomics.worc.child` and return its result; `watch` is called now and then while it runs.

        All that the process has started ends with it, and it ends with us. Raises WorcFailed where it ends with an
        error, without its result or not in time.
        """
        result, path = self.folder / "result.json", self.folder / "job.json"
        result.unlink(missing_ok=True)
        path.write_text(json.dumps({**job, "result": str(result)}), encoding="utf-8")
        ours, theirs = os.pipe()[::-1]
        try:
            with open(self.log, "ab") as log:
                child = subprocess.Popen(
                    [sys.executable, *PROGRAM, str(path), str(theirs)],
                    cwd=self.folder,
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs,),
                    start_new_session=True,
                )
            try:
                late = not _wait(child, timeout_s, watch)
            finally:
                _end_group(child)
        finally:
            os.close(ours)
            os.close(theirs)
        if late:
            raise self.failure(f"did not end within {timeout_s:g} s")
        if child.returncode:
            signalled = f"was ended by {signal.Signals(-child.returncode).name}" if child.returncode < 0 else ""
            raise self.failure(signalled or f"ended with exit code {child.returncode}")
        try:
            return json.loads(result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise self.failure("ended without a result") from None

    def failure(self, what: str) -> WorcFailed:
        """The error for a log: what happened, WORC's last words, and where to read on."""
        return WorcFailed(f"WORC {what}: {last_words(self.log)} (the whole log: {self.log})")

    def remove(self) -> None:
        """Delete the folder, fastr's dumps with it; the log stays."""
        shutil.rmtree(self.folder, ignore_errors=True)


def last_words(log: Path) -> str:
    """The reason at the end of a log: the last error and what follows, or its last lines."""
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return "it left no log"
    spoken = [line for line in lines if line and set(line) - set("-=#*~^ ")]
    return last_error(spoken) or " / ".join(spoken[-LINES:]) or "it said nothing"


def last_error(lines: list[str]) -> str:
    """The last line that ends a traceback, but for WORC's words round an error that it did not expect; else empty."""
    return next((line.strip() for line in reversed(lines) if _is_error(line) and WRAPPED not in line), "")


def _is_error(line: str) -> bool:
    """Whether this is the line of a traceback that says what went wrong: `ValueError: ...`."""
    name = line.partition(":")[0]
    return name.replace(".", "").replace("_", "").isalnum() and name.endswith(("Error", "Exception", "Interrupt"))


def _wait(child: subprocess.Popen[bytes], timeout_s: float, watch: Callable[[], None]) -> bool:
    """Whether it ended in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            child.wait(POLL_S)
            return True
        except subprocess.TimeoutExpired:
            watch()
    return False


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End the process and all that it has started, which share its session's group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _worc() -> Path:
    """The folder of the installed package, without importing it, which would write to the home directory."""
    spec = importlib.util.find_spec("WORC")
    if spec is None or spec.origin is None:
        raise WorcFailed("WORC is not installed; install the project with its requirements")
    return Path(spec.origin).parent
