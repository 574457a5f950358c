"""Voxels of a patient counted by predicted contrast, or stated probability: AUC, thresholds, and figures at them.

Only voxels near the tumour count, as everywhere in the scorecard. A patient's counts are one cell of text,
"-3:0/12 1/40 2/31": the first bin's number, then truly enhancing and other voxels of each bin. A bin is `STEP` wide,
its upper edge included. From the counts of validation patients a threshold is chosen: that of the highest kappa over
all of their voxels. From those of test patients come the figures at that threshold and the AUC over all voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab.evaluation.enhancement import enhancement_level, near, ratio
from lab.evaluation.figure_spec import JudgedCase
from lab.io.case_file import EXPERT, TUMOUR
from lab.stats.agreement import kappa
from lab.stats.auc import auc

STEP = 0.01
SCORES = {"contrast": (-1.0, 1.0, 0.3), "probability": (0.0, 1.0, 0.5), "core": (0.0, 1.0, 0.5)}
"""Score of a voxel -> lowest and highest threshold to choose from, and the one preferred among equally good ones. The
core is the probability that the network states for the tumour's core: painting that is a rival of its probability."""
TRUTHS = ("rule", "expert")
COUNTS = tuple(f"{score}_counts_{truth}" for score in SCORES for truth in TRUTHS)
"""Columns of text."""

Counts = NDArray[np.float64]
"""(patients, bins, 2): truly enhancing voxels and others; the first bin holds everything up to the lowest threshold."""


def voxel_figures(case: JudgedCase, *, labelled: bool) -> dict[str, float | str]:
    """The columns `COUNTS`, `{score}_auc` and `{score}_auc_tumour` for each truth, and `probability_level`.

    The AUC is that of the enhancing voxels near the tumour, and inside it; NaN where only one kind is there. Without
    a stated probability its columns are empty, as are those of the core, and without an expert label (`labelled`)
    those of the expert. `probability_level` is what the least enhancing volume near the tumour reaches, as
    `enhancement_level` of the contrast.
    """
    tumour = (case.flags & TUMOUR) != 0
    region = near(tumour, case.brain, case.spacing_mm)
    inside = tumour[region]
    truths = {"rule": (case.truth - case.t1)[region] > case.threshold, "expert": (case.flags[region] & EXPERT) != 0}
    stated = {"probability": case.probability, "core": case.core}
    scores: dict[str, NDArray[Any] | None] = {"contrast": (case.prediction - case.t1)[region]}
    scores |= {name: None if one is None else one[region] for name, one in stated.items()}
    found: dict[str, float | str] = {"probability_level": float("nan")}
    if (probability := scores["probability"]) is not None:
        found["probability_level"] = enhancement_level(probability, case.spacing_mm, case.enhancing_ml)
    for score, values in scores.items():
        for truth, true in truths.items():
            names = [f"{score}_{figure}_{truth}" for figure in ("counts", "auc", "auc_tumour")]
            if values is None or (truth == "expert" and not labelled):
                found |= dict.fromkeys(names, float("nan"))
                continue
            found[names[0]] = count_voxels(values, true, score)
            found[names[1]], found[names[2]] = voxel_auc(true, values), voxel_auc(true[inside], values[inside])
    return found


def auc_as_read(figures: Mapping[str, Any], *, stated: bool, labelled: bool) -> float:
    """The AUC, among `voxel_figures`, of the probability where one is `stated`, else of the contrast.

    The truth is the expert's label where there is one (`labelled`), else the paper's rule.
    """
    return float(figures[f"{'probability' if stated else 'contrast'}_auc_{'expert' if labelled else 'rule'}"])


def voxel_auc(true: NDArray[np.bool_], values: NDArray[np.float32]) -> float:
    """Area under the ROC curve of voxels (N,); NaN where all or none are true."""
    return auc(true, values) if 0 < np.count_nonzero(true) < true.size else float("nan")


def count_voxels(values: NDArray[np.float32], true: NDArray[np.bool_], score: str) -> str:
    """Counts of voxels (N,) as text; "" without voxels."""
    if not values.size:
        return ""
    low, high, _ = SCORES[score]
    edges = np.ceil(np.round(np.clip(values.astype(np.float64), low, high) / STEP, 4)).astype(int)  # upper edge
    first = int(edges.min())
    positive, other = (np.bincount(edges[kind] - first, minlength=int(np.ptp(edges)) + 1) for kind in (true, ~true))
    return f"{first}:" + " ".join(f"{one}/{two}" for one, two in zip(positive, other))


def read_counts(cells: pd.Series, score: str) -> Counts:
    """The counts of patients from their cells of text; zeros for an empty one."""
    low, high, _ = SCORES[score]
    lowest, bins = round(low / STEP), round((high - low) / STEP) + 1
    counts = np.zeros((len(cells), bins, 2))
    for place, cell in enumerate(cells):
        if isinstance(cell, str) and cell:
            first, _, rest = cell.partition(":")
            pairs = np.array(rest.replace("/", " ").split(), np.float64).reshape(-1, 2)
            start = int(first) - lowest
            counts[place, start : start + len(pairs)] = pairs
    return counts


def join_counts(cells: pd.Series) -> str | float:
    """The sum of counts of the same score, as text: one patient's over several seeds. NaN without any."""
    known = cells.dropna()
    if len(known) < 2:
        return known.iloc[0] if len(known) else np.nan
    summed = read_counts(known, "contrast").sum(axis=0).astype(int)
    some = np.flatnonzero(summed.any(axis=1))
    if not some.size:
        return ""
    first, last = int(some[0]), int(some[-1])
    lowest = round(SCORES["contrast"][0] / STEP)
    return f"{first + lowest}:" + " ".join(f"{one}/{two}" for one, two in summed[first : last + 1])


def choose_thresholds(patients: pd.DataFrame) -> dict[str, float]:
    """Column -> threshold with the highest kappa over all voxels of these patients, the validation patients.

    Columns are `{score}_threshold_{truth}`. Among equally good ones it is the one nearest to that of `SCORES`, which is
    the rule's 0.3 for the contrast. A threshold is missing where the score is not known or no voxel enhances.
    """
    chosen: dict[str, float] = {}
    for column in COUNTS:
        score, truth = column.split("_counts_")
        found = best_threshold(patients[column], score) if column in patients else None
        if found is not None:
            chosen[f"{score}_threshold_{truth}"] = found[0]
    return chosen


def best_threshold(cells: pd.Series, score: str) -> tuple[float, float] | None:
    """Threshold of one score with the highest kappa over all voxels of these patients, and that kappa.

    `cells` are counts as text; None where none is known, or no voxel enhances.
    """
    if cells.isna().all():
        return None
    low, _, usual = SCORES[score]
    above = beyond(read_counts(cells, score).sum(axis=0))
    true, whole = np.asarray(above[0, 0]), np.asarray(above[0].sum())
    levels = np.round(np.arange(len(above)) * STEP + low, 6)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = kappa(above[1:, 0], above[1:].sum(axis=1), true, whole)
    if not true or not np.isfinite(found).any():
        return None
    best = np.flatnonzero(found >= np.nanmax(found) - 1e-9)
    place = best[np.argmin(np.abs(levels[best] - usual))]
    return float(levels[place]), float(found[place])


def average_precision(cells: Sequence[str], score: str) -> float:
    """Average precision of a score over all counted voxels, those of one bin taken as ties; NaN where none enhances."""
    counts = read_counts(pd.Series(cells, dtype=object), score).sum(axis=0)
    hits, shown = counts[:, 0], beyond(counts)
    return ratio(float(hits @ (shown[:, 0] / np.maximum(shown.sum(axis=1), 1))), float(hits.sum()))


def beyond(counts: Counts) -> Counts:
    """Voxels in each bin or a higher one, from counts (..., bins, 2)."""
    return np.cumsum(counts[..., ::-1, :], axis=-2)[..., ::-1, :]


def at_thresholds(patients: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """A table of patients with the figures at thresholds from `choose_thresholds`; NaN for one that is missing.

    For each score and truth these are `threshold`, `predicted_ml`, `overlap_ml`, `dice`, and `hallucinated_ml` in
    patients who do not enhance, as `contrast_dice_expert`.
    """
    added: dict[str, Any] = {}
    for column in COUNTS:
        score, truth = column.split("_counts_")
        name = f"{score}_threshold_{truth}"
        threshold = thresholds.get(name, np.nan)
        counts = read_counts(patients[column], score)  # (patients, bins, 2)
        low, _, _ = SCORES[score]
        bins = np.arange(counts.shape[1]) > (0 if np.isnan(threshold) else round((threshold - low) / STEP))
        voxels = counts.sum(axis=(1, 2))
        known = patients[column].notna().to_numpy() & (voxels > 0) & ~np.isnan(threshold)
        with np.errstate(divide="ignore", invalid="ignore"):
            voxel_ml = np.where(known, patients["ml_near"] / voxels, np.nan)
        overlap, others = (counts[:, bins].sum(axis=1) * voxel_ml[:, None]).T
        predicted = overlap + others
        true = patients[f"ml_{truth}"].to_numpy(np.float64)
        added |= {
            name: np.where(known, threshold, np.nan),
            f"{score}_predicted_ml_{truth}": predicted,
            f"{score}_overlap_ml_{truth}": overlap,
            f"{score}_dice_{truth}": [ratio(2 * one, whole) for one, whole in zip(overlap, predicted + true)],
            f"{score}_hallucinated_ml_{truth}": np.where(patients[f"enhances_{truth}"] == 0, predicted, np.nan),
        }
    return patients.assign(**added)
