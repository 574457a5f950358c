"""WORC's process: isolated home directory and environment without credentials, with every failure raised as an error.

fastr writes its environment to its temporary folder, WORC to the home directory, and both to the working directory. A
failed WORC experiment ends like a successful one.
"""

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

KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT")  # all that a child inherits
PROGRAM = ("-m", "lab.radiomics.worc.child")
POLL_S = 0.2
LINES = 3  # last lines of a log shown in an error
WRAPPED = "An unexpected error has occured"  # text in which WORC wraps unexpected errors, with WORC's spelling
CONFIGURATION = """
mounts['output'] = {output!r}
mounts['tmp'] = {tmp!r}
process_pool_worker_number = {workers}
warn_develop = False
# The search draws from numpy's global state, in every process that fastr starts.
__import__('numpy').random.seed({seed})
"""


class WorcFailed(OSError):
    """WORC ended without its result; the message has WORC's own reason and the path of its log."""


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """The folder of one process (home, fastr's settings, temporary and output folders), and a log that is kept."""

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
        """Create empty folders and fastr's configuration, which every process started by fastr reads."""
        shutil.rmtree(self.folder, ignore_errors=True)
        settings = self.folder / "fastr" / "config.d"
        for path in (self.folder / "home", settings, self.tmp, self.output, self.log.parent):
            path.mkdir(parents=True, exist_ok=True)
        shutil.copy(_worc() / "fastrconfig" / "WORC_config.py", settings / "WORC_config.py")
        mounts = {"output": str(self.output), "tmp": str(self.tmp)}
        text = CONFIGURATION.format(**mounts, workers=workers, seed=seed)
        (settings / "lab_config.py").write_text(text, encoding="utf-8")  # read after WORC's

    def environment(self) -> dict[str, str]:
        """Environment of the child. Only listed variables pass, so no address, password or token of ours does."""
        own = {"HOME": str(self.folder / "home"), "FASTRHOME": str(self.folder / "fastr"), "TMPDIR": str(self.tmp)}
        own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
        own |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONUNBUFFERED"), "1")
        own |= {"MPLBACKEND": "Agg", "PYTHONWARNINGS": "ignore", "PYTHONHASHSEED": "0"}
        return {name: os.environ[name] for name in KEPT if name in os.environ} | own

    def run(self, job: dict[str, Any], *, timeout_s: float, watch: Callable[[], None] = lambda: None) -> Any:
        """Run a job of `lab.radiomics.worc.child` and return its result; `watch` is called repeatedly while it runs.

        All processes that it has started end with it, and it ends with this process. Raises WorcFailed for an error, a
        missing result or a timeout.
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
        if code := child.returncode:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise self.failure(how)
        try:
            return json.loads(result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise self.failure("ended without a result") from None

    def failure(self, what: str) -> WorcFailed:
        """The error for a log: `what` happened, WORC's reason, and the path of the log."""
        return WorcFailed(f"WORC {what}: {last_words(self.log)} (the whole log: {self.log})")

    def remove(self) -> None:
        """Delete the folder with fastr's dumps; the log stays."""
        shutil.rmtree(self.folder, ignore_errors=True)


def last_words(log: Path) -> str:
    """The reason at the end of a log: its last error, or its last lines."""
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return "it left no log"
    spoken = [line for line in lines if line and set(line) - set("-=#*~^ ")]
    return last_error(spoken) or " / ".join(spoken[-LINES:]) or "it said nothing"


def last_error(lines: list[str]) -> str:
    """The last line that ends a traceback, except WORC's wrapper of unexpected errors; "" if there is none."""
    return next((line.strip() for line in reversed(lines) if _is_error(line) and WRAPPED not in line), "")


def _is_error(line: str) -> bool:
    """Whether this is the last line of a traceback: `ValueError: ...`."""
    name = line.partition(":")[0]
    return name.replace(".", "").replace("_", "").isalnum() and name.endswith(("Error", "Exception", "Interrupt"))


def _wait(child: subprocess.Popen[bytes], timeout_s: float, watch: Callable[[], None]) -> bool:
    """Whether the child ended in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            child.wait(POLL_S)
            return True
        except subprocess.TimeoutExpired:
            watch()
    return False


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """Kill the process and all that it has started, which share its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _worc() -> Path:
    """The folder of the installed package, found without an import because that writes to the home directory."""
    spec = importlib.util.find_spec("WORC")
    if spec is None or spec.origin is None:
        raise WorcFailed("WORC is not installed; install the project with its requirements")
    return Path(spec.origin).parent
