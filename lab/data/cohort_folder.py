"""Ownership of files in the folder of a prepared cohort: only the cohort's own files are replaced or removed.

A prepared case and the note on a left-out subject hold their case id; the tables are in the folder's record
(`lab.io.output_folder`). Tables without a record (before 0.4.0) and changed ones are set aside, not replaced.
"""

import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from lab.data.cohort import FORMAT
from lab.io.case_file import write_atomically
from lab.io.files import format_some
from lab.io.output_folder import check_output, is_marked, is_recorded, mark_ours, output_folder

FOLDERS = ("cases", "left_out")
OUTPUT = "prepared cohort"
INDEX, SPLIT, MANIFEST = TABLES = ("index.csv", "split.csv", "manifest.json")
HEAD = b"case_id"  # first bytes of `index.csv` and `split.csv`
HEADER_BYTES = 1_000_000
HALF = re.compile(r"\..+\.(safetensors|json)\.\d+\.tmp")  # names of temporary files that a killed process leaves


def claim_folder(out: Path, say: Callable[[str], None]) -> None:
    """Create or take over a cohort's folder. Raises ValueError for foreign files, OSError for a read-only folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(13, "Permission denied")
        check_output(out)
        there = [path for path in sorted(out.iterdir()) if path.name[0] != "." and path.name not in FOLDERS]
        inside = _inside(out)
        foreign = [path for path in (*there, *inside) if path.name not in TABLES and not is_ours(path)]
        if not (is_marked(out) or _is_manifest(out / MANIFEST) or any(map(is_ours, inside))) and (there or foreign):
            raise ValueError(f"{out} holds other files ({(there or foreign)[0].name}); name a new folder")
        check_output(out, *(name for name in TABLES if not _is_older(out, name)))
        for folder in FOLDERS:
            (out / folder).mkdir(exist_ok=True)
        mark_ours(out)
    except OSError as error:
        what = f"the prepared cohort cannot be written there ({error.strerror or error})"
        raise type(error)(f"{error.filename or out}: {what}") from None
    if foreign:
        say(f"{out} also holds {format_some([path.relative_to(out) for path in foreign])}, not ours: all that stays")


def is_ours(path: Path) -> bool:
    """Whether a file is the prepared case, or the note, of the case id in its name, even if damaged."""
    if path.is_symlink() or not path.is_file():
        return False
    if path.suffix == ".safetensors":
        with open(path, "rb") as file:
            return f'\\"case_id\\": \\"{path.stem}\\"'.encode() in file.read(HEADER_BYTES)
    try:
        text = path.read_text(encoding="utf-8")
        note = json.loads(text)
        as_written = text == json.dumps(note, sort_keys=True)
        return as_written and {"recipe", "source", "row"} <= set(note) and note["case_id"] == path.stem
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_free(paths: Iterable[Path]) -> None:
    """Raises ValueError where the path of a case or a note is taken by a foreign file."""
    for path in paths:
        if os.path.lexists(path) and not is_ours(path):
            what = "is damaged, was changed, or is no file of this cohort, so it is not replaced"
            raise ValueError(f"{path} {what}; delete it or move it elsewhere, or name a new folder")


def find_stale(out: Path, known: Iterable[Path]) -> list[Path]:
    """The cohort's cases and notes that are not `known`, and half-written files of killed calls."""
    kept = set(known)
    half = [path for name in FOLDERS for path in (out / name).iterdir() if HALF.fullmatch(path.name) and path.is_file()]
    return [path for path in _inside(out) if path not in kept and is_ours(path)] + half


def withdraw_manifest(out: Path, say: Callable[[str], None]) -> None:
    """Remove the manifest: while cases change, the folder is not a cohort."""
    if _is_older(out, MANIFEST):
        _set_aside(out / MANIFEST, say)
    else:
        check_output(out, MANIFEST)
        (out / MANIFEST).unlink(missing_ok=True)


def write_tables(out: Path, tables: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Write the given `TABLES` together; unchanged ones are not rewritten."""
    for name in TABLES:
        if _is_older(out, name) and (out / name).read_bytes() != tables.get(name, "").encode():
            _set_aside(out / name, say)
    with output_folder(out, output=OUTPUT, last=MANIFEST, say=None) as folder:
        for name, text in tables.items():
            write_atomically(folder / name, text.encode())


def _is_older(out: Path, name: str) -> bool:
    """Whether a table was written before there was a record, or was changed since."""
    path = out / name
    if path.is_symlink() or not path.is_file() or is_recorded(out, name):
        return False
    if name == MANIFEST:
        return _is_manifest(path)
    with open(path, "rb") as file:
        return HEAD in file.read(len(HEAD) + 10)  # a byte order mark may come first


def _is_manifest(path: Path) -> bool:
    """Whether a file calls itself the manifest of a cohort."""
    try:
        return not path.is_symlink() and json.loads(path.read_text(encoding="utf-8"))["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _set_aside(path: Path, say: Callable[[str], None]) -> None:
    names = (path.with_name(f"{path.stem}-before-{number}{path.suffix}") for number in itertools.count(1))
    kept = next(name for name in names if not os.path.lexists(name))
    os.rename(path, kept)
    say(f"{path} was changed, or is of a version before 0.4.0, which kept no record: kept as {kept.name}")


def _inside(out: Path) -> list[Path]:
    """Entries of the folders of cases and notes, without hidden files."""
    folders = [out / name for name in FOLDERS if (out / name).is_dir()]
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.name[0] != "."]
