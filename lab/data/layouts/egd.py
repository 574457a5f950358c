"""The Erasmus Glioma Database (van der Voort 2021): a folder for each patient, with a `metadata.json`.

The official downloader writes `SUBJECTS/EGD-0001/T1.nii.gz`; archives from XNAT hold
`MR_EGD-0001/1_T1/NIFTI/T1.nii.gz` or `MR_EGD-0001/scans/1_T1/resources/NIFTI/files/T1.nii.gz`.
"""

import json
import re
from pathlib import Path
from typing import Any

from lab.data.layouts.clinical import parse_clinical
from lab.data.layouts.copies import choose_files, nifti_stem
from lab.data.layouts.subject import Layout, Remark, Subject
from lab.io.files import read_text_file

SEQUENCES = ("t1", "t2", "flair", "t1gd")
LARGEST_JSON = 2**20  # maximum bytes of a metadata.json; EGD's have less than 2,000
EGD_METADATA = {  # clinical value -> part and key of `metadata.json`, in lower case
    "grade": ("genetic_and_histological_labels", "grade"),
    "idh": ("genetic_and_histological_labels", "idh"),
    "codeletion": ("genetic_and_histological_labels", "1p19q"),
    "age": ("clinical_data", "age"),
    "sex": ("clinical_data", "sex"),
    "vendor": ("scan_characteristics", "manufacturer"),
    "field_strength_t": ("scan_characteristics", "field"),
}


def find_egd(files: list[Path]) -> list[Subject]:
    """Subjects with a sequence anywhere below a folder `EGD-0001` or `MR_EGD-0001`."""
    cases: dict[str, list[tuple[str, Path]]] = {}
    for path in files:
        folder = next((str(one) for one in path.absolute().parents if re.search(r"EGD-\d+$", one.name)), None)
        if folder is not None:
            cases.setdefault(folder, []).append((nifti_stem(path).lower(), path))
    subjects = []
    for folder, named in cases.items():
        if any(name in SEQUENCES for name, _ in named):
            case_id = folder[folder.rindex("EGD-") :]
            known, remarks = read_metadata(folder)
            parts = choose_files(named)
            parts["remarks"] = (*parts.get("remarks", ()), *remarks)
            subjects.append(Subject(case_id=case_id, patient_id=case_id, **parts, **known))
    return subjects


def read_metadata(folder: str) -> tuple[dict[str, Any], list[Remark]]:
    """Clinical values from `metadata.json`, anywhere in the folder of the scans or of its subject, and remarks.

    -1 is EGD's "unknown". A value or a file that is not understood is unknown, with a remark.
    """
    session = Path(folder)
    folders = [session, session.parent] if session.name == f"MR_{session.parent.name}" else [session]
    found = (path for place in folders for path in sorted(place.rglob("metadata.json")) if not path.is_dir())
    path = next(found, None)
    if path is None:
        return {}, []
    try:
        content = json.loads(read_text_file(path, LARGEST_JSON))
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
    """A JSON object with its keys in lower case; None for anything else."""
    return {key.strip().casefold(): value for key, value in part.items()} if isinstance(part, dict) else None


LAYOUT = Layout(
    title="EGD",
    example="EGD-0001",
    files={name: f"{{id}}/{name}.nii.gz" for name in ("T1", "T2", "FLAIR", "T1GD", "MASK")},
    find=find_egd,
    label_books=lambda case_id: ("egd",),
    brain_mask="mni152",
)
