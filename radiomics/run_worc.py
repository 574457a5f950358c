"""How well does WORC tell enhancing tumours from the others by T1, T2 and FLAIR, on the splits of our own classifier?

    python radiomics/run_worc.py --quick               100 phantom patients, 6 minutes on 2 cores
    python radiomics/run_worc.py --data PATH --quick   EGD, BraTS, a CSV of paths or a prepared cohort
    python radiomics/run_worc.py --data PATH           WORC's full search
    python radiomics/run_worc.py --label grade         grade IV against II and III, as in the paper

WORC:     Starmans et al., Scientific Reports 2021: random workflows, the best ones averaged, for each split

Features: ours (lab/radiomics/features/features.yaml), measured once; or WORC's own with --route images

Written:  an MLflow run with the ROC on its page, predictions, chosen features and workflows, and WORC's log

Again:    the same command continues where it was stopped: a finished split is not computed again

Paper:    AUC 0.79 (grade IV against II and III, EGD)
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lab.cli.study_command import exit_code_of
from lab.config import ClassifierConfig, DataConfig, FeatureConfig, PhantomConfig, RadiomicsConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunWorc:
    """How well does WORC tell enhancing tumours from the others by T1, T2 and FLAIR?"""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    phantom: PhantomConfig = dataclasses.field(default_factory=lambda: RadiomicsConfig().phantom)
    radiomics: FeatureConfig = dataclasses.field(default_factory=FeatureConfig)
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """30 workflows a split instead of 1000: minutes on 2 cores instead of hours."""
    search: int | None = None
    """Workflows drawn for each split; by default 1000, with --quick 30."""
    route: Literal["features", "images"] = "features"
    """`features`: WORC's search on our features, split by split. `images`: WORC's whole network of jobs on images and
    masks, with WORC's own features."""
    label: str = "enhancement"
    """What to predict: `enhancement`, `expert`, `rule`, `grade`, or a column of --labels with 0 and 1."""
    labels: Path | None = None
    """CSV with `case_id` or `patient_id` and the column that --label names."""
    folds: int = 5
    """Cross-validate over this many folds of patients; 0 is the one split of --data.split."""
    repeats: int = 4
    """Number of repeats with new folds; WORC's interval needs some 20 splits."""
    shuffle_labels: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Shuffle the labels: the result must then look like chance."""
    seed: int = 0
    """Seed of WORC's search."""
    workers: int | None = None
    """Splits that run side by side; by default one per core."""


def main(arguments: list[str] | None = None) -> int:
    """Run WORC, or continue; a user error gives one line on stderr and exit code 2."""
    settings = tyro.cli(RunWorc, args=arguments, description=__doc__)
    return exit_code_of(lambda: run(settings), unit="split")


def run(settings: RunWorc) -> None:
    """Convert the settings to the lab's, and run."""
    shared = {item.name for item in dataclasses.fields(ClassifierConfig)} & set(vars(settings))
    chosen = ClassifierConfig(**{name: getattr(settings, name) for name in shared})

    from lab.experiments.radiomics.worc_study import preset, run_worc_study  # late, so that --help answers at once

    worc = preset(quick=settings.quick, search=settings.search, route=settings.route, seed=settings.seed)
    parts = {name: getattr(settings, name) for name in ("data", "phantom", "radiomics")}
    run_worc_study(RadiomicsConfig(classifier=chosen, **parts), worc)


if __name__ == "__main__":
    sys.exit(main())
