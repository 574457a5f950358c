"""One row of figures for each patient."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from lab.data.batches import Batch, CaseStore
from lab.synthesis.metrics import score

REGIONS = ("brain", "tumour")


@torch.no_grad()
def evaluate(predict: Callable[[Batch], Tensor], cases: CaseStore) -> pd.DataFrame:
    """The paper's metrics of every case: columns `case_id`, `patient_id`, `enhancing`, `mae_image`, ... `ssim_tumour`.

    A metric of a region that the case does not have (no tumour voxel, say) is an empty cell, so that means and tests
    count only patients who have it.
    """
    rows = []
    for index, case_id in enumerate(cases.case_ids):
        batch = cases.batch([index])
        figures = {name: float(value) for name, value in score(predict(batch), batch.target, batch.masks).items()}
        for region in REGIONS:
            if not batch.masks[region].any():
                figures |= {name: float("nan") for name in figures if name.endswith(f"_{region}")}
        entry = cases.cohort.index.loc[case_id]
        known = {"patient_id": entry["patient_id"], "enhancing": int(entry["enhancing"])}
        rows.append({"case_id": case_id} | known | figures)
    return pd.DataFrame(rows)


def means(table: pd.DataFrame, prefix: str) -> dict[str, float]:
    """The table's mean figures as `{prefix}/mae_brain` and so on, for the tracking store; empty cells do not count."""
    figures = table.drop(columns=["case_id", "patient_id", "enhancing"]).mean()
    return {f"{prefix}/{name}": float(value) for name, value in figures.items() if value == value}
