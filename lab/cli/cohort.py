"""`python -m lab prepare` and `phantom`: cohorts from scans and from the simulation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lab.config import DataConfig


@dataclass(frozen=True, kw_only=True)
class PrepareCohort(DataConfig):
    """Prepare a folder of scans (EGD, BraTS 2021, BraTS 2023 and later, or a CSV of paths) as a cohort for studies."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """Folder of scans, or a CSV of paths."""
    out: Path
    """Folder of the prepared cohort; an unfinished one is continued."""
    path: tyro.conf.Suppress[Path | None] = None
    normalise: tyro.conf.Suppress[Literal["zscore"]] = "zscore"

    def run(self) -> None:
        """Prepare the cohort and print its counts."""
        from lab.data.layouts.patients import describe_patients
        from lab.data.prepare import prepare
        from lab.io.files import plural

        settings = DataConfig(**{item.name: getattr(self, item.name) for item in dataclasses.fields(DataConfig)})
        cohort = prepare(self.source, self.out, settings, progress=_progress)
        for line in describe_patients(cohort.manifest["merged"], cohort.manifest["patient_notes"]):
            print(line)
        counts = cohort.manifest["counts"]
        shape = " x ".join(str(size) for size in cohort.shape)
        print(
            f"{plural(counts['used'], 'scan')} of {plural(counts['patients'], 'patient')} prepared "
            f"({counts['enhancing']} {'enhances' if counts['enhancing'] == 1 else 'enhance'}), "
            f"{counts['left_out']} left out{' (phantom)' if cohort.phantom else ''}"
        )
        print(f"{cohort.path}: {shape} voxels of {cohort.spacing_mm:g} mm, digest {cohort.digest}")
        if counts["left_out"]:
            print(f"Who was left out, and why: {cohort.path / 'index.csv'}")


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """Write a cohort of digital phantoms as an EGD tree of NIfTI files."""

    out: Path
    """Folder of the tree; an unfinished one is continued."""
    subjects: int = 48
    """Number of patients."""
    seed: int = 0
    """Patient i of seed s is always the same patient."""
    spacing: float = 1.0
    """Voxel size in millimetres."""
    processes: int | None = None
    """Processes side by side; by default one per core."""

    def run(self) -> None:
        """Write the tree."""
        if self.subjects < 1 or not self.spacing > 0:
            raise ValueError(f"--subjects {self.subjects} and --spacing {self.spacing} must be above 0")
        from lab.io.files import plural
        from lab.phantom.cohort import write_cohort

        path = write_cohort(
            self.out,
            subjects=self.subjects,
            seed=self.seed,
            spacing_mm=self.spacing,
            processes=self.processes,
            progress=lambda done, total: _progress(done, total, "phantom subjects written"),
        )
        print(f"{plural(self.subjects, 'phantom subject')} in {path}")


def _progress(done: int, total: int, line: str) -> None:
    print(f"[{done:>{len(str(total))}}/{total}] {line}", flush=True)
