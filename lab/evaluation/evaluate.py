"""Evaluation of cases: one row per case with image errors, enhancement scorecard, noise floor and artefacts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.config import DataConfig
from lab.data.batches import Batch, CaseStore, Prediction, image_of, map_of, patch_window, unpack_masks
from lab.data.cohort import BRAIN
from lab.evaluation.enhancement import SUMS, scorecard
from lab.evaluation.figure_spec import JudgedCase
from lab.evaluation.figures import FIGURES, shown_in, split_truth
from lab.evaluation.image_errors import METRICS, errors, score
from lab.evaluation.midline import midline_figures, midline_slab
from lab.evaluation.noise_floor import noise_sd
from lab.evaluation.place.voxel_counts import at_thresholds, auc_as_read, voxel_figures
from lab.evaluation.pooled import point
from lab.evaluation.ssim import WINDOW
from lab.io.case_file import clear_without_target
from lab.io.grid import Box

REGIONS = {"brain": ("_brain",), "tumour": ("_tumour", "_balanced")}
"""Region -> suffixes of the metrics that need it."""
KNOWN = ["case_id", "patient_id", "enhancing"]


def evaluate(
    predict: Callable[[Batch], Prediction], cases: CaseStore, thresholds: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """All figures of all cases, one row per case.

    Columns: `case_id`, `patient_id`, `enhancing`; the metrics of `METRICS`; the enhancement scorecard against `rule`
    and `expert`; the voxel counts with their AUC, and the figures at `thresholds` (`voxel_counts.choose_thresholds`, of
    other patients), empty without any; the midline; `noise_sd`, `floor_mae`, `floor_mse` of the true scan;
    `checkerboard`, `checkerboard_true`, `sharpness`. A figure that a case cannot have (a metric of an empty region,
    expert figures without a label) is an empty cell, so means and tests count only patients who have it. T1 is read
    from the cohort where it is not an input.
    """
    return evaluate_inside(predict, cases, [None], thresholds)[0]


@torch.no_grad()
def evaluate_inside(
    predict: Callable[[Batch], Prediction],
    cases: CaseStore,
    edges: Sequence[int | None],
    thresholds: Mapping[str, float] | None = None,
) -> list[pd.DataFrame]:
    """The table of `evaluate` for each edge: one prediction per case, scored inside cubes around the tumour.

    An edge is in voxels, None is the whole volume; cubes lie as in `patch_window`. Figures of the scan (its noise, the
    midline) are those of the whole scan. Inside a cube smaller than its window SSIM is an empty cell.
    """
    tables: list[list[dict[str, Any]]] = [[] for _ in edges]
    for index, case_id in enumerate(cases.case_ids):
        prediction = predict(cases.batch([index]))
        synthesis = image_of(prediction)[0, 0].float()
        stated = {name: map_of(prediction, name) for name in ("probability", "tumour", "core", "spread")}
        maps = {name: one[0, 0].float().cpu().numpy() for name, one in stated.items() if one is not None}
        case = _case(cases, case_id)
        outer = patch_window(case.flags, cases.patch)
        entry = cases.cohort.index.loc[case_id]
        known = {"case_id": case_id, "patient_id": entry["patient_id"], "enhancing": int(entry["enhancing"])}
        for rows, edge in zip(tables, edges):
            window = _overlap(outer, patch_window(case.flags, edge))
            inner = tuple(
                slice(part.start - whole.start, part.stop - whole.start) for part, whole in zip(window, outer)
            )
            parts = {name: one[inner] for name, one in maps.items()}
            rows.append(known | _figures(synthesis[inner], parts, case, window))
    return [at_thresholds(pd.DataFrame(rows), thresholds or {}) for rows in tables]


def means(table: pd.DataFrame, prefix: str) -> dict[str, float]:
    """Mean of every numeric column as `{prefix}/mae_brain` and so on, without empty cells and empty columns.

    Figures pooled over all cases are added: `dice_pooled_rule`, `kappa_expert` and so on, and `contrast_pooled`, the
    concordance of the contrast. A pooled Dice counts hallucinated enhancement by its volume; in the mean of the
    patients' own Dice a single hallucinated voxel is already a 0, and none is an empty cell.
    """
    figures = dict(table.drop(columns=[*KNOWN, *SUMS], errors="ignore").select_dtypes("number").mean())
    for name in dict.fromkeys([*shown_in("objective"), *shown_in("place")]):
        base, truth = split_truth(name)
        if not FIGURES[base].of_case:
            figures[name] = point(table, truth, base)
    return {f"{prefix}/{name}": float(value) for name, value in figures.items() if value == value}


@dataclass(frozen=True)
class Case:
    """One patient's true images and the settings of the scorecard; arrays (X, Y, Z) over the whole volume."""

    t1: NDArray[np.float32]
    truth: NDArray[np.float32]
    flags: NDArray[np.uint8]
    slab: NDArray[np.bool_]
    noise_sd: float
    spacing_mm: float
    threshold: float
    enhancing_ml: float
    labelled: bool


def _case(cases: CaseStore, case_id: str) -> Case:
    cohort = cases.cohort
    settings = cohort.manifest.get("settings", {})
    image, mask = cohort.load(case_id)
    flags = clear_without_target(mask)
    brain = (flags & BRAIN) != 0
    truth = np.asarray(image[cases.channels[-1]], np.float32)
    return Case(
        t1=np.asarray(image[cohort.channel("T1")], np.float32),
        truth=truth,
        flags=flags,
        slab=midline_slab(brain, cohort.spacing_mm),
        noise_sd=noise_sd(truth, brain),
        spacing_mm=cohort.spacing_mm,
        threshold=float(settings.get("enhancement_threshold", DataConfig.enhancement_threshold)),
        enhancing_ml=float(settings.get("enhancing_ml", DataConfig.enhancing_ml)),
        labelled=cohort.labelled(case_id),
    )


def _figures(synthesis: Tensor, maps: Mapping[str, NDArray[np.float32]], case: Case, window: Box) -> dict[str, Any]:
    """All figures inside a window of the volume; `synthesis` and `maps` hold that window's voxels."""
    t1, truth, flags, slab = case.t1[window], case.truth[window], case.flags[window], case.slab[window]
    brain = (flags & BRAIN) != 0
    image = synthesis.cpu().numpy()
    rule: dict[str, Any] = {"spacing_mm": case.spacing_mm, "threshold": case.threshold}
    images: dict[str, Any] = {"prediction": image, "probability": None, "t1": t1, "truth": truth, **maps}
    judged = JudgedCase(
        **images, flags=flags, brain=brain, noise_sd=case.noise_sd, enhancing_ml=case.enhancing_ml, **rule
    )
    voxels = voxel_figures(judged, labelled=case.labelled)
    return {
        **_metrics(synthesis, truth, flags),
        **scorecard(
            image,
            t1,
            truth,
            flags,
            enhancing_ml=case.enhancing_ml,
            noise_sd=case.noise_sd,
            labelled=case.labelled,
            **rule,
        ),
        **voxels,
        "voxel_auc": auc_as_read(voxels, stated="probability" in maps, labelled=case.labelled),
        **midline_figures(image, t1, truth, flags, slab, **rule),
        **{name: spec.measure(judged) for name, spec in FIGURES.items() if spec.measure is not None},
    }


def _metrics(synthesis: Tensor, truth: NDArray[np.float32], flags: NDArray[np.uint8]) -> dict[str, float]:
    """`METRICS` of one volume; NaN where the region is empty or too small for SSIM's window."""
    target, bits = (torch.from_numpy(np.ascontiguousarray(part)).to(synthesis.device) for part in (truth, flags))
    masks = unpack_masks(bits[None, None])
    judge = score if min(synthesis.shape) >= WINDOW else errors
    found = judge(synthesis[None, None], target[None, None], masks)
    lacking = [ending for region, endings in REGIONS.items() if not masks[region].any() for ending in endings]
    figures = {name: float(found[name]) if name in found else float("nan") for name in METRICS}
    return {name: float("nan") if name.endswith(tuple(lacking)) else value for name, value in figures.items()}


def _overlap(first: Box, second: Box) -> Box:
    x, y, z = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second))
    return x, y, z
