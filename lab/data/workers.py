"""Preparing many subjects side by side, so that neither a killed worker nor a killed parent loses finished cases.

Workers are spawned (a fork of a process that runs threads can hang) and write their case themselves; what they send
back is its record. This module stays light, because every worker imports it.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from lab.config import fingerprint
from lab.data.cases import Recipe, prepare_case, sources
from lab.data.layouts import Subject
from lab.data.processes import end_with_parent
from lab.data.scans import source_state
from lab.data.storage import content_digest, read_record, write_atomically, write_case

VERSION = 1
"""Raise it when the same settings and files give another prepared case."""

Record = dict[str, Any]
"""`case_id`, `recipe` and `source` (fingerprints), and `row`: status, reason and what was measured."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One subject to prepare into the cohort `out`."""

    subject: Subject
    recipe: Recipe
    out: Path

    @property
    def case_path(self) -> Path:
        """Where the prepared case lies."""
        return self.out / "cases" / f"{self.subject.case_id}.safetensors"

    @property
    def note_path(self) -> Path:
        """Where the record of a left-out subject lies."""
        return self.out / "left_out" / f"{self.subject.case_id}.json"

    def expected(self) -> Record:
        """What an up-to-date record says of recipe and source files."""
        subject = self.subject
        files = [(path.name, source_state(path)) for path in sources(subject, self.recipe)]
        meaning = (
            sorted(subject.labels or ()),
            subject.enhancing_label,
            subject.skull_stripped,
            sorted(subject.images),
        )
        return {
            "case_id": subject.case_id,
            "recipe": fingerprint([VERSION, asdict(self.recipe)]),
            "source": fingerprint([files, meaning]),
        }

    def finished(self) -> Record | None:
        """The record of an earlier run, where recipe and source files are still the same."""
        for path in (self.case_path, self.note_path):
            record = read_record(path)
            if record is not None and {**record, **self.expected()} == record:
                return record
        return None

    def run(self) -> Record:
        """Prepare the subject, or note why it cannot be used; either is on disk before this returns."""
        record = self.expected()
        try:
            image, mask, measured = prepare_case(self.subject, self.recipe)
        except ValueError as error:
            record["row"] = {"status": "left out", "reason": " ".join(str(error).split())}
            write_atomically(self.note_path, json.dumps(record, sort_keys=True).encode())
            self.case_path.unlink(missing_ok=True)
            return record
        digest = content_digest(image, mask)
        record["row"] = {"status": "used", "reason": "", **measured, "sha256": digest}
        write_case(self.case_path, image, mask, record)
        self.note_path.unlink(missing_ok=True)
        return record


def run_all(jobs: list[Job], processes: int) -> Iterator[Record]:
    """Records in the order in which they are finished.

    A worker that dies (out of memory, most often) takes its pool along: what is unfinished is tried again in a second
    pool, then one by one, so that only the subject that kills its worker is left out.
    """
    if processes == 1 or len(jobs) == 1:
        yield from (job.run() for job in jobs)
        return
    waiting = {job.subject.case_id: job for job in jobs}
    for _ in range(2):
        for record in _run_pool(list(waiting.values()), processes):
            del waiting[record["case_id"]]
            yield record
    if len(waiting) == len(jobs):  # no pool ever delivered: processes cannot be started here
        yield from (job.run() for job in jobs)
        return
    for case_id, job in waiting.items():
        alone = list(_run_pool([job], 1))
        reason = "its process was killed three times, probably for lack of memory; prepare again with fewer --processes"
        yield from alone or [{"case_id": case_id, "row": {"status": "left out", "reason": reason}}]


def _run_pool(jobs: list[Job], processes: int) -> Iterator[Record]:
    """Records until all are done or a worker dies."""
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=_start_worker)
    try:
        for future in as_completed([pool.submit(job.run) for job in jobs]):
            try:
                record = future.result()
            except BrokenProcessPool:
                return
            yield record
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """One thread of arithmetic per worker; and a worker must not outlive a killed parent."""
    threadpool_limits(1)
    end_with_parent()
