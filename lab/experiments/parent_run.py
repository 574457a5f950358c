"""The parent run of a study of either arm: its creation, and the files of its report."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from lab.data.cohort import Cohort
from lab.io.output_folder import output_folder
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run
from lab.tracking.store import RUNS, connect, read_only
from lab.tracking.view import describe_experiment


def open_parent(
    experiment: str,
    name: str,
    *,
    key: str,
    question: str,
    cohort: Cohort,
    params: Mapping[str, Any],
    tags: Mapping[Any, Any],
    source: str | None = None,
) -> Run:
    """The parent run with this study key, found or created, with its settings, its cohort and the study's question.

    `name` is its name where it is created, `source` the script, by default that of the study.
    """
    connect()
    with FileLock(RUNS / "create.lock"):  # two calls at once share one parent
        run = Run.open(experiment, name, identity={Tag.STUDY_KEY: key, Tag.ROLE: "study"}, source=source)
    describe_experiment(run, question)
    run.describe(params, {Tag.COHORT: cohort.digest, Tag.PHANTOM: cohort.phantom, **tags})
    run.log_cohort(cohort)
    return run


def write_any_report(parent: Run, *, out: Path | None = None) -> None:
    """Write the report of a finished study of either arm to its run, and to the folder `out`.

    With a read-only store, writes the folder alone. Raises ValueError for a run that is not a finished study, and where
    the report could be written nowhere.
    """
    if read_only() and out is None:
        raise ValueError("the tracking store can only be read: name a folder for the report with --out")
    if parent.has_file(artifacts.CLASSIFIER):
        from lab.experiments.radiomics.report import write_classifier_report

        write_classifier_report(parent, out=out)
    else:
        from lab.experiments.synthesis.report import write_report

        write_report(parent, out=out)


def publish(run: Run, files: Mapping[str, bytes], *, out: Path | None, more: Mapping[str, bytes] | None = None) -> bool:
    """Write the files of a report to its run, and with `more`, which the run already has, to the folder `out`.

    Returns whether the run could be written.
    """
    if out is not None:
        with output_folder(out, output="report", last=artifacts.REPORT) as folder:
            write_files(folder, {**files, **(more or {})})
    if read_only():
        return False
    with tempfile.TemporaryDirectory() as scratch:
        write_files(Path(scratch), files)
        run.log_folder(Path(scratch))
    return True


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their names within a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def format_points(findings: Iterable[str]) -> str:
    """Findings as a list for a terminal."""
    return "\n".join(textwrap.fill(point, 118, initial_indent="- ", subsequent_indent="  ") for point in findings)
