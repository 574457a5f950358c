"""Layouts of BraTS and similar data sets: `<case>_t1ce.nii.gz` to 2021, `<case>-t1c.nii.gz` from 2023."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from lab.data.layouts.copies import choose_files, nifti_stem
from lab.data.layouts.subject import Layout, Subject

BY_NAME: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"BraTS-PEDs?-", (None, "brats-ped", "brats-ped2023")),
    (r"BraTS-MET-", ("brats-met",)),
    (r"BraTS-MEN-", ("brats-men", "brats2024", "brats2021")),
    (r"BraTS-(GLI|SSA)-", ("brats2023", "brats2024", "brats2021")),
    (r"UCSF-PDGM-", ("ucsf-pdgm", "brats2023", "brats2024")),
    (r"UPENN-GBM-", ("upenn-gbm", "brats2023", "brats2024")),
    (r"\d+_time\d", (None, "ucsf-post-treatment", "brats2021")),
)
"""Beginning of case ids -> label books: the usual one (`None`: there is none), then the alternatives."""


def find_brats(files: list[Path], separator: str, sequences: tuple[str, ...]) -> list[Subject]:
    """Subjects of files `<case><separator><sequence>.nii.gz`; a case counts when it has one of the known sequences."""
    cases: dict[str, list[tuple[str, Path]]] = {}
    for path in files:
        name = re.sub("_tumor_segmentation$", "_seg", nifti_stem(path))  # UCSF-PDGM's name for it
        case, found, sequence = name.rpartition(separator)
        if found and case:
            cases.setdefault(os.path.join(path.parent, case), []).append((sequence.lower(), path))
    subjects = []
    for case, named in cases.items():
        if any(name in sequences for name, _ in named):
            case_id = os.path.basename(case)
            patient_id = re.sub(r"(?<=-\d{5})-\d{3}$", "", case_id)  # BraTS-GLI-00000-001: second time point
            subjects.append(Subject(case_id=case_id, patient_id=patient_id, **choose_files(named)))
    return subjects


def _files(separator: str, **suffixes: str) -> dict[str, str]:
    return {name: f"{{id}}/{{id}}{separator}{suffix}.nii.gz" for name, suffix in suffixes.items()}


def _books(*usual: str) -> Callable[[str], tuple[str | None, ...]]:
    """The label books of a case id by its beginning, else the `usual` ones."""
    return lambda case_id: next((names for start, names in BY_NAME if re.match(start, case_id)), usual)


BRATS_2021 = Layout(
    title="BraTS 2021",
    example="BraTS2021_00000",
    files=_files("_", T1="t1", T2="t2", FLAIR="flair", T1GD="t1ce", MASK="seg"),
    find=lambda files: find_brats(files, "_", ("t1", "t1ce", "t2", "flair")),
    label_books=_books("brats2021", "brats2023", "brats2024", "brats2015"),
)
BRATS_2023 = Layout(
    title="BraTS 2023",
    example="BraTS-GLI-00000-000",
    files=_files("-", T1="t1n", T2="t2w", FLAIR="t2f", T1GD="t1c", MASK="seg"),
    find=lambda files: find_brats(files, "-", ("t1n", "t1c", "t2w", "t2f")),
    label_books=_books("brats2023", "brats2024", "brats2021", "brats-ped"),
)
