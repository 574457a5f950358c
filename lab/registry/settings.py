"""What a challenger has to show before it becomes champion. Nothing slow is imported: these are flags."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """Score, margins and least number of patients of the gate."""

    score: str = "contrast_concordance"
    """What a network must be better in: `contrast_concordance`, or `kappa`, `concordance` (of volumes) or `auc` with
    `_expert` or `_rule`."""
    mae_margin: float = 0.005
    """By so much, in normalised units, the brain's MAE may be worse: a tenth of the published 0.048, and less than its
    SD over patients, 0.008."""
    hallucinated_margin_ml: float = 0.5
    """By so much the mean volume made up may be worse: a sphere of 10 mm, the least lesion that RANO calls measurable,
    and what makes a tumour enhancing in the preparation."""
    brier_margin: float = 0.025
    """By so much a classifier's Brier score may be worse: a tenth of what saying one half of everybody has."""
    least_patients: int = 10
    """With fewer common test patients nothing is compared."""
    resamples: int = 4000
    """Draws of the bootstrap."""
    seed: int = 0
    """Of the draws."""
