"""One patient and the networks, in memory: prepared as the contract says, drawn, and searched for enhancement."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from lab.data.case import REFERENCE, PreparedCase
from lab.data.cohort import BRAIN
from lab.data.contract import Contract
from lab.data.layouts.find import Subject
from lab.data.new_scans import open_patient
from lab.evaluation.enhancement import is_enhancing, millilitres
from lab.evaluation.measured_trust import verdict
from lab.inference.calibration_lookup import Trust, trust
from lab.inference.load import PHANTOM_WARNING, Networks
from lab.inference.summary import drawn_level, enhancing, half_widths
from lab.inference.tiling import Way, choose_way, run
from lab.inference.tta import DEFAULT_LOOKS, TtaPrediction, predict_with_tta
from lab.io.files import canonical
from lab.io.scan import scan_sha256
from lab.qc.image_quality import measure
from lab.qc.ood import Judgement, Likeness
from lab.synthesis.device import Arithmetic
from lab.synthesis.train import NO_MEMORY


@dataclass(frozen=True, kw_only=True)
class How:
    """How patients are synthesised; none of it changes what the model expects of an image."""

    looks: int = DEFAULT_LOOKS
    """Test-time looks at each patient: plain, mirrored, moved by a voxel ...; 1 gives no uncertainty."""
    tile: int | None = None
    """Edge of tiles in voxels; by default the whole volume, and tiles only where memory is short."""
    brain_mask: str | None = None
    """`nonzero` or `mni152`; by default as the layout says."""
    calibration: str | None = None
    """A file of `python -m lab calibrate`, for an ensemble; a single network's is in its package."""
    classifier: str | None = None
    """A radiomics classifier whose probability stands beside the network's."""
    strangers: Literal["refuse", "warn"] = "refuse"
    """What is done with scans that are certainly not like those of training."""
    export: Literal["dicom"] | None = None
    """`dicom` writes the synthesis as a DICOM series too, where the T1 is one; see `lab.deploy.export.dicom`."""
    device: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """What came of one patient, on the model's grid (X, Y, Z)."""

    subject: Subject
    case: PreparedCase
    contract: Contract
    image: np.ndarray
    """float32 in [-1, 1]; -1 outside the brain."""
    spread: np.ndarray | None
    """Standard deviation of the image; None of a single look by a single network."""
    half_width: np.ndarray | None
    """Half of each voxel's 90 % interval, 0 outside the brain; None where the networks were not calibrated for it."""
    probability: float | None
    """That the tumour enhances; None without a mask or a calibration."""
    enhances: bool | None
    """None where it was not shown that the networks can tell; `no_verdict` says why."""
    no_verdict: str
    trust: Trust
    likeness: Judgement | None
    """How the scans compare with those of training; None where these are not known."""
    enhancement: np.ndarray
    """Where the image enhances by the paper's rule; bool."""
    region: str
    """Where enhancement was looked for, in words."""
    ways: list[Way]
    seam: float | None
    """Largest SD between overlapping tiles."""
    warnings: list[str]
    seconds: dict[str, float]

    def channel(self, sequence: str) -> np.ndarray:
        """A prepared input, or the T1, as float32."""
        names = [canonical(name) for name in self.contract.channels]
        return np.asarray(self.case.image[names.index(canonical(sequence))], np.float32)


def synthesise_patient(subject: Subject, networks: Networks, how: How, arithmetic: Arithmetic) -> Synthesis:
    """Prepare a patient as the contract says and draw the image. Raises ValueError where the scans do not fit."""
    started = time.monotonic()
    trusted = trust(networks, how.looks, None if how.calibration is None else Path(how.calibration))
    case, warnings = open_patient(subject, networks.contract, how.brain_mask, how.strangers)
    likeness = compared(case, networks.contract, trusted.likeness, how.strangers)
    warnings = [*(likeness.reasons if likeness is not None else ()), *warnings]
    prepared = time.monotonic()
    looked, ways, seam = drawn(case.image, case.masks, networks, arithmetic, looks=how.looks, tile=how.tile)
    image = looked.image[0, 0].cpu().numpy()
    spread = None if looked.spread is None else looked.spread[0, 0].cpu().numpy()
    ended = time.monotonic()
    contract, t1 = networks.contract, case.image[reference_of(networks.contract)]
    spacing_mm, how_so = contract.spacing_mm, contract.preparation
    threshold, least = float(how_so["enhancement_threshold"]), float(how_so["enhancing_ml"])
    enhancement, region = enhancing(image, t1, case.masks, spacing_mm=spacing_mm, threshold=threshold)
    level = drawn_level(image, t1, case.masks, spacing_mm=spacing_mm, enhancing_ml=least)
    intervals = trusted.intervals
    widths = None if intervals is None else half_widths(intervals, spread, case.masks, spacing_mm=spacing_mm)
    chance = None if level is None else trusted.probability_of(level)
    drawn_enough = is_enhancing(millilitres(enhancement, spacing_mm), least)
    enhances, no_verdict = verdict(trusted.probability, chance, drawn=drawn_enough)
    doubts = [no_verdict] if no_verdict and level is not None and trusted.probability else []
    return Synthesis(
        subject=subject,
        case=case,
        contract=networks.contract,
        image=image,
        spread=spread,
        half_width=widths,
        probability=chance,
        enhances=enhances,
        no_verdict=no_verdict,
        trust=trusted,
        likeness=likeness,
        enhancement=enhancement,
        region=region,
        ways=ways,
        seam=seam,
        warnings=[
            *([PHANTOM_WARNING] if networks.phantom else []),
            *warnings,
            *of_ways(ways, seam),
            *trusted.warnings,
            *doubts,
        ],
        seconds={"prepare": prepared - started, "network": ended - prepared},
    )


def reference_of(contract: Contract) -> int:
    """The T1 among the channels of a prepared patient."""
    return [canonical(name) for name in contract.channels].index(REFERENCE)


def hashes(subject: Subject, contract: Contract) -> dict[str, dict[str, str]]:
    """Path and SHA-256 of each file, or DICOM series, that decides the outcome. Raises ValueError if one is unreadable.

    A mask that cannot be read decides nothing (`open_case` tells of it) and is not among them.
    """
    names = [canonical(name) for name in contract.channels]
    chosen = {name: subject.images[name] for name in names if name in subject.images}
    if subject.mask is not None and subject.mask.is_file():
        chosen["MASK"] = subject.mask
    try:
        return {name: {"path": str(path), "sha256": scan_sha256(path)} for name, path in chosen.items()}
    except OSError as error:
        raise ValueError(f"{error.filename}: cannot be read ({error.strerror})") from None


def compared(case: PreparedCase, contract: Contract, likeness: Likeness | None, strangers: str) -> Judgement | None:
    """How prepared scans compare with those of training. Raises ValueError where they are refused."""
    if likeness is None:
        return None
    names = tuple(canonical(name) for name in contract.channels)
    found = likeness.judge(measure(case.image, case.masks, names, contract.spacing_mm))
    if found.level == "refused" and strangers == "refuse":
        raise ValueError(f"{'; '.join(found.reasons)} (--strangers warn draws it all the same)")
    return found


def drawn(
    image: np.ndarray,
    masks: np.ndarray,
    networks: Networks,
    arithmetic: Arithmetic,
    *,
    looks: int,
    tile: int | None = None,
    at: Collection[int] = (),
) -> tuple[TtaPrediction, list[Way], float | None]:
    """Image and spread on the prepared grid, how each network went through it, and the largest SD between tiles.

    `image` (C, X, Y, Z) has the channels of `Contract.channels`, `masks` (X, Y, Z) are bit flags; `at` as in
    `predict_with_tta`.
    """
    contract = networks.contract
    names = [canonical(name) for name in contract.channels]
    picked = np.stack([image[names.index(canonical(name))] for name in contract.inputs])
    inputs = torch.from_numpy(picked.astype(np.float32))[None].to(arithmetic.device)
    brain = torch.from_numpy((masks & BRAIN) > 0)[None, None].to(arithmetic.device)
    ways = [
        choose_way(network, contract.shape, arithmetic, edge=tile, trained_on=patch)
        for network, patch in zip(networks.networks, networks.patches)
    ]
    seams: list[float] = []

    def through(network: torch.nn.Module, way: Way) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        def network_of(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            drawn, seam = run(network, image, brain=mask, arithmetic=arithmetic, way=way)
            seams.extend([] if seam is None else [seam])
            return drawn

        return network_of

    try:
        looked = predict_with_tta(
            [through(*pair) for pair in zip(networks.networks, ways)], inputs, brain, looks, at=at
        )
    except (MemoryError, RuntimeError) as error:
        text = str(error) or "no memory"
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(said in text for said in NO_MEMORY):
            raise ValueError(f"out of memory; use --tile {max(32, max(contract.shape) // 2)} or less") from error
        raise
    return looked, ways, max(seams, default=None)


def of_ways(ways: list[Way], seam: float | None) -> list[str]:
    """What is to be warned of where tiles were blended."""
    found = [way for way in ways if way.kind == "blended"]
    if not found:
        return []
    why = f"drawn in overlapping tiles of {found[0].edge} voxels ({found[0].reason})"
    return [f"{why}: where they overlap they differ by an SD of {seam:.3f} at most, on a scale from -1 to 1"]
