"""How much of a figure is luck? Its spread over seeds and over folds, beside the spread over patients."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd

from lab.evaluation.figures import name_of

SPREAD_METRICS = (
    "mae_brain", "ssim_brain", "mae_tumour", "mae_balanced", "dice_rule", "dice_expert", "hallucinated_ml_rule",
    "sharpness",
)  # fmt: skip


def spread_table(spread: pd.DataFrame, *, metrics: Sequence[str] = SPREAD_METRICS) -> pd.DataFrame:
    """One row a trial: trial, label, seeds, folds, and `<metric>_mean`, `<metric>_sd_seeds`, `<metric>_sd_folds`.

    `spread` has one row per trial, seed and fold, with means over that fold's test patients. The SD over seeds is taken
    within each fold and pooled (root of the mean variance); that over folds is of the seed-averaged means; sample SDs
    (n - 1), NaN where there is only one. Folds differ in their patients too, so their SD holds chance of both kinds.
    Raises ValueError where a column is missing or a trial has one seed and fold twice.
    """
    missing = [column for column in ("trial", "label", "seed", "fold") if column not in spread]
    if missing:
        raise ValueError(f"the table of seeds and folds lacks the column(s) {', '.join(missing)}")
    twice = spread.duplicated(["trial", "seed", "fold"])
    if twice.any():
        first = spread[twice].iloc[0]
        raise ValueError(f"trial {first['trial']} has seed {first['seed']}, fold {first['fold']} twice")
    shown = [metric for metric in metrics if metric in spread and spread[metric].notna().any()]
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


def spread_html(spread: pd.DataFrame, *, phantom: bool = False) -> str:
    """The table of `spread_table` as an HTML fragment, with a line on how to read it."""
    table = spread_table(spread)
    metrics = [column.removesuffix("_mean") for column in table.columns if column.endswith("_mean")]
    kinds = {"seeds": "sd_seeds", "folds": "sd_folds"}
    kinds = {name: column for name, column in kinds.items() if (table[name] > 1).any()}
    top = "".join(
        f'<th colspan="{1 + len(kinds)}" scope="colgroup">{escape(name_of(metric).title)}</th>' for metric in metrics
    )
    heads = "".join(
        '<th scope="col">mean</th>' + "".join(f'<th scope="col">SD, {name}</th>' for name in kinds) for _ in metrics
    )
    body = []
    for row in table.to_dict("records"):
        cells = []
        for metric in metrics:
            name = name_of(metric)
            cells.append(f"<td>{name.text(row[f'{metric}_mean'])}</td>")
            for column in kinds.values():
                sd = row[f"{metric}_{column}"]
                cells.append(f"<td>{'-' if sd != sd else f'{sd:.{name.decimals + 1}f}'}</td>")
        body.append(f'<tr><th scope="row">{escape(row["label"])}</th>{"".join(cells)}</tr>')
    caption = f"Spread of the mean over {_count(table)}" + (" (phantom: simulated patients)" if phantom else "")
    return (
        f'<div class="scroll"><table class="spread"><caption><span>{escape(caption)}</span></caption>'
        f"<thead><tr><td></td>{top}</tr><tr><td></td>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        f'<ul class="notes"><li>{escape(spread_sentence(spread))}</li></ul>'
    )


def spread_remark(spread: pd.DataFrame) -> str:
    """What a table of scores over patients says where there are seeds or folds."""
    seeds, folds = spread["seed"].nunique(), spread["fold"].nunique(dropna=False)
    parts = []
    if seeds > 1:
        parts.append(f"each patient's figures are means over {seeds} seeds")
    if folds > 1:
        parts.append(f"patients were tested in {folds} folds, each by networks trained on the others")
    text = " and ".join(parts) or "one seed and one fold were run"
    return f"{text[0].upper()}{text[1:]}; the spread over these is in a table of its own, the SD here is over patients."


def spread_sentence(spread: pd.DataFrame) -> str:
    """What the spreads are, and what they are not, in words."""
    seeds = spread["seed"].nunique() > 1
    folds = spread["fold"].nunique(dropna=False) > 1
    parts = []
    if seeds:
        parts.append(
            "SD, seeds: of the mean over the same patients when training starts from another seed"
            + (", pooled over folds" if folds else "")
        )
    if folds:
        parts.append(
            "SD, folds: of the mean from one part of the patients to the next, each trained on the others"
            + (" (averaged over seeds)" if seeds else "")
            + "; it holds the difference between patients too"
        )
    return ". ".join([*parts, "Neither is the SD over patients of the table of scores"]) + "."


def _count(table: pd.DataFrame) -> str:
    seeds, folds = int(table["seeds"].max()), int(table["folds"].max())
    words = [f"{seeds} seeds" if seeds > 1 else "", f"{folds} folds" if folds > 1 else ""]
    return " and ".join(word for word in words if word) or "one seed"
