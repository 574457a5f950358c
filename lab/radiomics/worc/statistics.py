"""Inside WORC's process: WORC's own statistics over splits that were trained one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lab.radiomics.worc.settings import ESTIMATOR, LABEL, PERFORMANCE, RANKED, ROC
from lab.radiomics.worc.training import Job, write_config


def evaluate(job: Job) -> dict[str, str]:
    """WORC's own statistics, ROC curve and ranked posteriors over all splits, from the records of the single ones."""
    from sklearn.linear_model import LogisticRegression
    from WORC.IOparser.config_io_classifier import load_config
    from WORC.plotting.plot_estimator_performance import plot_estimator_performance
    from WORC.plotting.plot_ranked_scores import plot_ranked_scores
    from WORC.plotting.plot_ROC import plot_ROC

    labels, splits = job["y"], job["records"]
    tested = [list(split["posteriors"]) for split in splits]
    series = pd.Series(
        {
            "classifiers": [Recorded(list(split["posteriors"].values()), LogisticRegression()) for split in splits],
            "X_train": [[] for _ in splits],
            "X_test": [list(range(len(cases))) for cases in tested],
            "Y_train": [np.array([labels[case] for case in split["train"]], float) for split in splits],
            "Y_test": [np.array([labels[case] for case in cases], float) for cases in tested],
            "config": load_config(write_config(job["changes"])),
            "patient_ID_train": [np.array(split["train"]) for split in splits],
            "patient_ID_test": [np.array(cases) for cases in tested],
            "random_seed": [0 for _ in splits],
            "feature_labels": [],
        }
    )
    prediction = pd.DataFrame({LABEL: series})
    estimator, results = str(Path(ESTIMATOR).resolve()), Path(job["results"])
    prediction.to_hdf(estimator, key="EstimatorData")
    statistics = plot_estimator_performance(prediction, job["patients"], [LABEL], output="stats", save_memory=False)
    results.mkdir(parents=True, exist_ok=True)
    (results / PERFORMANCE).write_text(
        json.dumps(statistics, indent=2, sort_keys=True, default=float), encoding="utf-8"
    )
    curve = {"ROC_csv": str(results / ROC), "ROC_png": str(results / "ROC_all_0.png")}
    plot_ROC(estimator, job["patients"], label_type=LABEL, **curve)
    plot_ranked_scores(estimator, job["patients"], LABEL, scores="posteriors", output_csv=str(results / RANKED))
    return {}


class Recorded:
    """Stands where WORC looks for a trained classifier, and gives the posteriors that it had."""

    ensemble = True
    ensemble_validation_score = None

    def __init__(self, posteriors: list[float], kind: Any) -> None:
        self.posteriors = np.array(posteriors)
        self.best_estimator_ = kind

    def predict_proba(self, cases: list[int]) -> np.ndarray:
        """(cases, 2) posteriors of label 0 and 1."""
        positive = self.posteriors[cases]
        return np.column_stack([1 - positive, positive])

    def predict(self, cases: list[int]) -> np.ndarray:
        """0 or 1, at one half, as WORC's ensembles decide."""
        return (self.posteriors[cases] >= 0.5).astype(float)
