"""The patch study twice: as the paper scored it, each size in its own patch, and every size on the same voxels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from lab.report.tables.patient_table import PaperTable, paper_table
from lab.report.tables.published import Comparison

OWN = "each size inside its own patch"
SAME = "every size on the same voxels"
NOT_COMPARABLE = (
    "As the paper scored it: the voxels differ from size to size, so rows of different size cannot be compared and no "
    "best figure is marked. A small patch holds more tumour and fewer easy voxels."
)
COMPARABLE = (
    "All rows are scored inside the smallest patch, so they can be compared; networks trained on patches ran over the "
    "full volume by sliding window. For this table, image means that patch."
)
UNPUBLISHED = "The paper scored no network on the same voxels, so no published figures stand here."


def patch_tables(
    own: pd.DataFrame,
    same: pd.DataFrame,
    *,
    study: str,
    comparison: Comparison,
    phantom: bool,
    dataset: str,
    sizes: Mapping[Hashable, str],
    split: str = "test",
) -> list[PaperTable]:
    """Two tables in the paper's shape: scores inside each size's own patch, and inside the smallest patch.

    `own` and `same` are long per-patient tables of the same trials, scored in either way; an empty one is left out.
    `sizes` maps each trial to the paper's input size ("full", "128"), by which the first table finds its published
    rows; a trial that is not in it has none.
    """
    shared: dict[str, Any] = {"study": study, "phantom": phantom, "dataset": dataset, "split": split}
    tables = []
    if len(own):
        table = paper_table(own, comparison=comparison, sizes=sizes, beside=list(sizes), **shared)
        remark = NOT_COMPARABLE + " For this table, image means the patch."
        tables.append(_named(table, OWN, remarks=(remark,), comparable_rows=False))
    if len(same):
        table = paper_table(same, comparison=Comparison("withheld", UNPUBLISHED), **shared)
        tables.append(_named(table, SAME, remarks=(COMPARABLE,), comparable_rows=True))
    return tables


def _named(table: PaperTable, what: str, *, remarks: tuple[str, ...], comparable_rows: bool) -> PaperTable:
    return replace(table, title=f"{table.title}; {what}", remarks=remarks, comparable_rows=comparable_rows)
