"""What is there twice: copies beside their original, two files for one sequence, two subjects with one id."""

from __future__ import annotations

import gzip
import re
import stat
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO

from lab.data.layouts.subject import Remark, Subject

COPY = re.compile(
    r"^(copy|backup|kopie|copie)( of| von| de)? (\(\d+\) )?(of )?|^~\$?"
    r"|( \(\d+\)|[ _.-]+(copy|kopie|copie|backup|bak)[ _-]?\(?\d*\)?|~\d*~?)$",
    re.IGNORECASE,
)
"""What file managers and people put before or after the name of a copy."""


def without_copies(names: Iterable[str], ending: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """Names of one folder, and those left out: copies, by their name, of others of them. `ending` is the file type."""
    names = list(names)
    stems = {ending.sub("", name) for name in names}
    copies = [name for name in names if COPY.sub("", ending.sub("", name)) in stems - {ending.sub("", name)}]
    return [name for name in names if name not in copies], copies


def one_file(sequence: str, paths: list[Path]) -> tuple[Path, Remark | None]:
    """The file of a sequence among those that claim to be it: any of them where all hold the same bytes, decompressed.

    Raises ValueError where they differ.
    """
    first, *others = sorted(dict.fromkeys(paths), key=lambda path: (path.suffix.lower() != ".gz", str(path)))
    for other in others:
        if not same_content(first, other):
            raise ValueError(f"two files for {sequence} that differ, {first} and {other}; keep one")
    return first, Remark("two files for one sequence are alike, one is read", str(first)) if others else None


def same_content(a: Path, b: Path) -> bool:
    """Whether two regular files hold the same bytes, after decompression where they are compressed."""
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


def once(subjects: list[Subject]) -> list[Subject]:
    """Subjects whose ids differ, also without capitals; of those with one id, one where all say the same.

    Where they do not, who is right is unknown: one subject with a fault stands for each id.
    """
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
    """Whether two subjects are one: all that is known of them, and all their files."""
    if replace(a, images={}, mask=None, remarks=()) != replace(b, images={}, mask=None, remarks=()):
        return False
    files, others = ({**one.images, **({} if one.mask is None else {"MASK": one.mask})} for one in (a, b))
    return files.keys() == others.keys() and all(
        path == others[name] or same_content(path, others[name]) for name, path in files.items()
    )


def _place(subject: Subject) -> Path | None:
    path = next(iter(subject.images.values()), subject.mask)
    return None if path is None else path.parent
