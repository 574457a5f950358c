"""How well a classifier tells apart patients whom it did not learn from: the estimate of its outer cross-validation.

A probability, and still more a verdict "above the threshold", means nothing where this was not shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

CHANCE = 0.5
NOT_SHOWN = "this model was not shown to tell patients apart"
UNKNOWN = f"{NOT_SHOWN}: its AUC on patients whom it had not learned from is unknown; fit it again to have it measured"


@dataclass(frozen=True, kw_only=True)
class OuterEstimate:
    """Figures over held-out patients, each scored by classifiers that had not seen it; 95 % intervals."""

    auc: float
    auc_low: float
    auc_high: float
    auc_patients: int
    auc_events: int
    calibration_slope: float | None
    """1 is ideal; None where it could not be fitted."""
    calibration_slope_low: float | None
    calibration_slope_high: float | None

    @property
    def doubt(self) -> str:
        """What must be said beside every answer where the AUC was not shown to be above chance, else ""."""
        return doubt(self.auc, self.auc_low, self.auc_high, self.auc_patients)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> OuterEstimate | None:
        """From a row of `Assessment.performance` (assess.py); None where there is no AUC with an interval."""
        slope = {f"calibration_slope{end}": _number(row.get(f"slope{end}")) for end in ("", "_low", "_high")}
        areas = {name: _number(row.get(name)) for name in ("auc", "auc_low", "auc_high")}
        if None in areas.values():
            return None
        return cls.read({**areas, "auc_patients": int(row["patients"]), "auc_events": int(row["events"]), **slope})

    @classmethod
    def read(cls, known: Mapping[str, Any] | None) -> OuterEstimate | None:
        """From what `as_dict` gave, None from None. Raises ValueError where the figures are none, or TypeError."""
        if known is None:
            return None
        found = cls(**known)
        areas = (found.auc_low, found.auc, found.auc_high)
        numbers = all(isinstance(value, int | float) for value in areas)
        if not numbers or not 0 <= areas[0] <= areas[1] <= areas[2] <= 1:
            raise ValueError(f"an AUC of {found.auc} with the interval {found.auc_low} to {found.auc_high}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)


def doubt(auc: float, low: float, high: float, patients: int) -> str:
    """ "this model was not shown to tell patients apart", with its AUC, unless the interval lies above 0.5; else ""."""
    if low > CHANCE:
        return ""
    return (
        f"{NOT_SHOWN}: on {patients} patients whom it had not learned from its AUC is {auc:.2f} (95 % interval "
        f"{low:.2f} to {high:.2f})"
    )


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
