"""Which features survive a slightly different tumour mask: ICC(3,1) over the cases, with the masks as raters.

Shrout & Fleiss, Psychological Bulletin 1979: two-way mixed effects, single measurement, consistency. A shift that is
the same in every case, as dilation gives to a volume, does not count against a feature.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lab.data.cohort import Cohort
from lab.data.prepare import Progress
from lab.radiomics.features.cohort_features import CohortFeatures, measure_cohort
from lab.radiomics.features.image_features import PARAMETERS
from lab.radiomics.features.perturb import PERTURBATIONS
from lab.stats.icc import icc_3_1


def stability(
    cohort: Cohort,
    sequences: tuple[str, ...],
    cache: Path,
    *,
    parameters: Path = PARAMETERS,
    processes: int | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Table `feature, icc, low, high, n`: ICC(3,1) with its 95 % interval over the `n` cases that bear every mask.

    The masks are those of `PERTURBATIONS`, the unchanged one included. Raises ValueError as `measure_cohort` does, and
    where fewer than two cases bear every mask.
    """
    measured: dict[str, CohortFeatures] = {}
    for number, name in enumerate(PERTURBATIONS):

        def tell(done: int, total: int, line: str, number: int = number, name: str = name) -> None:
            if progress:
                progress(number * total + done, len(PERTURBATIONS) * total, f"mask {name}, {line}")

        measured[name] = measure_cohort(
            cohort,
            sequences,
            cache,
            parameters=parameters,
            perturbation=name,
            processes=processes,
            progress=tell,
        )
    return compare([found.table for found in measured.values()])


def compare(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Table `feature, icc, low, high, n` from one table of features (cases x features) a mask.

    Raises ValueError where fewer than two cases are in every table.
    """
    cases = tables[0].index
    for table in tables[1:]:
        cases = cases.intersection(table.index)
    if len(cases) < 2:
        raise ValueError(f"stability needs two cases that bear every changed mask, {len(cases)} do")
    features = tables[0].columns
    ratings = np.stack([table.loc[cases, features].to_numpy() for table in tables], axis=1)  # (cases, masks, features)
    icc, low, high = icc_3_1(ratings)
    return pd.DataFrame({"feature": features, "icc": icc, "low": low, "high": high, "n": len(cases)})
