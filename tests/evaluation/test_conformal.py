"""Voxel intervals: what they promise is kept for new patients, wherever the spread comes from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lab.evaluation.conformal import (
    COVERAGES,
    GRID,
    Curve,
    Held,
    Intervals,
    choose_floor,
    coverage_summary,
    coverage_table,
    curve_of,
    fit_intervals,
    ratios,
    regions_of,
    shares_inside,
)
from lab.io.case_file import BRAIN, ENHANCEMENT, EXPERT, TUMOUR

SHAPE = (14, 14, 14)


def head() -> np.ndarray:
    """Bit flags: a brain with a tumour, of which a part enhances."""
    flags = np.zeros(SHAPE, np.uint8)
    flags[1:13, 1:13, 1:13] = BRAIN
    flags[4:8, 4:8, 4:8] |= TUMOUR
    flags[5:7, 5:7, 5:7] |= ENHANCEMENT
    return flags


REGIONS = regions_of(head(), 3.0)


def patient(number: int, rng: np.random.Generator, *, harder: float = 0.6, honest: bool = True):
    """A curve of a patient whose errors are his own: some heads are harder than others, tumours harder than brains."""
    spread = rng.uniform(0.5, 2.0, SHAPE).astype(np.float32)
    size = np.exp(harder * rng.standard_normal()) * np.where(REGIONS["tumour"], 3, 1) * (spread if honest else 1)
    error = (rng.standard_normal(SHAPE) * size).astype(np.float32)
    return curve_of(f"p{number}", ratios(error, np.zeros(SHAPE, np.float32), spread, 0.1), REGIONS)


def test_regions():
    assert not (REGIONS["brain"] & REGIONS["tumour"]).any()
    assert (REGIONS["brain"] | REGIONS["tumour"]).sum() == 12**3
    assert REGIONS["tumour"].sum() > 4**3  # and what is near
    assert REGIONS["enhancing"].sum() == 2**3
    labelled = head()
    labelled[6, 6, 6] |= EXPERT
    assert regions_of(labelled, 3.0)["enhancing"].sum() == 1  # the expert's label, where there is one


def test_a_factor_holds_just_the_share_that_is_asked_for():
    """By hand: of 10 voxels with errors 1 to 10 and a spread of 1, nine are inside with the factor 9."""
    error = np.arange(1, 11, dtype=np.float32).reshape(10, 1, 1)
    region = {"brain": np.ones((10, 1, 1), bool)}
    needed = ratios(error, np.zeros_like(error), np.ones_like(error), 0.0)
    np.testing.assert_allclose(needed, error)
    curve = curve_of("one", needed, region)
    assert curve.shares["brain"][np.searchsorted(GRID, 9.2)] == pytest.approx(0.9)
    fitted = fit_intervals([curve], 0.0)
    assert fitted.factors["brain"]["0.9"] == pytest.approx(9.0, rel=0.02)
    assert not fitted.guaranteed
    assert shares_inside(curve, fitted, 0.9)["everywhere"] == pytest.approx(0.9)


def test_promises_need_patients():
    rng = np.random.default_rng(6)
    people = [patient(number, rng) for number in range(4)]
    assert [fit_intervals(people[:count], 0.1).guaranteed for count in (1, 2, 3, 4)] == [False, False, True, True]
    with pytest.raises(ValueError, match="validation patients"):
        fit_intervals([], 0.1)


@pytest.mark.parametrize("honest", [True, False])
def test_new_patients_are_covered_as_promised(honest):
    """The mean over many repetitions, each with few validation patients; also where the spread says nothing."""
    rng = np.random.default_rng(0)
    people = [patient(number, rng, honest=honest) for number in range(400)]
    found: dict[float, list[float]] = {0.8: [], 0.9: []}
    for start in range(0, 400, 20):
        fitted = fit_intervals(people[start : start + 12], 0.1)
        assert fitted.guaranteed
        for one in people[start + 12 : start + 20]:
            for level, shares in found.items():
                shares.append(shares_inside(one, fitted, level)["everywhere"])
    for level, shares in found.items():
        error = np.std(shares) / np.sqrt(len(shares))
        assert np.mean(shares) > level - 2.5 * error
        assert np.mean(shares) < 0.99  # and not by being infinitely wide


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 30])
def test_higher_levels_are_wider_whatever_the_number_of_patients(count):
    rng = np.random.default_rng(count)
    fitted = fit_intervals([patient(number, rng) for number in range(count)], 0.1)
    for factors in fitted.factors.values():
        values = [factors[f"{level:g}"] for level in COVERAGES]
        assert values == sorted(values)
        assert values[-1] < GRID[-1]


def test_tumours_have_intervals_of_their_own():
    rng = np.random.default_rng(1)
    fitted = fit_intervals([patient(number, rng) for number in range(20)], 0.1)
    assert fitted.factors["tumour"]["0.9"] > 2 * fitted.factors["brain"]["0.9"]
    spread = np.ones(SHAPE, np.float32)
    width = fitted.half_width(spread, REGIONS["tumour"])
    assert width.dtype == np.float32
    np.testing.assert_allclose(width[REGIONS["tumour"]], fitted.factors["tumour"]["0.9"] * np.sqrt(1.01), rtol=1e-6)
    np.testing.assert_allclose(width[REGIONS["brain"]], fitted.factors["brain"]["0.9"] * np.sqrt(1.01), rtol=1e-6)
    unknown = fitted.half_width(spread, np.zeros(SHAPE, bool))
    assert len(np.unique(unknown)) == 1
    assert (fitted.half_width(spread, REGIONS["tumour"], level=0.5) < width).all()


def test_a_single_look_has_intervals_of_one_width():
    rng = np.random.default_rng(2)
    image = rng.standard_normal(SHAPE).astype(np.float32)
    needed = ratios(image, np.zeros(SHAPE, np.float32), None, 1.0)
    np.testing.assert_array_equal(needed, np.abs(image))
    fitted = fit_intervals([curve_of("one", needed, REGIONS)], 1.0)
    assert fitted.half_width(None, np.zeros(SHAPE, bool))[0, 0, 0] == pytest.approx(1.64, abs=0.1)


def test_two_scans_of_a_patient_count_as_one_patient():
    rng = np.random.default_rng(3)
    people = [patient(number, rng) for number in range(9)]
    again = [Curve(patient_id="p0", shares=people[0].shares, voxels=people[0].voxels)] * 5
    assert fit_intervals([*people, *again], 0.1) == fit_intervals(people, 0.1)


def test_they_are_kept_as_plain_values():
    rng = np.random.default_rng(4)
    fitted = fit_intervals([patient(number, rng) for number in range(10)], 0.1)
    assert Intervals.read(fitted.as_dict()) == fitted


def test_the_table_of_coverage_and_its_means():
    rng = np.random.default_rng(5)
    people = [patient(number, rng) for number in range(30)]
    fitted = fit_intervals(people[:15], 0.1)
    held = [Held(case_id=one.patient_id, curve=one, scales=dict.fromkeys(one.shares, 1.0)) for one in people[15:]]
    table = coverage_table({4: held}, {4: fitted})
    assert len(table) == 15 * len(COVERAGES) * 4
    summary = {(row["level"], row["region"]): row for row in coverage_summary(table)}
    row = summary[0.9, "everywhere"]
    own = table[(table["level"] == 0.9) & (table["region"] == "everywhere")]
    assert row["value"] == pytest.approx(own["share"].mean())
    assert row["low"] < row["value"] < row["high"]
    assert row["n"] == 15
    assert summary[0.9, "enhancing"]["half_width"] == pytest.approx(fitted.factors["tumour"]["0.9"])
    other_seed = pd.concat([table, table.assign(share=table["share"] - 0.1)])
    doubled = {(entry["level"], entry["region"]): entry for entry in coverage_summary(other_seed)}
    assert doubled[0.9, "everywhere"]["value"] == pytest.approx(row["value"] - 0.05)
    assert coverage_summary(coverage_table({4: []}, {4: fitted})) == []


def test_a_spread_that_says_nothing_is_drowned_and_one_that_does_is_not():
    rng = np.random.default_rng(7)
    spread = rng.exponential(0.1, 20_000)
    told = choose_floor([(rng.standard_normal(20_000) * spread, spread)])
    untold = choose_floor([(rng.standard_normal(20_000) * 0.1, spread)])
    assert told < np.median(spread)
    assert untold > 4 * np.median(spread)
    assert choose_floor([(rng.standard_normal(100), np.zeros(100))]) > 0
