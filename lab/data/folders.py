"""A folder that is there whole or not at all: made beside its place, then renamed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(place: Path, *, mark: str) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `place` when all went well, and is removed when not.

    An older folder there is replaced only if it is empty or holds the file `mark`, by which it is known as ours. Raises
    ValueError where it holds something else.
    """
    place = place.absolute()
    check_ours(place, mark)
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(place)
    new = place.with_name(f".{place.name}.{os.getpid()}.new")
    new.mkdir()
    try:
        yield new
        old = place.with_name(f".{place.name}.{os.getpid()}.old")
        if place.exists():
            os.rename(place, old)
        os.rename(new, place)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_ours(place: Path, mark: str) -> None:
    """Raises ValueError where a folder, or a file, of someone else stands."""
    if not place.exists():
        return
    if not place.is_dir():
        raise ValueError(f"{place} is a file; name a folder")
    if any(place.iterdir()) and not (place / mark).is_file():
        raise ValueError(f"{place} holds other files ({sorted(place.iterdir())[0].name}); name a new folder")


def _remove_left(place: Path) -> None:
    """What processes left that were killed; a folder whose old version was moved away just then gets it back."""
    for left in place.parent.glob(f".{place.name}.*"):
        found = re.fullmatch(re.escape(f".{place.name}.") + r"(\d+)\.(new|old)", left.name)
        if not found or _runs(int(found[1])):
            continue
        if found[2] == "old" and not place.exists():
            os.rename(left, place)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
