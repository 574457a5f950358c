"""The paper's published figures, and the conditions under which they may stand beside the lab's.

The figures of the paper's tables 5-8 are package data (`published.csv`). They are means and SDs over the 45 evaluation
patients of the Erasmus Glioma Database (EGD), whole volumes at 1 mm, networks of width 64 and five halvings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import pandas as pd

PUBLISHED_PATIENTS = 45
PUBLISHED_DATASET = "EGD"
PUBLISHED_INPUTS = ("T1", "T2", "FLAIR")
PUBLISHED_TARGET = "T1GD"
PUBLISHED_SPACING_MM = 1.0
PUBLISHED_WIDTH = 64
PUBLISHED_DEPTH = 5


def published() -> pd.DataFrame:
    """The published figures, one row each.

    Columns: study, model (int), input_size ("full" or voxels as text), loss, metric ("MAE", "MSE", "SSIM"), region
    ("image", "brain", "tumour"), mean, sd and key (the lab's name of the figure, such as "mae_brain").
    """
    return _read().copy()


def published_row(study: str, model: int, loss: str, *, input_size: str = "full") -> pd.DataFrame | None:
    """The nine published figures of one network: index "mae_image" ... "ssim_tumour", columns mean and sd.

    None for a network that the paper did not train. Raises ValueError for a study that is not in the paper.
    """
    table = _read()
    if study not in set(table["study"]):
        known = ", ".join(sorted(set(table["study"])))
        raise ValueError(f"the paper has no study {study!r}; it has: {known}")
    asked = {"study": study, "model": model, "loss": loss, "input_size": str(input_size)}
    wanted = (table[list(asked)] == pd.Series(asked)).all(axis=1)
    return table[wanted].set_index("key")[["mean", "sd"]] if wanted.any() else None


@dataclass(frozen=True)
class Comparison:
    """Whether the published figures may stand beside the study's, and the sentence that says why."""

    verdict: Literal["fair", "orientation", "withheld"]
    sentence: str

    @property
    def shown(self) -> bool:
        """Whether the published figures are printed."""
        return self.verdict != "withheld"


def comparable(
    *,
    phantom: bool,
    dataset: str,
    spacing_mm: float,
    width: int,
    depth: int,
    inputs: Sequence[str] = PUBLISHED_INPUTS,
    target: str = PUBLISHED_TARGET,
    patch_mm: float | None = None,
) -> Comparison:
    """Whether the published figures are a fair comparison for a study with these settings.

    Withheld: simulated patients, or another target image. For orientation only: real patients, but a difference that
    moves the figures (data set, voxel size, which also changes the SSIM window in mm, network size, input images,
    patches). Fair: none of these. `dataset` is the layout's name; `patch_mm` None is the full volume.
    """
    source = (
        f"The published figures are of {PUBLISHED_PATIENTS} EGD patients (1 mm, full volume, width {PUBLISHED_WIDTH})"
    )
    if phantom or target != PUBLISHED_TARGET:
        why = "ran on the phantom: simulated patients, not real" if phantom else f"synthesizes {target}, not T1GD"
        return Comparison("withheld", f"{source}; they are withheld because this study {why}.")
    differs = {
        f"the patients are of {dataset}, not of EGD": dataset.lower() != PUBLISHED_DATASET.lower(),
        f"voxels are {spacing_mm:g} mm, not 1 mm": abs(spacing_mm - PUBLISHED_SPACING_MM) > 0.05,
        f"the networks have width {width}, not {PUBLISHED_WIDTH}": width != PUBLISHED_WIDTH,
        f"the networks have {depth} halvings, not {PUBLISHED_DEPTH}": depth != PUBLISHED_DEPTH,
        f"the inputs are {', '.join(inputs)}, not {', '.join(PUBLISHED_INPUTS)}": {*inputs} != {*PUBLISHED_INPUTS},
        f"networks were trained on patches of {patch_mm or 0:g} mm, not on the full volume": patch_mm is not None,
    }
    found = [text for text, differs_so in differs.items() if differs_so]
    if found:
        return Comparison("orientation", f"{source}; they are shown for orientation only: {'; '.join(found)}.")
    no_test = "The patients are not the same, so no test between the two is made."
    return Comparison("fair", f"{source}, the settings of this study. {no_test}")


@cache
def _read() -> pd.DataFrame:
    with files("lab.report.tables").joinpath("published.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file, dtype={"input_size": str})
    table["key"] = table["metric"].str.lower() + "_" + table["region"]
    return table
