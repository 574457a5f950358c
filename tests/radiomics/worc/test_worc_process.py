"""What WORC's process sees, what it leaves behind, and how it can end; the program is a script of the test's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from lab.cli.study_command import exit_code_of
from lab.radiomics.worc import process as worc_process
from lab.radiomics.worc.child import check_sinks
from lab.radiomics.worc.process import WorcFailed, Workplace, last_words

START = """
import json, os, pathlib, subprocess, sys, time
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
"""


@pytest.fixture
def place(tmp_path):
    place = Workplace(folder=tmp_path / "work", log=tmp_path / "logs" / "log")
    place.prepare(seed=3, workers=2)
    return place


def program(tmp_path, monkeypatch, lines):
    script = tmp_path / "program.py"
    script.write_text(START + textwrap.dedent(lines), encoding="utf-8")
    monkeypatch.setattr(worc_process, "PROGRAM", (str(script),))


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().split(") ")[1][0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_environment_is_an_allow_list(place, tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "SSH_AUTH_SOCK", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    program(tmp_path, monkeypatch, "pathlib.Path(job['result']).write_text(json.dumps(dict(os.environ)))")
    seen = place.run({}, timeout_s=30)
    assert "secret" not in seen.values()
    own = {"HOME", "FASTRHOME", "TMPDIR", "PATH", "MPLBACKEND"} | {name for name in seen if name.endswith("_THREADS")}
    assert set(seen) <= own | set(worc_process.KEPT) | {"PYTHONWARNINGS", "PYTHONHASHSEED", "PYTHONUNBUFFERED"}
    for name in ("HOME", "FASTRHOME", "TMPDIR"):
        assert seen[name].startswith(str(place.folder))
    assert seen["PATH"].split(os.pathsep)[0] == os.path.dirname(sys.executable), "fastr's tools call `python`"


def test_what_it_writes_goes_into_its_folder_and_with_it(place, tmp_path, monkeypatch):
    home = tmp_path / "home of the user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    lines = """
    (pathlib.Path.home() / ".fastr").mkdir()
    pathlib.Path("WORC_x.svg").touch()
    pathlib.Path(job['result']).write_text("1")
    """
    program(tmp_path, monkeypatch, lines)
    assert place.run({}, timeout_s=30) == 1
    assert (place.folder / "home" / ".fastr").exists()
    assert (place.folder / "WORC_x.svg").exists()
    assert list(home.iterdir()) == []
    place.remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home of the user", "logs", "program.py"]


def test_fastr_reads_its_folders_and_the_seed_from_disk(place):
    text = (place.folder / "fastr" / "config.d" / "lab_config.py").read_text(encoding="utf-8")
    assert str(place.tmp) in text
    assert ".seed(3)" in text
    names = sorted(path.name for path in (place.folder / "fastr" / "config.d").iterdir())
    assert names == ["WORC_config.py", "lab_config.py"], "ours is read last"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("print('reading'); raise KeyError('no such label')", "exit code 1: KeyError: 'no such label'"),
        ("print('first'); print('all jobs failed')", "without a result: first / all jobs failed"),
        ("pathlib.Path(job['result']).write_text('{')", "without a result: it said nothing"),
        ("print('going'); os.kill(os.getpid(), 9)", "ended by SIGKILL: going"),
        ("time.sleep(60)", "did not end within 1 s"),
    ],
)
def test_every_end_without_a_result_is_an_error(place, tmp_path, monkeypatch, lines, reason):
    program(tmp_path, monkeypatch, lines)
    with pytest.raises(WorcFailed) as caught:
        place.run({}, timeout_s=1 if "sleep" in lines else 30)
    assert reason in str(caught.value)
    assert str(place.log) in str(caught.value)


def test_the_error_is_one_line_for_the_user(place, tmp_path, monkeypatch, capsys):
    program(tmp_path, monkeypatch, "raise ValueError('the reason')")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert exit_code_of(lambda: place.run({}, timeout_s=30)) == 2
    finally:
        signal.signal(signal.SIGTERM, handler)
    said = capsys.readouterr().err
    assert said.startswith("error: WORC ended with exit code 1: ValueError: the reason")
    assert said.count("\n") == 1


def test_what_it_started_ends_with_it(place, tmp_path, monkeypatch):
    lines = """
    child = subprocess.Popen(["sleep", "60"])
    pathlib.Path(job['result']).write_text(str(child.pid))
    """
    program(tmp_path, monkeypatch, lines)
    pid = place.run({}, timeout_s=30)
    assert wait_for(lambda: not alive(pid))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_parent(tmp_path, how):
    """The real start of the child, which follows a pipe; WORC is replaced by something that waits."""
    (tmp_path / "WORC.py").write_text("import time, os; open('pid', 'w').write(str(os.getpid())); time.sleep(60)\n")
    parent = f"""
import signal
from pathlib import Path
from lab.radiomics.worc.process import Workplace
signal.signal(signal.SIGTERM, signal.default_int_handler)
Workplace.environment = lambda self: {{**__import__('os').environ, 'PYTHONPATH': {str(tmp_path)!r}}}
place = Workplace(folder=Path({str(tmp_path)!r}) / 'work', log=Path({str(tmp_path)!r}) / 'log')
place.folder.mkdir()
place.run({{'seed': 0, 'task': 'split'}}, timeout_s=60)
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stderr=subprocess.DEVNULL)
    noted = tmp_path / "work" / "pid"
    assert wait_for(lambda: noted.exists() and noted.read_text(), 20), (tmp_path / "log").read_text()
    pid = int(noted.read_text())
    assert alive(pid)
    process.send_signal(how)
    process.wait(10)
    assert wait_for(lambda: not alive(pid))


def test_last_words_skip_what_worc_wraps_an_error_in(tmp_path):
    log = tmp_path / "log"
    wrapped = "Exception: An unexpected error has occured, which we have not catched in WORC. Double check your code"
    log.write_text(f"start\nWORC.addexceptions.WORCIOError: no such patient\n\n{wrapped}\n=====\n", encoding="utf-8")
    assert last_words(log) == "WORC.addexceptions.WORCIOError: no such patient"
    assert last_words(tmp_path / "none") == "it left no log"


def test_sinks_of_a_network_that_failed_silently(tmp_path):
    """As fastr writes them; where a job has failed the message has its error, and the log all it said."""
    tmp = tmp_path / "network"
    job = tmp / "classify" / "all"
    job.mkdir(parents=True)
    (job / "__fastr_stderr__.txt").write_text("Traceback\nValueError: one class only\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"did not run to its end .* classify of all: ValueError: one class only"):
        check_sinks(tmp)
    entry = {"status": "JobState.finished", "sample_status": "VALID", "errors": []}
    sinks = tmp / "__sink_data__.json"
    sinks.write_text(json.dumps({"performance": {"all": entry}}), encoding="utf-8")
    check_sinks(tmp)
    bad = {**entry, "sample_status": "FAILED"}
    sinks.write_text(json.dumps({"performance": {"all": entry}, "ROC": {"all": bad}}), encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"1 outputs are not valid, the first ROC of all \(FAILED\)"):
        check_sinks(tmp)
