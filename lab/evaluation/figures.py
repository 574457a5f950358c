"""What every figure is called, how many decimals it is shown with, and which way is better.

`PATIENT` holds the columns of the per-patient table, `POOLED` the figures that are pooled over patients. Figures that
need a definition of truth (see `DEFINITIONS`) have an entry for each: "dice_rule", "dice_expert".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lab.evaluation.enhancement import SUMS, TOLERANCE_MM

Direction = Literal["lower", "higher", "nearer to 0", "nearer to 1", "none"]

DEFINITIONS = {
    "rule": "the paper's rule, T1GD - T1 > {threshold:g} within {tolerance_mm:g} mm of the tumour",
    "expert": "the data set's expert label, within {tolerance_mm:g} mm of the tumour",
}


@dataclass(frozen=True)
class Name:
    """A figure for people."""

    title: str
    """With its unit, such as "hallucinated ml"."""
    decimals: int
    direction: Direction
    meaning: str = ""
    """A few words on what it is, for the line under a table."""
    percent: bool = False
    """Shown as a percentage: 0.25 as 25."""

    def text(self, value: float) -> str:
        """A value as it is shown: "0.71", "-1.2", "25"; "-" where there is none."""
        if value != value:
            return "-"
        shown = f"{self.shown(value):.{self.decimals}f}"
        return shown.lstrip("-") if float(shown) == 0 else shown

    def shown(self, value: float) -> float:
        """The value in the unit that it is shown in."""
        return 100 * value if self.percent else value

    @property
    def hint(self) -> str:
        """Which way is better: "lower is better"; "" where neither is."""
        return "" if self.direction == "none" else f"{self.direction} is better"

    def loss(self, value: float) -> float:
        """How far a value is from ideal: the lower, the better; NaN where no way is better."""
        distance = {"lower": value, "higher": -value, "nearer to 0": abs(value), "nearer to 1": abs(value - 1)}
        return distance.get(self.direction, float("nan"))


def _errors() -> dict[str, Name]:
    """The paper's nine: "MAE, brain" for mae_brain."""
    kinds: dict[str, tuple[int, Direction]] = {"mae": (3, "lower"), "mse": (4, "lower"), "ssim": (3, "higher")}
    return {
        f"{kind}_{region}": Name(f"{kind.upper()}, {region}", decimals, direction)
        for region in ("image", "brain", "tumour")
        for kind, (decimals, direction) in kinds.items()
    }


_PER_DEFINITION = {
    "ml_{}": Name("true enhancing ml", 1, "none"),
    "enhances_{}": Name("enhances", 0, "none"),
    "overlap_ml_{}": Name("overlap ml", 1, "higher"),
    "bias_ml_{}": Name("bias ml, predicted - true", 1, "nearer to 0"),
    "dice_{}": Name("Dice", 2, "higher"),
    "sensitivity_{}": Name("sensitivity", 2, "higher"),
    "precision_{}": Name("precision", 2, "higher"),
    "lesions_{}": Name("true lesions", 0, "none"),
    "found_{}": Name("lesions found", 0, "higher"),
    "missed_{}": Name("lesions missed", 0, "lower"),
    "false_{}": Name("false lesions", 0, "lower"),
    "hallucinated_ml_{}": Name("hallucinated ml", 1, "lower"),
    "contrast_{}": Name("share of the contrast shown", 2, "nearer to 1"),
    "cnr_{}": Name("contrast-to-noise", 1, "higher"),
    "cnr_true_{}": Name("contrast-to-noise of the true scan", 1, "none"),
}

PATIENT: dict[str, Name] = {
    **_errors(),
    "mae_balanced": Name(
        "balanced MAE", 3, "lower", "mean of the MAE over the enhancing part of the tumour and over the rest of it"
    ),
    "ml_near": Name("ml of tumour and surroundings", 1, "none"),
    "ml_predicted": Name("predicted enhancing ml", 1, "none"),
    "enhancement_level": Name("enhancement level", 2, "none"),
    **{
        key.format(definition): Name(f"{name.title} ({definition})", name.decimals, name.direction)
        for definition in DEFINITIONS
        for key, name in _PER_DEFINITION.items()
    },
    "contrast_concordance": Name("contrast concordance", 2, "higher"),
    **{name: Name(name.replace("_", " "), 3, "none") for name in SUMS},
    "midline_ml_true": Name("true enhancing ml at the midline", 1, "none"),
    "midline_ml_predicted": Name("predicted enhancing ml at the midline", 1, "none"),
    "midline_ml_false": Name(
        "false ml at the midline", 2, "lower", "enhancement drawn in the fissure between the hemispheres and not there"
    ),
    "noise_sd": Name("noise SD of T1GD", 3, "none"),
    "floor_mae": Name("floor of the MAE", 3, "none"),
    "floor_mse": Name("floor of the MSE", 4, "none"),
    "checkerboard": Name("checkerboard", 4, "lower", "size of grid-locked patterns of two voxels, normalised units"),
    "checkerboard_true": Name("checkerboard of T1GD", 4, "none", "what the true scan has of them by itself"),
    "sharpness": Name("sharpness", 2, "nearer to 1", "1 = as sharp as the true scan without its noise"),
}

POOLED: dict[str, Name] = {
    "dice_painted": Name("Dice of painting all", 2, "none"),
    "dice_pooled_rule": Name("pooled Dice (rule)", 2, "higher"),
    "dice_pooled_expert": Name("pooled Dice (expert)", 2, "higher"),
    "kappa": Name(
        "kappa", 2, "higher", "agreement voxel by voxel beyond chance (Cohen); painting all or nothing has 0"
    ),
    "kappa_rule": Name("kappa (rule)", 2, "higher"),
    "kappa_expert": Name("kappa (expert)", 2, "higher"),
    "contrast_concordance": Name(
        "contrast concordance",
        2,
        "higher",
        "Lin's, of the drawn and the true rise over T1, voxel by voxel near the tumour; painting all or nothing has 0",
    ),
    "contrast_pooled": Name("contrast concordance, pooled", 3, "higher"),
    "contrast_tumour": Name("contrast concordance inside the tumour", 3, "higher"),
    "auc": Name("AUC", 2, "higher", "does the patient enhance? area under the ROC curve; 0.5 = chance"),
    "dice": Name("Dice, mean", 2, "higher", "mean over patients"),
    "dice_pooled": Name("Dice", 2, "higher", "overlap of drawn and true enhancement, of the summed volumes"),
    "sensitivity_pooled": Name("sensitivity", 2, "higher", "share of the true volume that is drawn"),
    "precision_pooled": Name("precision", 2, "higher", "share of the drawn volume that is true"),
    "concordance": Name("concordance", 2, "higher", "Lin's, of drawn and true volume; 1 = equal in every patient"),
    "bias_ml": Name("bias (ml)", 1, "nearer to 0", "drawn - true volume, mean over patients"),
    "bias_loa_low": Name("lower limit of agreement (ml)", 1, "none"),
    "bias_loa_high": Name("upper limit of agreement (ml)", 1, "none"),
    "lesions_found": Name("lesions found (%)", 0, "higher", "of the true lesions", percent=True),
    "lesions_false": Name("false lesions a patient", 1, "lower", "drawn lesions that touch no true one"),
    "hallucinated_ml": Name("hallucinated ml", 1, "lower", "volume drawn in patients who do not enhance, mean"),
    "contrast": Name(
        "contrast shown (%)", 0, "nearer to 1", "of the true rise in signal, where it truly enhances", percent=True
    ),
    "cnr": Name("contrast-to-noise", 1, "higher"),
    **{key: PATIENT[key] for key in ("midline_ml_false", "checkerboard", "checkerboard_true", "sharpness")},
    "mae_balanced": PATIENT["mae_balanced"],
}

_KINDS: dict[str, Direction] = {
    **dict.fromkeys(("ssim", "dice", "sensitivity", "precision", "auc", "found", "cnr", "concordance"), "higher"),
}


def name_of(figure: str) -> Name:
    """The name of a per-patient column or a pooled figure; one that is not registered is named by its parts.

    An unregistered figure counts as an error (lower is better) unless its first word says otherwise ("ssim", "dice").
    """
    found = PATIENT.get(figure) or POOLED.get(figure)
    if found is not None:
        return found
    kind, _, rest = figure.partition("_")
    title = f"{kind.upper()}, {rest.replace('_', ' ')}" if rest else kind
    return Name(title, 3, _KINDS.get(kind, "lower"))


def definition_words(definition: str, *, threshold: float = 0.3) -> str:
    """A definition of truth in words: "the paper's rule, T1GD - T1 > 0.3 within 3 mm of the tumour"."""
    return DEFINITIONS[definition].format(threshold=threshold, tolerance_mm=TOLERANCE_MM)
