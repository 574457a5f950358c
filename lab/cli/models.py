"""`python -m lab promote`, `calibrate` and `report`: commands for the runs and models of a finished study."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lab.config import GateSettings


@dataclass(frozen=True, kw_only=True)
class Promote:
    """Register the model of a run, a network or a classifier, under a name and give it an alias.

    The champion is set only through the gate: on test patients that neither the version nor the current champion was
    trained on, the version must beat the champion and the trivial baselines and keep within the margins of the gate.
    """

    run_id: Annotated[str | None, tyro.conf.arg(name="run", metavar="RUN")] = None
    """Id of a trial's or a study's run; for a study its best model is taken."""
    study: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Name of a study, instead of --run: the best model of its finished run is taken."""
    newest: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the newest of the study's finished runs; without it several runs are listed."""
    name: str
    """Name of the registered model."""
    alias: Literal["challenger", "champion"] = "challenger"
    """Alias of the version."""
    force: Annotated[str | None, tyro.conf.arg(metavar="REASON")] = None
    """Set the champion although the gate refuses. The reason is recorded permanently and shown by the model card."""
    rollback: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Give the alias champion back to the previous version; needs --name alone."""
    gate: GateSettings = field(default_factory=GateSettings)

    def run(self) -> None:
        """Promote or roll back, and print the result."""
        if self.rollback:
            if self.run_id is not None or self.study is not None or self.force is not None or self.newest:
                raise ValueError("--rollback takes --name alone: it gives champion back to the version before")
        elif (self.run_id is None) == (self.study is None):
            raise ValueError("name what is promoted: either --run ID or --study NAME")
        from lab.tracking.store import clear_errors

        with clear_errors():
            if self.rollback:
                self._roll_back()
            else:
                self._promote(self.run_id or self.study or "")

    def _promote(self, run: str) -> None:
        from lab.experiments.synthesis.record import chosen_study
        from lab.registry.candidate import run_with_model
        from lab.registry.gate import GateRefused, promote_through_gate
        from lab.registry.promotion import calibrate_before_promotion
        from lab.report.tables.gate import verdict_text

        run = chosen_study(run, newest=self.newest).id
        print(f"Using run {run}" + (f", the newest of study {self.study}" if self.newest else ""))
        calibrate_before_promotion(run_with_model(run))
        try:
            found = promote_through_gate(run, self.name, self.alias, force=self.force, settings=self.gate)
        except GateRefused as refused:
            print(verdict_text(refused.verdict))
            raise
        if found.verdict is not None:
            print(verdict_text(found.verdict))
        if found.caution:
            print(f"The classifier gives no verdict on a patient: {found.caution}")
        for test in found.external:
            print(f"External test on {test}")
        done = found.promotion
        if done.before == done.version:
            print(f"{done.name} version {done.version} of run {done.run_id} is {done.alias} already: {done.uri}")
            return
        if found.forced:
            print(f"The gate refused this version; promoted by --force, with the reason on record: {self.force}")
        elif self.force is not None:
            print("The version passed the gate: --force was not needed and is not recorded")
        before = f", which was version {done.before}" if done.before is not None else ""
        print(f"{done.name} version {done.version} of run {done.run_id} is {done.alias} now{before}: {done.uri}")

    def _roll_back(self) -> None:
        from lab.registry.history import history
        from lab.registry.promotion import roll_back

        done = roll_back(self.name)
        print(f"{done.name}: champion is version {done.version} of run {done.run_id} again, no longer {done.before}")
        for event in history(self.name):
            print(f"  {event.describe()}")


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Calibrate a network or an ensemble on its study's own patients: intervals, probability and OOD detection.

    A study does this for its best network; this command does it for any other, and for several together.
    """

    model: tuple[str, ...]
    """The model, such as models:/sct1@challenger; several make an ensemble."""
    cohort: Path | None = None
    """The prepared cohort, if it was moved after the study."""
    looks: int = 4
    """Number of test-time augmentations to calibrate intervals for, besides 1 and 2."""
    out: Path | None = None
    """File for the calibration of an ensemble; that of a single network is stored with it."""
    device: str = "auto"
    """`auto` takes a GPU where there is one."""

    def run(self) -> None:
        """Calibrate and print the summary."""
        if len(self.model) > 1 and self.out is None:
            raise ValueError("an ensemble has no package of its own: --out FILE says where its calibration is written")
        if self.looks < 2:
            raise ValueError(f"--looks {self.looks}: must be 2 or more; one augmentation is calibrated in any case")
        if self.out is not None:
            from lab.io.output_folder import check_output

            picture = self.out.with_suffix(".png")
            if picture == self.out:
                raise ValueError(f"--out {self.out}: the picture beside the calibration gets this name; take .json")
            check_output(self.out.parent, self.out.name, picture.name)
        from lab.inference.calibrate_run import calibrate_models, summary_lines, write_calibration
        from lab.synthesis.device import choose
        from lab.tracking.store import clear_errors

        with clear_errors():
            found = calibrate_models(self.model, choose(self.device, "auto"), cohort=self.cohort, looks=self.looks)
            if self.out is not None:
                write_calibration(found, self.out)
        print("\n".join(summary_lines(found)))
        print(f"Written to {self.out}" if self.out is not None else "Stored with the model")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Rewrite the report of a finished study from the tracking store alone."""

    study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]
    """Name of the study (architecture, losses, classifier, worc, compare ...: its newest finished run), or a run's
    id."""
    out: Path | None = None
    """Folder for a copy of the page, the tables and the figures; the study's run gets them in any case."""

    def run(self) -> None:
        """Write the report."""
        from lab.experiments.parent_run import write_any_report
        from lab.experiments.synthesis.record import find_study
        from lab.io.output_folder import check_output
        from lab.tracking.store import clear_errors

        if self.out is not None:
            check_output(self.out, "report.html")
        with clear_errors():
            write_any_report(find_study(self.study), out=self.out)
        if self.out is not None:
            print(f"Copied to {self.out / 'report.html'}")
