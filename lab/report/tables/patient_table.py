"""The long table of one row per trial and patient: reading it, and its means and SDs by trial."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lab.evaluation.figures import ERRORS, is_case_figure, spec_of

TRIVIAL = ("copy T1", "linear regression")
"""Baselines that show no place of enhancement: in notes and in the gate."""
GIVEN_MASK = ("painted tumour (mask given)",)
"""Baselines that are given the test patient's true tumour mask."""
BASELINE_NAMES = (*TRIVIAL, *GIVEN_MASK, "painted predicted tumour", "painted predicted core", "boosting")
"""All baselines."""


def lower_is_better(column: str) -> bool:
    """Whether a low value is good: true of errors and false volumes, not of SSIM and Dice."""
    return spec_of(column).direction != "higher"


def is_baseline(trial: object) -> bool:
    """Whether a value of the column `trial` is a baseline."""
    return trial in BASELINE_NAMES


def metric_name(column: str) -> str:
    """A column's title: "MAE, brain" for mae_brain, "Dice (rule)" for dice_rule."""
    return spec_of(column).head


def model_name(value: object) -> str:
    """A model's id as text: "2" for 2 and for 2.0 (pandas' float of it); "" where it is missing."""
    if value is None or value is pd.NA or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def model_title(name: str) -> str:
    """A network in a legend: "model 2" for "2"; the name of a search trial is unchanged."""
    return f"model {name}" if name.isdigit() else name


def per_patient(table: pd.DataFrame) -> pd.DataFrame:
    """The long table with one row per trial and patient: scans of one patient (same `patient_id`) are averaged."""
    if "patient_id" not in table or not table.duplicated(["trial", "patient_id"]).any():
        return table.reset_index(drop=True)
    keys = ["trial", "patient_id"]
    how = {name: "mean" if is_case_figure(name) else "first" for name in table.columns if name not in keys}
    how |= {"enhancing": "max"} if "enhancing" in table else {}
    return table.groupby(keys, sort=False, as_index=False).agg(how)


def summarise(patients: pd.DataFrame) -> pd.DataFrame:
    """One row per trial or baseline: trial, label, model, loss, rival, patients and `<column>_mean`, `_sd`, `_n`.

    `patients` is the long table of one row per trial and scan; scans of one patient are averaged first. SDs are sample
    SDs (n - 1); an empty cell (a region that is empty in that patient) does not count. Trials come first, grouped by
    loss, baselines last.
    """
    missing = [column for column in ("trial", "label", "case_id", *ERRORS) if column not in patients]
    if missing:
        raise ValueError(f"the per-patient table lacks the column(s) {', '.join(missing)}")
    if patients.empty:
        raise ValueError("the per-patient table is empty: no trial has been evaluated yet")
    repeated = patients.duplicated(["trial", "case_id"])
    if repeated.any():
        first = patients[repeated].iloc[0]
        raise ValueError(f"patient {first['case_id']} is in the per-patient table twice for trial {first['trial']}")
    rows = []
    for trial, group in per_patient(patients).groupby("trial", sort=False):
        first = group.iloc[0]
        row: dict[str, Any] = {
            "trial": trial,
            "label": str(first["label"]),
            "model": model_name(first.get("model")),
            "loss": first.get("loss"),
            "rival": is_baseline(trial),
            "patients": len(group),
        }
        for column in ERRORS:
            values = group[column].dropna().to_numpy(float)
            row[f"{column}_mean"] = values.mean() if values.size else np.nan
            row[f"{column}_sd"] = values.std(ddof=1) if values.size > 1 else np.nan
            row[f"{column}_n"] = values.size
        rows.append(row)
    table = pd.DataFrame(rows)
    losses = {loss: position for position, loss in enumerate(table.loc[~table["rival"], "loss"].unique())}
    order = table["loss"].map(losses).where(~table["rival"], len(losses))
    return table.assign(order=order).sort_values("order", kind="stable").drop(columns="order").reset_index(drop=True)
