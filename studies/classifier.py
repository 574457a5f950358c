"""Can T1, T2 and FLAIR tell whether the tumour enhances, better than its size, age or one sequence alone?

    python studies/classifier.py                       100 phantom patients, 6 minutes on 2 cores
    python studies/classifier.py --data PATH           EGD, BraTS, a CSV of paths or a prepared cohort
    python studies/classifier.py --label grade         grade IV against II and III, as in the paper
    python studies/classifier.py --data A --external B trained on A, and tested once on B

Fixed:   cohort, features (lab/radiomics/features/features.yaml), splits: 4 times 5 folds of patients, stratified

Varied:  within each split, on its training patients alone, guided by Optuna: scaling, ranking, number and correlation
         of features; elastic net, random forest, gradient boosting or SVM, and their settings (search_space.py).
         --classifier.average averages several of the best settings

Score:   AUC over patients, each tested once a repeat, with DeLong's and the bootstrap's interval, and over splits with
         Nadeau & Bengio's; calibration, net benefit, and DeLong's tests against the baselines. Search, scaling,
         selection, calibration and threshold do not use the test patients

Left:    a run for each split and each trial; the classifier for new patients, searched for and fitted on all patients

Paper:   AUC 0.79 (WORC, grade IV against II and III, EGD)
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from lab.cli.study_command import exit_code_of
from lab.config import RadiomicsConfig

QUESTION = "Can T1, T2 and FLAIR tell whether the tumour enhances, better than its size, age or one sequence alone?"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier(RadiomicsConfig):
    """The classifier and its baselines."""

    external: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Another cohort to test the finished classifier on, once: scans, a prepared cohort, or with --features a table;
    several with --external A --external B, also after the study has finished. --labels then has the ids of all."""


def main(arguments: list[str] | None = None) -> int:
    """Run the study, or continue it."""
    given = tyro.cli(Classifier, args=arguments, description=__doc__)
    settings = RadiomicsConfig(**{item.name: getattr(given, item.name) for item in dataclasses.fields(RadiomicsConfig)})

    def work() -> None:
        from lab.experiments.radiomics.classifier_study import run_classifier_study  # late, so that --help answers

        run_classifier_study(settings, QUESTION, external=given.external)

    return exit_code_of(work, unit="split")


if __name__ == "__main__":
    sys.exit(main())
