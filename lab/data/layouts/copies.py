"""Search for NIfTI files; handling of copies, of two files for one sequence, and of repeated case ids."""

import gzip
import os
import re
import stat
import zlib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from lab.data.layouts.subject import Remark, Subject
from lab.io.files import canonical

NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)  # ending of the name of a NIfTI file

COPY = re.compile(  # beginnings and endings of the names of copies
    r"^(copy|backup|kopie|copie)( of| von| de)? (\(\d+\) )?(of )?|^~\$?"
    r"|( \(\d+\)|[ _.-]+(copy|kopie|copie|backup|bak)[ _-]?\(?\d*\)?|~\d*~?)$",
    re.IGNORECASE,
)


def nifti_stem(path: Path) -> str:
    """The name of a NIfTI file without its ending."""
    return NIFTI.sub("", path.name)


def scan_files(root: Path) -> tuple[list[Path], list[Path]]:
    """All NIfTI files below `root` in a fixed order, following links once; and copies of these, by their name."""
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
        scans = {name: NIFTI.sub("", name) for name in sorted(names) if NIFTI.search(name) and name[0] != "."}
        originals = set(scans.values())
        for name, own in scans.items():
            original = COPY.sub("", own)
            copied = original != own and original in originals
            (copies if copied else files).append(Path(folder, name))
    return files, copies


def choose_files(named: list[tuple[str, Path]]) -> dict[str, Any]:
    """`images`, `mask`, `remarks` and `fault` of a subject, from its files and the sequences in their names."""
    sequences: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for sequence, path in named:
        sequences[canonical(sequence)][sequence.strip().lower()].append(path)
    images: dict[str, Path] = {}
    remarks = []
    try:
        for name, spellings in sequences.items():
            if name == "MASK" and len(spellings) > 1 and "seg" in spellings:  # BraTS' own name for it
                others = sorted(str(path) for other in spellings.keys() - {"seg"} for path in spellings[other])
                remarks.append(Remark("seg is read as tumour mask, not what stands beside it", ", ".join(others)))
                spellings = {"seg": spellings["seg"]}
            images[name], remark = choose_file(name, [path for paths in spellings.values() for path in paths])
            remarks += [remark] if remark else []
    except ValueError as error:
        return {"fault": str(error)}
    return {"mask": images.pop("MASK", None), "images": images, "remarks": tuple(remarks)}


def choose_file(sequence: str, paths: list[Path]) -> tuple[Path, Remark | None]:
    """One of the files of a sequence. Raises ValueError unless all hold the same bytes after decompression."""
    first, *others = sorted(dict.fromkeys(paths), key=lambda path: (path.suffix.lower() != ".gz", str(path)))
    for other in others:
        if not same_content(first, other):
            raise ValueError(f"two files for {sequence} that differ, {first} and {other}; keep one")
    return first, Remark("two files for one sequence are alike, one is read", str(first)) if others else None


def same_content(a: Path, b: Path) -> bool:
    """Whether two regular files hold the same bytes, after decompression of gzip files."""
    try:
        if not (stat.S_ISREG(a.stat().st_mode) and stat.S_ISREG(b.stat().st_mode)):
            return False
        with _opened(a) as one, _opened(b) as two:
            while (part := one.read(1 << 20)) == two.read(1 << 20):
                if not part:
                    return True
            return False
    except (OSError, EOFError, zlib.error):
        return False


def _opened(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else open(path, "rb")  # type: ignore[return-value]


def merge_repeated(subjects: list[Subject]) -> list[Subject]:
    """Subjects with unique ids: equal ones are merged, others with one id (or in other capitals) get a fault."""
    groups: dict[str, list[Subject]] = defaultdict(list)
    for subject in subjects:
        groups[subject.case_id.casefold()].append(subject)
    return [found for group in groups.values() for found in ([group[0]] if len(group) == 1 else _settled(group))]


def _settled(group: list[Subject]) -> list[Subject]:
    first, ids = group[0], sorted({subject.case_id for subject in group})
    if len(ids) > 1:
        fault = f"the case ids {' and '.join(ids)} differ only in capitals; every scan needs its own"
        return [replace(next(one for one in group if one.case_id == case_id), fault=fault) for case_id in ids]
    if all(_alike(first, other) for other in group[1:]):
        remark = Remark("stands there more than once, always the same; taken once", str(_place(first)))
        return [replace(first, remarks=(*first.remarks, remark))]
    where = " and ".join(str(path) for path in dict.fromkeys(_place(subject) for subject in group) if path)
    fault = f"case {ids[0]} occurs {len(group)} times{f' ({where})' if where else ''}; every scan needs its own case id"
    return [replace(first, fault=fault)]


def _alike(a: Subject, b: Subject) -> bool:
    """Whether two subjects agree in all values and in the content of all files."""
    if replace(a, images={}, mask=None, remarks=()) != replace(b, images={}, mask=None, remarks=()):
        return False
    files, others = ({**one.images, **({} if one.mask is None else {"MASK": one.mask})} for one in (a, b))
    return files.keys() == others.keys() and all(
        path == others[name] or same_content(path, others[name]) for name, path in files.items()
    )


def _place(subject: Subject) -> Path | None:
    path = next(iter(subject.images.values()), subject.mask)
    return None if path is None else path.parent
