"""Where a study's cohort comes from: the phantom, scans prepared on the way, or a cohort prepared before."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lab.config import DataConfig, PhantomConfig
from lab.data import source
from lab.data.cohort import Cohort
from lab.data.source import Ticker, describe_cohort, obtain

DATA = DataConfig(spacing_mm=8.0, processes=1)


class Clock:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def said() -> list[str]:
    return []


def state(folder: Path) -> dict[str, int]:
    """When each file below a folder was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_prepared_cohort_is_opened_as_it_is(tiny_cohort, tmp_path, said):
    cohort = obtain(DataConfig(path=tiny_cohort.path), PhantomConfig(), tmp_path, said.append)
    assert cohort.digest == tiny_cohort.digest
    assert list(tmp_path.iterdir()) == []
    assert said == [describe_cohort(cohort)]


def test_scans_are_prepared_once_and_found_again(tiny_phantom, tiny_cohort, tmp_path, said):
    data = dataclasses.replace(DATA, path=tiny_phantom)
    cohort = obtain(data, PhantomConfig(), tmp_path, said.append)
    assert cohort.digest == tiny_cohort.digest
    assert cohort.path.is_relative_to(tmp_path)
    assert "  12 of 12 cases prepared" in said
    before = state(cohort.path / "cases")
    said.clear()
    assert obtain(data, PhantomConfig(), tmp_path, said.append).path == cohort.path
    assert said[0] == f"Using {cohort.path}, prepared before"
    assert not any("cases prepared" in line for line in said)
    assert state(cohort.path / "cases") == before


@pytest.fixture(scope="module")
def first(tiny_phantom, tmp_path_factory) -> tuple[Path, Cohort]:
    """A folder with a cohort of the tiny phantom, prepared once."""
    runs = tmp_path_factory.mktemp("first")
    return runs, obtain(dataclasses.replace(DATA, path=tiny_phantom), PhantomConfig(), runs, print)


@pytest.mark.parametrize("later", [{"split_seed": 5}, {"split": (0.5, 0.25, 0.25)}, {"balance": True}])
def test_another_split_does_not_prepare_again(tiny_phantom, first, said, later):
    runs, cohort = first
    before = state(cohort.path / "cases")
    other = obtain(dataclasses.replace(DATA, path=tiny_phantom, **later), PhantomConfig(), runs, said.append)
    assert other.path == cohort.path
    assert state(cohort.path / "cases") == before


@pytest.mark.parametrize("recipe", [{"clip_sigma": 3.0}, {"enhancement_threshold": 0.2}, {"inputs": ("T1", "T2")}])
def test_another_recipe_is_another_cohort(tiny_phantom, first, said, recipe):
    runs, cohort = first
    other = obtain(dataclasses.replace(DATA, path=tiny_phantom, **recipe), PhantomConfig(), runs, said.append)
    assert other.path != cohort.path
    assert other.digest != cohort.digest


def test_without_a_path_the_phantom_is_made_once(tmp_path, said):
    phantom = PhantomConfig(subjects=6, seed=3)
    cohort = obtain(DATA, phantom, tmp_path, said.append)
    assert cohort.phantom
    assert len(cohort.index) == 6
    assert cohort.spacing_mm == 8
    assert describe_cohort(cohort).startswith("Phantom cohort: 6 patients")
    before = state(tmp_path / "phantom")
    assert said[0].startswith("Simulating 6 phantom patients at 8 mm")
    said.clear()
    assert obtain(DATA, phantom, tmp_path, said.append).digest == cohort.digest
    assert not any("Simulating" in line or "Preparing" in line for line in said)
    assert state(tmp_path / "phantom").items() >= {k: v for k, v in before.items() if k.endswith(".gz")}.items()


def test_balance_drops_patients_of_the_larger_class(tiny_cohort, tmp_path, said):
    whole = tiny_cohort.index["enhancing"]
    cohort = obtain(DataConfig(path=tiny_cohort.path, balance=True), PhantomConfig(), tmp_path, said.append)
    smaller = min(whole.sum(), (~whole).sum())
    assert 0 < smaller < len(whole) / 2
    assert (cohort.index["enhancing"].sum(), len(cohort.index)) == (smaller, 2 * smaller)
    assert f"{smaller} of {2 * smaller} scans enhance" in said[-1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"spacing_mm": 4.0}, "prepared at 8 mm, --spacing asks for 4 mm; leave the setting out or prepare"),
        ({"inputs": ("T1", "ADC")}, "has no ADC"),
        ({"target": "DWI"}, "has no DWI"),
        ({"clip_sigma": 3.0}, "prepared with clip_sigma 4.0, --data.clip-sigma asks for 3.0"),
        ({"extent_mm": (100.0, 100.0, 100.0)}, "prepared with extent_mm"),
    ],
)
def test_a_prepared_cohort_that_does_not_fit_is_refused(tiny_cohort, tmp_path, said, wrong, message):
    with pytest.raises(ValueError, match=message):
        obtain(DataConfig(path=tiny_cohort.path, **wrong), PhantomConfig(), tmp_path, said.append)


def test_a_path_that_is_not_there_is_named(tmp_path, said):
    with pytest.raises((ValueError, OSError), match="nowhere"):
        obtain(DataConfig(path=tmp_path / "nowhere"), PhantomConfig(), tmp_path, said.append)


def test_the_description_counts(tiny_cohort: Cohort):
    enhancing = int(tiny_cohort.index["enhancing"].sum())
    assert describe_cohort(tiny_cohort) == (
        f"Phantom cohort: 12 patients, {enhancing} of 12 scans enhance, 20 x 24 x 20 voxels of 8 mm, 0 left out, "
        f"digest {tiny_cohort.digest}"
    )


def test_progress_comes_every_few_seconds_and_at_the_end(said, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(source, "time", clock)
    ticker = Ticker("cases", said.append, every_s=5)
    for done, clock.now in [(1, 1.0), (2, 6.0), (3, 7.0), (4, 8.0)]:
        ticker(done, 4, "A: prepared")
    assert said == ["  2 of 4 cases", "  4 of 4 cases"]


def test_who_is_left_out_is_always_said(said, monkeypatch):
    monkeypatch.setattr(source, "time", Clock())
    Ticker("cases", said.append)(1, 4, "A: left out, no T2")
    assert said == ["  A: left out, no T2"]
