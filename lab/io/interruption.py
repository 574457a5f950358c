"""Ctrl-C and a scheduler's SIGTERM: the first ends a command soon, a second one ends it at once.

In a callback, such as that of a weak reference, Python prints KeyboardInterrupt and loses it; here it is raised again.
While native code computes nothing can be raised, so a thread counts the signals.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN_S = 0.05
"""Until an interruption that got lost is raised again."""
SAME_S = 1.0
"""Signals so close to each other are one: `timeout` and some schedulers send two."""


class Interruption:
    """What SIGINT and SIGTERM have asked of this process."""

    def __init__(self) -> None:
        self.asked, self.again, self.own = False, False, 0

    def handle(self, *_: object) -> None:
        """Raise KeyboardInterrupt, once: what is done because of it is not interrupted."""
        if self.asked and not self.again:
            return
        self.asked, self.again = True, False
        raise KeyboardInterrupt

    def lost(self, what: Any) -> None:
        """Python's hook for an exception that cannot be raised where it came up."""
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
        signal.pthread_kill(ident, signal.SIGTERM)  # a real signal, which wakes what sleeps

    def count(self, signals: int) -> None:
        """Read the numbers of signals from a pipe, and end the process at the second from outside."""
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
    """Within it SIGINT and SIGTERM interrupt, and a second one ends the process.

    SIGINT stays ignored where a shell's `&` has set it so; what a scheduler sends is an interruption all the same.
    """
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
    """From now on SIGTERM, which the driver sends, interrupts this process; Ctrl-C reaches all and is the driver's."""
    interruption = Interruption()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, interruption.handle)
    sys.unraisablehook = interruption.lost


def in_terminal() -> bool:
    """Whether the output goes to a terminal."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
