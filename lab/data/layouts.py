"""Where data sets keep their files: EGD, BraTS 2021, BraTS 2023 and later, and a CSV of paths -> `Subject`.

A folder is searched at any depth, so it does not matter which level of a download is named. What a scan *holds* is
checked later (`scans.py`, `cases.py`): here a missing sequence is simply absent from `Subject.images`.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.data.stored import read_text
from lab.data.tables import (
    SUFFIXES,
    parse_codeletion,
    parse_grade,
    parse_idh,
    parse_number,
    parse_sex,
    parse_vendor,
    read_rows,
)

ALIASES = {
    "T1N": "T1",
    "T1W": "T1",
    "T2W": "T2",
    "T2F": "FLAIR",
    "T2FLAIR": "FLAIR",
    "T1C": "T1GD",
    "T1CE": "T1GD",
    "SEG": "MASK",
}
LARGEST_JSON = 2**20
"""Bytes of a metadata.json; EGD's have less than 2,000."""
CASE_ID = re.compile(r"[\w][\w.+-]*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One scan session of one patient: where its files are and what is known of the patient (`None`: unknown)."""

    case_id: str
    patient_id: str
    images: dict[str, Path] = field(default_factory=dict)
    """Path per sequence, by canonical name: T1, T2, FLAIR, T1GD, and any other in capitals (ADC)."""
    mask: Path | None = None
    """Tumour mask or segmentation: 0 is healthy."""
    labels: frozenset[int] | None = None
    """Values the mask may hold; `None`: any."""
    enhancing_label: int | None = None
    """Value of enhancing tumour in the mask, where experts drew it."""
    skull_stripped: bool = True
    grade: int | None = None
    age: float | None = None
    sex: str | None = None
    idh: int | None = None
    """1 mutant, 0 wild type."""
    codeletion: int | None = None
    """1p/19q: 1 codeleted, 0 intact."""
    vendor: str | None = None
    field_strength_t: float | None = None


def canonical(sequence: str) -> str:
    """One spelling per sequence: capitals, and `T1`, `T2`, `FLAIR`, `T1GD`, `MASK` for the names BraTS gives them."""
    name = sequence.strip().upper().replace(" ", "_")
    return ALIASES.get(name, name)


def detect(path: Path) -> str:
    """Name of the layout of PATH, a key of `LAYOUTS`.

    Raises FileNotFoundError where there is nothing, ValueError where no layout, or more than one, is recognised.
    """
    path = _existing(path)
    if path.is_file():
        if path.suffix.lower() == ".csv":
            return "csv"
        raise ValueError(f"{path} is a file: name a folder of scans, or a .csv of paths")
    files = _scan_files(path)
    found = {name: len(group(files)) for name, group in FOLDERS.items()}
    found = {name: count for name, count in found.items() if count}
    if len(found) > 1:
        counts = ", ".join(f"{count} of {name}" for name, count in found.items())
        raise ValueError(f"{path} holds scans in more than one layout ({counts}): name one with --layout")
    if not found:
        raise ValueError(f"{path}: {_nothing_found(path, files)}")
    return next(iter(found))


def find_subjects(path: Path, layout: str = "auto") -> list[Subject]:
    """Subjects below PATH, sorted by case id.

    Raises FileNotFoundError or ValueError where PATH is missing, empty, in no known layout, or names a case twice.
    """
    path = _existing(path)
    if layout == "auto":
        layout = detect(path)
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}: choose one of auto, {', '.join(LAYOUTS)}")
    if (layout == "csv") != path.is_file():
        raise ValueError(f"{path}: layout {layout} needs a {'.csv file' if layout == 'csv' else 'folder'}")
    subjects = sorted(LAYOUTS[layout](path), key=lambda subject: subject.case_id)
    if not subjects:
        raise ValueError(f"{path}: no subject in the layout {layout}")
    for case_id, count in Counter(subject.case_id for subject in subjects).items():
        if count > 1:
            raise ValueError(f"{path}: case {case_id} occurs {count} times; every scan needs its own case id")
        if not CASE_ID.fullmatch(case_id):
            raise ValueError(f"{path}: case id {case_id!r} cannot be a file name; use letters, digits, '.', '_', '-'")
    return subjects


def _existing(path: Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path} is a pipe, socket or device; name a folder of scans, or a .csv of paths")
    return path


def _scan_files(root: Path) -> list[Path]:
    """All NIfTI files below `root`, links followed once, in a fixed order."""
    files, seen = [], set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__")))
        files += [Path(folder, name) for name in sorted(names) if name.lower().endswith(SUFFIXES) and name[0] != "."]
    return files


def _stem(path: Path) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def _nothing_found(path: Path, files: list[Path]) -> str:
    if files:
        example = files[0].relative_to(path)
        found = f"{len(files)} NIfTI files such as {example}, but none is named as in EGD or BraTS"
    elif any(path.iterdir()):
        found = "no .nii or .nii.gz file in it (archives must be unpacked first)"
    else:
        found = "the folder is empty"
    return (
        f"{found}. Known: EGD-0001/T1.nii.gz (EGD), <id>_t1ce.nii.gz (BraTS 2021), <id>-t1c.nii.gz (BraTS 2023), "
        "or a CSV with the columns case_id, T1, T2, FLAIR, T1GD, MASK"
    )


Cases = dict[str, list[tuple[str, Path]]]
"""Case, or folder and case -> its files with the name of the sequence each one holds."""


def _by_suffix(files: Iterable[Path], separator: str, known: tuple[str, ...]) -> Cases:
    """Group `<case><separator><sequence>.nii.gz`; a case counts when it has one of the known sequences."""
    cases: Cases = {}
    for path in files:
        case, found, sequence = _stem(path).rpartition(separator)
        if found and case:
            cases.setdefault(os.path.join(path.parent, case), []).append((sequence.lower(), path))
    return {case: items for case, items in cases.items() if any(name in known for name, _ in items)}


def _brats_2021(files: Iterable[Path]) -> Cases:
    return _by_suffix(files, "_", ("t1", "t1ce", "t2", "flair"))


def _brats_2023(files: Iterable[Path]) -> Cases:
    return _by_suffix(files, "-", ("t1n", "t1c", "t2w", "t2f"))


def _egd(files: Iterable[Path]) -> Cases:
    """EGD's sequences anywhere below a folder `EGD-0001` or `MR_EGD-0001`.

    The official downloader writes `SUBJECTS/EGD-0001/T1.nii.gz`; archives from XNAT hold
    `MR_EGD-0001/1_T1/NIFTI/T1.nii.gz` or `MR_EGD-0001/scans/1_T1/resources/NIFTI/files/T1.nii.gz`.
    """
    cases: Cases = {}
    for path in files:
        folders = path.absolute().parents
        folder = next((str(parent) for parent in folders if re.search(r"EGD-\d+$", parent.name)), None)
        if folder is not None:
            cases.setdefault(folder, []).append((_stem(path).lower(), path))
    return {case: items for case, items in cases.items() if any(name in EGD_NAMES for name, _ in items)}


EGD_NAMES = ("t1", "t2", "flair", "t1gd")

FOLDERS: dict[str, Callable[[Iterable[Path]], Cases]] = {
    "egd": _egd,
    "brats2021": _brats_2021,
    "brats2023": _brats_2023,
}


def _images(case_id: str, items: list[tuple[str, Path]]) -> tuple[dict[str, Path], Path | None]:
    images: dict[str, Path] = {}
    for sequence, path in items:
        name = canonical(sequence)
        if name in images:
            raise ValueError(f"case {case_id}: two files for {name}, {images[name]} and {path}; keep one")
        images[name] = path
    mask = images.pop("MASK", None)
    return images, mask


def _find_brats(group: Callable[[Iterable[Path]], Cases], labels: frozenset[int], path: Path) -> list[Subject]:
    subjects = []
    for case, items in group(_scan_files(path)).items():
        case_id = os.path.basename(case)
        images, mask = _images(case_id, items)
        subjects.append(
            Subject(
                case_id=case_id,
                patient_id=re.sub(r"(?<=-\d{5})-\d{3}$", "", case_id),  # BraTS-GLI-00000-001: second time point
                images=images,
                mask=mask,
                labels=labels,
                enhancing_label=max(labels),
            )
        )
    return subjects


def _find_brats_2021(path: Path) -> list[Subject]:
    return _find_brats(_brats_2021, frozenset({0, 1, 2, 4}), path)


def _find_brats_2023(path: Path) -> list[Subject]:
    return _find_brats(_brats_2023, frozenset({0, 1, 2, 3}), path)


def _find_egd(path: Path) -> list[Subject]:
    """EGD is not skull-stripped, lies in MNI152 space and has one tumour label without an enhancing part."""
    subjects = []
    for folder, items in _egd(_scan_files(path)).items():
        case_id = folder[folder.rindex("EGD-") :]
        images, mask = _images(case_id, items)
        known = {"images": images, "mask": mask, "skull_stripped": False, **_egd_metadata(folder)}
        subjects.append(Subject(case_id=case_id, patient_id=case_id, **known))
    return subjects


def _egd_metadata(folder: str) -> dict[str, Any]:
    """What `metadata.json` says, anywhere in the folder of the scans or of its subject; -1 is EGD's "unknown"."""
    session = Path(folder)
    folders = [session, session.parent] if session.name == f"MR_{session.parent.name}" else [session]
    path = next((found for place in folders for found in sorted(place.rglob("metadata.json"))), None)
    if path is None:
        return {}
    try:
        content = json.loads(read_text(path, LARGEST_JSON))
        labels, clinical, scanner = (
            {key.casefold(): value for key, value in content.get(part, {}).items()}
            for part in ("Genetic_and_Histological_labels", "Clinical_data", "Scan_characteristics")
        )
        return {
            "grade": parse_grade(labels.get("grade")),
            "idh": parse_idh(labels.get("idh")),
            "codeletion": parse_codeletion(labels.get("1p19q")),
            "age": parse_number(clinical.get("age")),
            "sex": parse_sex(clinical.get("sex")),
            "vendor": parse_vendor(scanner.get("manufacturer")),
            "field_strength_t": parse_number(scanner.get("field")),
        }
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as EGD metadata ({error})") from None


def _find_csv(path: Path) -> list[Subject]:
    """One row per scan: `case_id`, a column of paths per sequence and `MASK`; see `tables.read_rows` for the others."""
    subjects = []
    for paths, known in read_rows(path):
        images, mask = _images(known["case_id"], list(paths.items()))
        subjects.append(Subject(images=images, mask=mask, **known))
    return subjects


LAYOUTS: dict[str, Callable[[Path], list[Subject]]] = {
    "egd": _find_egd,
    "brats2021": _find_brats_2021,
    "brats2023": _find_brats_2023,
    "csv": _find_csv,
}
