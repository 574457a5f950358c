"""Reads the scans and the tumour mask of one subject, on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lab.data.layouts.label_books import describe_book, format_values
from lab.data.layouts.subject import Subject
from lab.io.files import canonical
from lab.io.scan import Scan, count_values, describe_grid, read_image, read_labels, same_grid
from lab.qc.scan_checks import check_cavity

REFERENCE = "T1"
"""Enhancement is the target minus this sequence."""
UNUSED = "the mask is not used: the whole brain is searched for enhancement, and vessels count too"


def read_scans(subject: Subject, sequences: Sequence[str], mask_needed: bool) -> dict[str, Scan]:
    """Sequences by canonical name, on one grid. Raises ValueError where one is missing or lies on another grid."""
    missing = [name for name in sequences if canonical(name) not in subject.images]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing (found {', '.join(sorted(subject.images)) or 'no sequence'})")
    if subject.mask is None and mask_needed:
        raise ValueError("tumour mask missing")
    scans = {canonical(name): read_image(subject.images[canonical(name)]) for name in sequences}
    for name, scan in scans.items():
        _check_grid(name, scan, scans[REFERENCE])
    return scans


def _check_grid(name: str, scan: Scan, first: Scan) -> None:
    if not same_grid(first, scan):
        raise ValueError(f"{name} lies on another grid than T1: {describe_grid(scan)}; T1: {describe_grid(first)}")


def read_tumour(subject: Subject, scans: dict[str, Scan], mask_needed: bool) -> tuple[Subject, np.ndarray, list[str]]:
    """The subject as its mask can be used, the label map (X, Y, Z) uint8 without cavities, and notes.

    Raises ValueError where a mask is needed and there is none with a tumour whose labels are known.
    """
    first = scans[REFERENCE]
    if subject.mask is None:
        return subject, np.zeros_like(first.data, np.uint8), []
    try:
        mask = read_labels(subject.mask)
        _check_grid("tumour mask", mask, first)
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
            subject = replace(subject, enhancing_label=None, cavity_label=None)
        if subject.cavity_label in values:
            if mask_needed and "T1GD" in scans:
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
    """Why values of the mask are not those of its label book."""
    if subject.labels is None or values <= subject.labels:
        return None
    name, labels = subject.label_book, format_values(subject.labels)
    book = f"the label book {describe_book(name)}" if name else f"labels {labels}"
    return (
        f"{subject.mask}: holds the labels {format_values(values)}, which do not fit {book}; correct the mask, or name "
        "the right book (--data.labels; for prepare, synthesize and classify --labels; `tumour` takes any value)"
    )
