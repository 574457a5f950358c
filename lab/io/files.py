"""Safe reading of users' files (regular files of limited size), and helpers for messages."""

import codecs
import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path

LARGEST = 2**30  # maximum size of a file in bytes, both stored and inflated
SLACK = 2**20  # bytes that may follow the voxels; some programs pad
HEAD = 540  # bytes that hold a NIfTI-1 or NIfTI-2 header
GZIP = b"\x1f\x8b"
CHUNK = 2**14
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
BOMS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # after UTF-32's, which begins like UTF-16's
ALIASES = {  # sequence names of data sets -> canonical names
    **dict.fromkeys(("T1N", "T1W"), "T1"),
    "T2W": "T2",
    **dict.fromkeys(("T2F", "T2FLAIR"), "FLAIR"),
    **dict.fromkeys(("T1C", "T1CE"), "T1GD"),
    **dict.fromkeys(("SEG", "SEGM", "SEGMENTATION"), "MASK"),
}


def open_regular(path: Path, largest: int = LARGEST) -> BufferedReader:
    """Open a file for reading. Raises ValueError for a missing, too large or non-regular one: pipes never end."""
    if "\0" in str(path):
        raise ValueError(f"{str(path)!r}: no file can have this name, it holds a NUL character")
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
            raise ValueError(f"{path}: cannot be read, it is {kind}; a file is needed")
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")  # a pipe since then?
    except FileNotFoundError:
        raise ValueError(f"{path}: file not found") from None
    except OSError as error:
        raise ValueError(f"{str(path)[:300]}: cannot be read ({error.strerror})") from None
    size = os.fstat(file.fileno()).st_size
    if size > largest:
        file.close()
        raise ValueError(f"{path}: {size / 1e6:.0f} MB, more than the {largest / 1e6:.0f} MB that are read of a file")
    return file


def read_text_file(path: Path, largest: int) -> str:
    """Text of at most `largest` bytes: UTF-8, -16, -32 or cp1252. Raises ValueError, also as `open_regular`."""
    with open_regular(path, largest) as file:
        content = file.read(largest + 1)
    encoding = next((name for bom, name in BOMS.items() if content.startswith(bom)), None)
    even, odd = content[:400:2], content[1:400:2]
    if encoding is None and max(even.count(0), odd.count(0)) > len(odd) / 2:  # Latin letters in two bytes each
        encoding = "utf-16-le" if odd.count(0) > even.count(0) else "utf-16-be"
    reason = ""
    for name in (encoding,) if encoding else ("utf-8", "cp1252"):
        try:
            return content.decode(name)
        except UnicodeDecodeError as error:
            reason = f"no {name} text ({error.reason} at byte {error.start})"
    raise ValueError(f"{path}: {reason}")


def regular_sha256(path: Path) -> str:
    """SHA-256 of a file. Raises ValueError as `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_head(path: Path) -> bytes:
    """The first `HEAD` bytes of a file, or fewer, inflated. Raises ValueError."""
    head = bytearray()
    with open_regular(path) as file:
        for piece in _pieces(path, file):
            head += piece
            if len(head) >= HEAD:
                break
    return bytes(head[:HEAD])


def read_inflated(path: Path, declared: Callable[[bytes], int]) -> bytearray:
    """A file's content, inflated and verified to its last byte.

    `declared` returns the expected size from the first `HEAD` bytes. Raises ValueError for a truncated or damaged file,
    and for one with more than `SLACK` extra bytes.
    """
    content, limit = bytearray(), None
    with open_regular(path) as file:
        for piece in _pieces(path, file):
            content += piece
            if limit is None and len(content) >= HEAD:
                limit = declared(bytes(content[:HEAD]))
            if limit is not None and len(content) > limit + SLACK:
                what = f"holds more than the {limit} bytes that its header declares"
                raise ValueError(f"{path}: {what}; damaged, or no single volume")
    limit = declared(bytes(content[:HEAD]))
    if len(content) < limit:
        raise ValueError(f"{path}: truncated, {len(content)} bytes where {limit} are needed; copy or download it again")
    return content


def _pieces(path: Path, file: BufferedReader) -> Iterator[bytes]:
    """A file's content piece by piece, inflated where it is compressed."""
    compressed = file.read(2) == GZIP
    file.seek(0)
    if compressed:
        try:
            yield from inflate(path, file)
        except zlib.error as error:
            raise ValueError(f"{path}: damaged, cannot be decompressed ({error}); copy or download it again") from None
        return
    while piece := file.read(64 * CHUNK):
        yield piece


def inflate(path: Path, file: BufferedReader) -> Iterator[bytes]:
    """The decompressed members of a gzip file; trailing zeros are ignored. Raises ValueError and zlib.error."""
    member = zlib.decompressobj(wbits=31)
    while chunk := file.read(CHUNK):
        while chunk:
            if member.eof:
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    break
                if len(chunk) == 1:
                    chunk += file.read(CHUNK)
                if not chunk.startswith(GZIP):
                    what = "damaged, what follows the compressed data is no gzip"
                    raise ValueError(f"{path}: {what}; copy or download it again")
                member = zlib.decompressobj(wbits=31)
            yield member.decompress(chunk)
            chunk = member.unused_data
    if not member.eof:
        raise ValueError(f"{path}: truncated, the compressed data ends too early; copy or download it again")


def enumerated(names: Sequence[str]) -> str:
    """One or more names in words: "T1, T2 and FLAIR"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def plural(count: int, thing: str) -> str:
    """A count with its noun: "1 patient", "2 patients"."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def describe_os_error(error: OSError) -> str:
    """An OSError in words, its file first: "/data/t1.nii: Permission denied"."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


def format_some(items: Sequence[object], most: int = 3) -> str:
    """The first items in a line: "a, b, c and 4 more"."""
    return ", ".join(map(str, items[:most])) + (f" and {len(items) - most} more" if len(items) > most else "")


def one_line(text: object) -> str:
    """A text on one line, valid UTF-8 even for undecodable file names."""
    return " ".join(str(text).split()).encode("utf-8", "backslashreplace").decode()


def canonical(sequence: str) -> str:
    """Canonical name of a sequence: capitals, with `T1`, `T2`, `FLAIR`, `T1GD` and `MASK` for BraTS' names."""
    name = sequence.strip().upper().replace(" ", "_")
    return ALIASES.get(name, name)
