"""How hard WORC searches, and what of its own configuration that sets.

WORC draws workflows at random (imputation, feature groups, scaling, selection, resampling, classifier), scores each on
inner splits of the training patients and averages the posteriors of the best ones (Starmans et al., Scientific Reports
2021, "Reproducible radiomics through automated machine learning").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Route = Literal["features", "images"]

CLASSIFIERS = ("SVM", "RF", "LR", "LDA", "QDA", "GaussianNB", "AdaBoostClassifier", "XGBClassifier")
"""WORC's own choice, all of which its search draws from."""
LABEL = "Label"
"""What the label is called inside WORC, whatever it means."""
ESTIMATOR = "estimator_all_0.hdf5"
"""WORC's name of its output."""
GROUPS = (
    "orientation", "texture_Gabor", "texture_GLCMMS", "texture_GLDZM", "texture_NGLDM", "texture_LBP", "vessel",
    "phase", "fractal", "location", "rgrd",
)  # fmt: skip
"""Feature groups of WORC's that pyradiomics has nothing of: there is nothing to search in them."""


@dataclass(frozen=True, kw_only=True)
class WorcSettings:
    """What decides on a WORC experiment, and at what cost."""

    search: int = 1000
    """Workflows drawn for each split."""
    inner_splits: int = 5
    """Random splits of the training patients on which every workflow is scored."""
    inner_test: float = 0.2
    """Share of the training patients that an inner split scores on."""
    ensemble: int = 100
    """Best workflows whose posteriors are averaged; no more than `search`."""
    classifiers: tuple[str, ...] = CLASSIFIERS
    """Classifiers to draw from, by WORC's names."""
    route: Route = "features"
    """`features`: WORC's search on our features, a process a split. `images`: WORC's whole fastr network on images and
    masks, with features that it extracts itself."""
    coarse: bool = True
    """The images route only: WORC's small set of features (PREDICT's), not all that it can extract (hours)."""
    seed: int = 0
    """The same seed gives the same predictions."""
    workers: int = 2
    """Splits (or fastr's jobs) side by side; changes no result."""
    timeout_s: float = 6 * 3600
    """After this a split (`features`) or the whole network counts as failed."""

    def __post_init__(self) -> None:
        if not 1 <= self.ensemble <= self.search:
            raise ValueError(f"an ensemble of {self.ensemble} workflows out of {self.search}: take 1 to {self.search}")
        if self.inner_splits < 1 or not 0 < self.inner_test < 1 or self.workers < 1 or self.timeout_s <= 0:
            raise ValueError("WORC needs at least one inner split, a share of them in (0, 1), a worker and some time")
        unknown = sorted(set(self.classifiers) - set(CLASSIFIERS))
        if unknown or not self.classifiers:
            raise ValueError(f"unknown WORC classifier {', '.join(unknown)}; there are {', '.join(CLASSIFIERS)}")


FULL = WorcSettings()
"""WORC's own defaults: with 100 patients and 3362 features 20 minutes a split."""
QUICK = WorcSettings(search=30, inner_splits=3, ensemble=10, timeout_s=1800)
"""29 s a split. Three inner splits, because the best of 30 workflows on one small validation set would be chance. It
shows that all works and roughly where WORC ends; a figure to be published wants FULL."""


def configuration(settings: WorcSettings, *, complete: bool = False) -> dict[str, dict[str, str]]:
    """What differs from WORC's defaults, by section and name of its configuration.

    `complete` features have no value missing: then nothing is imputed, which changes no result and saves half the time.
    """
    images = settings.route == "images"
    changes: dict[str, dict[str, str]] = {
        # fingerprinting would turn slow features on again
        "General": {"Fingerprint": "False", "tempsave": str(images), "Joblib_ncores": "1"},
        "CrossValidation": {"fixed_seed": "False"},
        "HyperOptimization": {
            "N_iterations": str(settings.search),
            "n_splits": str(settings.inner_splits),
            "test_size": str(settings.inner_test),
            "maxlen": str(settings.search),  # keeps the scores of all, so that those without one can be counted
            "fix_random_seed": "True",
            "n_jobspercore": str(settings.search),
        },
        "Classification": {
            "classifiers": ", ".join(settings.classifiers),
            "fastr_plugin": "ProcessPoolExecution" if images else "LinearExecution",
        },
        "Imputation": {
            "use": str(images or not complete),
            "strategy": "mean, median, most_frequent, constant, knn",
        },
        "Resampling": {"Use": "0.20"},
        "Ensemble": {"Method": "top_N", "Size": str(settings.ensemble)},
        "SelectFeatGroup": {"toolbox": "All"},
    }
    if not images:
        changes["SelectFeatGroup"] |= {f"{group}_features": "False" for group in GROUPS}
        changes["SelectFeatGroup"] |= {"log_features": "True, False"}
    return changes
