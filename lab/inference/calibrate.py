"""What a network's own patients say of how far it can be trusted; kept in its package as `calibration.json`.

    intervals     from validation patients: how wide a voxel's interval must be (lab.evaluation.conformal)
    coverage      on test patients: the share of voxels that these intervals held
    probability   from validation patients: that a tumour enhances, by how much enhancement is predicted (Platt's line)
    likeness      of training patients: the reference for out-of-distribution detection (lab.qc.ood)
    strangers     on test patients: how often clean scans are called out of distribution, and injected faults are

Nothing is fitted on a test patient. The networks of an ensemble are measured together, on patients whom none learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch

from lab.data.case import REFERENCE
from lab.data.cohort import BRAIN, Cohort
from lab.data.contract import Contract
from lab.evaluation.conformal import (
    Curve,
    Held,
    choose_floor,
    coverage_summary,
    coverage_table,
    curve_of,
    fit_intervals,
    ratios,
    regions_of,
    scale_of,
)
from lab.evaluation.enhancement import LOWEST_LEVEL
from lab.evaluation.fault_injection import cases_of, score_faults
from lab.inference.load import Networks
from lab.inference.patient import predict_case, predicted_level
from lab.inference.tta import DEFAULT_LOOKS
from lab.io.case_file import clear_without_target
from lab.qc.image_quality import measure
from lab.qc.ood import fit_reference
from lab.stats.auc import delong_interval
from lab.stats.platt import FLATTEST, platt
from lab.synthesis.device import Arithmetic

Ood: TypeAlias = tuple[dict[str, Any], pd.DataFrame]
"""The reference for out-of-distribution detection, and how often it notices no fault and each planted one."""
MOST = 4
"""Looks for which intervals are made, besides one and the usual number."""
FLOOR_CASES, LIKENESS_CASES, FAULT_CASES = 5, 300, 10
"""So many training cases at most say what spreads are worth, and how scans look; faults are injected into so many."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What was measured."""

    record: dict[str, Any]
    """What `calibration.json` holds."""
    coverage: pd.DataFrame
    """Of each test case: case_id, patient_id, looks, level, region, share (inside), half_width (mean, normalised)."""
    strangers: pd.DataFrame
    """Of no fault and of each injected one: `lab.evaluation.fault_injection.score_faults`."""


@dataclass(frozen=True, kw_only=True)
class PredictedCase:
    """A case of the cohort and its prediction; arrays (X, Y, Z)."""

    case_id: str
    patient_id: str
    image: np.ndarray
    spreads: dict[int, np.ndarray | None]
    """Number of looks -> spread; None of a single look by a single network."""
    truth: np.ndarray
    t1: np.ndarray
    flags: np.ndarray


def calibrate(
    networks: Networks,
    cohort: Cohort,
    parts: Mapping[str, Sequence[str]],
    arithmetic: Arithmetic,
    *,
    looks: int = MOST,
    seed: int = 0,
    ood: Callable[[], Ood] | None = None,
) -> Calibrated:
    """Measure networks on the cases of a cohort, `parts` being case ids of `train`, `val` and `test` (may be empty).

    Intervals are made for one look, the usual number of them and `looks`. The reference for out-of-distribution
    detection does not depend on the network: `ood` gives it where `fit_ood` is computed elsewhere.
    Raises ValueError where the cohort is not prepared as the networks ask for, or without validation cases.
    """
    check_fits(networks, cohort)
    least = float(networks.contract.preparation["enhancing_ml"])
    counts = sorted({1, DEFAULT_LOOKS, looks})
    floors = floors_of(networks, cohort, parts["train"], arithmetic, counts)
    val: dict[int, list[Curve]] = {count: [] for count in counts}
    test: dict[int, list[Held]] = {count: [] for count in counts}
    levels: dict[str, list[tuple[str, float]]] = {"val": [], "test": []}
    for part in ("val", "test"):
        for seen in predicted_cases(networks, cohort, parts[part], arithmetic, counts):
            regions = regions_of(clear_without_target(seen.flags), cohort.spacing_mm)
            for count, spread in seen.spreads.items():
                needed = ratios(seen.image, seen.truth, spread, floors[count])
                curve = curve_of(seen.patient_id, needed, regions)
                if part == "val":
                    val[count].append(curve)
                else:
                    scale = scale_of(spread, floors[count], seen.image.shape)
                    means = {name: float(scale[inside].mean()) for name, inside in regions.items() if inside.any()}
                    test[count].append(Held(case_id=seen.case_id, curve=curve, scales=means))
            level = predicted_level(seen.image, seen.t1, seen.flags, spacing_mm=cohort.spacing_mm, enhancing_ml=least)
            levels[part].append((seen.case_id, LOWEST_LEVEL if level is None else level))
    intervals = {count: fit_intervals(curves, floors[count]) for count, curves in val.items()}
    coverage = coverage_table(test, intervals)
    likeness, strangers = ood() if ood is not None else fit_ood(networks.contract, cohort, parts, seed)
    return Calibrated(
        record={
            "weights_sha256": [entry["weights_sha256"] for entry in networks.about],
            "cohort_digest": cohort.digest,
            "patients": {part: patients_of(cohort, cases) for part, cases in parts.items()},
            "intervals": {str(count): entry.as_dict() for count, entry in intervals.items()},
            "coverage": coverage_summary(coverage),
            "probability": probability(cohort, levels),
            "likeness": likeness,
            "strangers": plain(strangers),
        },
        coverage=coverage,
        strangers=strangers,
    )


def check_fits(networks: Networks, cohort: Cohort) -> None:
    """Raises ValueError where a cohort is not prepared as the networks' own was."""
    contract = networks.contract
    settings = cohort.manifest["settings"]
    own = (contract.spacing_mm, contract.shape, contract.preparation)
    if own != (cohort.spacing_mm, cohort.shape, dict(settings)):
        differ = [name for name in contract.preparation if contract.preparation[name] != settings.get(name)]
        what = ", ".join(differ) or "the grid"
        raise ValueError(f"{cohort.path}: was prepared otherwise than the model asks for ({what})")


def floors_of(
    networks: Networks, cohort: Cohort, cases: Sequence[str], arithmetic: Arithmetic, counts: Sequence[int]
) -> dict[int, float]:
    """Number of looks -> what is added to the spread, chosen on a few training cases: intervals are fitted on others.

    1 where there is no spread: intervals are then equally wide everywhere.
    """
    found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {count: [] for count in counts}
    for seen in predicted_cases(networks, cohort, evenly(cases, FLOOR_CASES), arithmetic, counts):
        brain = (clear_without_target(seen.flags) & BRAIN) > 0
        errors = (seen.image - seen.truth)[brain].astype(np.float64)
        for count, spread in seen.spreads.items():
            if spread is not None:
                found[count].append((errors, spread[brain].astype(np.float64)))
    return {count: choose_floor(pairs) if pairs else 1.0 for count, pairs in found.items()}


def predicted_cases(
    networks: Networks, cohort: Cohort, cases: Sequence[str], arithmetic: Arithmetic, counts: Sequence[int]
) -> Iterator[PredictedCase]:
    """Cases of the cohort, one after the other, as `python -m lab synthesize` would draw them with so many looks."""
    contract = networks.contract
    channels = [cohort.channel(name) for name in contract.channels]
    for case_id in cases:
        image, mask = cohort.load(case_id)
        flags = np.array(mask)
        inputs = np.stack([image[channel] for channel in channels])
        with torch.no_grad():
            found, _, _ = predict_case(inputs, flags, networks, arithmetic, looks=max(counts), at=counts)
        spreads = {**found.earlier, max(counts): found.spread}
        yield PredictedCase(
            case_id=case_id,
            patient_id=str(cohort.index.loc[case_id, "patient_id"]),
            image=found.image[0, 0].cpu().numpy(),
            spreads={
                count: None if spread is None else spread[0, 0].cpu().numpy() for count, spread in spreads.items()
            },
            truth=np.asarray(image[cohort.channel(contract.target)], np.float32),
            t1=np.asarray(image[cohort.channel(REFERENCE)], np.float32),
            flags=flags,
        )


def probability(cohort: Cohort, levels: Mapping[str, Sequence[tuple[str, float]]]) -> dict[str, Any]:
    """Platt's line from the level drawn to the probability that the tumour enhances, and how good it is on test cases.

    `missing` says why there is none.
    """
    labels, scores = ({part: [] for part in levels} for _ in range(2))  # type: tuple[Any, Any]
    for part, cases in levels.items():
        for case_id, level in cases:
            labels[part].append(int(cohort.index.loc[case_id, "enhancing"]))
            scores[part].append(level)
    own, events = len(labels["val"]), int(sum(labels["val"]))
    counts = {"patients": own, "events": events, "by": str(cohort.index["enhancing_by"].iloc[0])}
    if events in (0, own):
        told = f"all {own} validation scans {'enhance' if events else 'do not enhance'}"
        return {**counts, "missing": told if own > 1 else "a single validation scan is too few"}
    line = platt(np.array(labels["val"]), np.array(scores["val"]))
    found: dict[str, Any] = {"slope": line.slope, "intercept": line.intercept, **counts, "prevalence": events / own}
    spread = float(np.std(scores["val"])) or 1.0
    found["flat"] = bool(line.slope * spread < 1.01 * FLATTEST)  # the drawn level did not rank them the right way
    truth, values = np.array(labels["test"]), line.probabilities(np.array(scores["test"]))
    if truth.size:
        found["test"] = {
            "n": int(truth.size),
            "events": int(truth.sum()),
            "brier": float(np.mean((values - truth) ** 2)),
        }
        found["test"]["brier_prevalence"] = float(np.mean((events / own - truth) ** 2))
        if min(truth.sum(), truth.size - truth.sum()) >= 2:  # else there is no interval
            area = delong_interval(truth, values)
            found["test"] |= {"auc": area.value, "auc_low": area.low, "auc_high": area.high}
    return found


def fit_ood(contract: Contract, cohort: Cohort, parts: Mapping[str, Sequence[str]], seed: int = 0) -> Ood:
    """The reference of the training scans, and how well it tells planted faults from the test patients' own scans."""
    channels, target = contract.channels, contract.target
    train = evenly(parts["train"], LIKENESS_CASES)
    scans = cases_of(cohort, train, channels, target)
    rows = [measure(scan.image, scan.masks, scan.channels, scan.spacing_mm) for scan in scans]
    reference = fit_reference(rows, [str(cohort.index.loc[case, "patient_id"]) for case in train])
    test = cases_of(cohort, parts["test"], channels, target)
    faults = score_faults(test, reference, np.random.default_rng(seed), injected_into=FAULT_CASES)
    return reference.as_dict(), faults


def plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as values that JSON can hold; None for what does not exist."""
    rows = table.to_dict("records")
    return [{str(name): None if value != value else value for name, value in row.items()} for row in rows]


def patients_of(cohort: Cohort, cases: Sequence[str]) -> int:
    """How many patients some cases are of."""
    return int(cohort.index.loc[list(cases), "patient_id"].nunique())


def evenly(cases: Sequence[str], count: int) -> list[str]:
    """At most `count` of the cases, spread over their list."""
    if len(cases) <= count:
        return list(cases)
    return [cases[int(place)] for place in np.linspace(0, len(cases) - 1, count)]
