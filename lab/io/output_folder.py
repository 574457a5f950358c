"""Output folders that may hold other files: only recorded, unchanged files are replaced or removed.

`.gadfree/files.json` lists the files of each output with their SHA-256; a file changed since then belongs to the user.
New files are written to `.gadfree/new`, recorded, and moved into place when all are complete. The next call completes
the moves of a killed one; until then the output's `last` file is missing, so no partial result counts.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from lab.io.case_file import file_sha256, write_atomically
from lab.io.files import format_some

OWN, RECORD, LOCK, NEW = ".gadfree", "files.json", "lock", "new"
FORMAT = "gadfree output"

_Record = dict[str, Any]
"""`outputs`: output -> name -> SHA-256; `moving`, while files are moved: `output`, `last`, and what was `before`."""


def check_output(place: Path, *names: str, alone: bool = False) -> None:
    """Raises ValueError or OSError where results cannot be written into the folder `place`; call it before the work.

    Each name must be free or a recorded, unchanged file; in an existing subfolder this holds for every file. With
    `alone`, `place` must be absent, empty or ours.
    """
    there = next(folder for folder in (place, *place.absolute().parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise ValueError(f"{there} is {'a link to nowhere' if there.is_symlink() else 'a file'}; name a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{place}: {there} is read only; name another folder")
    if there != place:
        return
    record = _read(place)
    if record is not None and "moving" in record:
        with FileLock(place / OWN / LOCK):
            _settle(place)
        record = _read(place)
    others = [name for name in _others(place, ()) if not name.startswith(".")]
    if alone and record is None and others:
        why = "which this program did not record (versions before 0.4.0 kept no record)"
        raise ValueError(f"{place} holds other files ({others[0]}), {why}; name a new folder")
    for name in names:
        folder = place / name
        inside = folder.is_dir() and not folder.is_symlink()
        files = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()] if inside else [folder]
        _refuse_foreign(place, [path.relative_to(place).as_posix() for path in files], _known(record))


@contextmanager
def output_folder(
    place: Path, *, output: str, last: str, alone: bool = False, say: Callable[[str], None] | None = print
) -> Iterator[Path]:
    """A temporary folder to write into; on success its files replace those of the same output in `place`.

    `last` is the file that marks a complete result. Other files in `place` stay, and `say` lists them. Raises as
    `check_output`, before anything is replaced.
    """
    place = Path(place)
    check_output(place, alone=alone)
    fresh, own, new = not place.exists(), place / OWN, place / OWN / NEW
    mark_ours(place)
    with FileLock(own / LOCK):
        _settle(place)
        new.mkdir(parents=True)
        try:
            yield new
            _commit(place, output, last)
        finally:
            record = _read(place) or {"outputs": {}}
            if "moving" not in record:
                shutil.rmtree(new, ignore_errors=True)
            if not record["outputs"]:
                with contextlib.suppress(OSError):
                    for name in (RECORD, LOCK):
                        (own / name).unlink(missing_ok=True)
                    own.rmdir()
                    if fresh:
                        place.rmdir()
    others = _others(place, _known(_read(place)))
    if others and say is not None:
        say(f"{place} also holds {format_some(others)}, not ours: all that stays")


def mark_ours(place: Path) -> None:
    """Mark the folder `place` as ours with an empty record; create it where it is missing."""
    (place / OWN).mkdir(parents=True, exist_ok=True)
    with FileLock(place / OWN / LOCK):
        if _read(place) is None:
            _write(place, {"outputs": {}})


def is_marked(place: Path) -> bool:
    """Whether a folder holds our record. Raises ValueError where it is damaged or not ours."""
    return _read(place) is not None


def is_recorded(place: Path, name: str) -> bool:
    """Whether a file is in the record and unchanged."""
    return plain_sha256(place / name) in _known(_read(place)).get(name, ())


def plain_sha256(path: Path) -> str | None:
    """SHA-256 of a plain file; None for anything else (absent, a link, a folder, a pipe)."""
    return None if path.is_symlink() or not path.is_file() else file_sha256(path)


def _commit(place: Path, output: str, last: str) -> None:
    """Record the new files, then move them into place."""
    record, new = _read(place) or {"outputs": {}}, place / OWN / NEW
    made = {}
    for path in (path for path in sorted(new.rglob("*")) if path.is_file()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        made[path.relative_to(new).as_posix()] = file_sha256(path)
    before = record["outputs"].get(output, {})
    if made == before and all(plain_sha256(place / name) == digest for name, digest in made.items()):
        return
    known = _known(record)
    _refuse_foreign(place, made, known, made)
    before = {name: digest for name in (*before, *made) for digest in known.get(name, ()) if _is(place, name, digest)}
    others = {
        key: {name: digest for name, digest in files.items() if name not in made}
        for key, files in record["outputs"].items()
        if key != output
    }
    for name, digest in made.items():
        if name != last and _is(place, name, digest):
            (new / name).unlink()  # the same is there already
    moving = {"output": output, "last": last, "before": before}
    _write(place, {"outputs": {**others, output: made}, "moving": moving})
    _settle(place)


def _settle(place: Path) -> None:
    """Complete the recorded moves, also those of a killed call, and delete unrecorded new files."""
    record, new = _read(place), place / OWN / NEW
    if record is not None and "moving" in record:
        moving = record["moving"]
        made, before, last = record["outputs"][moving["output"]], moving["before"], moving["last"]
        _refuse_foreign(place, made, _known(record))
        gone = [name for name in before if name not in made or (name == last and (new / name).exists())]
        for name in sorted(gone, key=lambda name: name != last):
            if _is(place, name, before[name]):
                (place / name).unlink()
        for name in sorted(made, key=lambda name: name == last):
            if (new / name).exists():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(new / name, place / name)
        for folder in sorted({folder for name in gone for folder in _folders(name)}, reverse=True):
            with contextlib.suppress(OSError):  # not empty
                (place / folder).rmdir()
        _write(place, {"outputs": record["outputs"]})
    if new.exists():
        shutil.rmtree(new)


def _refuse_foreign(
    place: Path, names: Iterable[str], known: Mapping[str, set[str]], made: Mapping[str, str] | None = None
) -> None:
    """Raises ValueError where a name is taken by a foreign file that also differs from the one `made`."""
    for name in names:
        for path in (place / folder for folder in _folders(name)):
            if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
                raise ValueError(f"{path} is in the way of a folder; move it elsewhere, or name a new folder")
        path = place / name
        if not os.path.lexists(path) or plain_sha256(path) in {*known.get(name, ()), (made or {}).get(name, "")}:
            continue
        what = "was changed since it was written" if name in known else "is not a file that this version has written"
        raise ValueError(f"{path} {what}, so it is not replaced; move it elsewhere, or name a new folder")


def _others(place: Path, names: Iterable[str]) -> list[str]:
    """Entries of the folder, and of the folders of our files, that are not ours and have no record of their own."""
    names = set(names)
    folders = {"", *(folder for name in names for folder in _folders(name))}
    found = (path for folder in sorted(folders) if (place / folder).is_dir() for path in (place / folder).iterdir())
    relative = {path.relative_to(place).as_posix(): path for path in found}
    ours = names | folders | {OWN}
    return sorted(name for name, path in relative.items() if name not in ours and not (path / OWN / RECORD).is_file())


def _folders(name: str) -> list[str]:
    """Folders on the way to a file, the outermost first: "a/b/c.txt" -> "a", "a/b"."""
    return [str(folder) for folder in reversed(PurePosixPath(name).parents)][1:]


def _known(record: _Record | None) -> dict[str, set[str]]:
    """Recorded file -> its valid digests."""
    known: dict[str, set[str]] = {}
    for files in [] if record is None else [*record["outputs"].values(), record.get("moving", {}).get("before", {})]:
        for name, digest in files.items():
            known.setdefault(name, set()).add(digest)
    return known


def _is(place: Path, name: str, digest: str) -> bool:
    return plain_sha256(place / name) == digest


def _read(place: Path) -> _Record | None:
    """The record of a folder, None if there is none. Raises ValueError where it is damaged or not ours."""
    own = place / OWN
    try:
        record = json.loads((own / RECORD).read_text(encoding="utf-8"))
        if record["format"] == FORMAT and all(map(_inside, _known(record))):
            return {name: record[name] for name in ("outputs", "moving") if name in record}
    except FileNotFoundError:
        if not os.path.lexists(own):
            return None
        if own.is_dir() and not own.is_symlink() and all(_begun(path.name) for path in own.iterdir()):
            return None  # a call was killed before it wrote the record
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{own / RECORD} is damaged or not ours, so nothing in {place} is touched; name a new folder")


def _begun(name: str) -> bool:
    return name == LOCK or re.fullmatch(rf"\.{RECORD}\.\d+\.tmp", name) is not None


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return path.parts != () and not path.is_absolute() and ".." not in path.parts


def _write(place: Path, record: _Record) -> None:
    write_atomically(place / OWN / RECORD, (json.dumps({"format": FORMAT, **record}, indent=1) + "\n").encode())
