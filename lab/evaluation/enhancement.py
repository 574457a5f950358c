"""Enhancement figures of one patient: where and how much the synthetic image enhances, from differences to T1.

Enhancement is `image - T1 > threshold` (normalised units). It is counted only *near* the tumour: in it and
`TOLERANCE_MM` around it, since elsewhere vessels and dura exceed the threshold in everybody. The synthetic image is
compared with two definitions of truth, always named: `rule`, the same threshold on the true scan, and `expert`, the
label of the data set. Enhancement in the fissure between the hemispheres is counted separately (midline.py).

A figure is its plain formula; 0/0 is NaN. Volumes are in millilitres, levels and contrasts in normalised units, arrays
(X, Y, Z).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lab.io.case_file import BRAIN, EXPERT, TUMOUR
from lab.io.grid import Box, bounding_box

Mask = NDArray[np.bool_]
Image = NDArray[np.floating[Any]]

TOLERANCE_MM = 3.0
"""Enhancement is counted in the tumour and this far around it; a predicted lesion this far off still matches."""
MIN_LESION_ML = 0.05
"""Smaller pieces are not lesions (the 50 mm^3 of BraTS 2023)."""
LIKELY_TUMOUR = 0.5
"""A voxel is tumour where its stated probability exceeds this."""
DEFINITIONS = ("rule", "expert")
LOWEST_LEVEL = -2.0
"""The lowest possible difference of two images in [-1, 1]."""
SUMS = ("near_voxels", "gain_sum", "gain_squares", "true_gain_sum", "true_gain_squares", "gain_products")
"""Columns from which the concordance of the contrast is pooled."""
TOUCHING = np.ones((3, 3, 3), bool)
NAN = float("nan")


def scorecard(
    synthesis: Image,
    t1: Image,
    truth: Image,
    flags: NDArray[np.uint8],
    *,
    spacing_mm: float,
    threshold: float,
    enhancing_ml: float,
    noise_sd: float,
    labelled: bool,
) -> dict[str, float]:
    """Figures that need no definition of truth, then those of `against` for each definition.

    The former are `ml_near` (the volume near the tumour), `ml_predicted`, `enhancement_level`, and
    `contrast_concordance` with its sums: Lin's concordance of the rise over T1 in the synthetic and the true image,
    voxel by voxel near the tumour. It measures both place and amount.

    Args:
        synthesis: the image to be judged, (X, Y, Z) in [-1, 1] like `t1` and `truth`.
        t1: the true scan before contrast.
        truth: the true scan after contrast.
        flags: bit flags (X, Y, Z) of a prepared case.
        spacing_mm: edge of a voxel.
        threshold: enhancement is image - T1 above this.
        enhancing_ml: a patient with less than this does not enhance.
        noise_sd: noise of the true scan (noise_floor.py), the unit of both CNRs.
        labelled: whether the data set ships an enhancing label; else every `_expert` figure is NaN.
    """
    brain = (flags & BRAIN) != 0
    if brain.any():
        box = bounding_box(brain)
        synthesis, t1, truth, flags, brain = synthesis[box], t1[box], truth[box], flags[box], brain[box]
    region = near((flags & TUMOUR) != 0, brain, spacing_mm)
    gain, true_gain = synthesis - t1, truth - t1
    elsewhere = brain & ~region
    background = (mean_over(gain, elsewhere), mean_over(true_gain, elsewhere))
    if region.any():
        box = bounding_box(region)
        region, gain, true_gain, flags = region[box], gain[box], true_gain[box], flags[box]
    predicted = (gain > threshold) & region
    sums = gain_sums(gain[region], true_gain[region])
    truths = {"rule": (true_gain > threshold) & region, "expert": ((flags & EXPERT) != 0) & region}
    figures = {
        "ml_near": millilitres(region, spacing_mm),
        "ml_predicted": millilitres(predicted, spacing_mm),
        "enhancement_level": enhancement_level(gain[region], spacing_mm, enhancing_ml),
        "contrast_concordance": concordance(sums),
        **dict(zip(SUMS, sums)),
    }
    for definition in DEFINITIONS:
        found = against(
            truths[definition],
            predicted,
            (gain, true_gain),
            background=background,
            spacing_mm=spacing_mm,
            enhancing_ml=enhancing_ml,
            noise_sd=noise_sd,
        )
        known = definition == "rule" or labelled
        figures |= {f"{name}_{definition}": value if known else NAN for name, value in found.items()}
    return figures


def against(
    true: Mask,
    predicted: Mask,
    gains: tuple[Image, Image],
    *,
    background: tuple[float, float],
    spacing_mm: float,
    enhancing_ml: float,
    noise_sd: float,
) -> dict[str, float]:
    """Figures of a prediction compared with one truth, both masks (X, Y, Z); see `scorecard`.

    `ml`, `enhances` (0 or 1), `overlap_ml`, `bias_ml` (predicted - true), `dice`, `sensitivity`, `precision`, the
    counts of `lesion_counts`, `hallucinated_ml` (the predicted volume in a patient who does not enhance, else NaN).
    Patients who enhance also have `contrast` (share of the true contrast in the synthetic image), `cnr` and `cnr_true`:
    contrast of the region to the rest of the brain, over the noise of the *true* scan in both, so smoothing does not
    raise the figure.

    `gains` are synthesis - T1 and truth - T1, `background` their means in the brain away from the tumour.
    """
    ml, ml_predicted = millilitres(true, spacing_mm), millilitres(predicted, spacing_mm)
    overlap = millilitres(true & predicted, spacing_mm)
    enhances = is_enhancing(ml, enhancing_ml)
    shown, real = (mean_over(gain, true) for gain in gains) if enhances else (NAN, NAN)
    noise = noise_sd if noise_sd > 0 else NAN
    return {
        "ml": ml,
        "enhances": float(enhances),
        "overlap_ml": overlap,
        "bias_ml": ml_predicted - ml,
        "dice": ratio(2 * overlap, ml + ml_predicted),
        "sensitivity": ratio(overlap, ml),
        "precision": ratio(overlap, ml_predicted),
        **lesion_counts(true, predicted, spacing_mm),
        "hallucinated_ml": NAN if enhances else ml_predicted,
        "contrast": ratio(shown, real),
        "cnr": (shown - background[0]) / noise,
        "cnr_true": (real - background[1]) / noise,
    }


def near(tumour: Mask, brain: Mask, spacing_mm: float) -> Mask:
    """The brain in the tumour and up to `TOLERANCE_MM` (at least one voxel) around it."""
    return widened(tumour, spacing_mm) & brain


def stated_tumour(probability: Image, brain: Mask, spacing_mm: float) -> Mask:
    """The tumour by its stated probability (X, Y, Z): above `LIKELY_TUMOUR`, in pieces of `MIN_LESION_ML` or more."""
    return lesions((probability > LIKELY_TUMOUR) & brain, spacing_mm)[0] > 0


def dice_of(first: Mask, second: Mask) -> float:
    """Dice of two masks; NaN where both are empty."""
    return ratio(2 * float(np.count_nonzero(first & second)), float(np.count_nonzero(first) + np.count_nonzero(second)))


def widened(mask: Mask, spacing_mm: float) -> Mask:
    """The mask and all voxels whose centre lies within `TOLERANCE_MM` (at least one voxel) of one of its voxels."""
    if not mask.any():
        return mask.copy()
    reach = max(TOLERANCE_MM / spacing_mm, 1.0)
    edge = int(reach)
    offsets = np.indices((2 * edge + 1,) * 3) - edge
    ball = (offsets**2).sum(axis=0) <= reach**2 + 1e-6
    box = padded(bounding_box(mask), edge, mask.shape)
    wide = np.zeros_like(mask)
    wide[box] = ndimage.binary_dilation(mask[box], ball)
    return wide


def padded(box: Box, margin: int, shape: tuple[int, ...]) -> Box:
    """A box enlarged by `margin` voxels on every side, within the volume."""
    x, y, z = (slice(max(0, s.start - margin), min(s.stop + margin, size)) for s, size in zip(box, shape))
    return x, y, z


def lesions(mask: Mask, spacing_mm: float) -> tuple[NDArray[np.int32], int]:
    """Labels from 1 for the pieces of a mask of `MIN_LESION_ML` or more, and their number.

    Pieces are 26-connected, as in BraTS 2023; unlike there, pieces close to each other are not merged.
    """
    labels, count = ndimage.label(mask, TOUCHING)
    large = np.bincount(labels.ravel(), minlength=count + 1) * _voxel_ml(spacing_mm) >= MIN_LESION_ML * (1 - 1e-6)
    large[0] = False
    number = np.where(large, np.cumsum(large), 0).astype(np.int32)
    return number[labels], int(large.sum())


def lesion_counts(true: Mask, predicted: Mask, spacing_mm: float) -> dict[str, float]:
    """Number of true `lesions`, of those `found` and `missed`, and of `false` predicted ones.

    As in BraTS 2023 (Saluja et al.) a predicted lesion matches a true one if it lies within `TOLERANCE_MM` of it. A
    predicted lesion at a true piece too small to be a lesion is not false.
    """
    real, count = lesions(true, spacing_mm)
    drawn, drawn_count = lesions(predicted, spacing_mm)
    found = np.count_nonzero(np.unique(real[widened(drawn > 0, spacing_mm)]))
    right = np.count_nonzero(np.unique(drawn[widened(true, spacing_mm)]))
    counts = {"lesions": count, "found": found, "missed": count - found, "false": drawn_count - right}
    return {name: float(value) for name, value in counts.items()}


def gain_sums(gains: Image, true_gains: Image) -> list[float]:
    """Count, sum and squares of the gains (N,), sum and squares of the true ones, products: in the order of `SUMS`."""
    x, y = gains.astype(np.float64), true_gains.astype(np.float64)
    return [float(x.size), *(float(part) for part in (x.sum(), x @ x, y.sum(), y @ y, x @ y))]


def concordance(sums: list[float]) -> float:
    """`concordance_of_sums`; NaN where there are no voxels, or both images are the same constant above T1."""
    from lab.stats.agreement import concordance_of_sums  # not needed where a new patient is measured

    try:
        return concordance_of_sums(*sums)
    except ZeroDivisionError:
        return NAN


def enhancement_level(gains: Image, spacing_mm: float, enhancing_ml: float) -> float:
    """The level that `enhancing_ml` of the voxels (N,) reach; above the threshold exactly where the patient enhances.

    `LOWEST_LEVEL` where there are not that many voxels.
    """
    voxels = max(1, int(np.ceil(enhancing_ml / _voxel_ml(spacing_mm) / (1 + 1e-6))))
    if gains.size < voxels:
        return LOWEST_LEVEL
    return float(np.partition(gains, gains.size - voxels)[gains.size - voxels])


def is_enhancing(ml: float, enhancing_ml: float) -> bool:
    """Whether a volume counts as enhancement; a volume equal to the limit does, with tolerance for rounding."""
    return ml * (1 + 1e-6) >= enhancing_ml


def millilitres(mask: Mask, spacing_mm: float) -> float:
    """Volume of the set voxels."""
    return int(np.count_nonzero(mask)) * _voxel_ml(spacing_mm)


def mean_over(image: Image, mask: Mask) -> float:
    """Mean of an image over a mask in float64, NaN where the mask is empty."""
    values = image[mask]
    return float(values.mean(dtype=np.float64)) if values.size else NAN


def ratio(part: float, whole: float) -> float:
    """Part / whole, NaN where the whole is 0."""
    return part / whole if whole else NAN


def _voxel_ml(spacing_mm: float) -> float:
    return spacing_mm**3 / 1000
