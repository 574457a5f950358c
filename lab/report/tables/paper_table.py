"""The table of means and SDs in the paper's shape, with the published figures where they are comparable.

Rows are the trials (network x loss), grouped by loss as in the paper, and the baselines; columns are MAE, MSE and SSIM
over image, brain and tumour. The patch study has it twice: each size scored inside its own patch, as in the paper, and
every size on the same voxels.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lab.evaluation.figures import ERRORS, KINDS, REGIONS, spec_of
from lab.io.files import plural
from lab.report.tables.patient_table import summarise
from lab.report.tables.published import Comparison, published, published_row
from lab.report.tables.spread import spread_remark
from lab.report.tables.table import Cell, Column, Row, Table

BEST_NOTE = (
    "{best}: best mean of the column, to the digits shown; whether it differs from others is for the paired tests to "
    "say."
)
SD_NOTE = "mean (SD) over patients; patients whose region is empty do not count."
OWN = "each size inside its own patch"
SAME = "every size on the same voxels"
NOT_COMPARABLE = (
    "As the paper scored it: the voxels differ from size to size, so rows of different size cannot be compared and no "
    "best figure is marked. A small patch holds more tumour and fewer easy voxels. For this table, image means the "
    "patch."
)
COMPARABLE = (
    "All rows are scored inside the smallest patch, so they can be compared; networks trained on patches ran over the "
    "full volume by sliding window. For this table, image means that patch."
)
UNPUBLISHED = "The paper scored no network on the same voxels, so no published figures stand here."


def paper_table(
    patients: pd.DataFrame,
    *,
    study: str,
    comparison: Comparison,
    phantom: bool,
    split: str = "test",
    dataset: str = "",
    beside: Collection[Hashable] | None = None,
    sizes: Mapping[Hashable, str] | None = None,
    spread: pd.DataFrame | None = None,
    ending: str = "",
    remarks: tuple[str, ...] = (),
    mark_best: bool = True,
) -> Table:
    """The table in the paper's shape, with the published rows where `comparison` (see `comparable`) shows them.

    `beside` names the trials that may have a published row, by default all (leave out those of a guided search, whose
    settings `comparison` does not describe). `sizes` maps trials to the paper's input size where that is not "full".
    The title carries the word phantom whenever `phantom` is true, and published figures are then never shown. `spread`,
    the table of seeds and folds, adds a note. `ending` closes the title, `remarks` are first among the notes, and
    without `mark_best` (rows that must not be compared) no best is marked. `Table.numbers` is unrounded.
    """
    if phantom and comparison.shown:
        raise ValueError("published figures must not stand beside a phantom's: pass comparable(phantom=True, ...)")
    rows = summarise(patients)
    paper: dict[Hashable, pd.DataFrame] = {}
    if comparison.shown and study in set(published()["study"]):
        numbered = ~rows["rival"] & rows["model"].str.isdigit()  # the paper's networks
        wanted = rows["trial"].isin(list(rows["trial"] if beside is None else beside)) & numbered
        for row in rows[wanted].itertuples():
            size = (sizes or {}).get(row.trial, "full")
            found = published_row(study, int(row.model), str(row.loss), input_size=size)
            if found is not None:
                paper[row.trial] = found
    name = "phantom (simulated patients)" if phantom else dataset
    count = int(rows["patients"].max())
    title = f"{study}: {plural(count, f'{split} patient')}{name and ', ' + name}{ending and '; ' + ending}"
    if spread is not None and len(spread):
        remarks = (*remarks, spread_remark(spread))
    columns = {column: _column(column, rows) for column in ERRORS}
    best = {column: columns[column].best(list(rows[f"{column}_mean"])) for column in ERRORS}
    body = []
    for place, (row, first) in enumerate(zip(rows.to_dict("records"), _first_of_group(rows))):
        cells = [
            columns[column].spread(row[f"{column}_mean"], row[f"{column}_sd"], strong=mark_best and best[column][place])
            for column in ERRORS
        ]
        kind = " ".join(["baseline"] * row["rival"] + ["first"] * first)
        body.append(Row(cells=[row["label"], *cells], kind=kind))
        if row["trial"] in paper:
            printed = paper[row["trial"]].loc[list(ERRORS), ["mean", "sd"]]
            cells = [Cell(f"{mean:.3f}", (f"{sd:.3f}",)) for mean, sd in printed.itertuples(index=False)]
            body.append(Row(cells=["published", *cells], kind="published"))
    return Table(
        columns=[Column(title=""), *columns.values()],
        rows=body,
        title=title,
        notes=_notes(rows, remarks, mark_best, comparison),
        numbers=_numbers(rows, title, paper, comparison),
        style="paper",
    )


def tables_inside_patches(
    own: pd.DataFrame,
    same: pd.DataFrame,
    *,
    study: str,
    comparison: Comparison,
    phantom: bool,
    dataset: str,
    sizes: Mapping[Hashable, str],
    split: str = "test",
) -> list[Table]:
    """Two tables in the paper's shape: scores inside each size's own patch, and inside the smallest patch.

    `own` and `same` are long per-patient tables of the same trials, scored in either way; an empty one is left out.
    `sizes` maps trials to the paper's input size ("full", "128") for the published rows of the first table; a trial
    that is not in it has none.
    """
    shared: dict[str, Any] = {"study": study, "phantom": phantom, "dataset": dataset, "split": split}
    tables = []
    if len(own):
        how: dict[str, Any] = {"sizes": sizes, "beside": list(sizes), "mark_best": False, "remarks": (NOT_COMPARABLE,)}
        tables.append(paper_table(own, comparison=comparison, ending=OWN, **how, **shared))
    if len(same):
        withheld = Comparison("withheld", UNPUBLISHED)
        tables.append(paper_table(same, comparison=withheld, ending=SAME, remarks=(COMPARABLE,), **shared))
    return tables


def _column(column: str, rows: pd.DataFrame) -> Column:
    kind, _, region = column.partition("_")
    return Column.of(spec_of(column), title=kind.upper(), group=f"{region}, n = {_count(rows, region)}")


def _first_of_group(rows: pd.DataFrame) -> list[bool]:
    """Which rows begin a group: a loss, or the baselines; losses with one row each are not groups."""
    losses = rows.loc[~rows["rival"], "loss"]
    group = rows["loss"].astype(str).where(losses.duplicated().any() & ~rows["rival"], rows["rival"].astype(str))
    return [bool(new) for new in group != group.shift()]


def _count(rows: pd.DataFrame, region: str) -> str:
    """Number of patients behind a region's figures, as "43" or "42-43" where rows differ."""
    counts = rows[[f"{kind}_{region}_n" for kind in KINDS]].to_numpy()
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low}-{high}"


def _notes(rows: pd.DataFrame, remarks: tuple[str, ...], mark_best: bool, comparison: Comparison) -> list[str]:
    most = int(rows["patients"].max())
    lines = [*remarks, SD_NOTE, *([BEST_NOTE] if mark_best else [])]
    for region in REGIONS:
        count = _count(rows, region)
        if count != str(most):
            lines.append(f"{region}: n = {count} of {most} patients; it is empty or was not scored in the others.")
    return [*lines, comparison.sentence]


def _numbers(
    rows: pd.DataFrame, title: str, paper: Mapping[Hashable, pd.DataFrame], comparison: Comparison
) -> pd.DataFrame:
    """All numbers, unrounded, one row per trial or baseline; published columns only where they are shown."""
    numbers = rows.copy()
    numbers.insert(0, "table", title)
    if paper:
        for column in ERRORS:
            for what in ("mean", "sd"):
                numbers[f"published_{column}_{what}"] = [
                    float(paper[trial].loc[column, what]) if trial in paper else np.nan for trial in numbers["trial"]
                ]
        numbers["published_shown"] = comparison.verdict
    return numbers
