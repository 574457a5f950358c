"""The cohort of a study: the phantom, scans prepared now, or a cohort prepared before."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.config import DataConfig, PhantomConfig, flatten
from lab.data.case import UNKNOWN_ENHANCEMENT, has_target
from lab.data.cohort import Cohort, is_cohort, open_cohort
from lab.data.layouts.patients import describe_patients
from lab.data.prepare import prepare
from lab.io.files import plural
from lab.io.sealed_json import fingerprint

Say = Callable[[str], None]
PHANTOM_SPACING_MM = 1.0
RECIPE = (
    "extent_mm",
    "brain_mask",
    "known_scale",
    "clip_sigma",
    "enhancement_threshold",
    "enhancing_ml",
    "patient_pattern",
)
"""Settings that a prepared cohort fixes."""
LATER = ("path", "processes", "split", "split_seed", "balance", "normalise")
"""Settings that leave the prepared cases as they are."""


def obtain(data: DataConfig, phantom: PhantomConfig, work: Path, say: Say = print) -> Cohort:
    """The prepared cohort for these settings, kept under `work`. Raises as `prepare`, and for differing settings."""
    if data.path is not None and is_cohort(data.path):
        cohort = open_cohort(data.path)
        check_prepared(cohort, data)
    else:
        source = data.path if data.path is not None else make_phantom(data, phantom, work / "phantom", say)
        recipe = {name: value for name, value in flatten(data).items() if name not in LATER}
        for later, usual in (("labels", "auto"), ("known_scale", None)):  # keeps the key of cohorts from before these
            if recipe[later] == usual:
                del recipe[later]
        key = fingerprint([str(Path(source).resolve()), recipe])
        out = work / "cohorts" / f"{Path(source).resolve().name}-{key}"
        before = is_cohort(out)
        say(f"Using {out}, prepared before" if before else f"Preparing {source} in {out}")
        ticker = Ticker("cases prepared", say, started=not before)
        cohort = prepare(source, out, dataclasses.replace(data, path=source), progress=ticker)
    if data.balance:
        cohort = cohort.balanced(data.split_seed)
    for line in describe_patients(cohort.manifest.get("merged", ()), cohort.manifest.get("patient_notes", ())):
        say(line)
    say(describe_cohort(cohort))
    return cohort


def make_phantom(data: DataConfig, phantom: PhantomConfig, folder: Path, say: Say) -> Path:
    """The phantom as an EGD tree at the voxel size of the study."""
    from lab.phantom.cohort import write_cohort  # the atlas behind it is slow to import

    spacing = data.spacing_mm or PHANTOM_SPACING_MM
    out = folder / f"{phantom.subjects}-subjects-seed-{phantom.seed}-{spacing:g}mm"
    what = f"{plural(phantom.subjects, 'phantom patient')} at {spacing:g} mm"
    ticker = Ticker("phantom patients", say, started=False)

    def progress(done: int, total: int) -> None:
        if not ticker.started and done < total:
            say(f"Simulating {what} in {out}")
            ticker.started = True
        ticker(done, total, "")

    how: dict[str, Any] = {"subjects": phantom.subjects, "seed": phantom.seed, "processes": data.processes}
    write_cohort(out, spacing_mm=spacing, progress=progress, **how)
    if not ticker.started:
        say(f"Using {what} in {out}, simulated before")
    return out


def check_prepared(cohort: Cohort, data: DataConfig) -> None:
    """Raises ValueError where a prepared cohort lacks a sequence, or was prepared with other settings."""
    if has_target(data) and not has_target(DataConfig(target=cohort.manifest["target"])):
        raise ValueError(
            f"{cohort.path} was prepared without a scan with contrast agent (--target none), which a classifier can do "
            "without and a network cannot; prepare the scans again"
        )
    for sequence in (*data.inputs, *([data.target] if has_target(data) else [])):
        cohort.channel(sequence)
    wrong = []
    if data.spacing_mm is not None and abs(data.spacing_mm - cohort.spacing_mm) > 0.05:
        wrong.append(f"at {cohort.spacing_mm:g} mm, --spacing asks for {data.spacing_mm:g} mm")
    books = set(cohort.manifest.get("label_books", {}))
    if data.labels != "auto" and books != {data.labels}:
        book = ", ".join(sorted(books)) or "of its layout"
        wrong.append(f"with the label book {book}, --data.labels asks for {data.labels}")
    for name in RECIPE:
        asked, default = getattr(data, name), getattr(DataConfig(), name)
        there = cohort.manifest["settings"].get(name, default)
        if asked != default and asked != (tuple(there) if isinstance(there, list) else there):
            wrong.append(f"with {name} {there}, --data.{name.replace('_', '-')} asks for {asked}")
    if wrong:
        raise ValueError(f"{cohort.path} was prepared {wrong[0]}; leave the setting out or prepare the scans again")


def describe_cohort(cohort: Cohort) -> str:
    """Patients, scans and voxels of a cohort in one line."""
    left_out, patients = cohort.manifest["counts"]["left_out"], cohort.index["patient_id"].nunique()
    unknown = int((cohort.index["enhancing_by"] == UNKNOWN_ENHANCEMENT).sum())
    of = f"{len(cohort.index)} scans enhance" + f" ({unknown} unknown)" * bool(unknown)
    return (
        f"{'Phantom cohort' if cohort.phantom else 'Cohort'}: {patients} patient{'s' * (patients != 1)}, "
        f"{int(cohort.index['enhancing'].sum())} of {of}, "
        f"{' x '.join(map(str, cohort.shape))} voxels of {cohort.spacing_mm:g} mm, "
        f"{left_out} left out, digest {cohort.digest}"
    )


class Ticker:
    """Progress as a line every few seconds, and one at the end of work that `started`.

    Left-out subjects and remarks are always shown.
    """

    def __init__(self, what: str, say: Say, every_s: float = 5.0, *, started: bool = True) -> None:
        """`started` is false where all may have been done before."""
        self.what, self.say, self.every_s, self.started = what, say, every_s, started
        self.last = time.monotonic()

    def __call__(self, done: int, total: int, line: str) -> None:
        """Report `done` of `total`, and the `line` on the last one."""
        if "left out" in line or "(remark: " in line:
            self.say(f"  {line}")
        now = time.monotonic()
        if (done == total and self.started) or now - self.last > self.every_s:
            self.last, self.started = now, True
            self.say(f"  {done} of {total} {self.what}")
