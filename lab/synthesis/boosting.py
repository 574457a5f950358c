"""Voxelwise gradient boosting: the probability of tumour, core and enhancement from T1, T2 and FLAIR.

Two steps of histogram gradient boosting (scikit-learn). The first finds the tumour in the whole brain; the second,
where tumour is likely, its core and its enhancement, with the depth in the predicted tumour among the features. What
the second step and all thresholds see of the training patients are predictions of the first step fitted on others
(`FOLDS` parts), so that no mask is needed for a test patient and nothing is chosen on one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lab.data.cohort import BRAIN, ENHANCEMENT, EXPERT, TUMOUR, Cohort
from lab.evaluation.enhancement import near
from lab.io.case_file import clear_without_target
from lab.io.grid import bounding_box

if TYPE_CHECKING:
    from lab.data.batches import Batch

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

SCALES_MM = (2.0, 4.0, 8.0)
"""Standard deviations of the Gaussians."""
SAMPLE = 150
"""Voxels of each of the two classes a patient."""
FOLDS = 3
LIKELY = 0.05
"""Probability of tumour from which the second step is asked."""
TREES: dict[str, Any] = {"max_iter": 50, "max_leaf_nodes": 15, "learning_rate": 0.15, "early_stopping": False}
MOST = 20_000
"""Most voxels of a patient with which the second step is fitted."""
MEMORY_BYTES = 1 << 30
"""Maps of patients up to this total size are kept; others are computed again."""


class Maps(NamedTuple):
    """Probabilities (X, Y, Z) float32 in [0, 1] of one patient; 0 outside the brain."""

    tumour: Floats
    core: Floats
    enhancing: Floats


def enhancing_mask(flags: NDArray[np.uint8], spacing_mm: float, *, labelled: bool) -> Mask:
    """What truly enhances near the tumour: the expert's label where the data set has one, else the paper's rule."""
    if labelled:
        return (flags & EXPERT) != 0
    brain, tumour = (flags & BRAIN) != 0, (flags & TUMOUR) != 0
    return ((flags & ENHANCEMENT) != 0) & near(tumour, brain, spacing_mm)


def voxel_features(inputs: Floats, brain: Mask, spacing_mm: float) -> Floats:
    """Features (N, 6 C) of the brain's voxels from sequences (C, X, Y, Z) in [-1, 1].

    For each sequence: the value, its Gaussians at `SCALES_MM`, the gradient magnitude of the narrowest, and the local
    variance. Gaussians are over brain voxels only, so that the background does not darken the surface.
    """
    box = bounding_box(brain)
    brain = brain[box]
    weight = brain.astype(np.float32)
    sigmas = [scale / spacing_mm for scale in SCALES_MM]
    shares = [np.maximum(ndimage.gaussian_filter(weight, sigma, truncate=3), 1e-3) for sigma in sigmas]
    columns = []
    for sequence in inputs:
        values = np.where(brain, sequence[box], 0).astype(np.float32)
        smooth = [ndimage.gaussian_filter(values, s, truncate=3) / share for s, share in zip(sigmas, shares)]
        squares = ndimage.gaussian_filter(values**2, sigmas[0], truncate=3) / shares[0]
        slope = np.sqrt(sum(axis**2 for axis in np.gradient(smooth[0])))
        columns += [part[brain] for part in (values, *smooth, slope, squares - smooth[0] ** 2)]
    return np.stack(columns, axis=1)


def depth_mm(found: Mask, brain: Mask, spacing_mm: float) -> Floats:
    """Depth (N,) of the brain's voxels in the tumour found, negative outside; 0 everywhere where none was found."""
    box = bounding_box(brain)
    found, brain = found[box], brain[box]
    if not found.any():
        return np.zeros(np.count_nonzero(brain), np.float32)
    inside, outside = (ndimage.distance_transform_edt(part, sampling=spacing_mm) for part in (found, ~found))
    return np.clip(inside - outside, -20, 40)[brain].astype(np.float32)


class Voxels:
    """A sample of voxels of two classes, and the classifier fitted to it."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.parts: dict[str, list[tuple[Floats, Mask]]] = {}
        self.counts: dict[str, NDArray[np.int64]] = {}

    def add(self, patient: str, features: Floats, positive: Mask) -> None:
        """Take up to `SAMPLE` voxels of each class from a patient's features (N, F) and classes (N,)."""
        picked = []
        for kind in (positive, ~positive):
            where = np.flatnonzero(kind)
            picked.append(self.rng.choice(where, min(SAMPLE, where.size), replace=False))
        rows = np.concatenate(picked)
        self.parts.setdefault(patient, []).append((features[rows], positive[rows]))
        count = np.array([np.count_nonzero(positive), np.count_nonzero(~positive)])
        self.counts[patient] = self.counts.get(patient, 0) + count

    def fit(self, patients: Sequence[str]) -> Callable[[Floats], Floats]:
        """Classifier of these patients' voxels: features (N, F) -> probability (N,) at the patients' true shares."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        parts = [part for patient in patients for part in self.parts.get(patient, [])]
        true = np.sum([np.zeros(2), *(self.counts[one] for one in patients if one in self.counts)], axis=0)
        if not true.all():  # one class only
            share = float(true[0] > 0)
            return lambda features: np.full(len(features), share, np.float32)
        positive = np.concatenate([part for _, part in parts])
        trees = HistGradientBoostingClassifier(**TREES, random_state=0)
        trees.fit(np.concatenate([part for part, _ in parts]), positive)
        drawn = np.log(positive.sum() / (~positive).sum())  # the sample is balanced: its odds give way to the true ones
        shift = np.log(true[0] / true[1]) - drawn

        def predict(features: Floats) -> Floats:
            if not len(features):
                return np.zeros(0, np.float32)
            found: Floats = (1 / (1 + np.exp(-(trees.decision_function(features) + shift)))).astype(np.float32)
            return found

        return predict


@dataclass
class Boosted:
    """Fitted boosting; `maps` predicts."""

    find_tumour: Callable[[Floats], Floats]
    find_core: Callable[[Floats], Floats]
    find_enhancing: Callable[[Floats], Floats]
    tumour_threshold: float
    core_threshold: float
    enhancing_share: float
    """Share of the training patients' tumours that enhances: of a voxel that is hardly tumour."""
    spacing_mm: float
    _kept: dict[tuple[str, int], NDArray[np.float16]] = field(default_factory=dict)

    def maps(self, batch: Batch) -> Maps:
        """The probabilities of a batch of one patient, whole volume."""
        inputs, brain = batch.inputs[0].cpu().numpy(), batch.masks["brain"][0, 0].cpu().numpy()
        key = (batch.case_ids[0], zlib.crc32(inputs.tobytes()))
        found = self._kept.get(key)
        if found is None:
            found = self._voxels(inputs, brain).astype(np.float16)
            if sum(held.nbytes for held in self._kept.values()) + found.nbytes < MEMORY_BYTES:
                self._kept[key] = found
        maps = np.zeros((3, *brain.shape), np.float32)
        maps[:, brain] = found
        return Maps(*maps)

    def tumour_mask(self, maps: Maps) -> Mask:
        """The tumour found (X, Y, Z)."""
        return largest(maps.tumour > self.tumour_threshold)

    def core_mask(self, maps: Maps) -> Mask:
        """The core found (X, Y, Z)."""
        return maps.core > self.core_threshold

    def _voxels(self, inputs: Floats, brain: Mask) -> Floats:
        """Probabilities (3, N) of the brain's voxels."""
        features = voxel_features(inputs, brain, self.spacing_mm)
        likely = self.find_tumour(features)
        found = largest(unpacked(likely > self.tumour_threshold, brain))
        asked = likely > LIKELY
        depth = depth_mm(found, brain, self.spacing_mm)
        more = np.column_stack([features, likely, depth])[asked]
        result = np.stack([likely, likely * self.enhancing_share, likely * self.enhancing_share])
        result[1, asked], result[2, asked] = self.find_core(more), self.find_enhancing(more)
        return result


def unpacked(values: NDArray[Any], brain: Mask) -> NDArray[Any]:
    """Values (N,) of the brain's voxels as a volume (X, Y, Z)."""
    volume = np.zeros(brain.shape, values.dtype)
    volume[brain] = values
    return volume


def largest(mask: Mask) -> Mask:
    """The pieces of a mask that have at least a tenth of the largest one's volume."""
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return (sizes >= max(1, sizes.max() / 10))[labels]


def dice_threshold(probabilities: Sequence[NDArray[Any]], truths: Sequence[Mask]) -> float:
    """The threshold above 0 of the highest Dice over all voxels together; 0.5 where none has any."""
    edges = np.linspace(0, 1, 101)
    drawn, overlap, true = np.zeros(100), np.zeros(100), 0
    for values, truth in zip(probabilities, truths):
        drawn += np.histogram(values, edges)[0]
        overlap += np.histogram(values[truth], edges)[0]
        true += int(np.count_nonzero(truth))
    drawn, overlap = (np.cumsum(part[::-1])[::-1][1:] for part in (drawn, overlap))
    best = int(np.argmax(2 * overlap / np.maximum(drawn + true, 1)))
    return float(edges[1 + best]) if overlap[best] else 0.5


def fit_boosting(cohort: Cohort, case_ids: Sequence[str], *, inputs: Sequence[str]) -> Boosted:
    """Fit both steps on training cases, with thresholds of tumour and core chosen on predictions out of fold."""
    from lab.data.batches import tumour_core  # torch

    spacing, picked = cohort.spacing_mm, [cohort.channel(name) for name in inputs]
    patient_of = {case: str(cohort.index.loc[case, "patient_id"]) for case in case_ids}
    patients = list(dict.fromkeys(patient_of.values()))
    parts = [patients[start::FOLDS] for start in range(min(FOLDS, len(patients)))]
    fold_of = {patient: number for number, part in enumerate(parts) for patient in part}
    others = [[one for one in patients if one not in part] or patients for part in parts]

    def load(case: str) -> tuple[Floats, NDArray[np.uint8], Mask]:
        """Features (N, F) of a case, its bit flags and its brain, both (X, Y, Z)."""
        image, mask = cohort.load(case)
        flags = clear_without_target(mask)
        brain = (flags & BRAIN) != 0
        return voxel_features(np.asarray(image[picked], np.float32), brain, spacing), flags, brain

    first, core, enhancing = (Voxels(seed) for seed in range(3))
    for case in case_ids:
        features, flags, brain = load(case)
        first.add(patient_of[case], features, (flags & TUMOUR)[brain] != 0)
    find = [first.fit(part) for part in others]
    likely: dict[str, NDArray[np.float16]] = {}
    truths: list[Mask] = []
    asked: dict[str, tuple[NDArray[np.int64], Floats, Mask, Mask]] = {}
    for number, case in enumerate(case_ids):
        features, flags, brain = load(case)
        tumour = (flags & TUMOUR)[brain] != 0
        enhancement = enhancing_mask(flags, spacing, labelled=cohort.labelled(case))
        whole, enhances = tumour_core(flags, enhancement, spacing)[brain], enhancement[brain]
        likely[case] = find[fold_of[patient_of[case]]](features).astype(np.float16)
        truths.append(tumour)
        where = np.flatnonzero((likely[case] > LIKELY) | tumour)
        if where.size > MOST:
            where = np.sort(np.random.default_rng(number).choice(where, MOST, replace=False))
        asked[case] = (where, features[where], whole[where], enhances[where])
    threshold = dice_threshold(list(likely.values()), truths)
    for case, (where, features, whole, enhances) in asked.items():
        brain = (clear_without_target(cohort.load(case)[1]) & BRAIN) != 0
        found = largest(unpacked(likely[case] > threshold, brain))
        depth = depth_mm(found, brain, spacing)
        more = np.column_stack([features, likely[case][where], depth[where]])
        core.add(patient_of[case], more, whole)
        enhancing.add(patient_of[case], more, enhances)
        asked[case] = (where, more, whole, enhances)
    find_core = [core.fit(part) for part in others]
    guesses = [find_core[fold_of[patient_of[case]]](more) for case, (_, more, _, _) in asked.items()]
    wholes = [whole for _, _, whole, _ in asked.values()]
    tumours, enhanced = (
        sum(float(part.sum()) for part in parts) for parts in (truths, [e for *_, e in asked.values()])
    )
    return Boosted(
        find_tumour=first.fit(patients),
        find_core=core.fit(patients),
        find_enhancing=enhancing.fit(patients),
        tumour_threshold=threshold,
        core_threshold=dice_threshold(guesses, wholes),
        enhancing_share=enhanced / max(tumours, 1),
        spacing_mm=spacing,
    )
