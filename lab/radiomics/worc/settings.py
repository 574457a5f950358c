"""Settings of WORC's search, and the WORC configuration that they give.

WORC draws workflows at random (imputation, feature groups, scaling, selection, resampling, classifier), scores each on
inner splits of the training patients and averages the posteriors of the best ones (Starmans et al., Scientific Reports
2021, "Reproducible radiomics through automated machine learning").
"""

from dataclasses import dataclass
from typing import Literal

Route = Literal["features", "images"]

CLASSIFIERS = ("SVM", "RF", "LR", "LDA", "QDA", "GaussianNB", "AdaBoostClassifier", "XGBClassifier")  # WORC's defaults
LABEL = "Label"  # name of the label inside WORC, whatever its meaning
ESTIMATOR = "estimator_all_0.hdf5"  # WORC's name of its output file
GROUPS = (
    "orientation", "texture_Gabor", "texture_GLCMMS", "texture_GLDZM", "texture_NGLDM", "texture_LBP", "vessel",
    "phase", "fractal", "location", "rgrd",
)  # fmt: skip
"""WORC's feature groups without a counterpart in pyradiomics, so with nothing to search."""


@dataclass(frozen=True, kw_only=True)
class WorcSettings:
    """Settings that determine the result and the cost of a WORC experiment."""

    search: int = 1000  # workflows drawn per split
    inner_splits: int = 5  # random splits of the training patients that score every workflow
    inner_test: float = 0.2  # share of the training patients that an inner split holds out
    ensemble: int = 100  # number of best workflows whose posteriors are averaged; at most `search`
    classifiers: tuple[str, ...] = CLASSIFIERS  # classifiers to draw from, by WORC's names
    route: Route = "features"
    """`features`: WORC's search on our features, one process per split. `images`: WORC's whole fastr network on images
    and masks, with features that it extracts itself."""
    coarse: bool = True  # images route: WORC's small set of features (PREDICT's) instead of all, which takes hours
    seed: int = 0  # the same seed gives the same predictions
    workers: int = 2  # splits (or fastr's jobs) in parallel; does not change the result
    timeout_s: float = 6 * 3600  # time limit of a split (`features`) or of the whole network (`images`), in seconds

    def __post_init__(self) -> None:
        if not 1 <= self.ensemble <= self.search:
            raise ValueError(f"an ensemble of {self.ensemble} workflows out of {self.search}: take 1 to {self.search}")
        if self.inner_splits < 1 or not 0 < self.inner_test < 1 or self.workers < 1 or self.timeout_s <= 0:
            raise ValueError("WORC needs at least one inner split, a share of them in (0, 1), a worker and some time")
        unknown = sorted(set(self.classifiers) - set(CLASSIFIERS))
        if unknown or not self.classifiers:
            raise ValueError(f"unknown WORC classifier {', '.join(unknown)}; there are {', '.join(CLASSIFIERS)}")


FULL = WorcSettings()  # WORC's own defaults: 20 minutes per split with 100 patients and 3362 features
QUICK = WorcSettings(search=30, inner_splits=3, ensemble=10, timeout_s=1800)
"""29 s per split, to show that everything works and roughly how WORC performs; published figures need FULL."""


def configuration(settings: WorcSettings, *, complete: bool = False) -> dict[str, dict[str, str]]:
    """Differences from WORC's defaults by section and name; `complete` features need no imputation."""
    images = settings.route == "images"
    changes: dict[str, dict[str, str]] = {
        # fingerprinting would switch slow features on again
        "General": {"Fingerprint": "False", "tempsave": str(images), "Joblib_ncores": "1"},
        "CrossValidation": {"fixed_seed": "False"},
        "HyperOptimization": {
            "N_iterations": str(settings.search),
            "n_splits": str(settings.inner_splits),
            "test_size": str(settings.inner_test),
            "maxlen": str(settings.search),  # keep all scores, to count the workflows without one
            "fix_random_seed": "True",
            "n_jobspercore": str(settings.search),
        },
        "Classification": {
            "classifiers": ", ".join(settings.classifiers),
            "fastr_plugin": "ProcessPoolExecution" if images else "LinearExecution",
        },
        "Imputation": {"use": str(images or not complete), "strategy": "mean, median, most_frequent, constant, knn"},
        "Resampling": {"Use": "0.20"},
        "Ensemble": {"Method": "top_N", "Size": str(settings.ensemble)},
        "SelectFeatGroup": {"toolbox": "All"},
    }
    if not images:
        changes["SelectFeatGroup"] |= {f"{group}_features": "False" for group in GROUPS}
        changes["SelectFeatGroup"] |= {"log_features": "True, False"}
    return changes
