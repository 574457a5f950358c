"""Voxel-wise maps of one feature of one case.

pyradiomics' voxel-based extraction: the feature inside a small cube around every tumour voxel of one slice, with the
grey levels of the whole tumour. The mean of a map is not the feature of the whole tumour.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import SimpleITK as sitk

# The installed package, not the repository's folder of the same name (see tests/test_imports.py).
from radiomics.featureextractor import RadiomicsFeatureExtractor, getFeatureClasses, imageoperations

from lab.data.cohort import BRAIN, TUMOUR, Cohort
from lab.radiomics.dataset import SHAPE
from lab.radiomics.features.boxes import crop, grow, label_box
from lab.radiomics.features.image_features import PARAMETERS, load_extractor, to_images

KERNEL_MM = 5.0  # approximate edge of the cube, which has 3 to 5 voxels
BATCH = 500  # voxels per batch: one co-occurrence matrix per voxel would fill the memory otherwise
MARGIN_MM, MARGIN_VOXELS = 24.0, 12  # around the tumour, for filters; a picture needs no exact values
UNDER_SHAPE = ("FLAIR", "T2", "T1")  # background images of shape features, in order of preference


class FeatureName(NamedTuple):
    """The parts of a name such as `FLAIR_wavelet-LLH_glcm_Contrast`."""

    sequence: str
    image: str
    family: str
    feature: str

    @property
    def is_shape(self) -> bool:
        """Whether the feature depends on the mask alone."""
        return self.sequence == SHAPE or self.family.startswith("shape")


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """One slice of one case, as planes (X, Y)."""

    feature: str
    case_id: str
    role: str  # rank of the case's value among the cases: "lowest", "median" or "highest"
    value: float  # the feature of the whole tumour
    label: int
    sequence: str  # sequence of the background image
    z: int
    picture: np.ndarray
    brain: np.ndarray
    tumour: np.ndarray
    values: np.ndarray | None  # the feature around each tumour voxel, NaN elsewhere; None for shape features
    spacing_mm: float


def parse_feature(feature: str) -> FeatureName:
    """The parts of a feature's name. Raises ValueError if it does not have four."""
    parts = feature.split("_")
    if len(parts) != 4:
        raise ValueError(f"{feature!r} is no name of a feature, such as T2_original_glcm_Contrast")
    return FeatureName(*parts)


def maps_of_top(
    cohort: Cohort, features: pd.DataFrame, labels: pd.Series, top: Sequence[str], *, parameters: Path = PARAMETERS
) -> list[list[FeatureMap]]:
    """For each feature in `top`, the maps of the cases with its lowest, median and highest value.

    `features` (cases, features) and `labels` are indexed by case id. Raises ValueError for a name that is not in
    `features`, and as `feature_plane` does.
    """
    missing = [name for name in top if name not in features]
    if missing:
        raise ValueError(f"there is no feature {missing[0]!r} among the {features.shape[1]} of these cases")
    extractor = load_extractor(parameters)
    names = {channel.upper(): channel for channel in cohort.channels}
    underneath = next((names[name] for name in UNDER_SHAPE if name in names), cohort.channels[0])
    rows = []
    for name in top:
        row = []
        for role, case_id in extremes(features[name]).items():
            image, mask = cohort.load(case_id)
            tumour = (mask & TUMOUR) > 0
            z = int(tumour.sum(axis=(0, 1)).argmax())
            parts = parse_feature(name)
            sequence = underneath if parts.is_shape else parts.sequence
            volume = np.asarray(image[cohort.channel(sequence)], np.float32)
            values = None if parts.is_shape else feature_plane(volume, tumour, z, parts, extractor, cohort.spacing_mm)
            row.append(
                FeatureMap(
                    feature=name,
                    case_id=str(case_id),
                    role=role,
                    value=float(features.loc[case_id, name]),
                    label=int(labels[case_id]),
                    sequence=sequence,
                    z=z,
                    picture=volume[:, :, z],
                    brain=(mask[:, :, z] & BRAIN) > 0,
                    tumour=tumour[:, :, z],
                    values=values,
                    spacing_mm=cohort.spacing_mm,
                )
            )
        rows.append(row)
    return rows


def extremes(values: pd.Series) -> dict[str, Any]:
    """Role -> case with the lowest, median and highest value; fewer roles with fewer than three cases."""
    order = values.dropna().sort_values(kind="stable").index
    chosen = {"lowest": order[0], "median": order[(len(order) - 1) // 2], "highest": order[-1]}
    once = {role: case for role, case in chosen.items() if list(chosen.values()).count(case) == 1}
    return once or {"median": order[0]}


def feature_plane(
    volume: np.ndarray,
    tumour: np.ndarray,
    z: int,
    name: FeatureName,
    extractor: RadiomicsFeatureExtractor,
    spacing_mm: float,
) -> np.ndarray:
    """A feature around the tumour's voxels in slice `z`: (X, Y), else NaN. Raises ValueError for an unknown feature."""
    image, mask = to_images(volume, tumour, spacing_mm)
    settings = copy.deepcopy(extractor.settings)
    box = label_box(mask, settings["label"])
    margin = np.full(3, max(MARGIN_VOXELS, round(MARGIN_MM / spacing_mm)))
    outer = grow(box, margin, np.array(image.GetSize()), wraps=False)
    filtered, used = _filtered(crop(image, outer), crop(mask, outer), name, extractor.enabledImagetypes, settings)
    radius = int(np.clip(round((KERNEL_MM / spacing_mm - 1) / 2), 1, 2))
    inner = grow(box, np.full(3, radius), np.array(image.GetSize()), wraps=False)
    inside, region = crop(filtered, inner - outer[0]), sitk.Cast(crop(mask, inner), sitk.sitkUInt32)
    classes = getFeatureClasses()
    if name.family not in classes or name.feature not in classes[name.family].getFeatureNames():
        raise ValueError(f"pyradiomics has no feature {name.family} {name.feature}")
    used |= {"voxelBased": True, "kernelRadius": radius, "maskedKernel": True, "voxelBatch": BATCH, "initValue": np.nan}
    worker = classes[name.family](inside, region, **used)
    found = worker.labelledVoxelCoordinates  # (z, y, x), of the whole tumour
    worker.labelledVoxelCoordinates = found[:, found[0] == z - inner[0, 2]]
    worker.enableFeatureByName(name.feature)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a voxel without neighbours has no texture and stays NaN
        result = worker.execute()[name.feature]
    values = sitk.GetArrayFromImage(result)[z - inner[0, 2]].T  # (x, y) of the crop
    plane = np.full(volume.shape[:2], np.nan, np.float32)
    (left, front), (right, back) = inner[0, :2], inner[1, :2]
    plane[left:right, front:back] = values
    return np.where(tumour[:, :, z], plane, np.float32(np.nan))


def _filtered(
    image: sitk.Image, mask: sitk.Image, name: FeatureName, image_types: dict[str, Any], settings: dict[str, Any]
) -> tuple[sitk.Image, dict[str, Any]]:
    """The image of a feature as pyradiomics filters it, and the settings for it."""
    for image_type, own in image_types.items():
        if not image_type.lower().startswith(name.image.split("-")[0]):
            continue
        arguments = {**settings, **(own or {})}
        if "sigma" in arguments:  # skip the other sigmas, which are slow
            arguments["sigma"] = [s for s in arguments["sigma"] if f"-{s}-".replace(".", "-") in name.image]
        generate = getattr(imageoperations, f"get{image_type}Image")
        for filtered, found, used in generate(image, mask, **arguments):
            if found == name.image:
                return filtered, dict(used)
    raise ValueError(f"the parameters have no image type {name.image!r}")
