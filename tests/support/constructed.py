"""A long per-patient table with all its columns, from networks whose skill at drawing enhancement is known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lab.evaluation.enhancement import SUMS, concordance, gain_sums

BASELINE_NAMES = ("copy T1", "linear regression")
FLOOR_SD = 0.03


def long_table(
    networks: dict[str, tuple[object, str, float]],
    *,
    patients: int = 30,
    expert: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per trial and patient; every second patient enhances.

    `networks` maps a label to (model, loss, skill); trials are numbered in this order. Skill 0 draws no enhancement, 1
    draws all of it; the higher it is, the more is hallucinated. Copy T1 has skill 0, linear regression hallucinates.
    """
    rng = np.random.default_rng(seed)
    enhancing = np.arange(patients) % 2 == 0
    volume = np.where(enhancing, rng.gamma(2.0, 6.0, patients) + 1, 0.0)
    hardness = rng.normal(0, 1, patients)
    named = [(number, label, *network) for number, (label, network) in enumerate(networks.items())]
    rivals = [("copy T1", "copy T1", None, None, 0.0), ("linear regression", "linear regression", None, None, 0.08)]
    rows = []
    for trial, label, model, loss, skill in [*named, *rivals]:
        for i in range(patients):
            row = {"trial": trial, "label": label, "model": model, "loss": loss}
            row |= {"case_id": f"case-{i:03d}", "patient_id": f"p{i:03d}", "enhancing": int(enhancing[i])}
            row |= _errors(skill, hardness[i], bool(enhancing[i]), rng, copied=trial == "copy T1")
            row |= _enhancement(skill, float(volume[i]), expert, rng)
            rows.append(row)
    return pd.DataFrame(rows)


def _errors(skill: float, hard: float, enhances: bool, rng: np.random.Generator, *, copied: bool) -> dict[str, float]:
    brain = (0.19 if copied else 0.115 + 0.01 * skill) * np.exp(0.12 * hard + 0.02 * rng.normal())
    tumour = brain * (1.3 + (0.6 * (1 - skill) if enhances else 0.0))
    found = {}
    for region, error in (("image", 0.35 * brain), ("brain", brain), ("tumour", tumour)):
        found |= {f"mae_{region}": error, f"mse_{region}": 1.8 * error**2, f"ssim_{region}": np.exp(-2.6 * error)}
    return found | {"mae_balanced": 1.1 * tumour}


def _contrast(skill: float, true: float, rng: np.random.Generator) -> dict[str, float]:
    """Sums over a few voxels of the drawn and the true rise over T1."""
    real = rng.gamma(1, 0.02 * true + 0.05, 40)
    sums = gain_sums(skill * real + 0.1 * rng.standard_normal(40), real)
    return {"contrast_concordance": concordance(sums), **dict(zip(SUMS, sums))}


def _enhancement(skill: float, true: float, expert: bool, rng: np.random.Generator) -> dict[str, float]:
    drawn = true * skill * rng.uniform(0.5, 1.3) if true else 6 * skill * rng.uniform() * (rng.uniform() < 0.6)
    false = 0.35 * drawn if true else drawn
    row = {
        "ml_near": 60.0,
        **_contrast(skill, true, rng),
        "ml_predicted": drawn,
        "enhancement_level": 0.1 + 0.5 * skill * (true > 0) + 0.15 * rng.normal(),
    }
    for definition, share in (("rule", 1.0), ("expert", 0.8)):
        keys = ("ml", "enhances", "overlap_ml", "bias_ml", "dice", "sensitivity", "precision", "lesions", "found",
                "missed", "false", "hallucinated_ml", "contrast", "cnr", "cnr_true")  # fmt: skip
        if definition == "expert" and not expert:
            row |= {f"{key}_expert": np.nan for key in keys}
            continue
        ml = share * true
        overlap = share * max(drawn - false, 0.0) if true else 0.0
        lesions = int(true > 0) + int(true > 15)
        hit = min(lesions, int(skill * lesions + rng.uniform())) if drawn else 0
        values = (ml, float(ml >= 0.5), overlap, drawn - ml, _ratio(2 * overlap, drawn + ml), _ratio(overlap, ml),
                  _ratio(overlap, drawn), lesions, hit, lesions - hit, int(false > 2), drawn if ml < 0.5 else np.nan,
                  skill * rng.uniform(0.7, 1.1) if true else np.nan, 3 * skill if true else np.nan,
                  4.0 if true else np.nan)  # fmt: skip
        row |= {f"{key}_{definition}": value for key, value in zip(keys, values)}
    noise = FLOOR_SD * rng.uniform(0.8, 1.2)
    return row | {
        "midline_ml_true": 2.0, "midline_ml_predicted": 2 * skill, "midline_ml_false": 0.4 * skill * rng.uniform(),
        "noise_sd": noise, "floor_mae": noise * (2 / np.pi) ** 0.5, "floor_mse": noise**2,
        "checkerboard": 0.002 + 0.003 * skill * rng.uniform(), "checkerboard_true": 0.0021,
        "sharpness": 0.5 + 0.3 * skill + 0.05 * rng.normal(),
    }  # fmt: skip


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def spread_of(patients: pd.DataFrame, *, seeds: int, folds: int, seed: int = 0) -> pd.DataFrame:
    """Means of every trial, moved a little for each seed and more for each fold."""
    rng = np.random.default_rng(seed)
    rows = []
    for trial, group in patients.groupby("trial", sort=False):
        means = group.drop(columns=["trial", "model"]).mean(numeric_only=True)
        for fold in range(folds):
            moved = means * (1 + 0.06 * rng.normal())
            for number in range(seeds):
                values = (moved * (1 + 0.02 * rng.normal())).to_dict()
                label = group["label"].iloc[0]
                rows.append({"trial": trial, "label": label, "seed": number, "fold": fold, "n": len(group)} | values)
    return pd.DataFrame(rows)
