"""Preparation of one subject: the paper's normalisation on the prepared grid, and the masks for scoring."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.config import DataConfig
from lab.data.brain_mask import brain_core, brain_mask, scanned_part
from lab.data.layouts.subject import Subject
from lab.data.subject_scans import REFERENCE, UNUSED, check_without_contrast, read_scans, read_tumour, reference_of
from lab.io.case_file import BRAIN, CORE, ENHANCEMENT, EXPERT, NO_TARGET, TUMOUR
from lab.io.files import canonical
from lab.io.grid import Window, bounding_box, window_round
from lab.io.scan import Scan, count_values
from lab.qc.scan_checks import check_contrasts, check_mask, clip_outliers

NUMBERS = ("clip_sigma", "enhancement_threshold", "enhancing_ml")  # numeric settings of a recipe
VERSION = 3  # increase it when the same settings and files give another prepared case
NO_CONTRAST = "none"  # target of a cohort for classifiers, whose patients need no scan with contrast agent
UNKNOWN_ENHANCEMENT = "unknown"  # what says whether a patient enhances, where neither such a scan nor the mask does
NO_TUMOUR = "no tumour is left inside the brain on the prepared grid"
HEADER_WRONG = "if its header is wrong, correct that"
RIM = 1.2  # SD over a stripped brain to that over its core: the median of 4 sequences of 8 patients at 1 mm


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings that determine the content of a prepared case, with the voxel size resolved."""

    channels: tuple[str, ...]
    target: str  # `none` where there is no scan with contrast agent
    spacing_mm: float
    shape: tuple[int, int, int]
    brain_mask: str
    clip_sigma: float
    enhancement_threshold: float
    enhancing_ml: float
    known_scale: tuple[float, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The settings without those that are None, by which prepared cases are known."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def reference(self) -> str:
        """Canonical name of the sequence whose brain mask and grid count."""
        return reference_of(self.channels)


def has_target(settings: DataConfig | Recipe) -> bool:
    """Whether patients need a scan with contrast agent."""
    return settings.target.casefold() != NO_CONTRAST


def list_channels(settings: DataConfig, *, with_t1: bool = True) -> tuple[str, ...]:
    """Stored sequences: the inputs, T1 and the target, each once; without a target T1 only if `with_t1`.

    Raises ValueError for no or wrong inputs.
    """
    if not settings.inputs:
        raise ValueError("--inputs names no sequence")
    if canonical(settings.target) in map(canonical, settings.inputs):
        raise ValueError(f"the target {settings.target} is among the inputs {', '.join(settings.inputs)}")
    if has_target(settings):
        return with_reference(settings.inputs, settings.target)
    return with_reference(settings.inputs) if with_t1 else each_once(settings.inputs)


def with_reference(inputs: Sequence[str], *others: str) -> tuple[str, ...]:
    """The inputs, T1 and other sequences, each once, in its first spelling."""
    return each_once((*inputs, REFERENCE, *others))


def each_once(sequences: Sequence[str]) -> tuple[str, ...]:
    """The sequences, each once, in its first spelling."""
    names: dict[str, str] = {}
    for name in sequences:
        names.setdefault(canonical(name), name)
    return tuple(names.values())


def prepare_case(subject: Subject, recipe: Recipe) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Image (C, X, Y, Z) float16 in [-1, 1], mask (X, Y, Z) uint8 bit flags, and measured values.

    Voxels outside the brain, or outside a sequence's field of view, are exactly -1. Each channel has mean 0 and SD
    `1 / clip_sigma` before clipping and depends only on its own file and the T1 (the first sequence where there is no
    T1). Mean and SD are those of the brain; for stripped scans those of its core, with the SD times `RIM`; or those of
    `known_scale`. Label volumes are counted on the scan's own voxels.
    Raises ValueError with the reason why the subject cannot be used.
    """
    inputs = [name for name in recipe.channels if canonical(name) != canonical(recipe.target)]
    contrast = check_without_contrast(subject, inputs, overrule=HEADER_WRONG)
    case = open_case(subject, recipe)
    return case.image, case.masks, {**case.measured, "remarks": "; ".join([*contrast, *case.notes])}


@dataclass(frozen=True, kw_only=True)
class PreparedCase:
    """A prepared case, with the way back to the T1's own grid and intensities."""

    image: np.ndarray
    masks: np.ndarray
    measured: dict[str, Any]
    window: Window
    t1: Scan  # the T1 (the reference without one) as scanned, RAS
    brain: np.ndarray  # the brain (X, Y, Z) bool on the grid of `t1`
    mean: float  # intensity of `t1` that became 0
    scale: float  # intensity of `t1` per unit on the prepared grid
    notes: tuple[str, ...]  # corrections of the scans and remarks on them, in words


def open_case(subject: Subject, recipe: Recipe, *, mask_needed: bool = True) -> PreparedCase:
    """As `prepare_case`, with the way back to the T1's grid; without `mask_needed` an unusable mask is only noted."""
    if subject.fault is not None:
        raise ValueError(subject.fault)
    scans = read_scans(subject, recipe.channels, mask_needed)
    reference = recipe.reference
    first = scans[reference]
    notes = [f"{name}: {note}" for name, scan in scans.items() for note in scan.notes]
    subject, labels, of_mask = read_tumour(subject, scans, mask_needed)
    notes += of_mask
    counts = count_values(labels)
    method = recipe.brain_mask
    if method == "auto":
        method = "nonzero" if subject.skull_stripped else "mni152"
    try:
        brain = brain_mask(first, method)
    except ValueError as error:
        raise ValueError(f"{subject.images[reference]}: {error}") from None
    if subject.mask is not None and mask_needed:
        notes += check_mask(labels, brain, first.voxel_ml)
    window = window_round(bounding_box(brain), first.spacing_mm, recipe.shape, recipe.spacing_mm)
    inside, masks = _masks(window, brain, labels, subject)
    if subject.mask is not None and not (masks & TUMOUR).any():
        if mask_needed:
            raise ValueError(NO_TUMOUR)
        notes.append(f"{subject.mask}: {NO_TUMOUR}; {UNUSED}")
    image = np.full((len(recipe.channels), *recipe.shape), -1, np.float16)
    weights = window.apply(brain)
    stripped = method == "nonzero"
    core = inside & (window.apply(brain_core(brain, first.spacing_mm)) >= 0.5) if stripped else inside
    scales: dict[str, tuple[float, float]] = {}
    for channel, name in zip(image, recipe.channels):
        scan = scans.pop(canonical(name)) if canonical(name) != reference else scans[reference]
        try:
            part = scanned_part(scan, brain, method)
            scan, note = clip_outliers(scan, part)
            notes += [f"{name}: {note}"] if note else []
            share, seen = weights, inside
            if part is not brain:
                share = window.apply(part)
                seen = inside & (share >= 0.5)
            values = window.apply(scan.data if window.is_crop else scan.data * part)[seen]
            if not window.is_crop:  # the mean over the brain's part of each voxel
                values = values / share[seen]
            mean, scale = _scale(values[core[seen]], recipe, RIM if stripped else 1)
            channel[seen] = np.clip((values - np.float32(mean)) / np.float32(scale), -1, 1)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        scales[canonical(name)] = mean, scale
        first = scan if canonical(name) == reference else first
        if canonical(name) == canonical(recipe.target):
            masks[inside & ~seen] |= NO_TARGET
    names = [canonical(name) for name in recipe.channels]
    if canonical(recipe.target) in names:  # absent from a new patient's case
        contrast = image[names.index(canonical(recipe.target))].astype(np.float32) - image[names.index(REFERENCE)]
        masks[(contrast > recipe.enhancement_threshold) & inside] |= ENHANCEMENT
    if mask_needed:
        notes += check_contrasts(image, masks, recipe.channels, recipe.spacing_mm)
    mean, scale = scales[reference]
    how: dict[str, Any] = {"window": window, "t1": first, "brain": brain, "mean": mean, "scale": scale}
    case = PreparedCase(image=image, masks=masks, measured={}, notes=tuple(notes), **how)
    case.measured.update(_measure(case, subject, recipe, counts))
    return case


def check_as_cohort(case: PreparedCase, subject: Subject, recipe: Recipe) -> list[str]:
    """Remarks on a subject that `open_case` prepared without need of its mask.

    Raises ValueError where `prepare_case` refuses it.
    """
    remarks = check_without_contrast(subject, recipe.channels, overrule=HEADER_WRONG)
    _, labels, _ = read_tumour(subject, {recipe.reference: case.t1}, mask_needed=True)
    remarks += check_mask(labels, case.brain, case.t1.voxel_ml)
    if not (case.masks & TUMOUR).any():
        raise ValueError(NO_TUMOUR)
    return remarks + check_contrasts(case.image, case.masks, recipe.channels, recipe.spacing_mm)


def _masks(window: Window, brain: np.ndarray, labels: np.ndarray, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Brain (X, Y, Z) bool and bit flags on the prepared grid; a voxel takes the majority of its volume."""
    enhancing, core_labels = subject.enhancing_label, sorted(subject.core_labels)
    if window.is_crop:
        inside, labels = window.apply(brain), window.apply(labels)
        tumour, expert, core = labels > 0, labels == enhancing, np.isin(labels, core_labels)
    else:
        parts = (brain, labels > 0, labels == enhancing, np.isin(labels, core_labels))
        inside, tumour, expert, core = (window.apply(part) >= 0.5 for part in parts)
    if not inside.any():
        raise ValueError("no brain is left on the prepared grid; choose a finer --spacing")
    masks = inside * np.uint8(BRAIN)
    masks[tumour & inside] |= TUMOUR
    if enhancing is not None:
        masks[expert & inside] |= EXPERT
    masks[core & inside] |= CORE
    return inside, masks


def _scale(core: np.ndarray, recipe: Recipe, rim: float) -> tuple[float, float]:
    """The intensity that becomes 0, and the intensity per unit, by the values of a brain's core (N,) or as known.

    Raises ValueError for no core or constant values.
    """
    if not core.size:
        raise ValueError("no core of the brain is left on the prepared grid")
    mean, deviation = core.mean(dtype=np.float64), core.std(dtype=np.float64)
    if deviation <= 1e-6 * abs(mean) or deviation == 0:
        raise ValueError(f"the brain has the same value everywhere ({mean:g})")
    if recipe.known_scale is not None:
        return recipe.known_scale[0], recipe.known_scale[1] * recipe.clip_sigma
    return float(mean), float(deviation * (recipe.clip_sigma * rim))


def _measure(case: PreparedCase, subject: Subject, recipe: Recipe, counts: np.ndarray) -> dict[str, Any]:
    """Volumes in millilitres, and whether the patient enhances; `counts` are the voxels of the mask by value.

    Enhancement is None where neither a scan with contrast agent nor the mask says it.
    """
    window, masks, brain, voxel_ml = case.window, case.masks, case.brain, case.t1.voxel_ml
    prepared_ml = recipe.spacing_mm**3 / 1000
    brain_ml = np.count_nonzero(brain) * voxel_ml
    rule_ml = np.count_nonzero((masks & (TUMOUR | ENHANCEMENT)) == (TUMOUR | ENHANCEMENT)) * prepared_ml
    label_ml = None if subject.enhancing_label is None else float(counts[subject.enhancing_label]) * voxel_ml
    by_rule = rule_ml if has_target(recipe) else None
    enhancing_ml = by_rule if label_ml is None else label_ml
    by = "paper's rule" if has_target(recipe) else UNKNOWN_ENHANCEMENT
    ends = [start + size * ratio for start, size, ratio in zip(window.start, window.shape, window.ratio)]
    covered = tuple(slice(max(start, 0), max(0, round(end))) for start, end in zip(window.start, ends))
    return {
        # rounded up slightly: a volume of exactly the threshold must not fall below it by rounding of the affine
        "enhancing": None if enhancing_ml is None else int(enhancing_ml * (1 + 1e-6) >= recipe.enhancing_ml),
        "enhancing_by": by if label_ml is None else "expert label",
        "tumour_ml": round(float(counts[1:].sum()) * voxel_ml, 4),
        "label_enhancing_ml": None if label_ml is None else round(label_ml, 4),
        "rule_enhancing_ml": None if by_rule is None else round(by_rule, 4),
        "brain_ml": round(brain_ml, 4),
        "brain_outside_ml": round(brain_ml - np.count_nonzero(brain[covered]) * voxel_ml, 4),
    }


def list_sources(subject: Subject, recipe: Recipe) -> list[Path]:
    """The files that determine the prepared case, in a fixed order."""
    names = [canonical(name) for name in recipe.channels]
    images = [subject.images[name] for name in names if name in subject.images]
    return images if subject.mask is None else [*images, subject.mask]
