"""Settings of the classifiers and of their features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from lab.config.training import alias


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Training and evaluation of the classifier."""

    label: Annotated[str, alias(aliases=("--label",))] = "enhancement"
    """What to predict: `enhancement` (the expert label where the data set has one, else the paper's rule), `expert`,
    `rule`, `grade` (IV against II and III, as in the paper), or a column of --labels with 0 and 1."""
    labels: Annotated[Path | None, alias(aliases=("--labels",))] = None
    """CSV with `case_id` or `patient_id` and the column that --label names."""
    folds: Annotated[int, alias(aliases=("--folds",))] = 5
    """Cross-validation folds of patients; 0 uses the single split of --data.split."""
    repeats: Annotated[int, alias(aliases=("--repeats",))] = 4
    """Number of repetitions of the cross-validation, each with new folds."""
    inner_folds: int = 5
    """Inner folds of the training patients, for the choice of settings and threshold."""
    trials: Annotated[int, alias(aliases=("--trials",))] = 20
    """Settings tried in each split."""
    average: int = 1
    """How many of the best settings are averaged, each calibrated on the training patients; 1 is the best alone."""
    classifiers: tuple[str, ...] = ("elastic_net", "random_forest", "gradient_boosting", "svm")
    """Classifiers for the search to choose from."""
    stability: float = 0.75
    """Minimum ICC(3,1) of a feature under perturbed masks (Koo & Li 2016); 0 turns the filter off."""
    stability_cases: int = 30
    """Random cases with perturbed masks; within a split only those of its training patients count."""
    combat: Literal["", "vendor", "field_strength_t"] = ""
    """Remove differences between vendors or field strengths (ComBat), fitted on the training patients alone."""
    shuffle_labels: bool = False
    """Permute the labels at random: a negative control, whose results must look like chance."""
    seed: Annotated[int, alias(aliases=("--seed",))] = 0
    """Seed of folds, searches and refits."""
    workers: Annotated[int | None, alias(aliases=("--workers",))] = None
    """Splits that run side by side; by default one per core."""


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """Measurement of features."""

    parameters: Annotated[Path | None, alias(aliases=("--parameters",))] = None
    """Parameter file of pyradiomics (YAML); by default lab/radiomics/features/features.yaml."""
    contrast: Literal["refuse", "warn"] = "refuse"
    """When an input looks, in most patients, as if taken after contrast agent was given: refuse it, or only say so."""


@dataclass(frozen=True, kw_only=True)
class FeatureConfig(MeasureConfig):
    """Features of the classifiers."""

    features: Annotated[Path | None, alias(aliases=("--features",))] = None
    """Table of your own features (CSV, a row a case), as pyradiomics or extract.py write it; needs no --data."""
