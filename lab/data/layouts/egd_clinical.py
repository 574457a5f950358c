"""What the Erasmus Glioma Database says of a patient beside the scans: `metadata.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lab.data.layouts.clinical import parse_clinical
from lab.data.layouts.subject import Remark
from lab.io.files import read_text

LARGEST_JSON = 2**20
"""Bytes of a metadata.json; EGD's have less than 2,000."""
EGD_METADATA = {
    "grade": ("genetic_and_histological_labels", "grade"),
    "idh": ("genetic_and_histological_labels", "idh"),
    "codeletion": ("genetic_and_histological_labels", "1p19q"),
    "age": ("clinical_data", "age"),
    "sex": ("clinical_data", "sex"),
    "vendor": ("scan_characteristics", "manufacturer"),
    "field_strength_t": ("scan_characteristics", "field"),
}
"""What is known of a patient -> part and key of `metadata.json`, in small letters."""


def read_metadata(folder: str) -> tuple[dict[str, Any], list[Remark]]:
    """What `metadata.json` says, anywhere in the folder of the scans or of its subject; -1 is EGD's "unknown".

    A value, or a file, that is not understood is unknown, and remarked.
    """
    session = Path(folder)
    folders = [session, session.parent] if session.name == f"MR_{session.parent.name}" else [session]
    found = (path for place in folders for path in sorted(place.rglob("metadata.json")) if not path.is_dir())
    path = next(found, None)
    if path is None:
        return {}, []
    try:
        content = json.loads(read_text(path, LARGEST_JSON))
    except (ValueError, RecursionError) as error:
        return {}, [Remark("metadata cannot be read, what it says is unknown", f"{path}: {error}")]
    parts = _small(content)
    if parts is None:
        return {}, [Remark("metadata hold no parts, what they say is unknown", f"{path}: {type(content).__name__}")]
    known, remarks = parse_clinical(
        {name: (_small(parts.get(part)) or {}).get(key) for name, (part, key) in EGD_METADATA.items()}
    )
    for part in dict.fromkeys(part for part, _ in EGD_METADATA.values()):
        if parts.get(part) is not None and _small(parts[part]) is None:
            remarks.append(Remark("a part of the metadata is none, what it says is unknown", f"{path}: {part}"))
    return known, remarks


def _small(part: Any) -> dict[str, Any] | None:
    """A part of a JSON file with its keys in small letters; None where it is none."""
    return {key.strip().casefold(): value for key, value in part.items()} if isinstance(part, dict) else None
