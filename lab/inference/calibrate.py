"""Calibration of a network on its own patients, kept in its package as `calibration.json`.

    intervals     from validation patients: scale of a voxel's interval (lab.evaluation.conformal)
    coverage      on test patients: the share of voxels inside these intervals
    place         from validation patients: the threshold of a stated probability, where the network has one
    tumour        on test patients, else on validation patients: Dice of a stated tumour, where the network has one
    probability   from validation patients: predicted enhancement -> probability that a tumour enhances (Platt's line)
    likeness      of training patients: the reference for out-of-distribution detection (lab.qc.ood)
    strangers     on test patients: how often clean scans and injected faults are called out of distribution

Nothing is fitted on a test patient. The networks of an ensemble are calibrated together, on patients that none of them
was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from lab.data.case import REFERENCE
from lab.data.cohort import BRAIN, ENHANCEMENT, EXPERT, TUMOUR, Cohort
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
from lab.evaluation.enhancement import LOWEST_LEVEL, dice_of, stated_tumour
from lab.evaluation.fault_injection import Ood, OodFit, evenly
from lab.evaluation.place.voxel_counts import best_threshold, count_voxels
from lab.inference.load import Networks
from lab.inference.patient import enhancement_evidence, near_tumour, predicted_level
from lab.inference.tta import DEFAULT_LOOKS, predict_case
from lab.io.case_file import clear_without_target
from lab.stats.auc import delong_interval
from lab.stats.platt import FLATTEST, platt
from lab.synthesis.device import Arithmetic

MOST = 4
"""Number of augmentations for which intervals are made, besides one and the usual number."""
FLOOR_CASES = 5
"""Maximum number of training cases for the choice of the spread's floor."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """Result of a calibration."""

    record: dict[str, Any]
    """Contents of `calibration.json`."""
    coverage: pd.DataFrame
    """For each test case: case_id, patient_id, looks, level, region, share (inside), half_width (mean, normalised)."""
    phantom: bool
    """Whether a network was trained on phantoms."""
    looks: int
    """Largest number of augmentations with intervals."""
    ood_rates: pd.DataFrame
    """Results without a fault and for each injected one: `lab.evaluation.fault_injection.score_faults`."""


@dataclass(frozen=True, kw_only=True)
class PredictedCase:
    """A case of the cohort and its prediction; arrays (X, Y, Z)."""

    case_id: str
    patient_id: str
    image: np.ndarray
    spreads: dict[int, np.ndarray | None]
    """Number of augmentations -> spread; None for a single prediction."""
    place: np.ndarray | None
    """Each voxel's stated probability of enhancement; None where the networks state none."""
    tumour: np.ndarray | None
    """Each voxel's stated probability of tumour; None where the networks state none."""
    truth: np.ndarray
    t1: np.ndarray
    flags: np.ndarray


def calibrate_networks(
    networks: Networks,
    cohort: Cohort,
    parts: Mapping[str, Sequence[str]],
    arithmetic: Arithmetic,
    *,
    looks: int = MOST,
    seed: int = 0,
    ood: Callable[[], Ood] | None = None,
) -> Calibrated:
    """Calibrate networks on cases of a cohort; `parts` holds the case ids of `train`, `val` and `test` (may be empty).

    Intervals are made for one, the default number and `looks` augmentations. The out-of-distribution reference does not
    depend on the network: `ood` returns it where `OodFit` runs elsewhere. Raises ValueError without validation cases,
    and where the cohort's preparation differs from the networks' contract.
    """
    check_fits(networks, cohort)
    least = float(networks.contract.preparation["enhancing_ml"])
    counts = sorted({1, DEFAULT_LOOKS, looks})
    floors = floors_of(networks, cohort, parts["train"], arithmetic, counts)
    val: dict[int, list[Curve]] = {count: [] for count in counts}
    test: dict[int, list[Held]] = {count: [] for count in counts}
    levels: dict[str, list[tuple[str, float]]] = {"val": [], "test": []}
    placed: list[str] = []
    overlaps: dict[str, list[float]] = {"val": [], "test": []}
    for part, scores in levels.items():
        for case in predicted_cases(networks, cohort, parts[part], arithmetic, counts):
            regions = regions_of(clear_without_target(case.flags), cohort.spacing_mm)
            for count, spread in case.spreads.items():
                needed = ratios(case.image, case.truth, spread, floors[count])
                curve = curve_of(case.patient_id, needed, regions)
                if part == "val":
                    val[count].append(curve)
                else:
                    scale = scale_of(spread, floors[count], case.image.shape)
                    means = {name: float(scale[inside].mean()) for name, inside in regions.items() if inside.any()}
                    test[count].append(Held(case_id=case.case_id, curve=curve, scales=means))
            shown = enhancement_evidence(case.image, case.t1, case.place)
            level = predicted_level(shown, case.flags, spacing_mm=cohort.spacing_mm, enhancing_ml=least)
            if part == "val" and case.place is not None:
                placed.append(place_counts(case, cohort))
            if case.tumour is not None:
                overlaps[part].append(tumour_overlap(case, cohort.spacing_mm))
            scores.append((case.case_id, LOWEST_LEVEL if level is None else level))
    intervals = {count: fit_intervals(curves, floors[count]) for count, curves in val.items()}
    coverage = coverage_table(test, intervals)
    reference, rates = (ood or OodFit(contract=networks.contract, cohort=cohort, parts=parts, seed=seed).run)()
    rows = rates.astype(object).where(rates.notna(), None).to_dict("records")
    patients = cohort.index["patient_id"]
    return Calibrated(
        record={
            "weights_sha256": [entry["weights_sha256"] for entry in networks.about],
            "cohort_digest": cohort.digest,
            "patients": {part: int(patients.loc[list(cases)].nunique()) for part, cases in parts.items()},
            "intervals": {str(count): entry.as_dict() for count, entry in intervals.items()},
            "coverage": coverage_summary(coverage),
            "probability": fit_probability(cohort, levels),
            **place_threshold(placed, cohort.labelled_by()),
            **tumour_dice(overlaps),
            "likeness": reference,
            "strangers": rows,
        },
        coverage=coverage,
        phantom=networks.phantom,
        looks=looks,
        ood_rates=rates,
    )


def check_fits(networks: Networks, cohort: Cohort) -> None:
    """Raises ValueError where a cohort's preparation differs from that of the networks' own cohort."""
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
    """Number of augmentations -> constant added to the spread, chosen on a few training cases.

    Intervals are fitted on other cases. 1 without a spread: intervals are then equally wide everywhere.
    """
    found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {count: [] for count in counts}
    for case in predicted_cases(networks, cohort, evenly(cases, FLOOR_CASES), arithmetic, counts):
        brain = (clear_without_target(case.flags) & BRAIN) > 0
        errors = (case.image - case.truth)[brain].astype(np.float64)
        for count, spread in case.spreads.items():
            if spread is not None:
                found[count].append((errors, spread[brain].astype(np.float64)))
    return {count: choose_floor(pairs) if pairs else 1.0 for count, pairs in found.items()}


def predicted_cases(
    networks: Networks, cohort: Cohort, cases: Sequence[str], arithmetic: Arithmetic, counts: Sequence[int]
) -> Iterator[PredictedCase]:
    """Cases of the cohort with predictions by `counts` of augmentations, as from `python -m lab synthesize`."""
    channels = [cohort.channel(name) for name in networks.contract.channels]
    for case_id in cases:
        image, mask = cohort.load(case_id)
        flags = np.array(mask)
        with torch.no_grad():
            inputs = np.stack([image[channel] for channel in channels])
            how: dict[str, Any] = {"looks": max(counts), "at": counts, "clinical": cohort.clinical([case_id])[0]}
            found, _, _ = predict_case(inputs, flags, networks, arithmetic, **how)
        spreads = {**found.earlier, max(counts): found.spread}
        target, t1 = (
            np.asarray(image[cohort.channel(name)], np.float32) for name in (networks.contract.target, REFERENCE)
        )
        yield PredictedCase(
            case_id=case_id,
            patient_id=str(cohort.index.loc[case_id, "patient_id"]),
            image=found.image[0, 0].cpu().numpy(),
            place=None if found.probability is None else found.probability[0, 0].cpu().numpy(),
            tumour=None if found.tumour is None else found.tumour[0, 0].cpu().numpy(),
            spreads={count: None if one is None else one[0, 0].cpu().numpy() for count, one in spreads.items()},
            truth=target,
            t1=t1,
            flags=flags,
        )


def place_counts(case: PredictedCase, cohort: Cohort) -> str:
    """The case's voxels near the tumour by stated probability, see `lab.evaluation.place.voxel_counts`.

    The truth is the expert's label, where the case has one, else the paper's rule.
    """
    assert case.place is not None
    flags = clear_without_target(case.flags)
    truth = EXPERT if cohort.labelled(case.case_id) else ENHANCEMENT
    near, true = near_tumour(flags, cohort.spacing_mm), (flags & truth) > 0
    return count_voxels(case.place[near], true[near], "probability")


def place_threshold(counts: Sequence[str], by: str) -> dict[str, Any]:
    """The record's `place`: the stated probability above which validation patients' voxels agree best with the truth.

    `counts` are those of `place_counts`. Empty where the networks state no probability, or no voxel enhances.
    """
    found = best_threshold(pd.Series(counts, dtype=object), "probability")
    if found is None:
        return {}
    return {"place": {"threshold": found[0], "kappa": found[1], "by": by, "patients": len(counts)}}


def tumour_overlap(case: PredictedCase, spacing_mm: float) -> float:
    """Dice of the stated tumour with the mask; NaN where both are empty."""
    assert case.tumour is not None
    flags = clear_without_target(case.flags)
    return dice_of(stated_tumour(case.tumour, (flags & BRAIN) > 0, spacing_mm), (flags & TUMOUR) > 0)


def tumour_dice(overlaps: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The record's `tumour`: Dice of test cases or, without any, of validation cases; {} where no tumour is stated."""
    for part, name in (("test", "test"), ("val", "validation")):
        known = [value for value in overlaps[part] if value == value]
        if known:
            figures = {"dice": float(np.mean(known)), "lowest_tenth": float(np.quantile(known, 0.1))}
            return {"tumour": {**figures, "patients": len(known), "of": name}}
    return {}


def fit_probability(cohort: Cohort, levels: Mapping[str, Sequence[tuple[str, float]]]) -> dict[str, Any]:
    """Platt's line from predicted level to the probability that the tumour enhances, and its quality on test cases.

    `levels` are pairs of case id and level for `val` and `test`; `missing` says why there is no line.
    """
    (own, scores), (truth, test_scores) = (
        (cohort.index.loc[[case for case, _ in cases], "enhancing"].to_numpy(int), np.array([x for _, x in cases]))
        for cases in (levels["val"], levels["test"])
    )
    events = int(own.sum())
    counts = {"patients": own.size, "events": events, "by": cohort.labelled_by()}
    if events in (0, own.size):
        one_class = f"all {own.size} validation scans {'enhance' if events else 'do not enhance'}"
        return {**counts, "missing": one_class if own.size > 1 else "a single validation scan is too few"}
    line, prevalence = platt(own, scores), events / own.size
    found: dict[str, Any] = {"slope": line.slope, "intercept": line.intercept, **counts, "prevalence": prevalence}
    found["flat"] = bool(line.slope * (float(np.std(scores)) or 1.0) < 1.01 * FLATTEST)  # scores rank the wrong way
    if truth.size:
        values = line.probabilities(test_scores)
        found["test"] = {
            "n": int(truth.size),
            "events": int(truth.sum()),
            "brier": float(np.mean((values - truth) ** 2)),
            "brier_prevalence": float(np.mean((prevalence - truth) ** 2)),
        }
        if min(truth.sum(), truth.size - truth.sum()) >= 2:  # otherwise no interval exists
            area = delong_interval(truth, values)
            found["test"] |= {"auc": area.value, "auc_low": area.low, "auc_high": area.high}
    return found
