"""Digital glioma cohort (the phantom) as an EGD tree: the same bits for the same seed, index and spacing."""

import json
import multiprocessing
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from lab.io.case_file import write_atomically
from lab.io.pool import run_all
from lab.phantom import anatomy
from lab.phantom.subject import VERSION, PhantomSubject, make_subject

__all__ = ["VERSION", "PhantomSubject", "make_subject", "write_cohort"]


def write_cohort(
    out: Path,
    *,
    subjects: int,
    seed: int,
    spacing_mm: float = 1.0,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `SUBJECTS/EGD-0001/{T1,T2,FLAIR,T1GD,MASK}.nii.gz` and so on below `out`, and return `out`.

    Existing patients are kept, so a killed call can be continued and a cohort enlarged. Voxels have 1 to 8 mm;
    `progress` is called with (patients done, total) at the start and after each patient. Raises ValueError for
    impossible settings and for a folder with other content, PermissionError where it cannot be written,
    ChildProcessError where a worker was killed repeatedly.
    """
    out = Path(out)
    if subjects < 1 or seed < 0:
        raise ValueError(f"Phantom with {subjects} subjects and seed {seed}: at least 1 subject and a seed from 0 on.")
    size = {"subjects": subjects, "spacing_mm": float(spacing_mm)}
    settings = {"phantom": True, "seed": seed, **size, "version": VERSION}
    anatomy.check_spacing(spacing_mm)
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # a worker that imports its caller's script
        raise RuntimeError("the script that calls write_cohort needs `if __name__ == '__main__':` round the call")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".phantom.lock"):
            _claim(out, settings)
            for done in _write_missing(out, settings, processes):
                if progress is not None:
                    progress(done, subjects)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise PermissionError(f"{out}: cannot write a phantom here ({error}). Choose another folder.") from error
    return out


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Mark the folder as this phantom's. Raises ValueError where it holds something else."""
    card = out / "phantom.json"
    if card.exists():
        try:
            found = json.loads(card.read_text(encoding="utf-8"))
            wrong = {key for key in {*settings, *found} if found[key] != settings[key] and key != "subjects"}
            fewer = settings["subjects"] < found["subjects"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{card}: not the card of a phantom. Choose another folder.") from None
        if wrong or fewer:
            have, want = (
                ", ".join(f"{key} {card[key]}" for key in settings if key != "phantom") for card in (found, settings)
            )
            raise ValueError(f"{out}: holds a phantom with {have}; asked for {want}. Choose another folder.")
        if found == settings:
            return
    elif foreign := sorted(path.name for path in out.iterdir() if not path.name.startswith(".phantom")):
        raise ValueError(f"{out}: holds other files ({foreign[0]}, ...) and no phantom.json. Choose another folder.")
    write_atomically(card, json.dumps(settings).encode())


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One patient to simulate and write."""

    folder: Path
    seed: int
    index: int
    spacing_mm: float

    def run(self) -> bool:
        _write_subject(self.folder, make_subject(self.seed, self.index, self.spacing_mm, with_truth=False))
        return True


def _write_missing(out: Path, settings: dict[str, Any], processes: int | None) -> Iterator[int]:
    """Write the missing patients; the number of complete ones at the start and after each."""
    folders = [out / "SUBJECTS" / f"EGD-{index + 1:04d}" for index in range(settings["subjects"])]
    jobs = {
        index: _Job(folder=folder, seed=settings["seed"], index=index, spacing_mm=settings["spacing_mm"])
        for index, folder in enumerate(folders)
        if not (folder / "metadata.json").exists()
    }
    done = len(folders) - len(jobs)
    yield done
    for _, written in run_all(jobs, processes):
        if not written:
            why = "a worker process ended early, probably for lack of memory"
            raise ChildProcessError(f"{out}: {why}; the same call goes on, with processes=1 without workers")
        done += 1
        yield done


def _write_subject(folder: Path, subject: PhantomSubject) -> None:
    """Write a patient's missing files. Raises ValueError where an existing file is not this phantom's."""
    files = {f"{name}.nii.gz": _nifti(v.astype(np.int16), subject.affine) for name, v in subject.images.items()}
    files["MASK.nii.gz"] = _nifti(subject.mask, subject.affine)
    files["metadata.json"] = json.dumps(subject.metadata, indent=2).encode()
    for name, content in files.items():
        path = folder / name
        if os.path.lexists(path) and (not path.is_file() or path.is_symlink() or path.read_bytes() != content):
            raise ValueError(f"{path}: not a file of this phantom, so it is not replaced. Choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for half in folder.glob(".*.tmp"):
        if re.fullmatch(r"\.(.+)\.\d+\.tmp", half.name) and half.name[1:].rsplit(".", 2)[0] in files:
            half.unlink()  # of a call that was killed
    for name, content in files.items():
        if not (folder / name).exists():
            write_atomically(folder / name, content)


def _nifti(values: NDArray[Any], affine: NDArray[np.float64]) -> bytes:
    """A .nii.gz that says it is a phantom; without a time stamp, so the same voxels give the same bytes."""
    image = nib.Nifti1Image(values, affine)
    image.header["descrip"] = b"phantom, not a patient"
    image.set_sform(affine, code="mni")
    # Run lengths only: no larger than ordinary level 1 on noisy images, in 60 % of its time.
    packer = zlib.compressobj(level=1, wbits=31, memLevel=9, strategy=zlib.Z_RLE)
    return packer.compress(image.to_bytes()) + packer.flush()
