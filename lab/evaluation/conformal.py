"""Voxel intervals around the synthetic image, calibrated per patient by conformal risk control.

A voxel's interval is image +- factor * sqrt(spread^2 + floor^2): wider where test-time augmentation passes and networks
disagree, and never of width 0. The factor is the smallest that controls the risk (Angelopoulos et al., Conformal Risk
Control, ICLR 2024): the share of voxels outside, averaged over the validation patients and one more patient with the
worst assumed share, is at most 10 %. For a new patient like them the expected share inside is then at least 90 %,
whatever the quality of the network and the spread. Patients are exchangeable, voxels are not.

With fewer than 29 patients, the share outside of each patient is capped at (patients + 1) / 3 times the allowed 10 %,
and no lower than three times; without the cap, nine patients would need intervals that hold every voxel. The guarantee
is then for the capped share. With fewer than three patients there is no guarantee, and the factor is that of their
plain average.

The guarantee is for the voxels of a region on average over patients. Inside true enhancement, a small part of any
region, coverage may be far lower, and it is for networks that do not predict enhancement. It is therefore measured
there and reported. Simulated coverage: see docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab.evaluation.enhancement import near
from lab.io.case_file import BRAIN, ENHANCEMENT, EXPERT, TUMOUR

NOMINAL = 0.9
"""Nominal coverage of the intervals that are shown."""
COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Levels at which coverage is measured, for the reliability plot."""
REGIONS = ("brain", "tumour")
"""Regions with intervals of their own: the brain away from the tumour, and the tumour with 3 mm around it."""
WORST, OF_PATIENTS, LEAST = 3.0, 3.0, 3
"""Lowest cap on a patient's share outside, in multiples of the allowed share; divisor of (patients + 1) for a larger
cap; fewest patients for a guarantee."""
FLOORS = (0.5, 1, 2, 4, 8, 16, 32)
"""Candidate floors, in median spreads."""
LEAST_FLOOR = 1e-3
"""Floor of a network whose spread is 0 everywhere, in normalised units."""
GRID = np.geomspace(1e-2, 1e4, 1201)
"""Candidate factors: steps of 1.2 %."""

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Parameters of the voxel intervals for one number of passes and networks."""

    floor: float
    """Added to the spread in quadrature, in normalised units."""
    factors: dict[str, dict[str, float]]
    """Region -> level -> factor."""
    patients: int
    """Number of validation patients that the factors were fitted on."""

    def factor(self, region: str, level: float) -> float:
        """The brain's factor for "brain", else the tumour's (the brain's where the tumour has none)."""
        own = self.factors.get("brain" if region == "brain" else "tumour", self.factors["brain"])
        return own[f"{level:g}"]

    @property
    def guaranteed(self) -> bool:
        """Whether there were enough patients for a guarantee."""
        return self.patients >= LEAST

    def half_width(
        self, spread: NDArray[np.float32] | None, tumour: NDArray[np.bool_], *, level: float = NOMINAL
    ) -> NDArray[np.float32]:
        """Half the width of each voxel's interval, in the units of the spread, (X, Y, Z) like the mask `tumour`.

        `tumour` is the tumour with its surroundings, empty where it is not known.
        """
        scale = scale_of(spread, self.floor, tumour.shape)
        inside, elsewhere = (np.float32(self.factor(region, level)) for region in ("tumour", "brain"))
        return scale * np.where(tumour, inside, elsewhere)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def read(cls, known: Mapping[str, Any]) -> Intervals:
        """Inverse of `as_dict`."""
        return cls(floor=float(known["floor"]), factors=known["factors"], patients=int(known["patients"]))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One patient's share of a region's voxels inside the interval, for every factor of `GRID`."""

    patient_id: str
    shares: dict[str, Values]
    """Region -> (len(GRID),), rising; regions that the patient lacks are left out."""
    voxels: dict[str, int]
    """Region -> number of voxels."""


def scale_of(spread: NDArray[np.float32] | None, floor: float, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """sqrt(spread^2 + floor^2), with a spread of 0 where it is None; float32 of `shape`."""
    if spread is None:
        return np.full(shape, floor, np.float32)
    return np.sqrt(np.square(spread, dtype=np.float32) + np.float32(floor) ** 2)


def choose_floor(cases: Sequence[tuple[Values, Values]], *, level: float = NOMINAL) -> float:
    """The floor with the narrowest intervals, from (errors, spreads) of voxels (N,) of patients outside the fit.

    A high floor drowns a spread that says little about errors; intervals are then about equally wide. Candidate floors
    are multiples of the median spread.
    """
    median = max(float(np.median([np.median(spread) for _, spread in cases])), LEAST_FLOOR)

    def width(floor: float) -> float:
        scales = [np.sqrt(spread**2 + floor**2) for _, spread in cases]
        needed = (np.quantile(np.abs(error) / scale, level) for (error, _), scale in zip(cases, scales))
        return float(np.mean([factor * scale.mean() for factor, scale in zip(needed, scales)]))

    return min((median * times for times in FLOORS), key=width)


def regions_of(flags: NDArray[np.uint8], spacing_mm: float) -> dict[str, NDArray[np.bool_]]:
    """The parts (X, Y, Z) of a prepared case in which coverage is measured.

    `brain` is the brain away from the tumour, `tumour` the tumour and its surroundings, `enhancing` the voxels near the
    tumour that enhance by the expert label, else by the paper's rule.
    """
    brain = (flags & BRAIN) != 0
    tumour = near((flags & TUMOUR) != 0, brain, spacing_mm)
    label = EXPERT if (flags & EXPERT).any() else ENHANCEMENT
    return {
        "brain": brain & ~tumour,
        "tumour": tumour,
        "enhancing": ((flags & label) != 0) & tumour,
    }


def ratios(
    image: NDArray[np.float32], truth: NDArray[np.float32], spread: NDArray[np.float32] | None, floor: float
) -> NDArray[np.float32]:
    """The factor that each voxel (X, Y, Z) would need to be inside its interval."""
    return np.abs(image - truth) / scale_of(spread, floor, image.shape)


def curve_of(patient_id: str, needed: NDArray[np.float32], regions: Mapping[str, NDArray[np.bool_]]) -> Curve:
    """The shares inside, from the result of `ratios`; empty regions are left out."""
    shares, voxels = {}, {}
    for name, region in regions.items():
        values = needed[region]
        if values.size:
            voxels[name] = int(values.size)
            below = np.searchsorted(GRID, values, side="left")  # the first factor with the voxel inside
            shares[name] = np.cumsum(np.bincount(below, minlength=len(GRID) + 1)[: len(GRID)]) / values.size
    return Curve(patient_id=patient_id, shares=shares, voxels=voxels)


def fit_intervals(curves: Sequence[Curve], floor: float) -> Intervals:
    """Intervals fitted on validation patients, with the scans of a patient averaged. Raises ValueError without any."""
    if not curves:
        raise ValueError("intervals need validation patients, and there are none")
    factors: dict[str, dict[str, float]] = {}
    for region in REGIONS:
        table = shares_by_patient(curves, region)
        if len(table):
            factors[region] = {f"{level:g}": _factor(table, level) for level in COVERAGES}
    if "brain" not in factors:
        raise ValueError("no validation patient has brain outside of the tumour")
    return Intervals(floor=floor, factors=factors, patients=len({curve.patient_id for curve in curves}))


def shares_by_patient(curves: Sequence[Curve], region: str) -> Values:
    """(patients, len(GRID)) shares inside: the mean over a patient's scans, for patients who have the region."""
    found: dict[str, list[Values]] = {}
    for curve in curves:
        if region in curve.shares:
            found.setdefault(curve.patient_id, []).append(curve.shares[region])
    return np.array([np.mean(shares, axis=0) for shares in found.values()]).reshape(len(found), len(GRID))


def shares_inside(curve: Curve, intervals: Intervals, level: float) -> dict[str, float]:
    """Share of a patient's voxels inside the intervals of a level, by region and `everywhere` in the brain."""
    found = {}
    for region, shares in curve.shares.items():
        place = np.searchsorted(GRID, intervals.factor(region, level) * (1 - 1e-9))
        found[region] = float(shares[int(place)])
    parts = {region: curve.voxels[region] for region in REGIONS if region in found}
    total = sum(parts.values())
    return {"everywhere": sum(found[region] * count for region, count in parts.items()) / total, **found}


def _factor(shares: Values, level: float) -> float:
    """The smallest factor of `GRID` that controls the risk, from shares inside (patients, len(GRID))."""
    count, least = len(shares), 1 - level
    worst = min(1 / least, max(WORST, (count + 1) / OF_PATIENTS))
    outside = np.minimum((1 - shares) / least, worst).sum(axis=0)
    risk = (outside + worst) / (count + 1) if count >= LEAST else outside / count
    held = np.flatnonzero(risk <= 1 + 1e-9)
    return float(GRID[held[0]] if held.size else GRID[-1])


COLUMNS = ["case_id", "patient_id", "looks", "level", "region", "share", "half_width"]
BY = ["looks", "level", "region"]
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Held:
    """A test case whose interval factors are not fitted yet."""

    case_id: str
    curve: Curve
    scales: dict[str, float]
    """Region -> mean half width of intervals with the factor 1."""


def coverage_table(test: Mapping[int, Sequence[Held]], intervals: Mapping[int, Intervals]) -> pd.DataFrame:
    """A row per case, number of passes, level and region: the share of voxels inside, and the mean half width.

    Regions are those of `regions_of` and `everywhere`, the whole brain. Widths are in normalised units.
    """
    rows = []
    for looks, cases in test.items():
        own = intervals[looks]
        for case, level in product(cases, COVERAGES):
            shares = shares_inside(case.curve, own, level)
            widths = {region: own.factor(region, level) * scale for region, scale in case.scales.items()}
            parts = {region: case.curve.voxels[region] for region in REGIONS if region in widths}
            widths["everywhere"] = sum(widths[name] * n for name, n in parts.items()) / sum(parts.values())
            for region, share in shares.items():
                rows.append((case.case_id, case.curve.patient_id, looks, level, region, share, widths[region]))
    return pd.DataFrame(rows, columns=COLUMNS)


def coverage_summary(coverage: pd.DataFrame) -> list[dict[str, Any]]:
    """Means over patients: looks, level, region, value with its bootstrap interval low and high, half_width, n.

    A case with several rows (one per seed) counts by its mean. Missing values are None.
    """
    from lab.evaluation.pooled import compare_means  # not needed where a calibration is only read

    rows = []
    for (looks, level, region), part in coverage.groupby(BY, sort=False):
        cases = part.groupby(["case_id", "patient_id"], as_index=False)[["share", "half_width"]].mean()
        found = compare_means(cases, cases.assign(share=0.0), "share", resamples=RESAMPLES)
        row = {"looks": int(looks), "level": float(level), "region": str(region), "value": found.first}
        row |= {"low": found.low, "high": found.high, "half_width": float(cases["half_width"].mean()), "n": found.n}
        rows.append({name: None if value != value else value for name, value in row.items()})
    return rows
