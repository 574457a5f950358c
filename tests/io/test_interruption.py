"""Ctrl-C and SIGTERM end a command wherever they come, with one line; a second one ends it at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from watching import ROOT

from lab.cli.study_command import exit_code_of
from lab.io.interruption import SAME_S

START = "import os, signal, sys, tempfile, threading, time, weakref\nfrom lab.cli.study_command import exit_code_of\n"
SWALLOWED = """
class Thing: pass
thing = Thing()
kept = weakref.ref(thing, lambda _: (os.kill(os.getpid(), signal.SIGINT), time.sleep(1)))
def work():
    global thing
    del thing
    time.sleep(60)
"""
CLEANING = """
def work():
    with tempfile.TemporaryDirectory() as folder:
        def fill():
            while True:
                os.makedirs(folder + "/x", exist_ok=True)
                open(folder + f"/x/{time.monotonic_ns()}", "w").close()
        threading.Thread(target=fill, daemon=True).start()
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
"""
FAILS_WHILE_CLOSING = """
def work():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        os.rmdir("/tmp")
"""
TWICE_AT_ONCE = """
closed = []
def work():
    try:
        os.kill(os.getpid(), signal.SIGTERM), os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)  # `timeout` sends it to the process and to its group
        time.sleep(0.2)
        print("closed in peace", flush=True)
"""


def run(code: str) -> subprocess.Popen[str]:
    code = f"{START}{code}\nsys.exit(exit_code_of(work))"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    pipes["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes)


@pytest.mark.parametrize("code", [SWALLOWED, CLEANING, FAILS_WHILE_CLOSING, TWICE_AT_ONCE])
def test_one_signal_is_one_line(code):
    process = run(code)
    out, err = process.communicate(timeout=50)
    assert process.returncode == 130, err
    assert err == "\ninterrupted; the same command goes on from the last finished epoch\n"
    assert ("closed in peace" in out) == (code is TWICE_AT_ONCE)


HANGS = """
def work():
    try:
        print("works", flush=True), time.sleep(60)
    finally:
        print("closing", flush=True), time.sleep(60)
"""


def test_a_second_one_ends_what_hangs():
    process = run(HANGS)
    assert process.stdout is not None
    assert process.stdout.readline() == "works\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "closing\n"
    time.sleep(SAME_S + 0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "\ninterrupted twice, and ended at once\n"


def test_a_command_that_starts_anew_does_not_promise_to_go_on(capsys):
    def work() -> None:
        raise KeyboardInterrupt

    assert exit_code_of(work, unit=None) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_a_wrong_path_is_all_that_is_told(tmp_path: Path, capsys):
    assert exit_code_of(lambda: (tmp_path / "nowhere").read_text()) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'nowhere'}: No such file or directory\n"
