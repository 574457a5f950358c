"""One digital glioma patient: clinical values, head, tumour and four scans, all from (seed, index, spacing)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lab.phantom import anatomy, lesion, scanner
from lab.phantom.anatomy import Atlas
from lab.phantom.fields import Volume

VERSION = 1  # increase it when the same seed gives other patients

VENDOR_SHARE = {"Siemens": 0.45, "Philips": 0.33, "GE": 0.22}
FIELD_SHARE = {1.5: 0.74, 3.0: 0.11, 1.0: 0.15}
SEQUENCES = ("T1", "T2", "FLAIR", "T1GD")
GRADE_SHARE = {2: 0.32, 3: 0.20, 4: 0.48}  # more low grades than in EGD, so that about half of the patients enhance


@dataclass(frozen=True, kw_only=True)
class PhantomSubject:
    """One patient in memory; maps are (X, Y, Z), RAS, on EGD's field of view."""

    case_id: str
    images: dict[str, Volume]  # T1, T2, FLAIR, T1GD: float32, whole numbers as scanners store them, 0 outside the head
    mask: NDArray[np.uint8]  # 1 in the whole tumour (with oedema)
    truth: dict[str, Volume]  # `gadolinium_mm` (mean concentration) and the fractions oedema, tumour, necrosis, blood
    metadata: dict[str, Any]  # as EGD's metadata.json; -1 is unknown
    affine: NDArray[np.float64]


class PhantomPatient(NamedTuple):
    """A patient's clinical values and scanner."""

    grade: int
    age: int
    sex: str
    idh: int
    codeletion: int
    vendor: str
    field_t: float


def _pick(rng: np.random.Generator, shares: dict[Any, float]) -> Any:
    return list(shares)[int(rng.choice(len(shares), p=list(shares.values())))]


def draw_patient(rng: np.random.Generator) -> PhantomPatient:
    """Grade, age, mutations and scanner, roughly as in EGD and in the WHO 2016 classes."""
    grade = _pick(rng, GRADE_SHARE)
    age = int(np.clip(rng.normal({2: 43, 3: 47, 4: 61}[grade], 11), 19, 86))
    idh = int(rng.random() < {2: 0.8, 3: 0.6, 4: 0.08}[grade])
    codeletion = int(idh and grade < 4 and rng.random() < 0.45)
    sex = "M" if rng.random() < 0.6 else "F"
    vendor, field_t = _pick(rng, VENDOR_SHARE), _pick(rng, FIELD_SHARE)
    return PhantomPatient(grade, age, sex, idh, codeletion, vendor, field_t)


def make_subject(
    seed: int, index: int, spacing_mm: float | None = None, *, atlas: Atlas | None = None, with_truth: bool = True
) -> PhantomSubject:
    """Patient `index` (from 0) of cohort `seed` at a voxel size of 1 to 8 mm (1 by default, or the atlas's).

    The patient is the same at every voxel size; only partial volume, noise and fine texture differ. Raises ValueError
    for a negative seed or index, or an impossible voxel size.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"Phantom with seed {seed} and index {index}: both must be 0 or more.")
    atlas = atlas or anatomy.load_atlas(float(spacing_mm or 1.0))
    with threadpool_limits(1, user_api="blas"):  # several threads would sum in another order
        return _make(seed, index, atlas, with_truth)


def _make(seed: int, index: int, atlas: Atlas, with_truth: bool) -> PhantomSubject:
    who, what, where, how = (np.random.default_rng([seed, index, stream]) for stream in range(4))
    noise = np.random.Generator(np.random.SFC64([seed, index, 4]))
    case_id = f"EGD-{index + 1:04d}"
    patient = draw_patient(who)
    metadata = _metadata(who, patient, case_id)
    atrophy = float(np.clip((patient.age - 35) / 130 + 0.05 * who.standard_normal(), 0, 0.35))
    plan = lesion.plan_lesion(what, atlas, patient.grade)
    head = anatomy.create_head(where, atlas, atrophy=atrophy, mass=plan.mass)
    tumour = lesion.grow_lesion(what, head, plan)
    sample = scanner.create_sample(how, head, tumour, patient.field_t)
    protocol = scanner.draw_protocol(how, patient.vendor)
    images = {
        name: scanner.acquire(noise, sample, scanner.simulate_scan(sample, name, protocol[name]), name)
        for name in SEQUENCES
    }

    def place(values: NDArray[Any]) -> NDArray[Any]:
        """Back in EGD's field of view, in the order of NIfTI on disk."""
        full = np.zeros(atlas.grid.shape, dtype=values.dtype, order="F")
        full[atlas.head] = values
        return full

    def spread(values: NDArray[Any]) -> NDArray[Any]:
        """From the tumour's voxels to the head's box."""
        full = np.zeros(head.grid.shape, dtype=values.dtype)
        full.reshape(-1)[tumour.index] = values
        return full

    truth = {}
    if with_truth:
        leaked = sum(scanner.LEAK_SHARE[tissue] * fraction for tissue, fraction in tumour.fractions.items())
        gadolinium = sample.dose_mm * head.fractions["blood"] + spread(leaked * tumour.concentration_mm)
        truth = {name: spread(fraction) for name, fraction in tumour.fractions.items()}
        truth |= {"gadolinium_mm": gadolinium, "blood": head.fractions["blood"]}
    affine = np.diag([atlas.grid.spacing_mm] * 3 + [1.0])
    affine[:3, 3] = atlas.grid.first_mm
    return PhantomSubject(
        case_id=case_id,
        images={name: place(values) for name, values in images.items()},
        mask=place(spread(tumour.mask.astype(np.uint8))),
        truth={name: place(values) for name, values in truth.items()},
        metadata=metadata,
        affine=affine,
    )


def _metadata(rng: np.random.Generator, patient: PhantomPatient, case_id: str) -> dict[str, Any]:
    """EGD's metadata.json, with as many unknowns (-1) as EGD has."""

    def known(value: int, share: float) -> int:
        return value if rng.random() < share else -1

    return {
        "Subject": case_id,
        "Phantom": True,
        "Clinical_data": {"Age": patient.age, "Sex": patient.sex},
        "Genetic_and_Histological_labels": {
            "IDH": known(patient.idh, 0.7),
            "1p19q": known(patient.codeletion, 0.5),
            "Grade": known(patient.grade, 0.93),
        },
        "Scan_characteristics": {"Manufacturer": patient.vendor, "System": "Phantom", "Field": patient.field_t},
        "Segmentation_source": {"Observer": "Phantom", "Original scan": "FLAIR"},
    }
