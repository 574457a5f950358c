"""How good each method is, as aligned text for a terminal."""

from __future__ import annotations

import numpy as np
import pandas as pd

COLUMNS = {"auc": "AUC (DeLong)", "auc_splits": "mean over splits", "brier": "Brier", "slope": "calibration slope"}


def performance_text(performance: pd.DataFrame) -> str:
    """The table of `lab.radiomics.assess.assess.Assessment.performance`, a line a method."""
    table = pd.DataFrame({"": performance["method"], "patients": performance["patients"].astype(str)})
    for name, head in COLUMNS.items():
        table[head] = [_interval(row, name) for _, row in performance.iterrows()]
    widths = [max(len(str(head)), *(len(cell) for cell in table[head])) for head in table]
    lines = [[str(head) for head in table], *table.to_numpy().tolist()]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" if place == 0 else f"{cell:>{width}}" for place, (cell, width) in enumerate(row))
        for row in (list(zip(line, widths)) for line in lines)
    )


def _interval(row: pd.Series, name: str) -> str:
    value, low, high = (float(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:.2f} ({low:.2f} to {high:.2f})" if np.isfinite(value) else "-"
