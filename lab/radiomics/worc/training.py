"""Inside WORC's process: one split trained by WORC's search, and what its ensemble consists of."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lab.radiomics.worc.settings import LABEL
from lab.radiomics.worc.shortcuts import InProcess, without_nan

Job = dict[str, Any]
STEPS = (
    "best_imputer",
    "best_groupsel",
    "best_varsel",
    "best_reliefsel",
    "best_modelsel",
    "best_statisticalsel",
    "best_rfesel",
)
"""What lets go of features in a fitted workflow, in WORC's order; the imputer of those without any value."""


def train_split(job: Job) -> dict[str, Any]:
    """Train on the training cases of one split by WORC's search, test on its others; the record of the split."""
    import fastr
    from WORC.classification import SearchCV, fitandscore
    from WORC.classification import trainclassifier as training

    with np.load(job["features"]) as file:
        values = file["values"]
    names = job["labels"]
    cases = [(list(row), names) for row in values]
    data = {
        "patient_IDs": np.asarray(job["cases"]),
        "label": np.asarray(job["y"], float).reshape(1, -1, 1),
        "label_name": [LABEL],
    }
    # The same results sooner: WORC looks every feature's name up in a list, for every patient (20 s a split), tests
    # every value of every fit in Python (half of the time), and starts three processes for every job.
    training.load_features = lambda *_: (data, cases)
    fitandscore.replacenan = SearchCV.replacenan = without_nan
    fastr.create_network = partial(InProcess, seed=job["seed"])
    estimator = Path("estimator.hdf5").resolve()
    training.trainclassifier(
        feat_train=[],
        patientinfo_train=job["patients"],
        config=write_config(job["changes"]),
        output_hdf=str(estimator),
        fixedsplits=job["splits"],
    )
    prediction = pd.read_hdf(estimator)
    return describe(prediction, scores(prediction, job), names)[0]


def write_config(changes: dict[str, dict[str, str]]) -> str:
    """WORC's default configuration with these changes, as a file."""
    import WORC

    config = WORC.WORC(LABEL).defaultconfig()
    config.read_dict({**changes, "Labels": {"label_names": LABEL, "modus": "singlelabel"}})
    path = Path("config.ini").resolve()
    with open(path, "w", encoding="utf-8") as file:
        config.write(file)
    return str(path)


def scores(prediction: Any, job: Job) -> list[dict[str, float]]:
    """Posterior of label 1 by tested case, for every split of a trained WORC experiment."""
    from WORC.plotting.plot_estimator_performance import plot_estimator_performance

    _, posteriors, _, cases = plot_estimator_performance(
        prediction,
        job["patients"],
        [LABEL],
        ensemble_method="top_N",
        ensemble_size=job["ensemble"],
        output="scores",
        save_memory=False,
    )
    return [dict(zip(map(str, ids), map(float, found))) for ids, found in zip(cases, posteriors)]


def describe(prediction: Any, posteriors: list[dict[str, float]], names: list[str]) -> list[dict[str, Any]]:
    """For every split what it predicts, and which workflows and features that came from."""
    records = []
    for model, found in zip(prediction[LABEL]["classifiers"], posteriors):
        members = model.ensemble.estimators
        used = np.zeros(len(names))
        for member in members:
            used[_selected(member, len(names))] += 1
        drawn = model.cv_results_
        inner = {workflow["Number"]: score for workflow, score in zip(drawn["params"], drawn["mean_test_score"])}
        records.append(
            {
                "posteriors": found,
                "used": {name: share for name, share in zip(names, used / len(members)) if share},
                "workflows": [
                    {"score": float(inner[member.best_params_["Number"]]), **_plain(member.best_params_)}
                    for member in members
                ],
                "failed": int(np.isnan(drawn["mean_test_score"]).sum()),
            }
        )
    return records


def _selected(workflow: Any, count: int) -> np.ndarray:
    """Positions of the features that a fitted workflow lets through to its classifier (or principal components)."""
    kept = np.arange(count, dtype=float)[None]
    for step in STEPS:
        selection = getattr(workflow, step, None)
        if selection is not None:
            kept = np.asarray(selection.transform(kept), float)
    return kept[0].astype(int)


def _plain(parameters: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if isinstance(value, (str, int, float))}
