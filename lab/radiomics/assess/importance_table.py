"""Which features carry the classifier over all splits of a cross-validation, and how often are they chosen at all?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lab.stats.intervals import CONFIDENCE, corrected_t


def summarise_importances(
    importances: pd.DataFrame, *, splits: int, train: float, test: float, level: float = CONFIDENCE
) -> pd.DataFrame:
    """One row a feature, the most important first: feature, importance, low, high, selected (share of splits), splits.

    `importances` has a row a split and selected feature: repeat, fold, feature, importance (drop of the test AUC when
    the feature is permuted). A feature that a split did not select has no importance there: 0. The interval is that of
    the corrected t, for the (mean) patients that a split trains and tests on; NaN with one split. Raises ValueError
    where there are more splits in the table than said.
    """
    wide = importances.pivot_table(index=["repeat", "fold"], columns="feature", values="importance")
    if len(wide) > splits:
        raise ValueError(f"importances of {len(wide)} splits, but there are {splits}")
    rows = []
    for name in wide.columns:
        values = np.zeros(splits)
        found = wide[name].dropna().to_numpy(float)
        values[: len(found)] = found
        low = high = np.nan
        if splits > 1:
            _, low, high, *_ = corrected_t(values, train=train, test=test, level=level, bounds=(-1.0, 1.0))
        rows.append((str(name), float(values.mean()), low, high, len(found) / splits, splits))
    table = pd.DataFrame(rows, columns=["feature", "importance", "low", "high", "selected", "splits"])
    order = ["importance", "selected", "feature"]
    return table.sort_values(order, ascending=[False, False, True], ignore_index=True)
