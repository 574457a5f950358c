"""`python radiomics/extract.py` through its door."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PARAMETERS = """
setting: {binCount: 16, minimumROISize: 26, label: 1, additionalInfo: false}
imageType: {Original: {}}
featureClass: {shape: [VoxelVolume], firstorder: [Mean], glcm: [Id]}
"""


def call(runs: Path, *flags: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LAB_RUNS": str(runs), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    command = [sys.executable, "radiomics/extract.py", *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def parameters(tmp_path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(PARAMETERS)
    return path


def test_table_left_out_and_stability(tiny_cohort, parameters, tmp_path):
    out = tmp_path / "new" / "features.csv"
    one = ("--data.inputs", "T1", "--data.processes", 1)
    flags = ("--data", tiny_cohort.path, "--out", out, "--parameters", parameters, *one)
    done = call(tmp_path / "runs", *flags, "--stability")
    assert done.returncode == 0, done.stderr
    assert "EGD-0003: left out, the tumour mask has 9 voxels, 27 are needed" in done.stdout
    assert "3 features of 11 phantom cases, 1 left out" in done.stdout
    assert "72 of 72 masks measured" in done.stdout
    table = pd.read_csv(out, index_col="case_id")
    assert table.shape == (11, 3)
    assert {name.split("_")[0] for name in table} == {"MASK", "T1"}
    left_out = pd.read_csv(tmp_path / "new" / "features_left_out.csv")
    assert left_out.to_dict("records") == [
        {"case_id": "EGD-0003", "reason": "the tumour mask has 9 voxels, 27 are needed"}
    ]
    icc = pd.read_csv(tmp_path / "new" / "features_stability.csv")
    assert list(icc["feature"]) == list(table.columns)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "features" / "cache").iterdir()}
    assert kept
    content = out.read_bytes()
    assert call(tmp_path / "runs", *flags).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert out.read_bytes() == content


def test_scans_are_prepared_on_the_way_and_the_default_place_is_told(tiny_phantom, parameters, tmp_path):
    done = call(tmp_path, "--data", tiny_phantom, "--parameters", parameters, "--data.processes", 1)
    assert done.returncode == 0, done.stderr
    (table,) = [path for path in (tmp_path / "features").glob("phantom-*.csv") if "left_out" not in path.name]
    assert str(table) in done.stdout
    assert {name.split("_")[0] for name in pd.read_csv(table, index_col="case_id")} == {"MASK", "T1", "T2", "FLAIR"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--data", "/nowhere"), "error: /nowhere"),
        (("--data.inputs", "T1", "T1GD"), "error: T1GD shows contrast agent"),
        (("--parameters", "nowhere.yaml"), "nowhere.yaml does not exist"),
        (("--parameters", "pyproject.toml"), "pyproject.toml: not a parameter file of pyradiomics"),
        (("--data", ".", "--phantom.seed", "3"), "--phantom settings do nothing with --data"),
        (("--out", "/proc/nowhere/x.csv"), "error: "),
        (("--out", "."), "no file can be written there"),
    ],
)
def test_mistakes_are_one_line(flags, message, tmp_path):
    done = call(tmp_path, *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.glob("phantom"))  # nothing was begun


@pytest.mark.parametrize("name", ["x.csv", "x_left_out.csv"])
def test_somebodys_table_is_not_replaced(name, tmp_path):
    (tmp_path / name).write_text("mine")
    done = call(tmp_path, "--out", tmp_path / "x.csv")
    assert done.returncode == 2
    assert f"{name} is not a file that this version has written" in done.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_help_answers_at_once():
    """Nothing slow is imported for it."""
    code = (
        "import runpy, sys; sys.argv = ['extract.py', '--help']\n"
        "try: runpy.run_path('radiomics/extract.py', run_name='__main__')\n"
        "except SystemExit as end: print(end.code, {'pandas', 'mlflow', 'SimpleITK'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().endswith("0 set()"), done.stderr
    assert "--stability" in done.stdout
