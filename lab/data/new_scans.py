"""A new patient's scans, prepared as a model's contract says, and what whoever sees the result must know of them."""

from __future__ import annotations

from collections.abc import Mapping

from lab.data.case import PreparedCase
from lab.data.contract import Contract
from lab.data.contrast import check_without_contrast
from lab.data.layouts.subject import Subject
from lab.io.files import canonical
from lab.qc.coverage import check_whole

SIZES_DIFFER = 1.05
"""Ratio of voxel edges above which the model's grid is called coarser than the scan's."""


def open_patient(
    subject: Subject,
    contract: Contract,
    brain_mask: str | None,
    strangers: str,
    hashes: Mapping[str, Mapping[str, str]],
) -> tuple[PreparedCase, list[str]]:
    """The prepared case and warnings. Raises ValueError where two scans are one, or nothing fits the contract.

    And where a T1 says of itself that contrast agent was given, unless `strangers` is `warn`. `hashes` has the `sha256`
    of each scan, by sequence.
    """
    _check_different(subject, contract, hashes)
    contrast = check_without_contrast(
        subject, contract.channels, refuse=strangers == "refuse", overrule="--strangers warn draws it all the same"
    )
    case = contract.open(subject, brain_mask)
    warnings = [*contrast, *case.notes, check_whole(case.brain)]
    lost, whole = case.measured["brain_outside_ml"], case.measured["brain_ml"]
    if lost > 0:
        warnings.append(f"{lost:.1f} of {whole:.0f} ml of the brain lie outside the model's field of view: not drawn")
    if max(case.window.ratio) > SIZES_DIFFER:
        warnings.append(
            f"the model works on voxels of {contract.spacing_mm:g} mm, the T1 has {min(case.t1.spacing_mm):.2g} mm: "
            "finer detail is not synthesised"
        )
    if min(case.window.ratio) < 1 / SIZES_DIFFER:
        warnings.append(
            f"the T1 has voxels of up to {max(case.t1.spacing_mm):.2g} mm, the model works on {contract.spacing_mm:g} "
            "mm: it is blurred, and its intensities count for more (on real patients by some 10 % with 3 mm on a grid "
            "of 2 mm, 14 % with 4 mm)"
        )
    if subject.mask is None:
        warnings.append("without a tumour mask the whole brain is searched for enhancement, and vessels count too")
    return case, [warning for warning in warnings if warning]


def _check_different(subject: Subject, contract: Contract, hashes: Mapping[str, Mapping[str, str]]) -> None:
    seen: dict[str, str] = {}
    for name in (canonical(name) for name in contract.channels):
        digest = hashes.get(name, {}).get("sha256")  # preparation says what is missing
        if digest is not None and digest in seen:
            raise ValueError(f"{name} and {seen[digest]} are the same image ({subject.images[name]})")
        seen |= {} if digest is None else {digest: name}
