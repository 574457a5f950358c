"""Seeded damage to the content of files: bits, cuts, lengths, JSON, tables, NIfTI headers."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

Mutation = tuple[str, bytes]
"""What was done, and what the file then holds."""

EXTREMES = (0.0, -1.0, 1e38, -1e38, float("nan"), float("inf"), float("-inf"), 1e-38)
HEADER = {
    "sizeof_hdr": (0, "i"), "dim0": (40, "h"), "dim1": (42, "h"), "dim2": (44, "h"), "dim3": (46, "h"),
    "dim4": (48, "h"), "datatype": (70, "h"), "bitpix": (72, "h"), "pixdim0": (76, "f"), "pixdim1": (80, "f"),
    "pixdim3": (88, "f"), "vox_offset": (108, "f"), "scl_slope": (112, "f"), "scl_inter": (116, "f"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"), "quatern_b": (256, "f"), "qoffset_x": (268, "f"), "srow_x0": (280, "f"),
    "srow_x3": (292, "f"), "srow_y1": (300, "f"), "srow_z2": (320, "f"), "magic": (344, "i"),
}  # fmt: skip
"""Fields of a NIfTI-1 header: place and type."""
VALUES: tuple[Any, ...] = (None, -1, 2**70, 1e308, "", "x" * 9000, [], {}, [[]], "\u202e\u0000")


def bytewise(content: bytes, rng: np.random.Generator, count: int) -> Iterator[Mutation]:
    """Any file: turned bits, cuts, insertions, blocks of zeros and of noise, twice the same."""
    for number in range(count):
        kind = ("bit", "cut", "insert", "zeros", "noise", "bit", "swap")[number % 7]
        a, b = sorted(int(place) for place in rng.integers(0, len(content), 2))
        b = min(b, a + 64)
        if kind == "bit":
            changed = bytearray(content)
            changed[a] ^= 1 << int(rng.integers(8))
            yield f"bit of byte {a}", bytes(changed)
            continue
        middle = {
            "cut": b"",
            "insert": rng.bytes(9) + content[a:b],
            "zeros": bytes(b - a),
            "noise": rng.bytes(b - a),
            "swap": content[a:b][::-1],
        }[kind]
        yield f"{kind} of bytes {a} to {b}", content[:a] + middle + content[b:]
    yield from (("empty", b""), ("one byte", content[:1]), ("half", content[: len(content) // 2]))
    yield from (("twice", content * 2), ("zeros", bytes(len(content))), ("a zero more", content + b"\0"))


def texts(content: bytes) -> Iterator[Mutation]:
    """Any text: other encodings, and what no text holds."""
    text = content.decode()
    for encoding in ("utf-16", "utf-32", "utf-8-sig", "cp037"):
        yield encoding, text.encode(encoding)
    yield from (("no UTF-8", b"\xff\xfe\xfa" + content), ("NUL", content[:30] + b"\0" + content[30:]))
    yield from (("CRLF", content.replace(b"\n", b"\r\n")), ("CR", content.replace(b"\n", b"\r")))


def jsons(content: bytes, rng: np.random.Generator, count: int) -> Iterator[Mutation]:
    """JSON: values of another kind, keys away or twice, numbers and nesting without end."""
    whole = json.loads(content)
    for number in range(count):
        copy = json.loads(content)
        places = list(_places(copy))
        holder, key, path = places[int(rng.integers(len(places)))]
        if number % 4 == 3 and isinstance(holder, dict):
            del holder[key]
            yield f"no {path}", json.dumps(copy).encode()
            continue
        value = VALUES[int(rng.integers(len(VALUES)))]
        if holder[key] == value:
            value = "other"
        holder[key] = value
        yield f"{path} = {value!r:.20}", json.dumps(copy).encode()
    first = next(iter(whole))
    for what, text in {
        "deep": '{"a":' * 50_000,
        "deep list": "[" * 200_000 + "]" * 200_000,
        "a list": "[1]",
        "a number": "1",
        "digits": f'{{"{first}": {"9" * 6000}}}',
        "infinite": f'{{"{first}": 1e999}}',
        "null": "null",
        "no end": content.decode()[:-2],
        "large": json.dumps({**whole, "padding": "x" * 3_000_000}),
    }.items():
        yield what, text.encode()


def _places(value: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Every place of a JSON value below the top: what holds it, under which key, and its path."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield value, key, f"{path}/{key}"
        yield from _places(entry, f"{path}/{key}")


def tables(content: bytes) -> Iterator[Mutation]:
    """What spreadsheet programs and hands do to a CSV."""
    text = content.decode()
    lines = text.splitlines()
    for what, changed in {
        "semicolons": text.replace(",", ";"),
        "tabs": text.replace(",", "\t"),
        "sep line": "sep=,\n" + text,
        "quoted": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in lines) + "\n",
        "an open quote": text.replace(",", ',"', 1),
        "blank rows": "\n\n".join(lines) + "\n,,,,,,\n",
        "spaces": text.replace(",", " , "),
        "capitals of the head": lines[0].upper() + "\n" + "\n".join(lines[1:]),
        "the head alone": lines[0],
        "no head": "\n".join(lines[1:]),
        "the head twice": lines[0] + "\n" + text,
        "a row twice": text + lines[1] + "\n",
        "a row less": "\n".join(lines[:-1]),
        "cells less": "\n".join([*lines[:-1], lines[-1].rsplit(",", 2)[0]]),
        "cells more": "\n".join([*lines[:-1], lines[-1] + ",9,9,9"]),
        "a column twice": "\n".join(line + "," + line.split(",")[1] for line in lines),
        "a long cell": text + "x" * 200_000,
        "long rows": text + "," * 100_000,
        "many rows": text + "a,b\n" * 2_000,
    }.items():
        yield what, changed.encode()


def headers(content: bytes) -> Iterator[Mutation]:
    """A compressed NIfTI file with one field of its header at an extreme; its check sums are right."""
    plain = gzip.decompress(content)
    for field, (place, kind) in HEADER.items():
        values = EXTREMES if kind == "f" else (0, -1, 1, 7, 32767, -32768) if kind == "h" else (0, -1, 2**31 - 1)
        for value in values:
            changed = bytearray(plain)
            struct.pack_into(f"<{kind}", changed, place, value)
            if changed != plain:
                yield f"{field} = {value}", gzip.compress(bytes(changed), compresslevel=1, mtime=0)


def safetensors(content: bytes) -> Iterator[Mutation]:
    """A safetensors file with another header; its data stay."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    names = sorted(name for name in header if name != "__metadata__")
    for name in names[:2]:
        for key, value in (
            ("shape", [2**60]), ("shape", [2**20] * 3), ("shape", []), ("shape", [-1]), ("shape", "x"), ("shape", [0]),
            ("dtype", "F64"), ("dtype", "I8"), ("dtype", None), ("data_offsets", [0, 2**60]), ("data_offsets", [-8, 8]),
            ("data_offsets", [8, 0]), ("data_offsets", []), ("data_offsets", [0.5, 1e30]),
        ):  # fmt: skip
            yield f"{name}: {key} {value}", _packed({**header, name: {**header[name], key: value}}, data)
        yield f"no {name}", _packed({key: entry for key, entry in header.items() if key != name}, data)
        yield f"{name} is a list", _packed({**header, name: []}, data)
    yield "tensors exchanged", _packed({**header, names[0]: header[names[-1]], names[-1]: header[names[0]]}, data)
    for size in (0, 1, 2**31, 2**60, 2**64 - 1):
        yield f"a header of {size} bytes", size.to_bytes(8, "little") + content[8:]
    yield "a deep header", (200_000).to_bytes(8, "little") + b"[" * 200_000 + data


def _packed(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data
