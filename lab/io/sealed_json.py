"""Sealed JSON files: a digest of the content reveals alteration and damage."""

import hashlib
import json
from pathlib import Path
from typing import Any

SEAL = "seal"


def parse_json(content: str | bytes) -> Any:
    """Parsed JSON. Raises ValueError, also where it is nested too deeply for Python."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def seal(record: dict[str, Any]) -> dict[str, Any]:
    """The record as JSON returns it, with a digest of all of it."""
    plain = json.loads(json.dumps(record))
    return {**plain, SEAL: fingerprint(plain, length=32)}


def unseal(record: Any, *, needed: bool = False) -> dict[str, Any]:
    """The record without its seal, which 0.3.0 lacks unless it is `needed`. Raises ValueError where it was altered."""
    if not isinstance(record, dict):
        raise ValueError(f"an object is expected, not {type(record).__name__}")
    said = {key: value for key, value in record.items() if key != SEAL}
    if (needed or SEAL in record) and record.get(SEAL) != fingerprint(said, length=32):
        raise ValueError("it was changed after it was written")
    return said


def read_sealed(path: Path, *, needed: bool = False) -> dict[str, Any]:
    """The record in a sealed JSON file, see `unseal`. Raises OSError, and ValueError that names an altered file."""
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise ValueError(f"{path} is damaged (no regular file)")
    try:
        return unseal(parse_json(path.read_bytes()), needed=needed)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error})") from None


def fingerprint(settings: Any, length: int = 12) -> str:
    """Hex digest of settings that JSON can hold."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
