"""Handling of SIGINT and SIGTERM: the first signal interrupts a command, a second one ends it at once.

Python prints and drops a KeyboardInterrupt in a callback, such as that of a weak reference; here it is raised again.
Nothing can be raised while native code runs, so a thread counts the signals.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN_S = 0.05  # delay until a lost interruption is raised again (s)
SAME_S = 1.0  # signals within this time (s) count as one: `timeout` and some schedulers send two


class Interruption:
    """State of the handlers of SIGINT and SIGTERM in this process."""

    def __init__(self) -> None:
        self.asked, self.again, self.own = False, False, 0

    def handle(self, *_: object) -> None:
        """Raise KeyboardInterrupt once: the clean-up that follows is not interrupted."""
        if self.asked and not self.again:
            return
        self.asked, self.again = True, False
        raise KeyboardInterrupt

    def lost(self, what: Any) -> None:
        """Hook for `sys.unraisablehook`: schedule a lost KeyboardInterrupt to be raised again."""
        if not issubclass(what.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(what)
            return
        timer = threading.Timer(AGAIN_S, self._raise_again)
        timer.daemon = True
        timer.start()

    def _raise_again(self) -> None:
        self.again = True
        self.own += 1
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, signal.SIGTERM)  # a real signal, which wakes sleeping calls

    def count(self, signals: int) -> None:
        """Read signal numbers from a pipe, and end the process at the second external signal."""
        first = None
        while number := os.read(signals, 1):
            if number[0] not in SIGNALS:
                continue
            if self.own:
                self.own -= 1
            elif first is None:
                first = time.monotonic()
            elif time.monotonic() - first > SAME_S:
                os.write(2, b"\ninterrupted twice, and ended at once\n")
                os._exit(130)
        os.close(signals)


@contextmanager
def interruptible() -> Iterator[None]:
    """Context in which SIGTERM and SIGINT (unless a shell's `&` ignores it) interrupt; a second signal ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interruption = Interruption()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        if number is not signal.SIGINT or before[number] is not signal.SIG_IGN:
            signal.signal(number, interruption.handle)
    signals, write = os.pipe()
    os.set_blocking(write, False)
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=interruption.count, args=(signals,), daemon=True).start()
    hook, sys.unraisablehook = sys.unraisablehook, interruption.lost
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.set_wakeup_fd(wakeup)
        os.close(write)  # which ends the thread
        for number in SIGNALS:
            signal.signal(number, before[number])


def handle_worker_signals() -> None:
    """Let SIGTERM, which the driver sends, interrupt this worker process; leave Ctrl-C to the driver."""
    interruption = Interruption()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, interruption.handle)
    sys.unraisablehook = interruption.lost


def in_terminal() -> bool:
    """Whether the output goes to a terminal."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
