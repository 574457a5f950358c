"""`python -m lab calibrate`: what it takes. Imports are late, so that `--help` answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Measure a network, or an ensemble, on its study's own patients: intervals, probability, and what is strange.

    A study does this for its best network; this command for any other, and for several together.
    """

    model: tuple[str, ...]
    """The model, such as models:/sct1@challenger; several make an ensemble."""
    cohort: Path | None = None
    """The prepared cohort, where it is not any more where the study found it."""
    looks: int = 4
    """Looks at each patient that intervals are made for, besides 1 and 2."""
    out: Path | None = None
    """File for the calibration of an ensemble; a single network takes its own with it."""
    device: str = "auto"
    """`auto` takes a GPU where there is one."""

    def run(self) -> None:
        """Measure, keep and tell."""
        if len(self.model) > 1 and self.out is None:
            raise ValueError("an ensemble has no package of its own: --out FILE says where its calibration is written")
        if self.looks < 2:
            raise ValueError(f"--looks {self.looks}: 2 or more; a single look is measured in any case")
        if self.out is not None:
            from lab.io.output_folder import check_output

            picture = self.out.with_suffix(".png")
            if picture == self.out:
                raise ValueError(f"--out {self.out}: the picture beside the calibration gets this name; take .json")
            check_output(self.out.parent, self.out.name, picture.name)
        from lab.inference.calibrate_run import calibrate_models, summary_lines, write
        from lab.synthesis.device import choose
        from lab.tracking.store import clear_errors

        with clear_errors():
            found = calibrate_models(self.model, choose(self.device, "auto"), cohort=self.cohort, looks=self.looks)
            if self.out is not None:
                write(found, self.out)
        print("\n".join(summary_lines(found)))
        print(f"Written to {self.out}" if self.out is not None else "Kept with the model")
