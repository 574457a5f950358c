"""DeLong's tests between methods on their common patients, with Holm's correction."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from lab.stats.auc import delong_test

COLUMNS = ("reference", "method", "patients", "events", "auc_reference", "auc_method", "difference", "low", "high",
           "z", "p", "p_holm", "note")  # fmt: skip


def compare_all(patients: pd.DataFrame, references: list[str]) -> pd.DataFrame:
    """Every method against each reference: columns `COLUMNS`; differences are reference - method.

    `patients` has one row per patient and method: method, patient_id, label, score. The tests against one reference are
    one family; a pair of two references belongs to the first of them. A pair with fewer than two common patients of a
    class is "too few" and not part of the correction.
    """
    scores = patients.pivot(index="patient_id", columns="method", values="score")
    labels = patients.groupby("patient_id")["label"].max()
    rows = []
    for place, reference in enumerate(references):
        for method in dict.fromkeys(patients["method"]):
            if method in references[: place + 1]:
                continue
            both = scores[[reference, method]].dropna()
            rows.append((reference, method, *_compared(labels[both.index], both[reference], both[method])))
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "p_holm"])
    table["p_holm"] = np.nan
    for _, family in table.groupby("reference"):
        table.loc[family.index, "p_holm"] = holm(family["p"].to_numpy(float))
    return table[list(COLUMNS)]


def _compared(labels: pd.Series, reference: pd.Series, method: pd.Series) -> tuple[object, ...]:
    count, events = len(labels), int(labels.sum())
    if min(events, count - events) < 2:
        return count, events, *[np.nan] * 7, "too few"
    found = delong_test(labels, reference, method)
    return count, events, *found, "no test: DeLong's variance is 0" if np.isnan(found.p) else ""


def holm(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Holm's step-down adjusted p-values of one family; NaN stays NaN and does not count."""
    values = np.asarray(p, np.float64)
    adjusted = np.full(values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    return adjusted
