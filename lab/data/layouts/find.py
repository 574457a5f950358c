"""Where data sets keep their files: EGD, BraTS 2021, BraTS 2023 and later, and a CSV of paths -> `Subject`.

A folder is searched at any depth, so it does not matter which level of a download is named. What a scan *holds* is
checked later (`scans.py`, `cases.py`): here a missing sequence is simply absent from `Subject.images`. What is wrong
with one patient stays with that patient: a value that is not understood is unknown (`Subject.remarks`), files that
contradict each other are a `Subject.fault`.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lab.data.layouts.copies import once, one_file, without_copies
from lab.data.layouts.csv_table import SUFFIXES, read_rows
from lab.data.layouts.egd_clinical import read_metadata
from lab.data.layouts.label_books import name_books
from lab.data.layouts.subject import Remark, Subject, one_line
from lab.io.scan import canonical

__all__ = ["LAYOUTS", "Subject", "canonical", "detect", "find_subjects"]

CASE_ID = re.compile(r"[\w][\w.+-]*", re.ASCII)
LONGEST_ID = 150
"""Letters of a case id: files are named by it, and a file's name ends at 255."""
ENDING = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


def detect(path: Path) -> str:
    """Name of the layout of PATH, one of `LAYOUTS`.

    Raises FileNotFoundError where there is nothing, ValueError where no layout, or more than one, is recognised.
    """
    path = _existing(path)
    return _recognised(path, [] if path.is_file() else _scan_files(path)[0])


def find_subjects(
    path: Path, layout: str = "auto", *, labels: str = "auto", say: Callable[[str], None] = print
) -> list[Subject]:
    """Subjects below PATH, sorted by case id; `labels` is a key of `label_books.LABEL_BOOKS`, or `auto`.

    A patient who cannot be used has a `fault`; what else is odd is told by `say`, counted. Raises FileNotFoundError or
    ValueError where PATH is missing, empty, in no known layout, or all patients have a fault.
    """
    path = _existing(path)
    files, copies = ([], []) if path.is_file() else _scan_files(path)
    if layout == "auto":
        layout = _recognised(path, files)
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}: choose one of auto, {', '.join(LAYOUTS)}")
    if (layout == "csv") != path.is_file():
        raise ValueError(f"{path}: layout {layout} needs a {'.csv file' if layout == 'csv' else 'folder'}")
    found = _find_csv(path) if layout == "csv" else FINDERS[layout](files)
    subjects = [_with_id_checked(subject) for subject in once(sorted(found, key=lambda subject: subject.case_id))]
    if not subjects:
        raise ValueError(f"{path}: no subject in the layout {layout}")
    faults = [subject.fault for subject in subjects if subject.fault]
    if len(faults) == len(subjects):
        raise ValueError(f"{path}: none of {len(faults)} subjects can be used ({faults[0]})")
    if copies:
        say(one_line(f"Not read, copies of files beside them: {_some([str(copy) for copy in copies])}"))
    _tell(subjects, say)
    return name_books(subjects, layout, labels, say)


def _tell(subjects: list[Subject], say: Callable[[str], None]) -> None:
    """What is odd about patients, a line for each kind."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for subject in subjects:
        for remark in subject.remarks:
            kinds[remark.what].append(f"{remark.found} of {subject.case_id}")
    for what, found in kinds.items():
        say(one_line(f"{len(found)} of {len(subjects)} scans: {what} ({_some(found)})"))


def _some(found: list[str]) -> str:
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _with_id_checked(subject: Subject) -> Subject:
    fault = None
    if not CASE_ID.fullmatch(subject.case_id):
        fault = f"case id {subject.case_id!r} cannot be a file name; use letters, digits, '.', '_', '-'"
    elif len(subject.case_id) > LONGEST_ID:
        fault = f"case id of {len(subject.case_id)} letters ({subject.case_id[:20]}...); at most {LONGEST_ID} fit"
    case_id, patient_id = one_line(subject.case_id), one_line(subject.patient_id)
    return replace(subject, case_id=case_id, patient_id=patient_id, fault=subject.fault or fault)


def _existing(path: Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path} is a pipe, socket or device; name a folder of scans, or a .csv of paths")
    return path


def _recognised(path: Path, files: list[Path]) -> str:
    if path.is_file():
        if path.suffix.lower() in (".csv", ".tsv"):
            return "csv"
        raise ValueError(f"{path} is a file: name a folder of scans, or a .csv of paths")
    found = {name: len(group(files)) for name, group in FOLDERS.items()}
    found = {name: count for name, count in found.items() if count}
    if len(found) > 1:
        counts = ", ".join(f"{count} of {name}" for name, count in found.items())
        raise ValueError(f"{path} holds scans in more than one layout ({counts}): name one with --layout")
    if not found:
        raise ValueError(f"{path}: {_nothing_found(path, files)}")
    return next(iter(found))


def _scan_files(root: Path) -> tuple[list[Path], list[Path]]:
    """All NIfTI files below `root`, links followed once, in a fixed order; and copies beside their original."""
    files: list[Path] = []
    copies: list[Path] = []
    seen = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__")))
        scans = [name for name in sorted(names) if name.lower().endswith(SUFFIXES) and name[0] != "."]
        kept, copied = without_copies(scans, ENDING)
        files += [Path(folder, name) for name in kept]
        copies += [Path(folder, name) for name in copied]
    return files, copies


def _stem(path: Path) -> str:
    return ENDING.sub("", path.name)


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
        stem = re.sub("_tumor_segmentation$", "_seg", _stem(path))  # UCSF-PDGM's name for it
        case, found, sequence = stem.rpartition(separator)
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


def _images(items: list[tuple[str, Path]]) -> dict[str, Any]:
    """`images`, `mask`, `remarks` and `fault` of a subject, from its files with the name of the sequence each holds."""
    named: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for sequence, path in items:
        named[canonical(sequence)][sequence.strip().lower()].append(path)
    images: dict[str, Path] = {}
    remarks = []
    try:
        for name, by_sequence in named.items():
            if name == "MASK" and len(by_sequence) > 1 and "seg" in by_sequence:  # BraTS' own name for it
                others = [str(path) for sequence in by_sequence.keys() - {"seg"} for path in by_sequence[sequence]]
                remarks.append(
                    Remark("seg is read as tumour mask, not what stands beside it", ", ".join(sorted(others)))
                )
                by_sequence = {"seg": by_sequence["seg"]}
            images[name], remark = one_file(name, [path for paths in by_sequence.values() for path in paths])
            remarks += [remark] if remark else []
    except ValueError as error:
        return {"fault": str(error)}
    return {"mask": images.pop("MASK", None), "images": images, "remarks": tuple(remarks)}


def _find_brats(group: Callable[[Iterable[Path]], Cases], files: list[Path]) -> list[Subject]:
    subjects = []
    for case, items in group(files).items():
        case_id = os.path.basename(case)
        patient_id = re.sub(r"(?<=-\d{5})-\d{3}$", "", case_id)  # BraTS-GLI-00000-001: second time point
        subjects.append(Subject(case_id=case_id, patient_id=patient_id, **_images(items)))
    return subjects


def _find_egd(files: list[Path]) -> list[Subject]:
    """EGD is not skull-stripped, lies in MNI152 space and has one tumour label without an enhancing part."""
    subjects = []
    for folder, items in _egd(files).items():
        case_id = folder[folder.rindex("EGD-") :]
        known, remarks = read_metadata(folder)
        parts = _images(items)
        parts["remarks"] = (*parts.get("remarks", ()), *remarks)
        subjects.append(Subject(case_id=case_id, patient_id=case_id, skull_stripped=False, **parts, **known))
    return subjects


def _find_csv(path: Path) -> list[Subject]:
    """One row per scan; see `tables.read_rows`."""
    subjects = []
    for row in read_rows(path):
        parts = _images(list(row.paths.items()))
        fault = row.fault or (f"case {row.case_id}: {parts['fault']}" if "fault" in parts else None)
        parts |= {"fault": fault, "remarks": (*parts.get("remarks", ()), *row.remarks)}
        whose: dict[str, Any] = {"patient_id": row.patient_id, "patient_given": row.patient_given}
        subjects.append(Subject(case_id=row.case_id, **whose, **parts, **row.known))
    return subjects


FINDERS: dict[str, Callable[[list[Path]], list[Subject]]] = {
    "egd": _find_egd,
    "brats2021": partial(_find_brats, _brats_2021),
    "brats2023": partial(_find_brats, _brats_2023),
}
LAYOUTS = (*FINDERS, "csv")
