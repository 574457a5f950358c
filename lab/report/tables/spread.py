"""Spread of a figure over seeds and over folds, beside the spread over patients."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lab.evaluation.figures import shown_in, spec_of
from lab.report.tables.table import Column, Row, Table

MEANINGS = {
    "seeds": "SD, seeds: of the mean over the same patients when training starts from another seed.",
    "folds": "SD, folds: of the mean from one part of the patients to the next, each trained on the others; it "
    "holds the difference between patients too.",
}


def spread_table(spread: pd.DataFrame) -> pd.DataFrame:
    """One row per trial: trial, label, seeds, folds, and `<metric>_mean`, `<metric>_sd_seeds`, `<metric>_sd_folds`.

    The metrics are those of `shown_in("spread")`; `spread` has one row per trial, seed and fold, with means over that
    fold's test patients. The SD over seeds is taken within each fold and pooled (root of the mean variance); that over
    folds is of the seed-averaged means; sample SDs (n - 1), NaN where there is only one. Folds also differ in their
    patients, so their SD contains chance of both kinds. Raises ValueError for a missing column or a repeated seed and
    fold of a trial.
    """
    missing = [column for column in ("trial", "label", "seed", "fold") if column not in spread]
    if missing:
        raise ValueError(f"the table of seeds and folds lacks the column(s) {', '.join(missing)}")
    twice = spread.duplicated(["trial", "seed", "fold"])
    if twice.any():
        first = spread[twice].iloc[0]
        raise ValueError(f"trial {first['trial']} has seed {first['seed']}, fold {first['fold']} twice")
    shown = [metric for metric in shown_in("spread") if metric in spread and spread[metric].notna().any()]
    rows = []
    for trial, group in spread.groupby("trial", sort=False):
        row = {
            "trial": trial,
            "label": str(group["label"].iloc[0]),
            "seeds": group["seed"].nunique(),
            "folds": group["fold"].nunique(dropna=False),
        }
        for metric in shown:
            folds = group.groupby("fold", dropna=False)[metric]
            variance = folds.var(ddof=1).mean()
            row[f"{metric}_mean"] = folds.mean().mean()
            row[f"{metric}_sd_seeds"] = np.sqrt(variance)
            row[f"{metric}_sd_folds"] = folds.mean().std(ddof=1)
        rows.append(row)
    return pd.DataFrame(rows)


def spread_summary(spread: pd.DataFrame, *, phantom: bool = False) -> Table:
    """The numbers of `spread_table` as a formatted table, with a line on how to read them."""
    table = spread_table(spread)
    kinds = [kind for kind in ("seeds", "folds") if (table[kind] > 1).any()]
    columns, keys = [Column(title="")], ["label"]
    for metric in (column.removesuffix("_mean") for column in table if column.endswith("_mean")):
        spec = spec_of(metric)
        group = spec.head
        columns.append(Column.of(spec, title="mean", unit="", group=group))
        columns += [
            Column(title=f"SD, {kind}", decimals=spec.decimals + 1, percent=spec.percent, group=group) for kind in kinds
        ]
        keys += [f"{metric}_mean", *(f"{metric}_sd_{kind}" for kind in kinds)]
    words = [f"{most} {kind}" for kind in kinds if (most := int(table[kind].max())) > 1]
    title = f"Spread of the mean over {' and '.join(words) or 'one seed'}" + " (phantom: simulated patients)" * phantom
    rows = [Row(cells=cells) for cells in table[keys].to_numpy().tolist()]
    notes = [*(MEANINGS[kind] for kind in kinds), "Neither is the SD over patients of the table of scores."]
    return Table(columns=columns, rows=rows, title=title, notes=notes, numbers=table, style="spread")


def spread_remark(spread: pd.DataFrame) -> str:
    """The remark on seeds or folds for a table of scores over patients."""
    counts = {"seeds": spread["seed"].nunique(), "folds": spread["fold"].nunique(dropna=False)}
    words = " and ".join(f"{count} {kind}" for kind, count in counts.items() if count > 1) or "one seed and one fold"
    return f"Figures are means over {words}, whose spread is in a table of its own; the SD here is over patients."
