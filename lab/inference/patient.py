"""Synthesis for one patient in memory: preparation, prediction, assessment of enhancement.

This module must not use the tracking store, since a MONAI bundle contains it (`lab.deploy.export.bundle_run`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lab.data.case import REFERENCE, PreparedCase
from lab.data.contract import WITHOUT_MASK, Contract, open_patient
from lab.data.layouts.subject import Subject
from lab.data.native import image_on_scan, mask_on_scan, probability_on_scan, spread_on_scan
from lab.evaluation.calibration_text import enhancement_verdict
from lab.evaluation.enhancement import (
    TOLERANCE_MM,
    enhancement_level,
    is_enhancing,
    millilitres,
    near,
    stated_tumour,
)
from lab.inference.calibration import NetworkCalibration, PredictedTumour, calibration_for
from lab.inference.settings import (
    ENHANCEMENT,
    INTERVAL,
    PHANTOM_WARNING,
    PROBABILITY,
    SYNTHESIS,
    TUMOUR_MASK,
    UNCERTAINTY,
    How,
)
from lab.inference.tiling import Way, tile_warnings
from lab.inference.tta import predict_case
from lab.io.case_file import BRAIN, TUMOUR
from lab.qc.ood import OodReference, OodResult
from lab.synthesis.device import Arithmetic
from lab.synthesis.networks import warn_of_unknown

if TYPE_CHECKING:
    from lab.inference.load import Networks

Image = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Hashes = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One patient, prepared for a contract; arrays (X, Y, Z) on the model's grid."""

    subject: Subject
    contract: Contract
    case: PreparedCase
    ood: OodResult | None
    """Comparison of the scans with those of training; None without a reference."""
    warnings: list[str]
    tumour_by: PredictedTumour | None = None
    """Where the tumour comes from, if it was predicted; None for a given mask and without any."""

    def channel(self, sequence: str) -> np.ndarray:
        """A prepared input, or the T1, as float32."""
        return np.asarray(self.case.image[self.contract.position(sequence)], np.float32)

    @property
    def brain(self) -> Mask:
        """Voxels of the brain."""
        return (self.case.masks & BRAIN) > 0

    @property
    def tumour(self) -> Mask:
        """Voxels of the tumour; all False without a mask."""
        return (self.case.masks & TUMOUR) > 0


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """The prediction for one patient, on the model's grid (X, Y, Z)."""

    patient: Patient
    calibration: NetworkCalibration
    image: np.ndarray
    """float32 in [-1, 1]; -1 outside the brain."""
    spread: np.ndarray | None
    """Standard deviation of the image; None for a single prediction."""
    half_width: np.ndarray | None
    """Half of each voxel's 90 % interval, 0 outside the brain; None without a calibration for it."""
    enhancement: Mask
    """Voxels that enhance: by their stated probability where the networks have one, else by the paper's rule."""
    threshold: float
    """Of that probability, or of the rule."""
    place: np.ndarray | None
    """Each voxel's stated probability of enhancement; None where the networks state none."""
    region: str
    """Description of the region searched for enhancement."""
    probability: float | None
    """Probability that the tumour enhances; None without a mask or a calibration."""
    enhances: bool | None
    """None where the networks were not shown to tell; `no_verdict` says why."""
    no_verdict: str
    warnings: list[str]
    ways: list[Way] = field(default_factory=list)
    seam: float | None = None
    """Largest SD between overlapping tiles."""
    seconds: dict[str, float] = field(default_factory=dict)

    def volumes(self) -> dict[str, tuple[np.ndarray, str]]:
        """File name -> volume on the T1's grid (RAS) in the T1's intensities, and its description for the file's
        header."""
        case = self.patient.case
        volumes = {SYNTHESIS: (image_on_scan(case, self.image), f"SYNTHETIC {self.patient.contract.target}")}
        if self.spread is not None:
            volumes[UNCERTAINTY] = (spread_on_scan(case, self.spread), "SD of SYNTHETIC")
        if self.half_width is not None:
            volumes[INTERVAL] = (spread_on_scan(case, self.half_width), "half of interval of SYNTHETIC")
        if self.place is not None:
            volumes[PROBABILITY] = (probability_on_scan(case, self.place), "SYNTHETIC probability")
        if self.patient.tumour_by is not None:
            volumes[TUMOUR_MASK] = (mask_on_scan(case, self.patient.tumour), "SYNTHETIC tumour mask")
        return volumes | {ENHANCEMENT: (mask_on_scan(case, self.enhancement), "SYNTHETIC mask")}


def synthesize_patient(
    subject: Subject, networks: Networks, how: How, arithmetic: Arithmetic, hashes: Hashes
) -> Synthesis:
    """Prepare a patient by the contract and predict the image. Raises ValueError where the scans do not fit."""
    started = time.monotonic()
    calibration = calibration_for(networks, how.looks, None if how.calibration is None else Path(how.calibration))
    patient = prepare_patient(subject, networks.contract, calibration.reference, how.brain_mask, how.strangers, hashes)
    prepared = time.monotonic()
    case = patient.case
    chosen: dict[str, Any] = {"looks": how.looks, "tile": how.tile, "clinical": vars(subject)}
    found, ways, seam = predict_case(case.image, case.masks, networks, arithmetic, **chosen)
    image, spread, place, tumour = (
        None if one is None else one[0, 0].cpu().numpy()
        for one in (found.image, found.spread, found.probability, found.tumour)
    )
    assert image is not None
    if how.tumour == "auto" and subject.mask is None:
        patient = with_tumour(patient, tumour, networks.name, calibration)
    seconds = {"prepare": prepared - started, "network": time.monotonic() - prepared}
    before = [PHANTOM_WARNING] if networks.phantom else []
    before += warn_of_unknown(networks.networks, vars(subject))
    return assess_prediction(
        patient, image, spread, calibration, place=place, before=before, ways=ways, seam=seam, seconds=seconds
    )


def find_tumour(subject: Subject, networks: Networks, how: How, arithmetic: Arithmetic, hashes: Hashes) -> Patient:
    """A patient without a mask, with the tumour that the networks state. Raises ValueError as `synthesize_patient`."""
    calibration = calibration_for(networks, how.looks)
    patient = prepare_patient(subject, networks.contract, calibration.reference, how.brain_mask, how.strangers, hashes)
    case = patient.case
    found, _, _ = predict_case(case.image, case.masks, networks, arithmetic, looks=how.looks, tile=how.tile)
    probability = None if found.tumour is None else found.tumour[0, 0].cpu().numpy()
    return with_tumour(patient, probability, networks.name, calibration)


def with_tumour(
    patient: Patient, probability: np.ndarray | None, model: str, calibration: NetworkCalibration
) -> Patient:
    """The patient with the tumour that the networks state; `probability` is theirs (X, Y, Z).

    Raises ValueError where they state none.
    """
    if probability is None:
        raise ValueError(f"{model} states no tumour: give a mask, or leave --tumour auto out")
    spacing_mm, case = patient.contract.spacing_mm, patient.case
    mask = stated_tumour(probability, patient.brain, spacing_mm)
    ml = millilitres(mask, spacing_mm)
    sure = float(probability[mask].mean()) if mask.any() else float("nan")
    found = PredictedTumour(model=model, ml=ml, mean_probability=sure, tested=calibration.tumour)
    known = [warning for warning in patient.warnings if not (ml and warning == WITHOUT_MASK)]
    masks = np.where(mask, case.masks | TUMOUR, case.masks).astype(case.masks.dtype)
    case = replace(case, masks=masks, measured={**case.measured, "tumour_ml": ml})
    return replace(patient, case=case, tumour_by=found, warnings=[found.describe(), *known])


def prepare_patient(
    subject: Subject,
    contract: Contract,
    reference: OodReference | None,
    brain_mask: str | None,
    strangers: str,
    hashes: Hashes,
) -> Patient:
    """A patient on the model's grid, compared with the OOD `reference` where there is one.

    `hashes` come from `hash_scans`. Raises ValueError where the scans do not fit, or are refused as out of
    distribution.
    """
    case, ood, warnings = open_patient(subject, contract, brain_mask, strangers, hashes, reference)
    return Patient(subject=subject, contract=contract, case=case, ood=ood, warnings=warnings)


def assess_prediction(
    patient: Patient,
    image: np.ndarray,
    spread: np.ndarray | None,
    calibration: NetworkCalibration,
    *,
    place: np.ndarray | None = None,
    before: list[str],
    **about: Any,
) -> Synthesis:
    """Assessment of a predicted image (X, Y, Z), its spread and each voxel's stated probability of enhancement.

    `before` are warnings that precede all others, `about` further fields of `Synthesis`, which describe the prediction.
    """
    contract, masks, t1 = patient.contract, patient.case.masks, patient.channel(REFERENCE)
    spacing_mm, preparation = contract.spacing_mm, contract.preparation
    whose = "predicted tumour" if patient.tumour_by is not None else "tumour"
    searched, region = near_tumour(masks, spacing_mm), f"in the {whose} and {TOLERANCE_MM:g} mm round it"
    if not searched.any():
        searched, region = patient.brain, "in the whole brain"
    threshold = float(preparation["enhancement_threshold"]) if place is None else calibration.threshold
    shown = enhancement_evidence(image, t1, place)
    enhancement = (shown > threshold) & searched
    least = float(preparation["enhancing_ml"])
    level = predicted_level(shown, masks, spacing_mm=spacing_mm, enhancing_ml=least)
    chance = None if level is None else calibration.probability_of(level)
    enough = is_enhancing(millilitres(enhancement, spacing_mm), least)
    enhances, no_verdict = enhancement_verdict(calibration.probability, chance, predicted=enough)
    half_width = None
    if calibration.intervals is not None:
        half_width = calibration.intervals.half_width(spread, near_tumour(masks, spacing_mm)) * patient.brain
    of_tiles = tile_warnings(about.get("ways", []), about.get("seam"))
    doubts = [no_verdict] if no_verdict and level is not None and calibration.probability else []
    return Synthesis(
        patient=patient,
        calibration=calibration,
        image=image,
        spread=spread,
        half_width=half_width,
        enhancement=enhancement,
        threshold=threshold,
        place=place,
        region=region,
        probability=chance,
        enhances=enhances,
        no_verdict=no_verdict,
        warnings=[*before, *patient.warnings, *of_tiles, *calibration.warnings, *doubts],
        **about,
    )


def near_tumour(masks: NDArray[np.uint8], spacing_mm: float) -> Mask:
    """The tumour and its surroundings (X, Y, Z); empty without a mask."""
    return near((masks & TUMOUR) > 0, (masks & BRAIN) > 0, spacing_mm)


def enhancement_evidence(image: Image, t1: Image, place: Image | None) -> Image:
    """What enhancement is read from (X, Y, Z): its stated probability, or the rise of the image over T1."""
    return image - t1.astype(np.float32) if place is None else place


def predicted_level(shown: Image, masks: NDArray[np.uint8], *, spacing_mm: float, enhancing_ml: float) -> float | None:
    """Level of `enhancement_evidence` reached by the least enhancing volume near the tumour; None without a mask."""
    region = near_tumour(masks, spacing_mm)
    if not region.any():
        return None
    return enhancement_level(shown[region], spacing_mm, enhancing_ml)
