"""Comparison of WORC, our own classifier and the baselines on the same patients and splits, on one page.

    python radiomics/compare.py --quick                            100 phantom patients
    python radiomics/compare.py --data PATH --quick                EGD, BraTS, a CSV of paths or a prepared cohort
    python radiomics/compare.py --data PATH --synthesis RUN        and the enhancing volume that a network predicts
    python radiomics/compare.py --no-worc --synthesis RUN --drawn  and: does a drawn image help the classifier?

Baselines: tumour volume, age and sex, one sequence alone, the mask's shape, voxelwise boosting; with --synthesis the
           enhancing volume in the images of the best network of a study (or of a trial) of its test patients, and the
           probability that it states, so that both arms share one axis

Drawn:     our classifier with the features of the drawn images, or of the probability maps, beside its own. Every
           patient is drawn by a network that has not seen them, so the study of networks needs --folds

Tests:     DeLong's, on the patients that both have scored, corrected after Holm

Again:     results of studies/classifier.py and radiomics/run_worc.py with the same settings are used again
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import tyro

from lab.cli.study_command import exit_code_of
from lab.config import RadiomicsConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare(RadiomicsConfig):
    """WORC, our own classifier and the baselines on the same patients and splits."""

    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """30 workflows of WORC a split instead of 1000."""
    search: int | None = None
    """Workflows that WORC draws for each split; by default 1000, with --quick 30."""
    synthesis: tuple[str, ...] = ()
    """Studies of networks, by name or run id, or their trials: the enhancing volume that their networks predict is a
    baseline, and so is a probability that they state."""
    drawn: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Train our classifier also with the features of the images, and of the probability maps, that the networks of
    --synthesis draw of patients whom they have not seen; that study needs --folds."""
    worc: bool = True
    """Whether WORC takes part."""


def main(arguments: list[str] | None = None) -> int:
    """Compare, running what is missing; a user error gives one line on stderr and exit code 2."""
    settings = tyro.cli(Compare, args=arguments, description=__doc__)
    return exit_code_of(lambda: run(settings), unit="split")


def run(settings: Compare) -> None:
    """Convert the settings to the lab's, and compare."""
    fields = {item.name: getattr(settings, item.name) for item in dataclasses.fields(RadiomicsConfig)}

    from lab.experiments.radiomics.compare_study import run_compare_study  # late, so that --help answers at once
    from lab.experiments.radiomics.worc_study import preset

    if not settings.worc and (settings.quick or settings.search is not None):
        raise ValueError("--quick and --search are WORC's; leave them out with --no-worc")
    worc = preset(quick=settings.quick, search=settings.search, seed=settings.classifier.seed)
    run_compare_study(
        RadiomicsConfig(**fields), worc if settings.worc else None, settings.synthesis, drawn=settings.drawn
    )


if __name__ == "__main__":
    sys.exit(main())
