"""Registry of the scorecard's figures: how each is computed and pooled, its name, and where it is shown.

All lists of figures (tables, charts, saved views, objectives, the gate, notes and cards) are read from `FIGURES`. To
add a figure, add an entry: with `measure`, a function of one case, it is a new column of the per-patient table; with
`pooling` it is also a figure of a group of patients. An entry with `truths` exists once for each definition of the true
enhancement, as "dice_rule" and "dice_expert".
"""

from __future__ import annotations

from dataclasses import replace

from lab.evaluation.artefacts import checkerboard, sharpness
from lab.evaluation.enhancement import SUMS, TOLERANCE_MM, dice_of, stated_tumour
from lab.evaluation.figure_spec import (
    CONTRAST,
    KAPPA,
    FigureSpec,
    JudgedCase,
    Place,
    Pooling,
    auc_of,
    concordance_of,
    limit_of_agreement,
    mean,
    share,
)
from lab.evaluation.noise_floor import floor
from lab.evaluation.place.sample_spread import SAMPLE_FIGURES
from lab.evaluation.place.voxel_specs import voxel_specs
from lab.io.case_file import TUMOUR

TRUTHS = {
    "rule": "the paper's rule, T1GD - T1 > {threshold:g} within {tolerance_mm:g} mm of the tumour",
    "expert": "the data set's expert label, within {tolerance_mm:g} mm of the tumour",
}
"""Definition of the true enhancement -> description."""


def _error(name: str) -> FigureSpec:
    """One of the paper's nine image errors: "MAE, brain" for mae_brain."""
    kind, _, region = name.partition("_")
    decimals = 4 if kind == "mse" else 3
    return FigureSpec(
        title=f"{kind.upper()}, {region}",
        decimals=decimals,
        direction="higher" if kind == "ssim" else "lower",
        shown=("objective", *_SHOWN_ERRORS.get(name, ())),
    )


def _tumour_dice(case: JudgedCase) -> float:
    """Dice of the stated tumour with the mask; NaN where none is stated."""
    if case.tumour is None:
        return float("nan")
    return dice_of(stated_tumour(case.tumour, case.brain, case.spacing_mm), (case.flags & TUMOUR) != 0)


_SHOWN_ERRORS: dict[str, tuple[Place, ...]] = {
    "mae_brain": (
        "boxes", "forest", "effects", "spread", "study note", "trial note", "model card", "view", "bars", "search",
    ),
    "mae_tumour": (
        "boxes", "forest", "effects", "spread", "study note", "trial note", "model card", "view", "bars", "search",
    ),
    "ssim_brain": ("boxes", "forest", "effects", "spread", "study note", "trial note", "model card", "bars"),
    "ssim_tumour": ("boxes",),
}  # fmt: skip
KINDS = ("mae", "mse", "ssim")
REGIONS = ("image", "brain", "tumour")
ERRORS = tuple(f"{kind}_{region}" for region in REGIONS for kind in KINDS)
"""The columns of the paper's tables."""

FIGURES: dict[str, FigureSpec] = {
    **{f"{kind}_{region}": _error(f"{kind}_{region}") for kind in KINDS for region in REGIONS},
    "mae_balanced": FigureSpec(
        title="balanced MAE", decimals=3, direction="lower",
        meaning="mean of the MAE over the enhancing part of the tumour and over the rest of it",
        shown=("pooled", "card", "effects", "spread", "bars", "objective", "search"),
    ),
    "ml_near": FigureSpec(title="volume of tumour and surroundings", unit="ml", decimals=1, direction="none"),
    "ml_predicted": FigureSpec(title="predicted enhancing volume", unit="ml", decimals=1, direction="none"),
    "enhancement_level": FigureSpec(title="enhancement level", decimals=2, direction="none"),
    "contrast_concordance": FigureSpec(
        title="contrast concordance", short="contrast concord.", decimals=2, direction="higher", pooling=CONTRAST,
        meaning="Lin's, of the predicted and the true rise over T1, voxel by voxel near the tumour; painting all or "
        "nothing has 0",
        shown=("pooled", "card", "forest", "effects", "model card", "gate"),
    ),
    "contrast_pooled": FigureSpec(
        title="contrast concordance, pooled", decimals=3, direction="higher", of_case=False, pooling=CONTRAST,
        shown=("trial note", "view", "bars", "trade", "objective", "search"),
    ),
    "contrast_tumour": FigureSpec(
        title="contrast concordance inside the tumour", decimals=3, direction="higher", of_case=False, pooling=CONTRAST,
    ),
    **{name: FigureSpec(title=name.replace("_", " "), decimals=3, direction="none") for name in SUMS},
    "ml": FigureSpec(title="true enhancing volume", unit="ml", decimals=1, direction="none", truths=True),
    "enhances": FigureSpec(title="enhances", decimals=0, direction="none", truths=True),
    "overlap_ml": FigureSpec(title="overlap", unit="ml", decimals=1, direction="higher", truths=True),
    "auc": FigureSpec(
        title="AUC", decimals=2, direction="higher", truths=True, of_case=False,
        pooling=auc_of("enhancement_level", "enhances"),
        meaning="does the patient enhance? area under the ROC curve; 0.5 = chance",
        shown=("pooled", "card", "study note", "model card", "gate"),
    ),
    "dice": FigureSpec(
        title="Dice", decimals=2, direction="higher", truths=True, meaning="mean over patients",
        shown=("pooled", "effects", "spread", "objective"), shown_rule=("forest",),
    ),
    "dice_pooled": FigureSpec(
        title="pooled Dice", decimals=2, direction="higher", truths=True, of_case=False,
        pooling=share({"overlap_ml": 2}, {"ml": 1, "ml_predicted": 1}),
        meaning="overlap of predicted and true enhancement, of the summed volumes",
        shown=("pooled", "card", "study note", "trial note", "view", "bars", "trade", "objective"),
    ),
    "kappa": FigureSpec(
        title="kappa", decimals=2, direction="higher", truths=True, of_case=False, pooling=KAPPA,
        meaning="agreement voxel by voxel beyond chance (Cohen); painting all or nothing has 0",
        shown=("pooled", "card", "model card", "objective", "gate"),
    ),
    "sensitivity": FigureSpec(title="sensitivity", decimals=2, direction="higher", truths=True),
    "sensitivity_pooled": FigureSpec(
        title="pooled sensitivity", short="sensit.", decimals=2, direction="higher", truths=True, of_case=False,
        pooling=share({"overlap_ml": 1}, {"ml": 1}), meaning="share of the true volume that is predicted",
        shown=("pooled", "card", "model card"),
    ),
    "precision": FigureSpec(title="precision", decimals=2, direction="higher", truths=True),
    "precision_pooled": FigureSpec(
        title="pooled precision", short="precis.", decimals=2, direction="higher", truths=True, of_case=False,
        pooling=share({"overlap_ml": 1}, {"ml_predicted": 1}), meaning="share of the predicted volume that is true",
        shown=("pooled", "card"),
    ),
    "concordance": FigureSpec(
        title="concordance", short="concord.", decimals=2, direction="higher", truths=True, of_case=False,
        pooling=concordance_of("ml_predicted", "ml"),
        meaning="Lin's, of predicted and true volume; 1 = equal in every patient", shown=("pooled", "card", "gate"),
    ),
    "bias_ml": FigureSpec(
        title="bias", unit="ml", decimals=1, direction="nearer to 0", truths=True,
        meaning="predicted - true volume, mean over patients", shown=("pooled", "card"),
    ),
    "bias_loa_low": FigureSpec(
        title="lower limit of agreement", unit="ml", decimals=1, direction="none", truths=True, of_case=False,
        pooling=limit_of_agreement("bias_ml", -1), shown=("pooled",),
    ),
    "bias_loa_high": FigureSpec(
        title="upper limit of agreement", unit="ml", decimals=1, direction="none", truths=True, of_case=False,
        pooling=limit_of_agreement("bias_ml", 1), shown=("pooled",),
    ),
    "lesions": FigureSpec(title="true lesions", decimals=0, direction="none", truths=True),
    "found": FigureSpec(title="lesions found", decimals=0, direction="higher", truths=True),
    "missed": FigureSpec(title="lesions missed", decimals=0, direction="lower", truths=True),
    "false": FigureSpec(title="false lesions", decimals=0, direction="lower", truths=True),
    "lesions_found": FigureSpec(
        title="lesions found", unit="%", decimals=0, percent=True, direction="higher", truths=True, of_case=False,
        pooling=share({"found": 1}, {"lesions": 1}), meaning="of the true lesions",
        shown=("pooled", "card", "model card"),
    ),
    "lesions_false": FigureSpec(
        title="false lesions a patient", decimals=1, direction="lower", truths=True, of_case=False,
        pooling=mean("false"), meaning="predicted lesions that touch no true one",
        shown=("pooled", "card", "model card"),
    ),
    "hallucinated_ml": FigureSpec(
        title="hallucinated volume", short="halluc.", unit="ml", decimals=1, direction="lower", truths=True,
        meaning="predicted in patients who do not enhance, mean", shown=("pooled", "card", "study note", "model card"),
        shown_rule=("effects", "forest", "spread", "trial note", "view", "bars", "trade"),
    ),
    "contrast": FigureSpec(
        title="contrast shown", unit="%", decimals=0, percent=True, direction="nearer to 1", truths=True,
        meaning="of the true rise in signal, where it truly enhances", shown=("pooled", "card", "bars"),
        shown_rule=("trial note",),
    ),
    "cnr": FigureSpec(title="contrast-to-noise", decimals=1, direction="higher", truths=True, shown=("pooled",)),
    "cnr_true": FigureSpec(title="contrast-to-noise of the true scan", decimals=1, direction="none", truths=True),
    "voxel_auc": FigureSpec(
        title="voxel AUC as read", decimals=2, direction="higher",
        meaning="of the probability where one is stated, else of the contrast; against the expert's label where there "
        "is one, else the paper's rule", shown=("objective", "view", "search"),
    ),
    **voxel_specs("contrast"),
    **voxel_specs("probability"),
    **voxel_specs("core"),
    **SAMPLE_FIGURES,
    "probability_level": FigureSpec(title="probability level", decimals=2, direction="none"),
    "tumour_dice": FigureSpec(
        title="Dice of the stated tumour", short="tumour Dice", decimals=2, direction="higher", measure=_tumour_dice,
        meaning="of the tumour where its stated probability exceeds 0.5, with the mask; mean over patients",
        shown=("pooled", "card", "model card"),
    ),
    "midline_ml_true": FigureSpec(title="true enhancement at the midline", unit="ml", decimals=1, direction="none"),
    "midline_ml_predicted": FigureSpec(
        title="predicted enhancement at the midline", unit="ml", decimals=1, direction="none"
    ),
    "midline_ml_false": FigureSpec(
        title="false enhancement at the midline", unit="ml", decimals=2, direction="lower",
        meaning="enhancement predicted in the fissure between the hemispheres and not there", shown=("pooled", "card"),
    ),
    "noise_sd": FigureSpec(
        title="noise SD of T1GD", decimals=3, direction="none", measure=lambda case: case.noise_sd
    ),
    "floor_mae": FigureSpec(
        title="noise floor of the MAE", decimals=3, direction="none",
        measure=lambda case: floor(case.noise_sd)["floor_mae"],
    ),
    "floor_mse": FigureSpec(
        title="noise floor of the MSE", decimals=4, direction="none",
        measure=lambda case: floor(case.noise_sd)["floor_mse"],
    ),
    "checkerboard": FigureSpec(
        title="checkerboard", short="checkers", decimals=4, direction="lower",
        meaning="size of grid-locked patterns of two voxels, normalised units",
        measure=lambda case: checkerboard(case.prediction, case.brain), shown=("pooled", "card", "bars"),
    ),
    "checkerboard_true": FigureSpec(
        title="checkerboard of T1GD", decimals=4, direction="none", meaning="what the true scan has of them by itself",
        measure=lambda case: checkerboard(case.truth, case.brain),
    ),
    "sharpness": FigureSpec(
        title="sharpness", decimals=2, direction="nearer to 1", meaning="1 = as sharp as the true scan without its "
        "noise", measure=lambda case: sharpness(case.prediction, case.truth, case.brain, case.noise_sd),
        shown=("pooled", "card", "spread", "bars"),
    ),
    "dice_painted": FigureSpec(title="Dice of painting all", decimals=2, direction="none", of_case=False, truths=True),
}  # fmt: skip

_HIGHER = ("ssim", "dice", "sensitivity", "precision", "auc", "found", "cnr", "concordance")
"""First words of unregistered figures for which higher is better."""


def spec_of(name: str) -> FigureSpec:
    """The spec of a figure or a column: "auc", "dice_rule" (the title then names the truth), "mae_brain".

    An unregistered figure is named by its parts and counts as an error (lower is better) unless its first word is in
    `_HIGHER`.
    """
    base, truth = split_truth(name)
    if truth:
        return replace(FIGURES[base], title=f"{FIGURES[base].title} ({truth})")
    if name in FIGURES:
        return FIGURES[name]
    kind, _, rest = name.partition("_")
    title = f"{kind.upper()}, {rest.replace('_', ' ')}" if rest else kind
    return FigureSpec(title=title, decimals=3, direction="higher" if kind in _HIGHER else "lower", of_case=False)


def shown_in(place: Place) -> tuple[str, ...]:
    """The columns and metrics shown in a place, in the order of `FIGURES`: "dice_rule" and "dice_expert"."""
    names = []
    for name, spec in FIGURES.items():
        if place in spec.shown:
            names += [f"{name}_{truth}" for truth in TRUTHS] if spec.truths else [name]
        elif place in spec.shown_rule:
            names.append(f"{name}_rule")
    return tuple(names)


def group_figures(place: Place, *, truths: bool) -> tuple[str, ...]:
    """The figures of a group of patients shown in a place: those compared with a truth, or the rest.

    Among the rest, figures with their own pooling come first.
    """
    found = [name for name, spec in FIGURES.items() if place in spec.shown and spec.truths == truths]
    return tuple(found if truths else sorted(found, key=lambda name: FIGURES[name].pooling is None))


def pooling_of(name: str) -> Pooling:
    """Pooling of a figure over patients."""
    return FIGURES[name].pooling or mean(name)


def split_truth(name: str) -> tuple[str, str]:
    """A figure and its definition of truth: ("dice", "rule") for "dice_rule", ("mae_brain", "") for an image error."""
    base, _, truth = name.rpartition("_")
    return (base, truth) if truth in TRUTHS and base in FIGURES and FIGURES[base].truths else (name, "")


def is_case_figure(column: str) -> bool:
    """Whether a column of the per-patient table holds a figure of `FIGURES`, which can be averaged."""
    name, _ = split_truth(column)
    return name in FIGURES and FIGURES[name].of_case


def truth_in_words(truth: str, *, threshold: float = 0.3) -> str:
    """A definition of truth in words: "the paper's rule, T1GD - T1 > 0.3 within 3 mm of the tumour"."""
    return TRUTHS[truth].format(threshold=threshold, tolerance_mm=TOLERANCE_MM)
