"""Preparation job of one subject: writes the prepared case, or the reason for leaving the subject out, to disk."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.data.case import VERSION, Recipe, list_sources, prepare_case
from lab.data.cohort import case_path
from lab.data.duplicates import fingerprint_head
from lab.data.layouts.subject import Subject
from lab.io.case_file import content_digest, read_case, read_case_record, write_atomically, write_case
from lab.io.files import one_line
from lab.io.scan import scan_sha256, source_state
from lab.io.sealed_json import fingerprint, seal

CaseRecord = dict[str, Any]
"""`case_id`, `recipe` and `source` (fingerprints), `row` (status, reason, measured values); of a used case also `scans`
(digests of its image files) and `head` (its fingerprint, `duplicates.py`)."""


@dataclass(frozen=True, kw_only=True)
class PrepareJob:
    """One subject to prepare into the cohort `out`."""

    subject: Subject
    recipe: Recipe
    out: Path

    @property
    def case_path(self) -> Path:
        """Path of the prepared case."""
        return case_path(self.out, self.subject.case_id)

    @property
    def note_path(self) -> Path:
        """Path of the record of a left-out subject."""
        return self.out / "left_out" / f"{self.subject.case_id}.json"

    def expected(self) -> CaseRecord:
        """Recipe and source files in an up-to-date record."""
        subject = self.subject
        files = [(path.name, source_state(path)) for path in list_sources(subject, self.recipe)]
        labels: list[Any] = [sorted(subject.labels or ()), subject.enhancing_label, subject.skull_stripped]
        labels.append(sorted(subject.images))
        labels += [part for part in (subject.cavity_label, subject.mask_fault) if part is not None]
        recipe = fingerprint([VERSION, self.recipe.as_dict()])
        return {"case_id": subject.case_id, "recipe": recipe, "source": fingerprint([files, labels])}

    def finished(self) -> CaseRecord | None:
        """The record of an earlier run, if recipe and source files are unchanged and the case is intact."""
        if self.subject.fault is not None:  # known without work; its case id may be no file name
            row = {"status": "left out", "reason": one_line(self.subject.fault)}
            return {"case_id": self.subject.case_id, "row": row}
        for path in (self.case_path, self.note_path):
            record = read_case_record(path)
            if record is None or {**record, **self.expected()} != record:
                continue
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a damaged case is prepared again
                if path == self.case_path:
                    read_case(path, self.subject.case_id, record["row"]["sha256"])
                return record
        return None

    def run(self) -> CaseRecord:
        """Prepare the subject, or note why it cannot be used; either is on disk on return."""
        record = self.expected()
        try:
            image, mask, measured = prepare_case(self.subject, self.recipe)
        except ValueError as error:
            record["row"] = {"status": "left out", "reason": one_line(error)}
            write_atomically(self.note_path, json.dumps(seal(record), sort_keys=True).encode())
            self.case_path.unlink(missing_ok=True)
            return record
        digest = content_digest(image, mask)
        record["row"] = {"status": "used", "reason": "", **measured, "sha256": digest}
        inputs = [name != self.recipe.target for name in self.recipe.channels]
        record["scans"] = sorted(
            {scan_sha256(path) for path in list_sources(self.subject, self.recipe) if path != self.subject.mask}
        )
        record["head"] = fingerprint_head(image[inputs], mask, self.recipe.spacing_mm)
        write_case(self.case_path, image, mask, record)
        self.note_path.unlink(missing_ok=True)
        return record
