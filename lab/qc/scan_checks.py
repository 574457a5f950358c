"""Plausibility checks of scans and masks: contradictions of physics are refused, unlikely findings are remarked upon.

The limits were measured on 28 whole brains of BraTS at 2 mm (8 of them at 1 mm too), 239 cubes around the tumours of
other patients and 40 phantoms. None of these is refused or remarked upon; each limit states the nearest value found.
Values are in spreads: the interquartile range of a sequence in the brain.
"""

from __future__ import annotations

import dataclasses
from itertools import combinations

import numpy as np

from lab.io.case_file import BRAIN, EXPERT, TUMOUR
from lab.io.files import canonical
from lab.io.scan import Scan
from lab.qc.hard_limits import BRAIN_ML
from lab.qc.image_quality import FINE_MM, measure

STANDS_OUT = 50.0
"""Spreads from the median beyond which a voxel is not tissue (22.9 at most)."""
FEW = 1e-3
"""Maximum share of such voxels in a brain; they are clipped to the range of the others."""
WIDEST = 6.0
"""SD of a sequence in spreads beyond which its grey values pile up (3.1 at most)."""
BELOW = 0.9
"""Share of a brain darker than its background at which an image is negated (0.002 at most)."""
OUTSIDE, MOSTLY_OUTSIDE = 0.03, 0.5
"""Share of the tumour mask outside the brain that is remarked upon (0.0055 at most), and that is refused."""
OF_BRAIN, OF_PART = 0.6, 0.98
"""Share of a whole brain, and of a part of one, that no tumour exceeds (0.16 and 0.96 at most)."""
LEAST_MM3 = 100.0
"""Minimum volume of an enhancing part for its check (cubic millimetres)."""
BRIGHT, BRIGHTER = 0.85, 0.2
"""Share of the brain darker than an enhancing part in T1GD, and its increase from T1 to T1GD."""
EQUAL = 0.998
"""Correlation above which two sequences are one scan (0.983 at most)."""


FINE_BRIGHT, TUMOUR_BRIGHT, LABEL_BRIGHT = 1.4, 1.5, 0.85
"""T1 after contrast agent: sum of the metrics `vessels` and `dots`, spreads of the tumour's brightest 2 % above the
rest of the brain, and share of that rest that is darker than the enhancing part."""
LIKE_T1, FINE_BRIGHTER = 0.5, 1.6
"""The same of a sequence with another name: correlation with T1 (of T2 0.43 at most), and the sum of the metrics."""


def clip_outliers(scan: Scan, part: np.ndarray) -> tuple[Scan, str]:
    """The scan with impossible voxels (such as 3e38) clipped to the range of the others, and a note.

    `part` (X, Y, Z) is the brain in the scan. Raises ValueError for too many such voxels, and for a negated, constant
    or nearly constant image.
    """
    values = scan.data[part]
    first, middle, third = np.quantile(values[:: max(1, values.size // 100_000)].astype(np.float64), [0.25, 0.5, 0.75])
    spread = third - first
    if not spread > 0:
        if values.min() == values.max():
            raise ValueError(f"the brain has the same value everywhere ({middle:g})")
        raise ValueError(f"half of the brain or more has the same value ({middle:g}); this is no grey-value image")
    faces = np.concatenate([np.take(scan.data, end, axis).ravel() for axis in range(3) for end in (0, -1)])
    if np.mean(values < scan.background) > BELOW and middle < np.median(faces) + spread / 2:
        raise ValueError(
            f"the brain is darker than what is round it ({middle:g} and {scan.background:g}): the image is negated"
        )
    note = ""
    low, high = middle - STANDS_OUT * spread, middle + STANDS_OUT * spread
    if values.min() < low or values.max() > high:
        wrong = (values < low) | (values > high)
        count, share = int(np.count_nonzero(wrong)), float(np.mean(wrong))
        found = values[wrong]
        worst = float(found[np.argmax(np.abs(found.astype(np.float64) - middle))])
        lowest, highest = float(values[~wrong].min()), float(values[~wrong].max())
        text = f"{count} {'voxels' if count > 1 else 'voxel'} of the brain, such as {worst:.3g}, where the others have"
        if share > FEW:
            raise ValueError(f"{text} {lowest:.4g} to {highest:.4g}: too many to be single faults; look at the scan")
        note = f"{text} {lowest:.4g} to {highest:.4g}, cut to these"
        values = np.clip(values, np.float32(lowest), np.float32(highest))
        data = scan.data.copy()
        data[part] = values
        scan = dataclasses.replace(scan, data=data)
    ratio = float(values.std(dtype=np.float64)) / spread
    if ratio > WIDEST:
        raise ValueError(
            f"its grey values pile up in a part of their range (SD {ratio:.1f} times the quartiles' distance, "
            f"{WIDEST:g} at most): look for voxels that stand out"
        )
    return scan, note


def check_mask(labels: np.ndarray, brain: np.ndarray, voxel_ml: float) -> list[str]:
    """Remarks on a tumour mask (X, Y, Z). Raises ValueError where it cannot be a tumour's."""
    tumour = labels > 0
    count, held = np.count_nonzero(tumour), np.count_nonzero(tumour & brain)
    share, outside = held / np.count_nonzero(brain), 1 - held / max(1, count)
    whole = np.count_nonzero(brain) * voxel_ml >= BRAIN_ML[0]
    if share > (OF_BRAIN if whole else OF_PART):
        raise ValueError(f"the tumour mask covers {share:.0%} of the brain; is it the mask of the brain, or inverted?")
    if 1 > outside > MOSTLY_OUTSIDE:
        raise ValueError(f"{outside:.0%} of the tumour mask lie outside the brain; is it another patient's, or moved?")
    return [f"{outside:.1%} of the tumour mask lie outside the brain"] if 1 > outside > OUTSIDE else []


def check_cavity(t1: Scan, t1gd: Scan, cavity: np.ndarray) -> list[str]:
    """Remarks on a resection cavity (X, Y, Z) bool: fluid does not take up contrast agent.

    Of the enhancing parts of 244 patients 78 % are remarked upon, of the necrotic parts of 258 patients 4 %.
    """
    grey = (scan.data[scan.data != scan.background] for scan in (t1, t1gd))
    before, after = (np.mean(brain < np.median(scan.data[cavity])) for brain, scan in zip(grey, (t1, t1gd)))
    if after < BRIGHT or after - before < BRIGHTER:
        return []
    return ["the resection cavity is bright in T1GD: does its label mean the enhancing part (brats2021) in this mask?"]


def check_contrasts(image: np.ndarray, masks: np.ndarray, channels: tuple[str, ...], spacing_mm: float) -> list[str]:
    """Remarks on a prepared patient's sequences.

    `image` (C, X, Y, Z), bit flags `masks` (X, Y, Z). Raises ValueError where two sequences are one scan.
    """
    names = [canonical(name) for name in channels]
    inside = (masks & BRAIN) > 0
    values = dict(zip(names, image[:, inside].astype(np.float32)))
    for a, b in combinations(values, 2):
        equal = float(np.corrcoef(values[a], values[b])[0, 1])
        if equal > EQUAL:
            raise ValueError(f"{a} and {b} are the same image (they correlate {equal:.4f}); each needs its own scan")
    tumour = (masks[inside] & TUMOUR) > 0
    whole = np.count_nonzero(inside) * spacing_mm**3 / 1000 >= BRAIN_ML[0]
    found = _in_tumour({name: values[name] for name in ("T1", "T2", "FLAIR") if name in values}, tumour, whole=whole)
    expert = (masks[inside] & EXPERT) > 0
    if {"T1", "T1GD"} <= set(values) and np.count_nonzero(expert) * spacing_mm**3 >= LEAST_MM3:
        rise = values["T1GD"] - values["T1"]
        first, middle, third = np.quantile(rise, [0.25, 0.5, 0.75])
        if np.median(rise[expert]) < middle - 0.1 * (third - first):  # 0.02 above at least, the next 0.12
            what = "T1GD is darker than T1 where the mask says that the tumour enhances"
            found.append(f"{_swapped(what, 'T1', 'T1GD')[:-1]}, or does that label mean another part?")
    if whole:
        found += _whole_brain(measure(image, masks, channels, spacing_mm), fine=spacing_mm <= FINE_MM)
    return found


def find_enhanced(image: np.ndarray, masks: np.ndarray, channels: tuple[str, ...], spacing_mm: float) -> list[str]:
    """Sequences that look like a T1 after contrast agent: bright vessels or, if called T1, a brighter tumour.

    `image` (C, X, Y, Z), bit flags `masks` (X, Y, Z). Of the T1 of 267 patients of BraTS 7 to 15 % are found, of their
    T1GD 82 to 96 %: the share of a cohort tells, a single patient does not.
    """
    inside = (masks & BRAIN) > 0
    names = [canonical(name) for name in channels]
    values = dict(zip(names, image[:, inside].astype(np.float32)))
    found = []
    for place, name in enumerate(names):
        fine = measure(image[place : place + 1], masks, (name,), spacing_mm)
        bright = fine[f"vessels:{name}"] + fine[f"dots:{name}"]  # NaN where they cannot be measured
        if name.startswith("T1"):
            if bright > FINE_BRIGHT or _is_tumour_bright(values[name], masks[inside], spacing_mm):
                found.append(name)
            continue
        with np.errstate(invalid="ignore", divide="ignore"):  # of an image of one value
            alike = {other: np.corrcoef(values[name], grey)[0, 1] for other, grey in values.items() if other != name}
        if bright > FINE_BRIGHTER and alike.get("T1", 0) >= max(LIKE_T1, *alike.values()):
            found.append(name)
    return found


def _is_tumour_bright(grey: np.ndarray, masks: np.ndarray, spacing_mm: float) -> bool:
    """Whether a brain's grey values (N,) are as bright in the tumour, by bit flags (N,), as with contrast agent."""
    tumour, expert = (masks & TUMOUR) > 0, (masks & EXPERT) > 0
    rest = grey[~tumour]
    if not len(rest) or not tumour.any():
        return False
    if np.count_nonzero(expert) * spacing_mm**3 >= LEAST_MM3 and np.mean(rest < np.median(grey[expert])) > LABEL_BRIGHT:
        return True
    first, middle, third = np.quantile(rest, [0.25, 0.5, 0.75])
    return bool(np.quantile(grey[tumour], 0.98) - middle > TUMOUR_BRIGHT * (third - first) > 0)


def _in_tumour(values: dict[str, np.ndarray], tumour: np.ndarray, *, whole: bool) -> list[str]:
    """Remarks on a tumour's intensities: water makes it bright in T2 and FLAIR and dark in T1, whatever its grade."""
    if not tumour.any():
        return []
    level = {}
    for name, grey in values.items():
        first, middle, third = np.quantile(grey, [0.25, 0.5, 0.75])
        level[name] = float((np.median(grey[tumour]) - middle) / (third - first)) if third > first else 0.0
    found = []
    if "T1" in level and level.get("FLAIR", np.inf) - level["T1"] < -0.2:  # 0.016 at least; of whole brains 0.64
        found.append(_swapped("T1 is brighter in the tumour than FLAIR", "T1", "FLAIR"))
    if "T1" in level and level.get("T2", np.inf) - level["T1"] < -0.3:  # -0.12 at least; of whole brains -0.05
        found.append(_swapped("T1 is brighter in the tumour than T2", "T1", "T2"))
    if level.get("T2", np.inf) < -0.15:  # 0.01 at least; of whole brains 0.36
        found.append("T2 is dark in the tumour: is it a T2, or of reversed contrast, or does the mask lie elsewhere?")
    if level.get("T2", np.inf) + level.get("FLAIR", np.inf) < (0.6 if whole else -0.3):  # 1.49 and -0.11 at least
        found.append("the mask marks nothing bright in T2 and FLAIR: does it lie elsewhere, or is it mirrored?")
    return found


def _whole_brain(found: dict[str, float], *, fine: bool) -> list[str]:
    """Remarks on how a whole brain's sequences relate: T1GD resembles T1, and only T2 has bright cerebrospinal fluid.

    Vessels are checked on `fine` grids only.
    """

    def value(name: str) -> float:
        return found.get(name, np.nan)

    remarks = []
    alike = value("correlation:T1:T1GD")
    if alike - value("correlation:T1GD:T2") < -0.15:  # 0.26 at least
        remarks.append("T2 resembles T1GD more than T1 does: were T1 and T2 exchanged, or is one of reversed contrast?")
    elif alike < -0.05:  # 0.16 at least
        remarks.append("T1 is bright where T1GD is dark: is one of them of reversed contrast?")
    if value("where_dark:T2:T1") - value("where_dark:FLAIR:T1") < -0.3:  # 0.07 at least, the next 0.55
        remarks.append(_swapped("the fluid, dark in T1, is brighter in FLAIR than in T2", "T2", "FLAIR"))
    dots = sum(value(f"{kind}:T1GD") - value(f"{kind}:T1") for kind in ("vessels", "dots"))
    if fine and dots < -0.5:  # -0.21 at least
        remarks.append(_swapped("vessels are brighter in T1 than in T1GD", "T1", "T1GD"))
    return remarks


def _swapped(what: str, first: str, second: str) -> str:
    return f"{what}: were {first} and {second} exchanged?"
