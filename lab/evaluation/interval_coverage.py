"""What voxel intervals hold on patients whom they were not fitted on: case by case, and on average over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lab.evaluation.conformal import LEVELS, REGIONS, Curve, Intervals, shares_inside
from lab.evaluation.paired import compare_means

COLUMNS = ["case_id", "patient_id", "looks", "level", "region", "share", "half_width"]
BY = ["looks", "level", "region"]
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Held:
    """A test case, before it is known how wide intervals are."""

    case_id: str
    curve: Curve
    scales: dict[str, float]
    """Region -> mean half width of intervals with the factor 1."""


def coverage_table(test: Mapping[int, Sequence[Held]], intervals: Mapping[int, Intervals]) -> pd.DataFrame:
    """A row for each case, number of looks, level and region: the share of voxels inside, and the mean half width.

    Regions are those of `regions_of` and `everywhere`, the whole brain. Widths are in normalised units.
    """
    rows = []
    for looks, cases in test.items():
        own = intervals[looks]
        for case in cases:
            for level in LEVELS:
                shares = shares_inside(case.curve, own, level)
                widths = {region: own.factor(region, level) * scale for region, scale in case.scales.items()}
                parts = {region: case.curve.voxels[region] for region in REGIONS if region in widths}
                widths["everywhere"] = sum(widths[name] * n for name, n in parts.items()) / sum(parts.values())
                for region, share in shares.items():
                    values = (case.case_id, case.curve.patient_id, looks, level, region, share, widths[region])
                    rows.append(dict(zip(COLUMNS, values)))
    return pd.DataFrame(rows, columns=COLUMNS)


def coverage_summary(coverage: pd.DataFrame) -> list[dict[str, Any]]:
    """Means over patients: looks, level, region, value with its bootstrap interval low and high, half_width, n.

    A case that is there several times, by other seeds, counts by its mean. What does not exist is None.
    """
    rows = []
    for (looks, level, region), part in coverage.groupby(BY, sort=False):
        cases = part.groupby(["case_id", "patient_id"], as_index=False)[["share", "half_width"]].mean()
        found = compare_means(cases, cases.assign(share=0.0), "share", resamples=RESAMPLES)
        row = {"looks": int(looks), "level": float(level), "region": str(region), "value": found.first}
        row |= {"low": found.low, "high": found.high, "half_width": float(cases["half_width"].mean()), "n": found.n}
        rows.append({name: None if value != value else value for name, value in row.items()})
    return rows
