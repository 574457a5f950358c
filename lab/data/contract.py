"""How images were prepared for a model, kept with it: new patients are prepared so, whatever today's defaults are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.data.case import REFERENCE, PreparedCase, Recipe, open_case, prepare_case
from lab.data.cohort import Cohort
from lab.data.layouts.find import Subject
from lab.data.prepare_worker import VERSION
from lab.io.files import canonical

NOT_STRIPPED = ("egd",)
"""Layouts whose scans still have the skull and lie in MNI152 space."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a model expects of an image."""

    inputs: tuple[str, ...]
    """Sequences, in the model's order."""
    target: str
    """The sequence that a new patient does not have."""
    spacing_mm: float
    shape: tuple[int, int, int]
    """Voxels of the prepared grid, RAS."""
    preparation: dict[str, Any]
    """The preparation's settings, by dotted name."""
    layout: str
    """Layout of the scans that the model learned from."""
    cohort_digest: str
    phantom: bool
    version: int = VERSION
    """Version of the preparation."""

    @classmethod
    def of(cls, cohort: Cohort, inputs: tuple[str, ...], target: str) -> Contract:
        """That of a model which learned from a cohort."""
        return cls(
            inputs=tuple(inputs),
            target=target,
            spacing_mm=cohort.spacing_mm,
            shape=cohort.shape,
            preparation=dict(cohort.manifest["settings"]),
            layout=str(cohort.manifest.get("layout") or ""),
            cohort_digest=cohort.digest,
            phantom=cohort.phantom,
            version=int(cohort.manifest["version"]),
        )

    @classmethod
    def read(cls, known: dict[str, Any]) -> Contract:
        """From what `as_dict` gave. Raises ValueError where something is missing."""
        try:
            x, y, z = known["shape"]
            return cls(
                inputs=tuple(known["inputs"]),
                target=known["target"],
                spacing_mm=float(known["spacing_mm"]),
                shape=(int(x), int(y), int(z)),
                preparation=dict(known["preparation"]),
                layout=str(known.get("layout", "")),
                cohort_digest=str(known["cohort_digest"]),
                phantom=bool(known["phantom"]),
                version=int(known.get("preparation_version", 1)),  # models of 0.3.0 and earlier do not say it
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the model does not say how its images were prepared ({error!r})") from None

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "inputs": list(self.inputs),
            "target": self.target,
            "spacing_mm": self.spacing_mm,
            "shape": list(self.shape),
            "preparation": self.preparation,
            "layout": self.layout,
            "cohort_digest": self.cohort_digest,
            "phantom": self.phantom,
            "preparation_version": self.version,
        }

    @property
    def channels(self) -> tuple[str, ...]:
        """Sequences of a prepared new patient: the inputs and T1."""
        names: dict[str, str] = {}
        for name in (*self.inputs, REFERENCE):
            names.setdefault(canonical(name), name)
        return tuple(names.values())

    def recipe(self, brain_mask: str | None = None) -> Recipe:
        """The settings that the cohort was prepared with, without the target.

        Raises ValueError where this program prepares otherwise than the one that made the cohort.
        """
        if self.version != VERSION:
            raise ValueError(
                f"the model learned from images of version {self.version} of the preparation, this program makes "
                f"version {VERSION}: use the version that trained it, or train it again"
            )
        how = self.preparation
        return Recipe(
            channels=self.channels,
            target=self.target,
            spacing_mm=self.spacing_mm,
            shape=self.shape,
            brain_mask=brain_mask or how["brain_mask"],
            clip_sigma=float(how["clip_sigma"]),
            enhancement_threshold=float(how["enhancement_threshold"]),
            enhancing_ml=float(how["enhancing_ml"]),
        )

    def prepare(self, subject: Subject, brain_mask: str | None = None) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Image (C, X, Y, Z) as in `channels`, bit flags (X, Y, Z), and what was measured; see `prepare_case`.

        Raises ValueError with the reason why the patient cannot be used.
        """
        _check_identity(subject)
        return prepare_case(subject, self.recipe(brain_mask))

    def open(self, subject: Subject, brain_mask: str | None = None) -> PreparedCase:
        """As `prepare`, with the way back to the T1's own grid, and without the need of a tumour mask."""
        _check_identity(subject)
        return open_case(subject, self.recipe(brain_mask), mask_needed=False)


def one_patient(case_id: str, images: dict[str, Path], mask: Path | None, *, like: Contract) -> Subject:
    """A patient given by paths; skull-stripped or not as the patients were that the model learned from.

    An image is a NIfTI file or a folder with one DICOM series. Raises FileNotFoundError, and ValueError where a mask is
    a folder.
    """
    for path in (*images.values(), *([mask] if mask is not None else [])):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
    if mask is not None and mask.is_dir():
        raise ValueError(f"{mask} is a folder; the mask must be a NIfTI file on the T1's grid")
    named = {canonical(name): path for name, path in images.items()}
    return Subject(
        case_id=case_id,
        patient_id=case_id,
        images=named,
        mask=mask,
        skull_stripped=like.layout not in NOT_STRIPPED,
    )


def _check_identity(subject: Subject) -> None:
    """Raises ValueError where DICOM series are of different patients."""
    folders = {name: path for name, path in subject.images.items() if path.is_dir()}
    if folders:
        from lab.io.dicom import check_one_patient

        check_one_patient(folders)
