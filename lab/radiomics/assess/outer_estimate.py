"""A classifier's performance on held-out patients, without which neither probability nor decision means anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CHANCE = 0.5
NOT_SHOWN = "this model was not shown to tell patients apart"
UNKNOWN = f"{NOT_SHOWN}: its AUC on held-out patients is unknown; fit it again to measure it"


@dataclass(frozen=True, kw_only=True)
class OuterEstimate:
    """Performance on held-out patients, each scored by classifiers that were not trained on them; 95 % intervals."""

    auc: float
    auc_low: float
    auc_high: float
    auc_patients: int
    auc_events: int
    calibration_slope: float | None  # 1 is ideal; None if it could not be fitted
    calibration_slope_low: float | None
    calibration_slope_high: float | None

    @property
    def doubt(self) -> str:
        """Warning to show beside every prediction if the AUC was not shown to be above chance, else ""."""
        return doubt(self.auc, self.auc_low, self.auc_high, self.auc_patients)

    def describe(self) -> str:
        """In words: "AUC 0.83 (0.76 to 0.89) and calibration slope 0.95 (0.70 to 1.20) on 239 held-out patients"."""
        text = f"AUC {self.auc:.2f} ({self.auc_low:.2f} to {self.auc_high:.2f})"
        slope, low, high = self.calibration_slope, self.calibration_slope_low, self.calibration_slope_high
        if slope is not None:
            text += f" and calibration slope {slope:.2f}"
            text += f" ({low:.2f} to {high:.2f})" if low is not None and high is not None else ""
        return f"{text} on {self.auc_patients} held-out patients"

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> OuterEstimate | None:
        """The estimate of a row of `Assessment.performance` (assess.py); None if it has no AUC with an interval."""
        slope = {f"calibration_slope{end}": _number(row.get(f"slope{end}")) for end in ("", "_low", "_high")}
        areas = {name: _number(row.get(name)) for name in ("auc", "auc_low", "auc_high")}
        if None in areas.values():
            return None
        return cls.read({**areas, "auc_patients": int(row["patients"]), "auc_events": int(row["events"]), **slope})

    @classmethod
    def read(cls, known: Mapping[str, Any] | None) -> OuterEstimate | None:
        """The estimate of a dict; None for None. Raises ValueError or TypeError for invalid figures."""
        if known is None:
            return None
        found = cls(**known)
        areas = (found.auc_low, found.auc, found.auc_high)
        numbers = all(isinstance(value, int | float) for value in areas)
        if not numbers or not 0 <= areas[0] <= areas[1] <= areas[2] <= 1:
            raise ValueError(f"an AUC of {found.auc} with the interval {found.auc_low} to {found.auc_high}")
        return found


def doubt(auc: float, low: float, high: float, patients: int) -> str:
    """The warning NOT_SHOWN with the AUC and its interval, or "" if the interval lies above 0.5."""
    text = f"on {patients} held-out patients its AUC is {auc:.2f} (95 % interval {low:.2f} to {high:.2f})"
    return "" if low > CHANCE else f"{NOT_SHOWN}: {text}"


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
