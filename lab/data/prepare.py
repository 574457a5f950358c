"""Preparation of a cohort from scans: parallel, resumable, with a reason for each subject that is left out."""

import json
import platform
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from math import inf, isfinite
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from filelock import FileLock

from lab.config import DataConfig, flatten, grid_shape
from lab.data import cohort_folder
from lab.data import prepare_worker as workers
from lab.data.case import NUMBERS, REFERENCE, Recipe, has_target, list_channels
from lab.data.cohort import COLUMNS, FORMAT, Cohort, check_fractions, is_cohort, open_cohort
from lab.data.duplicates import find_duplicates
from lab.data.layouts.find import Subject, detect, find_subjects
from lab.data.layouts.label_books import LABEL_BOOKS
from lab.data.layouts.patients import PatientAssignment, find_patients, merge_same_scans
from lab.data.subject_scans import reference_of
from lab.io.files import format_some, one_line
from lab.io.pool import run_all
from lab.io.scan import read_spacing
from lab.io.sealed_json import fingerprint, parse_json, seal

Progress = Callable[[int, int, str], None]  # called with the number of subjects done, their total, and a line of text
KNOWN = ("label_book", "grade", "age", "sex", "idh", "codeletion", "vendor", "field_strength_t")
UNSTORED = ("path", "processes", "normalise")  # settings that leave the prepared cases as they are
KILLED = "its process was killed three times, probably for lack of memory; prepare again with fewer --processes"
SOFTWARE = ("numpy", "scipy", "nibabel", "nilearn", "safetensors")


def prepare(
    source: Path,
    out: Path,
    settings: DataConfig,
    *,
    processes: int | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
) -> Cohort:
    """Prepare every usable subject of `source` into the folder `out`.

    Finished cases of an earlier call are kept where settings and source files are the same. Unusable subjects are left
    out with a reason in `index.csv`. Other files in `out` stay, and `say` reports them. Raises ValueError or OSError
    where the source is not understood, `out` cannot be written or holds foreign files only, no subject is usable, or
    all belong to one class (unless `settings.allow_one_class`); `out` then has no manifest and is not a cohort.
    """
    source, out = Path(source), Path(out)
    if is_cohort(source):
        raise ValueError(f"{source} is a prepared cohort already; prepare starts from the scans")
    if source.resolve() == out.resolve():
        raise ValueError(f"{out} holds the scans; name another folder for the prepared cohort")
    check_fractions(settings.split)
    subjects = find_subjects(source, settings.layout, labels=settings.labels)
    patients = find_patients(subjects, settings.patient_pattern)
    recipe = _recipe(subjects, settings)
    _is_phantom(source)  # a damaged card is refused before the work
    cohort_folder.claim_folder(out, say)
    with FileLock(out / ".lock"):
        jobs = [workers.PrepareJob(subject=subject, recipe=recipe, out=out) for subject in subjects]
        records = _prepare_all(jobs, processes or settings.processes, out, progress, say)
        used = {case_id: record for case_id, record in records.items() if record["row"]["status"] == "used"}
        scans = {case_id: [record["row"]["sha256"], *record["scans"]] for case_id, record in used.items()}
        near = find_duplicates({case_id: record["head"] for case_id, record in used.items()}, recipe.spacing_mm)
        copies = merge_same_scans(patients, scans, near)
        index = _index(subjects, records, patients, copies)
        tables = {"index.csv": index.to_csv(index=False)}
        try:
            _check_classes(source, index, settings)
            tables |= _split_and_manifest(source, out, settings, recipe, index, patients)
        finally:
            cohort_folder.write_tables(out, tables, say)
        return open_cohort(out)


def _recipe(subjects: list[Subject], settings: DataConfig) -> Recipe:
    """The recipe of the settings, with the voxel size resolved: by default the scans' own."""
    every_t1 = all(REFERENCE in subject.images for subject in subjects if subject.fault is None)
    channels = list_channels(settings, with_t1=every_t1)
    reference = reference_of(channels)
    spacing_mm = _own_spacing(subjects, reference) if settings.spacing_mm is None else settings.spacing_mm
    if not spacing_mm > 0:
        raise ValueError(f"--spacing {spacing_mm} mm must be above 0")
    shape = grid_shape(settings, spacing_mm)
    if min(shape) < 1:
        raise ValueError(f"a field of view of {settings.extent_mm} mm has no voxel of {spacing_mm} mm")
    if not settings.clip_sigma > 0:
        raise ValueError(f"--clip-sigma {settings.clip_sigma} must be above 0")
    if settings.known_scale is not None:
        mean, deviation = settings.known_scale
        if not 0 < deviation < inf:
            raise ValueError(f"--known-scale: the standard deviation {deviation:g} must be above 0 and finite")
        if not isfinite(mean):
            raise ValueError(f"--known-scale: the mean {mean:g} must be a number")
    return Recipe(
        channels=channels,
        target=settings.target,
        spacing_mm=spacing_mm,
        shape=shape,
        brain_mask=settings.brain_mask,
        known_scale=settings.known_scale,
        **{name: getattr(settings, name) for name in NUMBERS},
    )


def _own_spacing(subjects: list[Subject], reference: str) -> float:
    """Median over subjects of the edge of a cube of a voxel's volume, to 0.1 mm; 1 mm where no scan can be read."""
    edges = []
    for subject in subjects:
        if reference in subject.images:
            try:
                x, y, z = read_spacing(subject.images[reference])
            except ValueError:
                continue  # the subject is left out later, with the reason
            edges.append((x * y * z) ** (1 / 3))
    return max(0.1, round(median(edges), 1)) if edges else 1.0


def _prepare_all(
    jobs: list[workers.PrepareJob],
    processes: int | None,
    out: Path,
    progress: Progress | None,
    say: Callable[[str], None],
) -> dict[str, workers.CaseRecord]:
    """Records by case id: valid ones of earlier calls are kept, the others made now."""
    before = {job.subject.case_id: job.finished() for job in jobs}
    records = {case_id: record for case_id, record in before.items() if record is not None}
    waiting = [job for job in jobs if job.subject.case_id not in records]
    cohort_folder.check_free(path for job in waiting for path in (job.case_path, job.note_path))
    stale = cohort_folder.find_stale(out, [path for job in jobs for path in (job.case_path, job.note_path)])
    gone = [path.stem for path in stale if path.suffix == ".safetensors"]
    if gone and not any(job.case_path.exists() for job in jobs):
        whose = f"of other patients, such as {gone[0]}, and of none of these"
        raise ValueError(f"{out} holds the prepared cohort {whose}; name a new folder, or delete that one")
    if gone:
        say(f"Removed from {out}, for they are no longer among the scans: {format_some(gone, 8)}")
    if waiting or stale:
        cohort_folder.withdraw_manifest(out, say)
    for path in stale:
        path.unlink()

    def tell(done: int, case_id: str, row: dict[str, Any]) -> None:
        if progress:
            remarks = f" (remark: {row['remarks']})" if row.get("remarks") else ""
            what = f"left out, {row['reason']}" if row["reason"] else f"prepared{remarks}"
            progress(done, len(jobs), f"{case_id}: {what}")

    for number, (case_id, record) in enumerate(records.items(), start=1):
        tell(number, case_id, record["row"])
    for case_id, done in run_all({job.subject.case_id: job for job in waiting}, processes):
        record = done or {"case_id": case_id, "row": {"status": "left out", "reason": KILLED}}
        records[case_id] = record
        tell(len(records), case_id, record["row"])
    return records


def _index(
    subjects: list[Subject], records: dict[str, workers.CaseRecord], patients: PatientAssignment, copies: dict[str, str]
) -> pd.DataFrame:
    rows = []
    for subject in subjects:
        known = {name: getattr(subject, name) for name in KNOWN}
        known |= {"patient_id": patients.of[subject.case_id], "duplicate_of": copies.get(subject.case_id)}
        row = records[subject.case_id]["row"]
        remarks = [*(f"{what}: {found}" for what, found in subject.remarks), row.get("remarks") or ""]
        rows.append({"case_id": subject.case_id, **known, **row, "remarks": one_line("; ".join(filter(None, remarks)))})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _check_classes(source: Path, index: pd.DataFrame, settings: DataConfig) -> None:
    """Raises ValueError where no subject is usable, or (with a target) all enhance, or none does."""
    used = index[index["status"] == "used"]
    reasons = Counter(_kind(reason) for reason in index.loc[index["status"] != "used", "reason"])
    left_out = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    if used.empty:
        advice = "; name the sequences that are there: --data.inputs" * any("missing (found" in why for why in reasons)
        whom = f"{len(index)} subject{'s' * (len(index) != 1)}"
        raise ValueError(f"{source}: none of {whom} can be used ({left_out}{advice})")
    enhancing = int((by_patient := used.groupby("patient_id")["enhancing"].max()).sum())
    if enhancing in (0, len(by_patient)) and has_target(settings) and not settings.allow_one_class:
        which = "every patient enhances" if enhancing else "no patient enhances"
        rest = f", {len(index) - len(used)} left out: {left_out}" if left_out else ""
        raise ValueError(
            f"{source}: {which} ({len(used)} used{rest}), so enhancing and not cannot be compared; "
            f"change --enhancing-ml ({settings.enhancing_ml:g}) or go on with --allow-one-class"
        )


def _kind(reason: str) -> str:
    """A reason without its leading path, so that equal reasons are counted together."""
    head, _, rest = reason.partition(": ")
    return rest if rest and ".nii" in head else reason


def _split_and_manifest(
    source: Path, out: Path, settings: DataConfig, recipe: Recipe, index: pd.DataFrame, patients: PatientAssignment
) -> dict[str, str]:
    """Contents of `split.csv` and `manifest.json`."""
    used = index[index["status"] == "used"]
    contents = used[["case_id", "patient_id", "enhancing", "sha256"]].to_numpy().tolist()
    patients_enhancing = {"patients": int(used["patient_id"].nunique()), "enhancing": int(used["enhancing"].sum())}
    described = {name: value for name, value in flatten(settings).items() if name not in UNSTORED}
    manifest = {
        "format": FORMAT,
        "version": workers.VERSION,
        "phantom": _is_phantom(source),
        "layout": detect(source) if settings.layout == "auto" else settings.layout,
        "source": str(source.resolve()),
        "label_books": {name: LABEL_BOOKS.get(name, {}) for name in sorted(set(used["label_book"].dropna()))},
        "channels": recipe.channels,
        "inputs": settings.inputs,
        "target": settings.target,
        "shape": recipe.shape,
        "spacing_mm": recipe.spacing_mm,
        "counts": {"found": len(index), "used": len(used), "left_out": len(index) - len(used), **patients_enhancing},
        "merged": patients.merged,
        "patient_notes": patients.notes,
        "digest": fingerprint([workers.VERSION, recipe.as_dict(), contents], length=32),
        "settings": described,
        "software": {"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}},
    }
    enhancing = used["enhancing"].fillna(0).astype(bool)
    cohort = Cohort(out, used.assign(enhancing=enhancing).set_index("case_id"), manifest)
    if settings.balance:
        cohort = cohort.balanced(settings.split_seed)
    split = cohort.split(settings.split, settings.split_seed).to_csv(index=False)
    tables = {"index.csv": index.to_csv(index=False), "split.csv": split}
    manifest["tables"] = {name: sha256(text.encode()).hexdigest() for name, text in tables.items()}
    return {"split.csv": split, "manifest.json": json.dumps(seal(manifest), indent=2) + "\n"}


def _is_phantom(source: Path) -> bool:
    """Whether the scans are simulated. Raises ValueError for a damaged card: phantoms must not pass for patients."""
    for card in (source / "phantom.json", source.parent / "phantom.json"):
        if card.is_file():
            try:
                return bool(parse_json(card.read_bytes())["phantom"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{card}: not the card of a phantom ({error!r}); simulate it again") from None
    return False
