"""Stability of features under small changes of the tumour mask: ICC(3,1) over the cases, the masks being the raters."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lab.data.cohort import Cohort
from lab.data.prepare import Progress
from lab.radiomics.features.cohort_features import CohortFeatures, measure_cohort
from lab.radiomics.features.image_features import PARAMETERS
from lab.radiomics.features.masks import PERTURBATIONS
from lab.stats.agreement import icc_3_1


def measure_perturbed(
    cohort: Cohort,
    sequences: tuple[str, ...],
    cache: Path,
    *,
    parameters: Path = PARAMETERS,
    processes: int | None = None,
    progress: Progress | None = None,
) -> dict[str, pd.DataFrame]:
    """Features of the cases that have all masks of `PERTURBATIONS`. Raises as `measure_cohort`, and below two cases."""
    found: dict[str, CohortFeatures] = {}
    for number, name in enumerate(PERTURBATIONS):

        def tell(done: int, total: int, line: str, number: int = number, name: str = name) -> None:
            if progress:
                progress(number * total + done, len(PERTURBATIONS) * total, f"mask {name}, {line}")

        how = {"parameters": parameters, "perturbation": name, "processes": processes, "progress": tell}
        found[name] = measure_cohort(cohort, sequences, cache, **how)  # type: ignore[arg-type]
    tables = [one.table for one in found.values()]
    cases = [case for case in tables[0].index if all(case in table.index for table in tables)]
    if len(cases) < 2:
        needed = "stability needs two cases that bear every changed mask"
        raise ValueError(f"{needed}, {len(cases)} do; take finer voxels, or no stability filter")
    return {name: one.table.loc[cases] for name, one in found.items()}


def stability(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Table `feature, icc, low, high, n` of the tables of `measure_perturbed`: ICC(3,1) with its 95 % interval."""
    first = next(iter(tables.values()))
    ratings = np.stack([table[first.columns].to_numpy() for table in tables.values()], axis=1)  # (cases, masks, ...)
    icc, low, high = icc_3_1(ratings)
    return pd.DataFrame({"feature": first.columns, "icc": icc, "low": low, "high": high, "n": len(first)})
