"""Limits of a model in sentences with figures, for its card, measured on its test patients."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lab.io.files import plural
from lab.radiomics.assess.outer_estimate import UNKNOWN, doubt
from lab.report.tables.model_figures import EVERYBODY, as_cell

FEW = 30
"""Number of test patients below which the card warns of the small sample."""


def network_limits(patients: pd.DataFrame, figures: pd.DataFrame) -> list[str]:
    """Limits of a network from its table of test patients and `lab.report.tables.model_figures.network_figures`."""
    truth = "expert" if patients["ml_expert"].notna().all() else "rule"
    known = {row.figure: row for row in figures[figures["group"] == EVERYBODY].itertuples()}
    lines = _few(patients["patient_id"].nunique())
    if "sensitivity_pooled" in known:
        row = known["sensitivity_pooled"]
        share = as_cell("sensitivity_pooled", row.value, row.low, row.high)
        lines.append(f"It draws {share} of the truly enhancing volume ({truth}); the rest is missing in the synthesis.")
    missed, lesions = (float(patients[f"{name}_{truth}"].sum()) for name in ("missed", "lesions"))
    if lesions:
        lines.append(f"{missed:.0f} of {lesions:.0f} enhancing lesions are missed altogether.")
    silent = patients[patients[f"hallucinated_ml_{truth}"].notna()]
    if silent.empty:
        lines.append("None of the test patients is without enhancement: what it makes up in such is not known.")
    else:
        drawn = silent[f"hallucinated_ml_{truth}"]
        lines.append(
            f"In the {plural(silent['patient_id'].nunique(), 'test patient')} who do not enhance it makes up "
            f"{drawn.mean():.1f} ml on average, {drawn.max():.1f} ml in the worst."
        )
    drawn, floor = patients["mae_brain"], patients["floor_mae"].mean()
    worst = patients.loc[drawn.idxmax(), "case_id"]
    lines.append(
        f"MAE over the brain is {drawn.mean():.3f} on average and {drawn.max():.3f} in the worst patient ({worst}); "
        f"the noise of the true scan alone makes {floor:.3f}."
    )
    lines.append(
        f"Grid-locked patterns: {patients['checkerboard'].mean():.4f}, where the true scans have "
        f"{patients['checkerboard_true'].mean():.4f}; sharpness {patients['sharpness'].mean():.2f} (true scan: 1)."
    )
    if truth == "rule":
        lines.append("Truth is the paper's rule, T1GD - T1 above a threshold, which also marks vessels and dura.")
    by_group = set(figures["group"]) - {EVERYBODY, "enhancing", "not enhancing"}
    if not by_group:
        lines.append("Figures by vendor, field strength or grade are not known: the test table does not hold these.")
    return lines


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
    known = {row.figure: row for row in everybody.itertuples()}
    lines = _few(int(everybody["n"].max()))
    lines += [str(warning) for warning in facts.get("warnings", [])]
    if "calibration_slope" in known:
        row = known["calibration_slope"]
        lines.append(
            f"Calibration slope {row.value:.2f} ({row.low:.2f} to {row.high:.2f}): below 1 probabilities are too "
            "extreme, above 1 too timid."
        )
    lines.append(
        f"{facts.get('events', '?')} of {facts.get('patients', '?')} patients had the event; where it is rarer"
    )
    lines[-1] += " or more common, probabilities are off."
    lines.append(f"The label is {facts.get('label_rule', 'unknown')}: it is no better than that.")
    lines.append("It needs a mask of the tumour, drawn or found as in the training data.")
    if set(figures["group"]) == {EVERYBODY}:
        lines.append(
            "Figures by vendor, field strength or grade are not known: the cohort's index does not hold these."
        )
    return lines


def _few(count: int) -> list[str]:
    return [f"It was tested on {plural(count, 'patient')} only: intervals are wide."] if count < FEW else []
