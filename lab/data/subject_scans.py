"""Reading of one subject's scans and tumour mask, and search for notes on contrast agent in headers and names."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lab.data.layouts.label_books import ADVICE, describe_book, format_values
from lab.data.layouts.subject import Subject
from lab.io.files import canonical, read_text_file
from lab.io.nifti import read_header
from lab.io.scan import Scan, count_values, describe_grid, read_image, read_mask, same_grid
from lab.qc.scan_checks import check_cavity

REFERENCE = "T1"  # brain mask and grid are of this sequence, and enhancement is the target minus it
UNUSED = "the mask is not used: the whole brain is searched for enhancement, and vessels count too"
GIVEN = (
    "ContrastBolusAgent", "ContrastBolusIngredient", "ContrastBolusAgentSequence", "ContrastBolusStartTime",
    "ContrastBolusStopTime", "ContrastBolusVolume", "ContrastBolusTotalDose", "ContrastBolusAgentAdministered",
    "ContrastBolusAgentDetected",
)  # fmt: skip
"""Attributes of DICOM and BIDS that are filled in for scans with contrast agent."""
DESCRIBED = ("SeriesDescription", "ProtocolName", "ImageComments", "AcquisitionComments")
NOT_GIVEN = {
    *("", "0", "0.0", "no", "none", "n/a", "na", "n", "without", "nil", "false", "unknown", "ohne", "native", "nativ"),
}
LARGEST_SIDECAR = 2**22

AGENT = (
    r"gd|gad|gado\w*|gadolinium|gadavist|dotarem|magnevist|prohance|multihance|omniscan|clariscan|elucirem|vueway|dtpa|"
    r"km|mdc|ce|contrast\w*|kontrast\w*|enhanced"
)
BEFORE = r"(?:pre|pr[aä]|vor|before|avant|ohne|without|w/o|wo|no|non|not|kein\w*|sans|sin|senza|zonder|o)"
OTHER = r"(?:phase|high|low|soft|tissue|image|edge|inverse|dual|multi|mt)"
WORDS = (  # words for contrast agent
    rf"(?<![a-z0-9])(?:{AGENT})(?![a-z0-9])",
    r"(?<![a-z0-9])t1w?(?:[ _-]?(?:gd|gad|gado|ce|c|km|contrast)|post)(?![a-z0-9])",
    r"\+ ?(?:c|k|km|gd|gad|ce)(?![a-z0-9])|(?<![a-z0-9])(?:c|km|gd|gad|ce) ?\+",
    r"(?<![a-z0-9])post(?:contrast\w*|gad\w*|gd|km|inj\w*)?(?![a-z0-9])"
    r"(?![ _-]*(?:op|surg|trea|tx|rt|proc|chemo|radi|ict))",
    r"(?<![a-z0-9])(?:inj|injected|inject[eé]e?|injection)(?![a-z0-9])",
)
NAMED = r"(?:^|[_-])(?:t1w?(?:[_-]?(?:gd|gad|gado|ce|km|post|post[_-]?contrast)|c)|ce-[a-z0-9]+)(?:$|[_-])"
"""Marks of contrast agent in the names of files."""


def reference_of(sequences: Iterable[str]) -> str:
    """The sequence whose brain mask and grid count: T1, or the first where there is none."""
    names = [canonical(name) for name in sequences]
    return REFERENCE if REFERENCE in names else names[0]


def read_scans(subject: Subject, sequences: Sequence[str], mask_needed: bool) -> dict[str, Scan]:
    """Sequences by canonical name, on one grid. Raises ValueError where one is missing or on another grid."""
    missing = [name for name in sequences if canonical(name) not in subject.images]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing (found {', '.join(sorted(subject.images)) or 'no sequence'})")
    if subject.mask is None and mask_needed:
        raise ValueError("tumour mask missing")
    scans = {canonical(name): read_image(subject.images[canonical(name)]) for name in sequences}
    for name, scan in scans.items():
        _check_grid(name, scan, scans)
    return scans


def _check_grid(name: str, scan: Scan, scans: dict[str, Scan]) -> None:
    of = reference_of(scans)
    if not same_grid(scans[of], scan):
        grids = f"{describe_grid(scan)}; {of}: {describe_grid(scans[of])}"
        raise ValueError(f"{name} lies on another grid than {of}: {grids}")


def read_tumour(subject: Subject, scans: dict[str, Scan], mask_needed: bool) -> tuple[Subject, np.ndarray, list[str]]:
    """The subject without an unusable mask or labels, the label map (X, Y, Z) uint8 without cavities, and notes.

    Raises ValueError where a mask is needed and the subject's is damaged, empty, or of unknown labels.
    """
    first = scans[reference_of(scans)]
    if subject.mask is None:
        return subject, np.zeros_like(first.data, np.uint8), []
    try:
        mask = read_mask(subject.mask)
        _check_grid("tumour mask", mask, scans)
        notes = [f"tumour mask: {note}" for note in mask.notes]
        labels = mask.data
        values = set(np.flatnonzero(count_values(labels)).tolist())
        if values == {0}:
            raise ValueError(f"{subject.mask}: the tumour mask is empty")
        wrong = subject.mask_fault or _misfit(subject, values)
        if wrong is not None:
            if mask_needed:
                raise ValueError(wrong)
            notes.append(f"{wrong}; every value above 0 is taken as tumour")
            subject = replace(subject, enhancing_label=None, cavity_label=None, core_labels=frozenset())
        if subject.cavity_label in values:
            if mask_needed and {REFERENCE, "T1GD"} <= set(scans):
                notes += check_cavity(first, scans["T1GD"], labels == subject.cavity_label)
            labels = np.where(labels == subject.cavity_label, np.uint8(0), labels)
            if not labels.any():
                raise ValueError(f"{subject.mask}: holds a resection cavity ({subject.cavity_label}) and no tumour")
    except ValueError as error:
        if mask_needed:
            raise
        subject = replace(subject, mask=None, enhancing_label=None)
        return subject, np.zeros_like(first.data, np.uint8), [f"{error}; {UNUSED}"]
    return subject, labels, notes


def _misfit(subject: Subject, values: set[int]) -> str | None:
    """Why the mask's values do not fit its label book; None where they do."""
    if subject.labels is None or values <= subject.labels:
        return None
    name, labels = subject.label_book, format_values(subject.labels)
    book = f"the label book {describe_book(name)}" if name else f"labels {labels}"
    found = f"{subject.mask}: holds the labels {format_values(values)}, which do not fit {book}"
    return f"{found}; correct the mask, or{ADVICE[1:-1]}; `tumour` takes any value)"


def check_without_contrast(subject: Subject, names: Iterable[str], *, overrule: str, refuse: bool = True) -> list[str]:
    """Warnings about contrast agent in the given sequences.

    Raises ValueError where the T1 has it, unless `refuse` is off: enhancement would be visible, not predicted.
    `overrule` tells the user, in the message, how to continue all the same.
    """
    found = []
    for name in dict.fromkeys(map(canonical, names)):
        path = subject.images.get(name)
        said = None if path is None else find_contrast(path, subject.case_id)
        if said is None:
            continue
        if name == "T1" and refuse:
            what = f"{path}: this T1 was taken after contrast agent was given ({said})"
            raise ValueError(f"{what}; the T1 without is needed ({overrule})")
        found.append(f"{name} was taken after contrast agent was given ({said}); a scan without is expected")
    return found


def find_contrast(path: Path, case_id: str = "") -> str | None:
    """A scan's note on contrast agent, such as "ContrastBolusAgent: Gadovist"; None if there is none.

    A case id at the beginning of the name is ignored (CE-001). Raises ValueError where the scan cannot be read.
    """
    if os.path.isdir(path):
        from lab.io.dicom import open_series

        series = open_series(path)
        headers = (header for part in series.slices for header in (part.header, part.plane))
        return next((said for header in headers for said in _of_dicom(header)), None)
    raw = read_header(path).raw
    for name in ("descrip", "aux_file", "intent_name"):
        text = raw[name].item().decode("latin-1").strip("\0 ")
        if mentions_contrast(text):
            return f"its header says {text!r}"
    stem = re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    if re.search(NAMED, stem.removeprefix(case_id), flags=re.IGNORECASE):
        return f"its name is {path.name}"
    sidecar = path.with_name(f"{stem}.json")
    return _of_sidecar(sidecar) if sidecar.is_file() else None


def mentions_contrast(text: str) -> bool:
    """Whether a description says that contrast agent was given: "t1 +C", "T1 post Gd", "mit KM"; not "T1 pre Gd"."""
    text = text.casefold().replace("_", " ")
    for word in WORDS:
        for found in re.finditer(word, text):
            before = text[: found.start()]
            negated = re.search(rf"(?:(?<![a-z]){BEFORE}[ .-]*|(?:^| )-)$", before)
            other = found[0].startswith(("contrast", "enhanced")) and re.search(rf"(?<![a-z0-9]){OTHER}[ -]*$", before)
            if not negated and not other and not re.match(r"-(?:\s|$)", text[found.end() :]):
                return True
    return False


def _of_dicom(header: Any) -> Iterator[str]:
    yield from _of_values({name: header.get(name) for name in (*GIVEN, *DESCRIBED) if header.get(name) is not None})
    for item in header.get("ContrastBolusUsageSequence", None) or ():  # of enhanced images
        yield from _of_values({name: item.get(name) for name in GIVEN if item.get(name) is not None})


def _of_sidecar(path: Path) -> str | None:
    """The note in a BIDS sidecar; None if it cannot be read."""
    try:
        content = json.loads(read_text_file(path, LARGEST_SIDECAR))
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    said = next(_of_values({name: content.get(name) for name in (*GIVEN, *DESCRIBED)}), None)
    return None if said is None else f"{path.name} says {said}"


def _of_values(values: dict[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if value is None:
            continue
        if name == "ContrastBolusAgentSequence":
            text = "; ".join(str(item.get("CodeMeaning", "some agent")) for item in value)
        else:
            text = str(value).strip("[]' ")
        if mentions_contrast(text) if name in DESCRIBED else text.casefold() not in NOT_GIVEN:
            yield f"{name}: {text[:80]}"
