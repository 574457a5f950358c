"""All settings of the experiments, as frozen dataclasses.

Each field is also a flag, `--train.learning-rate 1e-4`, with the short names given by `alias`. `PAPER` is the published
study, `DEMO` the same study on the phantom at a size that two CPU cores finish in minutes.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from lab.config.radiomics import ClassifierConfig, FeatureConfig, MeasureConfig
from lab.config.training import (
    COVARIATES,
    AugmentConfig,
    ClinicalConfig,
    Covariate,
    LossConfig,
    ModelConfig,
    TrainConfig,
    alias,
    network_key,
)

__all__ = [
    "COVARIATES",
    "DEMO",
    "LATER_SETTINGS",
    "PAPER",
    "AugmentConfig",
    "ClassifierConfig",
    "ClinicalConfig",
    "Config",
    "Covariate",
    "DataConfig",
    "FeatureConfig",
    "GateSettings",
    "LossConfig",
    "MeasureConfig",
    "ModelConfig",
    "PhantomConfig",
    "RadiomicsConfig",
    "StudyConfig",
    "TrainConfig",
    "alias",
    "choice",
    "flatten",
    "grid_shape",
    "identifying",
    "network_key",
    "override",
]


def choice(registry: str, *others: str, aliases: tuple[str, ...] = ()) -> Any:
    """Annotation of a setting: `others` and the names of a registry, imported late since it may import this module."""

    def names() -> Any:
        module, _, name = registry.rpartition(".")
        return Literal[(*others, *getattr(importlib.import_module(module), name))]

    shown = "(default: {})".format  # tyro gives "['auto']"
    return alias(constructor_factory=names, aliases=aliases, help_behavior_hint=lambda text: shown(text[2:-2]))


LayoutName = Annotated[str, choice("lab.data.layouts.find.LAYOUTS", "auto")]
LabelBook = Annotated[str, choice("lab.data.layouts.label_books.LABEL_BOOKS", "auto")]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Selection and preparation of the scans."""

    path: Annotated[Path | None, alias(aliases=("--data",))] = None
    """Folder of scans in any known layout, a CSV of paths, or a prepared cohort; by default the phantom."""
    layout: LayoutName = "auto"
    """Layout of PATH; `auto` detects it."""
    labels: LabelBook = "auto"
    """Meaning of the mask's values; `auto` infers it; `tumour`: all above 0 is tumour, none is known to enhance."""
    patient_pattern: str | None = None
    """Regular expression of the patient in a case id (its first group, or all); overrides column, name and scan."""
    inputs: tuple[str, ...] = ("T1", "T2", "FLAIR")
    """Input sequences of the network, in this order."""
    target: str = "T1GD"
    """Sequence to synthesize; `none` prepares scans without it, for classifiers."""
    spacing_mm: Annotated[float | None, alias(aliases=("--spacing",))] = None
    """Voxel size of the prepared grid (mm); by default that of the scans."""
    extent_mm: tuple[float, float, float] = (160.0, 192.0, 160.0)
    """Field of view of the prepared grid (mm): left-right, posterior-anterior, inferior-superior."""
    brain_mask: Literal["auto", "nonzero", "mni152"] = "auto"
    """`nonzero` for skull-stripped scans, `mni152` for scans in MNI152 space; `auto` follows the layout."""
    normalise: Literal["zscore", "white-stripe", "histogram"] = "zscore"
    """Inputs of a network: the prepared z-scores, or on top of them, for all but the T1, `white-stripe` (mean and
    deviation of white matter) or `histogram` (landmarks of the training patients, stored with the model)."""
    known_scale: tuple[float, float] | None = None
    """Mean and standard deviation of a whole brain, for scans that are normalised already and hold a part of the brain,
    such as cubes round the tumour; by default each scan's own."""
    clip_sigma: float = 4.0
    """Z-scores are clipped at this value and divided by it, so that values lie in [-1, 1]."""
    enhancement_threshold: float = 0.3
    """Enhancement by the paper's rule: T1GD - T1 above this, in normalised units."""
    enhancing_ml: float = 0.5
    """A patient enhances when the tumour's enhancing volume is at least this (millilitres)."""
    balance: bool = False
    """Drop patients of the larger class at random until both are equal, as the paper did."""
    allow_one_class: bool = False
    """Continue when no patient (or every patient) enhances."""
    split: tuple[float, float, float] = (0.7, 0.15, 0.15)
    """Fractions of patients in train, val and test."""
    split_seed: int = 0
    """Seed of the split and of the balancing."""
    processes: int | None = None
    """Number of preparation processes; by default one per core."""


@dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """The digital phantom cohort, used without a data path."""

    subjects: int = 40
    """Number of patients."""
    seed: int = 0
    """Patient i of seed s is always the same patient."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Number and execution of a study's trials."""

    trials: Annotated[int | None, alias(aliases=("--trials",))] = None
    """Number of settings to try; by default the whole grid (and 20 more with --search)."""
    repeats: Annotated[int, alias(aliases=("--repeats",))] = 1
    """Train every network this many times, with seeds SEED, SEED + 1, ...; more can be added later."""
    folds: Annotated[int, alias(aliases=("--folds",))] = 0
    """Cross-validation folds of patients, each the test part once; 0 uses the single split of --data.split."""
    fold: tyro.conf.Suppress[int] = 0
    """Index of the fold that a trial tests on."""
    workers: Annotated[int, alias(aliases=("--workers",))] = 1
    """Trials that run side by side, one per GPU where there are GPUs."""
    search: Annotated[bool, alias(aliases=("--search",))] = False
    """Run a guided search after the grid."""
    objective: str = "val/mae_brain"
    """Validation metric that ranks the trials; `val/contrast_pooled` measures enhancement."""
    prune: bool = True
    """Stop trials of the guided search that fall behind (the grid always runs in full)."""
    retry_failed: bool = False
    """Rerun trials that failed in an earlier call."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of one experiment."""

    data: DataConfig = field(default_factory=DataConfig)
    phantom: PhantomConfig = field(default_factory=PhantomConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    clinical: ClinicalConfig = field(default_factory=ClinicalConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    options: tyro.conf.Suppress[Mapping[str, Any]] = field(default_factory=dict)
    """Settings of networks and methods that have their own, by name: `{"segresnet": SegResNetConfig()}`; one that is
    missing has its defaults."""


@dataclass(frozen=True, kw_only=True)
class RadiomicsConfig:
    """All settings of the classifier arm."""

    data: DataConfig = field(default_factory=DataConfig)
    phantom: PhantomConfig = field(default_factory=lambda: PhantomConfig(subjects=100))
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    radiomics: FeatureConfig = field(default_factory=FeatureConfig)


PAPER = Config()
"""The published settings; the voxel size follows the scans."""

DEMO = Config(
    data=DataConfig(spacing_mm=4.0, split=(0.6, 0.15, 0.25)),
    model=ModelConfig(width=8, depth=3),
    train=TrainConfig(epochs=7, batch_size=2, learning_rate=2e-3, flip="random"),
    study=StudyConfig(workers=2),
)
"""The phantom at 4 mm with a narrow network: three halvings end at the paper's 5 x 6 x 5 bottleneck."""


def grid_shape(data: DataConfig, spacing_mm: float) -> tuple[int, int, int]:
    """Voxels of the prepared grid: 160 x 192 x 160 at 1 mm, 40 x 48 x 40 at 4 mm."""
    return tuple(round(extent / spacing_mm) for extent in data.extent_mm)  # type: ignore[return-value]


def default_options(group: str) -> Any:
    """Default settings of a network or method, by its group in dotted settings (`place_unet`); None for an unknown one.

    The registries are imported late, since they may import this module.
    """
    for kind in ("networks.NETWORKS", "methods.METHODS"):
        module, _, registry = kind.partition(".")
        specs = getattr(importlib.import_module(f"lab.synthesis.{module}"), registry)
        settings = next((specs[name].settings for name in specs if name.replace("-", "_") == group), None)
        if settings not in (None, ModelConfig):
            return settings()
    return None


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """Requirements of the gate: score, margins and minimum number of patients."""

    score: str = "contrast_concordance"
    """Score to be better in: `contrast_concordance`, or `kappa`, `concordance` or `auc` with `_expert` or `_rule`.
    Where a model states a probability it is the same at thresholds chosen on validation patients, kappa for the first.
    """
    mae_margin: float = 0.005
    """Tolerated increase of the brain's MAE (normalised units): a tenth of the published 0.048, under its SD, 0.008."""
    hallucinated_margin_ml: float = 0.5
    """Tolerated increase of the mean hallucinated volume: a sphere of 10 mm, the smallest measurable lesion in RANO."""
    brier_margin: float = 0.025
    """Tolerated increase of a classifier's Brier score: a tenth of the score of predicting one half for everybody."""
    least_patients: int = 10
    """Minimum number of common test patients for a comparison."""
    resamples: int = 4000
    """Bootstrap resamples."""
    seed: int = 0
    """Seed of the bootstrap."""


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name, `{"train.epochs": 300, ...}`; options are groups like the others."""
    flat: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if isinstance(config, Config) and item.name == "options":
            for name, part in value.items():
                flat |= flatten(part, f"{name}.")
        elif dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{item.name}.")
        else:
            flat[prefix + item.name] = value
    return flat


LATER_SETTINGS: dict[str, Any] = {
    "classifier.average": 1,
    "clinical.drop": 0.2,
    "clinical.use": (),
    "data.known_scale": None,
    "data.normalise": "zscore",
    "train.patients": None,
}
"""Settings of later versions, with the value that leaves an experiment as it was before them."""


def identifying(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flattened settings without those of later versions at their usual value: earlier experiments are found."""
    return {name: value for name, value in settings.items() if LATER_SETTINGS.get(name, ...) != value}


def override(config: Config, changes: dict[str, Any]) -> Config:
    """The config with some settings replaced, given by dotted name: `{"loss.name": "SSIM"}`.

    Raises ValueError for an unknown name.
    """
    for name, value in changes.items():
        group, _, key = name.partition(".")
        part = config.options.get(group, getattr(config, group, None)) or default_options(group)
        if not dataclasses.is_dataclass(part) or key not in {item.name for item in dataclasses.fields(part)}:
            known = sorted(flatten(config))
            near = difflib.get_close_matches(name, known, 1)
            advice = f"did you mean {near[0]!r}?" if near else f"known: {known}"
            raise ValueError(f"there is no setting {name!r}; {advice}")
        changed: Any = dataclasses.replace(part, **{key: value})  # type: ignore[type-var]
        if not hasattr(config, group):
            group, changed = "options", {**config.options, group: changed}
        config = dataclasses.replace(config, **{group: changed})
    return config
