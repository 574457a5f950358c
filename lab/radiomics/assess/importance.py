"""Which features carry a split's test AUC? Each is permuted among the test cases, several times."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from lab.radiomics.pipeline.inner_search import patient_auc
from lab.radiomics.pipeline.steps import score, selected

REPEATS = 10


def permutation_importance(
    pipeline: Pipeline,
    cases: pd.DataFrame,
    labels: np.ndarray,
    patients: np.ndarray,
    *,
    seed: int,
    repeats: int = REPEATS,
) -> pd.DataFrame:
    """Columns feature and importance of the selected features of a fitted pipeline, the most important first.

    Importance is the mean drop of the AUC over patients when the feature's values are permuted over the (test) cases
    (Breiman, Machine Learning 2001). Features that say the same share it, and with few test patients it is coarse:
    average it over splits.
    """
    names = selected(pipeline)
    seen = pipeline[:-1].transform(cases)[names]  # (cases, selected)
    last = pipeline[-1:]
    rng = np.random.default_rng(seed)
    copies = np.tile(seen.to_numpy(np.float64), (len(names) * repeats, 1, 1))  # (selected * repeats, cases, selected)
    for number in range(len(copies)):
        feature = number // repeats
        copies[number, :, feature] = rng.permutation(copies[number, :, feature])
    stacked = pd.DataFrame(copies.reshape(-1, len(names)), columns=names)
    scores = score(last, stacked).reshape(len(names), repeats, len(seen))
    whole = patient_auc(patients, labels, score(last, seen))
    drops = [whole - np.mean([patient_auc(patients, labels, one) for one in group]) for group in scores]
    table = pd.DataFrame({"feature": names, "importance": drops})
    return table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)
