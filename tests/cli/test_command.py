"""The command line of a study: quick help, one clear line for a mistake, nothing left running."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys

import pytest
import torch
from watching import ARCHITECTURE, ROOT, look

from lab.cli.study_command import exit_code_of, settings_for
from lab.config import DEMO, Config
from lab.tracking.store import RUNS

MISTAKES = {
    "unknown loss": (["--losses", "L3"], "There is no loss 'L3'"),
    "model 7": (["--models", "7"], "there is no network 'model-7'; choose from model-0, model-1,"),
    "unknown setting": (["--train.speed", "3"], "--train.speed"),
    "no number": (["--epochs", "many"], "many"),
    "a setting that the study varies": (["--model.id", "1"], "choose with --networks"),
    "phantom and data": (["--phantom.subjects", "5"], "do nothing with --data"),
    "unknown objective": (["--study.objective", "val/dice"], "val/mae_brain"),
    "no GPU": (["--train.device", "cuda:99"], "try `cpu`"),
    "no device": (["--train.device", "gpu"], "gpu"),
    "no trials": (["--trials", "0"], "--trials 0: at least 1"),
    "no epochs": (["--epochs", "0"], "must be at least 1"),
    "no workers": (["--workers", "0"], "must be at least 1"),
    "learning rate": (["--train.learning-rate", "-1"], "must be above 0"),
    "dropout": (["--model.dropout", "2"], "dropout"),
    "width": (["--model.width", "0"], "at least 1"),
    "models none": (["--models"], "no trials"),
    "no test patients": (["--data.split", "0.5", "0.5", "0"], "test 0"),
    "split": (["--data.split", "0.5", "0.5", "0.5"], "add up to 1"),
    "other voxel size": (["--spacing", "4"], "8 mm"),
    "sequence that is not there": (["--data.inputs", "ADC"], "no ADC"),
}


def run_architecture(monkeypatch, *words: str) -> int:
    """The study's script in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", [str(ARCHITECTURE), *words])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ARCHITECTURE), run_name="__main__")
    return end.value.code


@pytest.fixture(autouse=True)
def same_signals():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_and_leave_nothing_behind(mistake, tiny_cohort, monkeypatch, capsys):
    words, told = MISTAKES[mistake]
    before = look(RUNS).parents
    assert run_architecture(monkeypatch, "--data", str(tiny_cohort.path), *words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
    if error.startswith("error: "):  # else the parser's own frame
        assert error.count("\n") == 1
    assert len(look(RUNS).parents) == len(before)


def test_a_schedulers_signal_interrupts_also_what_a_shell_started_in_the_background(capsys):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `command &` does in a script
    try:
        assert exit_code_of(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "the same command goes on" in capsys.readouterr().err


def test_wrong_paths_are_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("no table of paths")
    for path in (tmp_path / "nowhere", tmp_path / "empty", tmp_path / "file.txt"):
        assert run_architecture(monkeypatch, "--data", str(path)) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert str(path) in error
        assert error.count("\n") == 1


def test_a_store_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    words = [sys.executable, "-m", "lab", "report", "architecture"]
    around = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment = around | {"LAB_RUNS": str(tmp_path / "file" / "runs")}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    error = done.stderr
    assert error.startswith("error: ")
    assert str(tmp_path / "file") in error
    assert error.count("\n") == 1


def test_help_imports_nothing_slow():
    code = (
        "import runpy, sys; sys.argv = ['architecture.py', '--help']\n"
        f"try: runpy.run_path({str(ARCHITECTURE)!r}, run_name='__main__')\n"
        "finally: print(sorted({'torch', 'mlflow', 'optuna', 'monai', 'matplotlib', 'nibabel', 'pandas'}"
        " & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0
    assert shown.stdout.endswith("[]\n")
    for flag in (
        "--data",
        "--trials",
        "--epochs",
        "--spacing",
        "--workers",
        "--seed",
        "--losses",
        "--models",
        "--search",
    ):
        assert flag in shown.stdout


def test_defaults_are_the_paper_s_with_data_and_the_demo_s_without(tmp_path):
    demo, paper = (settings_for(Config, words, varied={}) for words in ([], ["--data", str(tmp_path)]))
    assert (demo.model, demo.train, demo.data.spacing_mm) == (DEMO.model, DEMO.train, 4.0)
    assert (paper.model.width, paper.train.epochs, paper.data.spacing_mm) == (64, 300, None)
    assert paper.data.path == tmp_path


def test_a_gpu_that_is_not_there(monkeypatch, tiny_cohort, capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert run_architecture(monkeypatch, "--data", str(tiny_cohort.path), "--train.device", "cuda") == 2
    assert "this machine has 0 GPUs" in capsys.readouterr().err
