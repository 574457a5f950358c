"""Contract of a model: how its images were prepared, so that new patients are prepared the same way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.config import DataConfig
from lab.data.case import NUMBERS, VERSION, PreparedCase, Recipe, each_once, open_case, prepare_case, with_reference
from lab.data.layouts.subject import Subject
from lab.data.subject_scans import REFERENCE, check_without_contrast, reference_of
from lab.io.files import canonical
from lab.io.scan import scan_sha256
from lab.qc.image_quality import check_whole, measure

if TYPE_CHECKING:
    from lab.data.cohort import Cohort
    from lab.qc.findings import OodResult
    from lab.qc.ood import OodReference

NOT_STRIPPED = ("egd",)  # layouts of scans with the skull, in MNI152 space
BRAIN_MASKS = ("auto", "nonzero", "mni152")
WITHOUT_MASK = "without a tumour mask the whole brain is searched for enhancement, and vessels count too"
SIZES_DIFFER = 1.05  # ratio of voxel edges above which the model's grid is called coarser than the scan's


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Image preparation that a model expects."""

    inputs: tuple[str, ...]  # sequences, in the model's order
    target: str  # target sequence, which a new patient lacks
    spacing_mm: float
    shape: tuple[int, int, int]  # voxels of the prepared grid, RAS
    preparation: dict[str, Any]  # the preparation's settings, by dotted name
    layout: str  # layout of the scans that the model was trained on
    cohort_digest: str
    phantom: bool
    preparation_version: int = VERSION
    normalise: dict[str, Any] | None = None  # of the network's inputs on top of that, see `lab.data.normalisation`
    reference: str | None = None  # sequence whose brain mask and grid count, of patients without T1

    @classmethod
    def of(cls, cohort: Cohort, inputs: tuple[str, ...], target: str) -> Contract:
        """Contract of a model trained on a cohort."""
        known = {name: getattr(cohort, name) for name in ("spacing_mm", "shape", "phantom")}
        known |= {"cohort_digest": cohort.digest, "preparation": cohort.manifest["settings"]}
        known |= {"layout": cohort.manifest.get("layout") or "", "preparation_version": cohort.manifest["version"]}
        known |= {} if cohort.normalisation is None else {"normalise": cohort.normalisation.as_dict()}
        first = reference_of(cohort.channels)
        known |= {} if first == REFERENCE else {"reference": first}
        return cls.read({"inputs": inputs, "target": target, **known})

    @classmethod
    def read(cls, known: dict[str, Any]) -> Contract:
        """The contract from the values of `as_dict`. Raises ValueError for missing values."""
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
                preparation_version=int(known.get("preparation_version", 1)),  # missing in models of 0.3.0
                normalise=known.get("normalise"),
                reference=known.get("reference"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the model does not say how its images were prepared ({error!r})") from None

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold, without those that are None."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in known.items()}

    @property
    def channels(self) -> tuple[str, ...]:
        """Sequences of a prepared new patient: the inputs and T1, or another reference that the inputs begin with."""
        return each_once((self.reference, *self.inputs)) if self.reference else with_reference(self.inputs)

    def position(self, sequence: str) -> int:
        """Index of a sequence among `channels`."""
        return [canonical(name) for name in self.channels].index(canonical(sequence))

    def network_inputs(self, image: np.ndarray) -> np.ndarray:
        """The network's inputs (1, C, X, Y, Z) float32 from a prepared image with `channels`."""
        image = self.normalised(image, self.channels)
        return np.stack([image[self.position(name)] for name in self.inputs]).astype(np.float32)[None]

    def normalised(self, image: np.ndarray, sequences: Sequence[str]) -> np.ndarray:
        """A prepared image (C, X, Y, Z) of these sequences as the network reads it. Raises ValueError."""
        if self.normalise is None:
            return image
        from lab.data.normalisation import Normalisation  # few networks need it

        return Normalisation.read(self.normalise).apply(image, sequences)

    def recipe(self, brain_mask: str | None = None) -> Recipe:
        """The settings of the cohort's preparation, without the target."""
        scale = self.preparation.get("known_scale")  # missing in models of 0.4.0
        return Recipe(
            channels=self.channels,
            target=self.target,
            spacing_mm=self.spacing_mm,
            shape=self.shape,
            brain_mask=brain_mask or self.preparation["brain_mask"],
            known_scale=None if scale is None else (float(scale[0]), float(scale[1])),
            **{name: float(self.preparation[name]) for name in NUMBERS},
        )

    def prepare(self, subject: Subject, brain_mask: str | None = None) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """As `prepare_case`, in the order of `channels`. Raises ValueError where the patient cannot be used."""
        _check_identity(subject)
        return prepare_case(subject, self.recipe(brain_mask))

    def open(self, subject: Subject, brain_mask: str | None = None, *, mask_needed: bool = False) -> PreparedCase:
        """As `prepare`, with the way back to the T1's own grid; needs no tumour mask by default."""
        _check_identity(subject)
        return open_case(subject, self.recipe(brain_mask), mask_needed=mask_needed)


def read_contract(known: dict[str, Any]) -> Contract:
    """A model's contract, validated. Raises ValueError for missing, impossible or newer settings and preparations."""
    contract = Contract.read(known)
    if contract.preparation_version != VERSION:
        raise ValueError(
            f"the model was trained on images of version {contract.preparation_version} of the preparation, this "
            f"program makes version {VERSION}: use the version that trained it, or train it again"
        )
    how = contract.preparation
    missing = [name for name in ("brain_mask", *NUMBERS) if name not in how]
    if missing:
        raise ValueError(f"the model does not say how its images were prepared: no {', '.join(missing)}")
    unknown = sorted(set(how) - {field.name for field in fields(DataConfig)})
    if unknown:
        what = f"{', '.join(unknown)}, which this version does not know"
        raise ValueError(f"the model's images were prepared with {what}; use the version that trained it")
    if how["brain_mask"] not in BRAIN_MASKS:
        raise ValueError(f"the model's brain mask is {how['brain_mask']!r}; known are {', '.join(BRAIN_MASKS)}")
    above_zero = {"spacing_mm": contract.spacing_mm, "clip_sigma": how["clip_sigma"]}
    above_zero |= {f"shape {size}": size for size in contract.shape}
    for name, value in above_zero.items():
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"the model's {name} is {value!r}: it must be above 0")
    for name in NUMBERS:
        if not isinstance(how[name], int | float) or not math.isfinite(how[name]):
            raise ValueError(f"the model's {name} is {how[name]!r}: no number")
    names = [canonical(name) for name in contract.inputs]
    if not names or len(set(names)) < len(names) or canonical(contract.target) in names:
        raise ValueError(f"the model makes {contract.target} of {', '.join(contract.inputs) or 'nothing'}: impossible")
    if contract.normalise is not None:
        from lab.data.normalisation import Normalisation

        Normalisation.read(contract.normalise)
    return contract


def create_subject(case_id: str, images: dict[str, Path], mask: Path | None, *, like: Contract) -> Subject:
    """A patient given by paths; skull-stripped or not like the model's training patients.

    An image is a NIfTI file or a folder with one DICOM series. Raises FileNotFoundError, and ValueError where a mask is
    a folder.
    """
    for path in (*images.values(), *([mask] if mask is not None else [])):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
    if mask is not None and mask.is_dir():
        raise ValueError(f"{mask} is a folder; the mask must be a NIfTI file on the T1's grid")
    return Subject(
        case_id=case_id,
        patient_id=case_id,
        images={canonical(name): path for name, path in images.items()},
        mask=mask,
        skull_stripped=like.layout not in NOT_STRIPPED,
    )


def open_patient(
    subject: Subject,
    contract: Contract,
    brain_mask: str | None,
    when_ood: str,
    hashes: Mapping[str, Mapping[str, str]],
    reference: OodReference | None = None,
    *,
    mask_needed: bool = False,
) -> tuple[PreparedCase, OodResult | None, list[str]]:
    """A new patient's prepared case, its comparison with the training scans, and warnings for the user.

    `hashes` come from `hash_scans`; without `reference` there is no comparison. Raises ValueError where two sequences
    are one scan, the patient does not fit the contract, or (unless `when_ood` is `warn`) the T1's file records contrast
    agent or the scans are refused as out of distribution.
    """
    _check_different(subject, contract, hashes)
    overrule = "--strangers warn predicts all the same"
    contrast = check_without_contrast(subject, contract.channels, refuse=when_ood == "refuse", overrule=overrule)
    case = contract.open(subject, brain_mask, mask_needed=mask_needed)
    ood = None
    if reference is not None:
        names = tuple(canonical(name) for name in contract.channels)
        ood = reference.assess(measure(case.image, case.masks, names, contract.spacing_mm))
        if ood.level == "refused" and when_ood == "refuse":
            raise ValueError(f"{'; '.join(ood.reasons)} ({overrule})")
    warnings = [*(ood.reasons if ood else ()), *contrast, *case.notes, check_whole(case.brain)]
    lost, whole = case.measured["brain_outside_ml"], case.measured["brain_ml"]
    if lost > 0:
        what = "lie outside the model's field of view: not predicted"
        warnings.append(f"{lost:.1f} of {whole:.0f} ml of the brain {what}")
    grid = f"the model works on voxels of {contract.spacing_mm:g} mm, the T1 has"
    if max(case.window.ratio) > SIZES_DIFFER:
        warnings.append(f"{grid} {min(case.t1.spacing_mm):.2g} mm: finer detail is lost")
    if min(case.window.ratio) < 1 / SIZES_DIFFER:
        warnings.append(
            f"{grid} up to {max(case.t1.spacing_mm):.2g} mm: it is blurred, and its intensities count for more (on "
            "real patients by some 10 % with 3 mm on a grid of 2 mm, 14 % with 4 mm)"
        )
    if subject.mask is None:
        warnings.append(WITHOUT_MASK)
    return case, ood, [warning for warning in warnings if warning]


def hash_scans(subject: Subject, contract: Contract) -> dict[str, dict[str, str]]:
    """Path and SHA-256 of each file, or DICOM series, that affects the result. Raises ValueError for an unreadable one.

    An unreadable mask has no effect (`open_case` reports it) and is left out.
    """
    names = [canonical(name) for name in contract.channels]
    chosen = {name: subject.images[name] for name in names if name in subject.images}
    if subject.mask is not None and subject.mask.is_file():
        chosen["MASK"] = subject.mask
    try:
        return {name: {"path": str(path), "sha256": scan_sha256(path)} for name, path in chosen.items()}
    except OSError as error:
        raise ValueError(f"{error.filename}: cannot be read ({error.strerror})") from None


def _check_identity(subject: Subject) -> None:
    """Raises ValueError where DICOM series are of different patients."""
    folders = {name: path for name, path in subject.images.items() if path.is_dir()}
    if folders:
        from lab.io.dicom import check_one_patient

        check_one_patient(folders)


def _check_different(subject: Subject, contract: Contract, hashes: Mapping[str, Mapping[str, str]]) -> None:
    seen: dict[str, str] = {}
    for name in (canonical(name) for name in contract.channels):
        digest = hashes.get(name, {}).get("sha256")  # preparation says what is missing
        if digest is not None and digest in seen:
            raise ValueError(f"{name} and {seen[digest]} are the same image ({subject.images[name]})")
        seen |= {} if digest is None else {digest: name}
