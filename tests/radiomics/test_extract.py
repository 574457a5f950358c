"""`python radiomics/extract.py` through its door."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from radiomics.featureextractor import RadiomicsFeatureExtractor

from lab.tracking import store

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "radiomics" / "extract.py"
PARAMETERS = """
setting: {binCount: 16, minimumROISize: 26, label: 1, additionalInfo: false}
imageType: {Original: {}}
featureClass: {shape: [VoxelVolume], firstorder: [Mean], glcm: [Id]}
"""


class Done(NamedTuple):
    """What a command has left."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(tmp_path, monkeypatch, capsys) -> Iterator[Callable[..., Done]]:
    """Calls the script's `main` with flags; runs lie in `tmp_path / "runs"`."""
    spec = importlib.util.spec_from_file_location("extract_script", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)  # where dataclasses look for it
    spec.loader.exec_module(script)
    monkeypatch.setattr(store, "RUNS", tmp_path / "runs")
    monkeypatch.chdir(ROOT)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield lambda *flags: Done(script.main([str(flag) for flag in flags]), *capsys.readouterr())
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def parameters(tmp_path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(PARAMETERS)
    return path


def test_table_left_out_and_stability(call, tiny_cohort, parameters, tmp_path):
    out = tmp_path / "new" / "features.csv"
    one = ("--data.inputs", "T1", "--data.processes", 1)
    flags = ("--data", tiny_cohort.path, "--out", out, "--parameters", parameters, *one)
    done = call(*flags, "--stability")
    assert done.code == 0, done.err
    assert "EGD-0003: left out, the tumour mask has 9 voxels, 27 are needed" in done.out
    assert "3 features of 11 phantom cases, 1 left out" in done.out
    assert "72 of 72 masks measured" in done.out
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
    assert call(*flags).code == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert out.read_bytes() == content


def test_scans_are_prepared_on_the_way_and_the_default_place_is_told(call, tiny_phantom, parameters, tmp_path):
    done = call("--data", tiny_phantom, "--parameters", parameters, "--data.processes", 1)
    assert done.code == 0, done.err
    (table,) = [path for path in (tmp_path / "runs" / "features").glob("phantom-*.csv") if "left_out" not in path.name]
    assert str(table) in done.out
    assert {name.split("_")[0] for name in pd.read_csv(table, index_col="case_id")} == {"MASK", "T1", "T2", "FLAIR"}


def test_one_pair_is_measured_as_pyradiomics_does(call, parameters, tmp_path):
    rng = np.random.default_rng(0)
    values, mask = rng.normal(500, 90, (20, 22, 24)), np.zeros((20, 22, 24), np.uint8)
    mask[6:14, 7:15, 8:16], mask[8:11, 9:12, 10:13] = 2, 4
    scans = [sitk.GetImageFromArray(array) for array in (values.astype(np.float32), mask)]
    for name, scan in zip(("scan.nii.gz", "mask.nii.gz"), scans):
        scan.SetSpacing((1.0, 1.5, 3.0))
        sitk.WriteImage(scan, tmp_path / name)
    flags = ("--image", tmp_path / "scan.nii.gz", "--mask", tmp_path / "mask.nii.gz", "--parameters", parameters)
    done = call(*flags, "--out", tmp_path / "one.csv")
    assert done.code == 0, done.err
    (row,) = pd.read_csv(tmp_path / "one.csv", index_col="case_id").to_dict("index").items()
    scans[1] = sitk.Cast(scans[1] > 0, sitk.sitkUInt8)
    expected = RadiomicsFeatureExtractor(str(parameters)).execute(*scans)
    assert row == ("scan", pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-9))
    assert "--image and --mask belong together" in call(*flags[:2]).err
    assert "no image that can be read" in call(*flags[:2], "--mask", parameters).err


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
def test_mistakes_are_one_line(flags, message, call, tmp_path):
    done = call(*flags)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1, done.err
    assert not (tmp_path / "runs" / "phantom").exists()  # nothing was begun


@pytest.mark.parametrize("name", ["x.csv", "x_left_out.csv"])
def test_somebodys_table_is_not_replaced(name, call, tmp_path):
    (tmp_path / name).write_text("mine")
    done = call("--out", tmp_path / "x.csv")
    assert done.code == 2
    assert f"{name} is not a file that this version has written" in done.err
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
