"""Limits of a model for its card, in sentences with figures measured on its test patients."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lab.io.files import plural
from lab.radiomics.assess.outer_estimate import UNKNOWN, doubt
from lab.report.tables.model_figures import EVERYBODY, EXTERNAL, as_cell
from lab.report.tables.strongest import score_read

FEW = 30
"""Number of test patients below which the card warns of the small sample."""
NO_GROUPS = "Figures by vendor, field strength or grade are not known: the cohort's index does not hold these."


def network_limits(patients: pd.DataFrame, figures: pd.DataFrame) -> list[str]:
    """Limits of a network from its table of test patients and `lab.report.tables.model_figures.network_figures`."""
    truth = "expert" if patients["ml_expert"].notna().all() else "rule"
    known = {row.figure: row for row in figures[figures["group"] == EVERYBODY].itertuples()}
    lines = _few(patients["patient_id"].nunique())
    if row := known.get("sensitivity_pooled"):
        share = as_cell("sensitivity_pooled", row.value, row.low, row.high)
        lines.append(f"Pooled sensitivity for the truly enhancing volume ({truth}): {share}.")
    missed, lesions = (int(patients[f"{name}_{truth}"].sum()) for name in ("missed", "lesions"))
    lines.append(f"Enhancing lesions missed: {missed} of {lesions}.")
    volumes = {"": f"hallucinated_ml_{truth}"}
    if score_read(patients) == "probability":
        volumes = {" by the stated probability": f"probability_hallucinated_ml_{truth}", " by the image": volumes[""]}
    for read, column in volumes.items():
        volume = patients[column]
        silent = patients.loc[volume.notna(), "patient_id"].nunique()
        mean = f": {volume.mean():.1f} ml on average, {volume.max():.1f} ml in the worst" if silent else ""
        who = f"the {plural(silent, 'test patient')} who do not enhance"
        lines.append(f"Volume hallucinated{read} in {who}{mean or ': unknown'}.")
    error, floor = patients["mae_brain"], patients["floor_mae"].mean()
    worst = patients.loc[error.idxmax(), "case_id"]
    lines.append(
        f"MAE over the brain: {error.mean():.3f} on average, {error.max():.3f} in the worst patient ({worst}); the "
        f"noise of the true scan alone makes {floor:.3f}."
    )
    own, true, sharp = (patients[name].mean() for name in ("checkerboard", "checkerboard_true", "sharpness"))
    lines.append(f"Checkerboard index {own:.4f} (true scans {true:.4f}), sharpness {sharp:.2f} (true scans 1).")
    if truth == "rule":
        lines.append("Truth is the paper's rule, T1GD - T1 above a threshold, which also marks vessels and dura.")
    return lines + [NO_GROUPS] * (not set(figures["group"]) - {EVERYBODY, "enhancing", "not enhancing"})


def classifier_caution(figures: pd.DataFrame) -> str:
    """The warning for a classifier whose AUC was not shown to exceed chance, or ""."""
    known = figures[(figures["group"] == EVERYBODY) & (figures["figure"] == "auc")]
    if known.empty:
        return UNKNOWN
    row = known.iloc[0]
    return doubt(float(row["value"]), float(row["low"]), float(row["high"]), int(row["n"]))


def classifier_limits(facts: dict[str, Any], figures: pd.DataFrame) -> list[str]:
    """Limits of a classifier from the facts of its study and its figures."""
    everybody = figures[figures["group"] == EVERYBODY]
    lines = _few(int(everybody["n"].max())) + [str(warning) for warning in facts.get("warnings", [])]
    for row in everybody[everybody["figure"] == "calibration_slope"].itertuples():
        slope = as_cell("calibration_slope", row.value, row.low, row.high)
        lines.append(f"Calibration slope {slope}: below 1 probabilities are too extreme, above 1 not extreme enough.")
    lines += [
        f"{facts.get('events', '?')} of {facts.get('patients', '?')} patients had the event; at another prevalence the "
        "probabilities are off.",
        f"The label is {facts.get('label_rule', 'unknown')}: it is no better than that.",
        "It needs a mask of the tumour, segmented as in the training data.",
    ]
    return lines + [NO_GROUPS] * all(name == EVERYBODY or name.startswith(EXTERNAL) for name in figures["group"])


def _few(count: int) -> list[str]:
    return [f"It was tested on {plural(count, 'patient')} only: intervals are wide."] if count < FEW else []
