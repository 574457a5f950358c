"""Search for subjects on disk, in one of the known layouts.

A folder is searched at any depth, so any level of a download can be named. The content of scans is checked at
preparation: here a missing sequence is simply absent from `Subject.images`. An error in one patient affects that
patient alone: a value that is not understood is unknown (`Subject.remarks`), contradictory files are a `Subject.fault`.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lab.data.layouts import brats, egd, scan_table
from lab.data.layouts.copies import merge_repeated, scan_files
from lab.data.layouts.label_books import name_books
from lab.data.layouts.subject import Layout, Subject
from lab.io.files import format_some, one_line

LAYOUTS: dict[str, Layout] = {
    "egd": egd.LAYOUT,
    "brats2021": brats.BRATS_2021,
    "brats2023": brats.BRATS_2023,
    "csv": scan_table.LAYOUT,
}
"""Name -> layout; the names are the choices of `--layout`."""
CASE_ID = re.compile(r"[\w][\w.+-]*", re.ASCII)
LONGEST_ID = 150  # maximum letters of a case id: file names contain it, and have at most 255 bytes


def detect(path: Path) -> str:
    """Name of the layout of PATH. Raises FileNotFoundError, and ValueError for no layout or several."""
    path = _existing(path)
    return _recognise(path, [path] if path.is_file() else scan_files(path)[0])[0]


def find_subjects(
    path: Path, layout: str = "auto", *, labels: str | None = "auto", say: Callable[[str], None] = print
) -> list[Subject]:
    """Subjects below PATH, sorted by case id; `labels` is a key of `label_books.LABEL_BOOKS`, or `auto`.

    With `labels` None no mask is read, and what its values mean stays unknown.
    A patient who cannot be used has a `fault`; `say` reports other anomalies with their counts. Raises
    FileNotFoundError or ValueError where PATH is missing, empty, in no known layout, or all patients have a fault.
    """
    path = _existing(path)
    files, copies = ([path], []) if path.is_file() else scan_files(path)
    if layout == "auto":
        layout, found = _recognise(path, files)
    elif layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}: choose one of auto, {', '.join(LAYOUTS)}")
    elif LAYOUTS[layout].table != path.is_file():
        raise ValueError(f"{path}: layout {layout} needs a {'.csv file' if LAYOUTS[layout].table else 'folder'}")
    else:
        found = LAYOUTS[layout].find(files)
    if LAYOUTS[layout].brain_mask != "nonzero":
        found = [replace(subject, skull_stripped=False) for subject in found]
    found = merge_repeated(sorted(found, key=lambda subject: subject.case_id))
    subjects = [_with_id_checked(subject) for subject in found]
    if not subjects:
        raise ValueError(f"{path}: no subject in the layout {layout}")
    faults = [subject.fault for subject in subjects if subject.fault]
    if len(faults) == len(subjects):
        raise ValueError(f"{path}: none of {len(faults)} subjects can be used ({faults[0]})")
    if copies:
        say(one_line(f"Not read, copies of files beside them: {format_some(copies)}"))
    _tell(subjects, say)
    if labels is None:
        return subjects
    return name_books(subjects, LAYOUTS[layout].label_books, labels, say)


def _tell(subjects: list[Subject], say: Callable[[str], None]) -> None:
    """Report the remarks on patients, one line per kind."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for subject in subjects:
        for remark in subject.remarks:
            kinds[remark.what].append(f"{remark.found} of {subject.case_id}")
    for what, found in kinds.items():
        say(one_line(f"{len(found)} of {len(subjects)} scans: {what} ({format_some(found)})"))


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


def _recognise(path: Path, files: list[Path]) -> tuple[str, list[Subject]]:
    """The one layout that finds subjects, and the subjects."""
    if path.is_file() and path.suffix.lower() not in (".csv", ".tsv"):
        raise ValueError(f"{path} is a file: name a folder of scans, or a .csv of paths")
    known = {name: layout for name, layout in LAYOUTS.items() if layout.table == path.is_file()}
    found = {name: subjects for name, layout in known.items() if (subjects := layout.find(files))}
    if len(found) > 1:
        counts = ", ".join(f"{len(subjects)} of {name}" for name, subjects in found.items())
        raise ValueError(f"{path} holds scans in more than one layout ({counts}): name one with --layout")
    if not found:
        raise ValueError(f"{path}: {_nothing_found(path, files)}")
    return next(iter(found.items()))


def _nothing_found(path: Path, files: list[Path]) -> str:
    if files:
        example = files[0].relative_to(path)
        found = f"{len(files)} NIfTI files such as {example}, but none is named as in a known data set"
    elif any(path.iterdir()):
        found = "no .nii or .nii.gz file in it (archives must be unpacked first)"
    else:
        found = "the folder is empty"
    folders = [layout for layout in LAYOUTS.values() if not layout.table]
    known = ", ".join(f"{layout.files['T1GD'].format(id=layout.example)} ({layout.title})" for layout in folders)
    return f"{found}. Known: {known}, or a CSV with the columns case_id, T1, T2, FLAIR, T1GD, MASK"
