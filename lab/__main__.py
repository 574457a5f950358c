"""`python -m lab COMMAND`: what can be done without a study. Imports are late, so that `--help` answers at once."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from lab.config import DataConfig
from lab.track.command import explain


@dataclass(frozen=True, kw_only=True)
class Prepare(DataConfig):
    """Prepare a folder of scans (EGD, BraTS 2021, BraTS 2023 and later, or a CSV of paths) as a cohort for studies."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """Folder of scans, or a CSV of paths."""
    out: Path
    """Folder of the prepared cohort; an unfinished one is continued."""
    path: tyro.conf.Suppress[Path | None] = None

    def run(self) -> None:
        """Prepare, telling of every subject, and say what came of it."""
        from lab.data.prepare import prepare

        settings = DataConfig(**{item.name: getattr(self, item.name) for item in dataclasses.fields(DataConfig)})
        cohort = prepare(self.source, self.out, settings, progress=_tell)
        counts = cohort.manifest["counts"]
        shape = " x ".join(str(size) for size in cohort.shape)
        print(
            f"{counts['used']} scans of {counts['patients']} patients prepared ({counts['enhancing']} enhance), "
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
        """Write the tree, telling of every subject."""
        if self.subjects < 1 or not self.spacing > 0:
            raise ValueError(f"--subjects {self.subjects} and --spacing {self.spacing} must be above 0")
        from lab.data.phantom import write_cohort

        path = write_cohort(
            self.out,
            subjects=self.subjects,
            seed=self.seed,
            spacing_mm=self.spacing,
            processes=self.processes,
            progress=lambda done, total: _tell(done, total, "phantom subjects written"),
        )
        print(f"{self.subjects} phantom subjects in {path}")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the report of a finished study anew, from what the tracking store holds and nothing else."""

    study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]
    """Name of the study (its newest run that has come to its end), or the id of its run."""
    out: Path | None = None
    """Folder for a copy of the page, the tables and the figures; the study's run gets them in any case."""

    def run(self) -> None:
        """Write it and say where it is."""
        from lab.track.record import find_study
        from lab.track.report import write_report
        from lab.track.store import clear_errors

        with clear_errors():
            write_report(find_study(self.study), out=self.out)
        if self.out is not None:
            print(f"Copied to {self.out / 'report.html'}")


def _tell(done: int, total: int, line: str) -> None:
    print(f"[{done:>{len(str(total))}}/{total}] {line}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; a mistake of the user is one line on stderr and exit code 2."""
    commands: dict[str, Callable[..., Any]] = {"prepare": Prepare, "phantom": Phantom, "report": Report}
    command = tyro.extras.subcommand_cli_from_dict(commands, prog="python -m lab", args=arguments)
    return explain(command.run, unit="case")


if __name__ == "__main__":
    sys.exit(main())
