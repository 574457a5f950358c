"""Radiomic features of one prepared case, measured in one process and cached by content.

The cache has one small file for the shape and one per sequence, with the features or the reason for their absence. The
file name holds a digest of voxels, parameters, mask perturbation and software.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import zlib
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import SimpleITK as sitk
from radiomics.featureextractor import RadiomicsFeatureExtractor

from lab.data.cohort import TUMOUR, Cohort
from lab.io.case_file import write_atomically
from lab.io.sealed_json import fingerprint, parse_json
from lab.radiomics.dataset import SHAPE
from lab.radiomics.features.image_features import extract, to_images
from lab.radiomics.features.masks import PERTURBATIONS, check_mask_extent

if TYPE_CHECKING:  # it would bring in the preparation, half of the time that a worker needs to start
    from lab.data.prepare_worker import CaseRecord

VERSION = 2  # increase it when the same voxels and parameters give other features
SOFTWARE = ("pyradiomics", "SimpleITK", "PyWavelets", "numpy", "scipy")


@dataclass(frozen=True, kw_only=True)
class MeasureJob:
    """The measurement of one case of a cohort."""

    cohort: Cohort  # the cohort, with only this case in its index
    sequences: tuple[str, ...]
    extractor: RadiomicsFeatureExtractor
    perturbation: str
    cache: Path

    @property
    def case_id(self) -> str:
        """Id of the case."""
        return str(self.cohort.index.index[0])

    @cached_property
    def recipe(self) -> list[Any]:
        """Everything that determines the features, apart from the sequence and its channel."""
        extractor = self.extractor
        settings = [extractor.settings, extractor.enabledImagetypes, extractor.enabledFeatures]
        contents = [self.cohort.index["sha256"].iloc[0], self.cohort.spacing_mm, self.perturbation]
        return [settings, software(), contents]

    def finished(self) -> CaseRecord | None:
        """The cached record of the case; None if a part of it is missing."""
        return self._gather({part: _read(self._path(part)) for part in (SHAPE, *self.sequences)})

    def run(self) -> CaseRecord:
        """Measure the case: its features or the reason for their absence, cached unless a retry may succeed."""
        if multiprocessing.parent_process() is not None:
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # the processes share the cores
        try:
            image, mask = self.cohort.load(self.case_id)
        except (ValueError, OSError) as error:  # not cached, since a damaged file may be repaired
            return {"case_id": self.case_id, "reason": str(error), "features": {}}
        tumour = PERTURBATIONS[self.perturbation]((mask & TUMOUR) > 0)
        parts: dict[str, CaseRecord | None] = {}
        for part in (SHAPE, *self.sequences):
            parts[part] = _read(self._path(part)) or self._measure(part, image, tumour)
            record = self._gather(parts)
            if record is not None and record["reason"]:
                return record
        return cast("CaseRecord", self._gather(parts))

    def _measure(self, part: str, image: np.ndarray, tumour: np.ndarray) -> CaseRecord:
        values = None if part == SHAPE else image[self.cohort.channel(part)]
        try:
            features = measure_part(part, values, tumour, self.cohort.spacing_mm, self.extractor)
            result: CaseRecord = {"reason": "", "features": features}
        except ValueError as error:
            result = {"reason": str(error), "features": {}}
            if isinstance(error.__cause__, MemoryError):  # not cached, since there may be more memory next time
                return result
        path = self._path(part)
        content = json.dumps({**result, "file": path.name}).encode()
        write_atomically(path, gzip.compress(content, compresslevel=1, mtime=0))
        return result

    def _gather(self, parts: dict[str, CaseRecord | None]) -> CaseRecord | None:
        """The case's record once all parts are there, or once one part gives a reason for exclusion; None before."""
        features: dict[str, float] = {}
        for part in (SHAPE, *self.sequences):
            result = parts.get(part)
            if result is None:
                return None
            if result["reason"]:
                return {"case_id": self.case_id, "reason": result["reason"], "features": {}}
            features |= result["features"]
        return {"case_id": self.case_id, "reason": "", "features": features}

    def _path(self, part: str) -> Path:
        channel = None if part == SHAPE else self.cohort.channel(part)
        return self.cache / f"{self.case_id}-{part}-{fingerprint([*self.recipe, part, channel], length=20)}.json.gz"


def measure_part(
    part: str, values: np.ndarray | None, tumour: np.ndarray, spacing_mm: float, extractor: RadiomicsFeatureExtractor
) -> dict[str, float]:
    """Features of one sequence (X, Y, Z) inside a tumour (X, Y, Z) bool; without `values`, of the tumour's shape.

    Names are `<part>_<pyradiomics name>`. Raises ValueError with the reason for every failure of pyradiomics or ITK;
    its cause is a MemoryError if memory was short.
    """
    check_mask_extent(tumour, extractor.settings)
    try:
        if values is None:
            features = extract(*to_images(tumour, tumour, spacing_mm), extractor, intensity=False)
        else:
            _check_sequence(values, tumour)
            features = extract(*to_images(values, tumour, spacing_mm), extractor, shape=False)
        wrong = [name for name, value in features.items() if not np.isfinite(value)]
        if wrong:
            raise ValueError(f"{wrong[0]} is not finite ({len(wrong)} of {len(features)} features)")
    except Exception as error:
        known = "" if isinstance(error, ValueError) else f"could not be measured, {type(error).__name__} "
        reason = "too little memory" if isinstance(error, MemoryError) else known + " ".join(str(error).split())
        raise ValueError(reason if values is None else f"{part}: {reason}") from error
    return {f"{part}_{name}": value for name, value in features.items()}


@cache
def software() -> list[tuple[str, str]]:
    """What computes the features, with versions; cached because reading them takes milliseconds."""
    return [("features", str(VERSION)), *((name, version(name)) for name in SOFTWARE)]


def _check_sequence(values: np.ndarray, tumour: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise ValueError("the image has voxels that are NaN or infinite")
    if np.ptp(values[tumour]) == 0:
        raise ValueError("the image has one value all over the tumour; the sequence is missing or empty")


def _read(path: Path) -> CaseRecord | None:
    """A cached part; None if the file is absent, damaged, or was written under another name."""
    try:
        result = parse_json(gzip.decompress(path.read_bytes()))
        return result if result["file"] == path.name else None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error):
        return None
