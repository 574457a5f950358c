"""The command line: quick help, one clear line for a mistake, and the commands end to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lab.__main__ import main
from lab.data.cohort import open_cohort

ROOT = Path(__file__).parents[2]
SUFFIXES = ("t1n", "t1c", "t2w", "t2f", "seg")


def write_tree(root: Path) -> Path:
    """Two patients of 32 x 40 x 32 voxels of 5 mm, one with an enhancing label."""
    rng = np.random.default_rng(0)
    for number in range(2):
        case_id = f"BraTS-GLI-{number:05d}-000"
        (root / case_id).mkdir(parents=True)
        for suffix in SUFFIXES:
            data = np.zeros((32, 40, 32), np.float32)
            data[6:26, 6:34, 6:26] = rng.normal(100, 10, (20, 28, 20))
            if suffix == "seg":
                data = np.zeros_like(data)
                data[10:16, 10:16, 10:16] = 2
                data[12:15, 12:15, 12:15] = 3 if number else 1
            nib.save(nib.Nifti1Image(data, np.diag([5, 5, 5, 1])), root / case_id / f"{case_id}-{suffix}.nii.gz")
    return root


def run_module(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lab", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments", [("--help",), ("prepare", "--help"), ("phantom", "--help")])
def test_help_imports_nothing_that_is_slow(arguments):
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "lab", *arguments], capture_output=True, text=True, check=True
    )
    assert "usage: python -m lab" in result.stdout
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "tyro" in imported
    assert not imported & {"torch", "monai", "mlflow", "optuna", "pandas", "scipy", "sklearn", "matplotlib", "nibabel"}


def test_help_lists_the_settings_of_preparation():
    text = run_module("prepare", "--help").stdout
    for flag in ("SRC", "--out", "--inputs", "--spacing", "--enhancing-ml", "--allow-one-class", "--processes"):
        assert flag in text
    assert "--path" not in text


def test_prepare_makes_a_cohort_and_says_what_came_of_it(tmp_path, capsys):
    source, out = write_tree(tmp_path / "scans"), tmp_path / "out"
    arguments = ["prepare", str(source), "--out", str(out), "--spacing", "10", "--inputs", "T2", "FLAIR"]
    assert main([*arguments, "--processes", "1"]) == 0
    printed = capsys.readouterr().out
    assert "[2/2] BraTS-GLI-00001-000: prepared" in printed
    assert "2 scans of 2 patients prepared (1 enhances), 0 left out" in printed
    cohort = open_cohort(out)
    assert (cohort.channels, cohort.shape) == (("T2", "FLAIR", "T1", "T1GD"), (16, 19, 16))


@pytest.mark.parametrize("command", ["prepare", "phantom"])
def test_unwritable_output_is_one_line(command, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    source = [str(write_tree(tmp_path / "scans"))] if command == "prepare" else ["--subjects", "1", "--spacing", "8"]
    assert main([command, *source, "--out", str(tmp_path / "file" / "below")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "below" in error


def test_mistakes_are_one_line_on_stderr_and_exit_code_2(tmp_path, capsys):
    result = run_module("prepare", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"))
    assert result.returncode == 2
    assert result.stderr == f"error: {tmp_path / 'nowhere'} does not exist\n"
    assert main(["prepare", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as end:
        main(["prepare", str(tmp_path), "--out", "x", "--spacing", "wide"])
    assert end.value.code == 2


def test_phantom_numbers_are_checked(tmp_path, capsys):
    assert main(["phantom", "--out", str(tmp_path / "p"), "--subjects", "0"]) == 2
    assert "must be above 0" in capsys.readouterr().err


def test_phantom_takes_the_same_way_in_as_real_scans(tmp_path, capsys):
    tree, out = tmp_path / "phantom", tmp_path / "out"
    assert main(["phantom", "--out", str(tree), "--subjects", "2", "--seed", "3", "--spacing", "6"]) == 0
    assert main(["prepare", str(tree), "--out", str(out), "--processes", "1", "--allow-one-class"]) == 0
    assert "(phantom)" in capsys.readouterr().out
    cohort = open_cohort(out)
    assert cohort.phantom
    assert cohort.index.index.tolist() == ["EGD-0001", "EGD-0002"]
    assert cohort.spacing_mm == 6.0
    assert cohort.index["age"].notna().all()
