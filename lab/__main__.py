"""`python -m lab COMMAND`: what can be done without a study. Imports are late, so that `--help` answers at once."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from lab.cli.calibrate import Calibrate
from lab.cli.export import Export
from lab.cli.promote import Promote
from lab.cli.serve import Serve
from lab.cli.study_command import explain
from lab.cli.synthesize import Synthesize
from lab.config import DataConfig, LabelBook


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
        from lab.data.layouts.patients import told
        from lab.data.prepare import prepare
        from lab.report.tables.patient_table import plural

        settings = DataConfig(**{item.name: getattr(self, item.name) for item in dataclasses.fields(DataConfig)})
        cohort = prepare(self.source, self.out, settings, progress=_tell)
        for line in told(cohort.manifest["merged"], cohort.manifest["patient_notes"]):
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
        """Write the tree, telling of every subject."""
        if self.subjects < 1 or not self.spacing > 0:
            raise ValueError(f"--subjects {self.subjects} and --spacing {self.spacing} must be above 0")
        from lab.phantom.cohort import write_cohort
        from lab.report.tables.patient_table import plural

        path = write_cohort(
            self.out,
            subjects=self.subjects,
            seed=self.seed,
            spacing_mm=self.spacing,
            processes=self.processes,
            progress=lambda done, total: _tell(done, total, "phantom subjects written"),
        )
        print(f"{plural(self.subjects, 'phantom subject')} in {path}")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the report of a finished study anew, from what the tracking store holds and nothing else."""

    study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]
    """Name of the study (architecture, losses, classifier, worc, compare ...: its newest run that has come to its end),
    or the id of its run."""
    out: Path | None = None
    """Folder for a copy of the page, the tables and the figures; the study's run gets them in any case."""

    def run(self) -> None:
        """Write it and say where it is."""
        from lab.experiments.synthesis.record import find_study
        from lab.experiments.writers import write
        from lab.io.output_folder import check_output
        from lab.tracking.store import clear_errors

        if self.out is not None:
            check_output(self.out, "report.html")
        with clear_errors():
            write(find_study(self.study), out=self.out)
        if self.out is not None:
            print(f"Copied to {self.out / 'report.html'}")


@dataclass(frozen=True, kw_only=True)
class Classify:
    """Judge new patients with a registered classifier: probability, interval, distance from the training patients."""

    model: str
    """The model, such as models:/will-it-enhance@champion."""
    data: Path | None = None
    """Folder of patients in a known layout, or a CSV of paths; no scan with contrast agent is needed."""
    t1: Path | None = None
    """T1 of one patient."""
    t2: Path | None = None
    """T2 of one patient."""
    flair: Path | None = None
    """FLAIR of one patient."""
    mask: Path | None = None
    """Tumour mask of one patient."""
    layout: Literal["auto", "egd", "brats2021", "brats2023", "csv"] = "auto"
    """How DATA is laid out; `auto` looks."""
    labels: LabelBook = "auto"
    """What the values of DATA's tumour masks mean; `auto` tells it from names and values. It says what is no tumour."""
    brain_mask: Literal["nonzero", "mni152"] | None = None
    """`nonzero` for skull-stripped scans, `mni152` for scans in MNI152 space; by default as the layout says, and for a
    patient given by paths as it was in training."""
    out: Path | None = None
    """Folder for predictions.csv, left_out.csv and model.json."""

    def run(self) -> None:
        """Judge every patient and say what came of it."""
        one = {name: path for name, path in (("T1", self.t1), ("T2", self.t2), ("FLAIR", self.flair)) if path}
        if (self.data is None) == (not one) or (self.data is not None and self.mask is not None):
            raise ValueError("name either --data, or the images of one patient: --t1 --t2 --flair --mask")
        if one and self.mask is None:
            raise ValueError("--mask is needed: the features are those of the tumour")
        from lab.data.contract import Contract, one_patient
        from lab.data.layouts.find import Subject, find_subjects
        from lab.deploy.classify import RESEARCH, classify, told, write
        from lab.report.tables.patient_table import plural
        from lab.tracking.store import clear_errors

        def patients(contract: Contract) -> list[Subject]:
            if self.data is not None:
                return find_subjects(self.data, self.layout, labels=self.labels)
            return [one_patient("patient", one, self.mask, like=contract)]

        with clear_errors():
            judged = classify(self.model, patients, brain_mask=self.brain_mask, out=self.out)
        for row in judged.table.itertuples():
            print(told(row, judged.facts["event"]))
        if self.out is not None:
            write(judged, self.out)
            print(f"Written to {self.out}")
        print(RESEARCH)
        if judged.table.empty:
            raise ValueError(f"none of {plural(len(judged.left_out), 'patient')} could be judged")


def _tell(done: int, total: int, line: str) -> None:
    print(f"[{done:>{len(str(total))}}/{total}] {line}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; a mistake of the user is one line on stderr and exit code 2."""
    commands: dict[str, Callable[..., Any]] = {"prepare": Prepare, "phantom": Phantom, "report": Report}
    commands |= {"promote": Promote, "calibrate": Calibrate, "synthesize": Synthesize, "classify": Classify}
    commands |= {"export": Export, "serve": Serve}
    command = tyro.extras.subcommand_cli_from_dict(commands, prog="python -m lab", args=arguments)
    goes_on = isinstance(command, Prepare | Phantom) or (isinstance(command, Synthesize) and command.data is not None)
    return explain(command.run, unit="case" if goes_on else None)


if __name__ == "__main__":
    sys.exit(main())
