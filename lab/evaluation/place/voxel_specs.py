"""Figures of where the image enhances: voxel AUC, agreement at a threshold chosen on validation patients, and whether
the patient enhances at all.

They exist for the contrast of the predicted image and, where a predictor states them, for its probability and for its
core: how well a painted core would do that the network predicts itself.
"""

from __future__ import annotations

from typing import Any

from lab.evaluation.figure_spec import FigureSpec, Place, Pooling, Values, auc_of, concordance_of, share
from lab.stats.agreement import kappa
from lab.stats.auc import auc_of_counts

ENDINGS = {"contrast": "", "probability": ", probability", "core": ", own core"}
"""Score of a voxel -> what ends the titles of its figures."""
LEVELS = {"contrast": "enhancement_level", "probability": "probability_level"}
"""Score of a voxel -> column of the level that the least enhancing volume of a patient reaches."""


def voxel_specs(score: str) -> dict[str, FigureSpec]:
    """The figures of a score of `ENDINGS`; those of the core, which is a rival, are shown beside the others alone."""

    def spec(title: str, decimals: int, direction: Any = "higher", *, at: bool = False, **more: Any) -> FigureSpec:
        title += (" at the chosen threshold" if at else "") + ENDINGS[score]
        return FigureSpec(title=title, decimals=decimals, direction=direction, truths=True, **more)

    place: tuple[Place, ...] = ("pooled", "place")
    card: tuple[Place, ...] = ("model card",) if score == "probability" else ()

    def also(*places: Place) -> tuple[Place, ...]:
        return place if score == "core" else (*place, *card, *places)

    of_patients = {}
    if score == "probability":  # that of the contrast is `auc`
        of_patients["probability_auc_patients"] = spec(
            "patient AUC", 2, of_case=False, meaning="does the patient enhance? 0.5 = chance",
            pooling=auc_of(LEVELS["probability"], "enhances"), shown=(*place, *card),
        )  # fmt: skip
    return {
        f"{score}_auc": spec(
            "voxel AUC", 2, short="voxel AUC",
            meaning="of enhancing voxels in the tumour and 3 mm round it, mean over patients",
            shown=also("effects", "spread", "bars", "objective"),
        ),
        f"{score}_auc_tumour": spec(
            "voxel AUC in the tumour", 2, short="AUC in tumour", meaning="mean over patients", shown=place,
        ),
        f"{score}_auc_pooled": spec(
            "pooled voxel AUC", 2, short="pooled AUC", of_case=False,
            meaning="over the voxels of all patients together", pooling=_pooled_auc(f"{score}_counts"),
            shown=also("objective"),
        ),
        f"{score}_threshold": spec(
            "chosen threshold", 2, "none", short="thresh.", meaning="of the highest kappa on validation patients",
            shown=place,
        ),
        f"{score}_predicted_ml": spec("predicted volume", 1, "none", at=True, unit="ml"),
        f"{score}_overlap_ml": spec("overlap", 1, at=True, unit="ml"),
        f"{score}_dice": spec(
            "Dice", 2, at=True, short="Dice at it", meaning="mean over patients",
            shown=also("effects", "spread"),
        ),
        f"{score}_dice_pooled": spec(
            "pooled Dice", 2, at=True, short="pooled at it", of_case=False, meaning="of the summed volumes",
            pooling=share({f"{score}_overlap_ml": 2}, {"ml": 1, f"{score}_predicted_ml": 1}), shown=(*place, *card),
        ),
        f"{score}_kappa": spec(
            "kappa", 2, at=True, short="kappa at it", of_case=False,
            meaning="agreement voxel by voxel beyond chance",
            pooling=_kappa(f"{score}_overlap_ml", f"{score}_predicted_ml"), shown=also("bars"),
        ),
        f"{score}_hallucinated_ml": spec(
            "hallucinated volume", 1, "lower", at=True, short="halluc.", unit="ml",
            meaning="in patients who do not enhance, mean", shown=(*place, *card),
        ),
        f"{score}_volume_concordance": spec(
            "volume concordance", 2, at=True, short="vol. concord.", of_case=False,
            meaning="Lin's, of predicted and true volume", pooling=concordance_of(f"{score}_predicted_ml", "ml"),
            shown=place,
        ),
        **of_patients,
    }  # fmt: skip


def _pooled_auc(counts: str) -> Pooling:
    def function(weights: Values, data: dict[str, Values]) -> Values:
        found = data[counts]  # (scans, bins, 2)
        return auc_of_counts(*(weights @ found[..., kind] for kind in range(2)))

    return Pooling((counts,), function, "over voxels of all patients")


def _kappa(overlap: str, predicted: str) -> Pooling:
    columns = (overlap, predicted, "ml", "ml_near")
    return Pooling(
        columns, lambda weights, data: kappa(*(weights @ data[name] for name in columns)),
        "of volumes summed over patients",
    )  # fmt: skip
