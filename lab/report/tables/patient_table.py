"""From the per-patient table to the table of means and SDs in the paper's shape.

Rows are the trials (model x loss), grouped by loss as in the paper, and the two trivial rivals; columns are MAE, MSE
and SSIM over image, brain and tumour. Where the comparison allows it, each row is followed by the published one.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from lab.evaluation.figures import PATIENT, name_of
from lab.io.files import plural
from lab.report.tables.published import Comparison, published, published_row
from lab.report.tables.spread import spread_remark

METRICS = ("mae", "mse", "ssim")
REGIONS = ("image", "brain", "tumour")
COLUMNS = tuple(f"{metric}_{region}" for region in REGIONS for metric in METRICS)
RIVALS = ("copy T1", "linear regression")
BEST_NOTE = (
    "best mean of the column, to the digits shown; whether it differs from others is for the paired tests to say"
)
SD_NOTE = "mean (SD) over patients; patients whose region is empty do not count"


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table ready to be written as text, CSV, Markdown or HTML."""

    title: str
    rows: pd.DataFrame
    """Result of `summarise`."""
    published: dict[Hashable, pd.DataFrame]
    """Value of the column `trial` -> published means and SDs by column; empty where they are withheld."""
    comparison: Comparison
    remarks: tuple[str, ...] = ()
    """Sentences of this table alone, first among its notes."""
    comparable_rows: bool = True
    """May its rows be compared? If not, no best figure is marked."""

    def winners(self) -> dict[str, set[Hashable]]:
        """The values of `trial` with the best mean of each column; none where rows must not be compared."""
        return {column: best(self.rows, column) if self.comparable_rows else set() for column in COLUMNS}


def lower_is_better(column: str) -> bool:
    """Is a low value the good one? Of errors and false volumes it is, of SSIM and Dice not."""
    return name_of(column).direction != "higher"


def is_rival(trial: object) -> bool:
    """Is this value of the column `trial` one of the trivial rivals?"""
    return trial in RIVALS


def metric_name(column: str) -> str:
    """A column for people: "MAE, brain" for mae_brain, "Dice (rule)" for dice_rule."""
    return name_of(column).title


def model_name(value: object) -> str:
    """A model's id as text: "2" for 2 and for the 2.0 that pandas makes of it; "" where there is none."""
    if value is None or value is pd.NA or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def model_title(name: str) -> str:
    """A network in a legend: "model 2" for "2"; the name of a search trial stays as it is."""
    return f"model {name}" if name.isdigit() else name


def per_patient(table: pd.DataFrame) -> pd.DataFrame:
    """The long table with one row per trial and patient: scans of one patient (same `patient_id`) are averaged."""
    if "patient_id" not in table or not table.duplicated(["trial", "patient_id"]).any():
        return table.reset_index(drop=True)
    keys = ["trial", "patient_id"]
    how = {name: "mean" if name in PATIENT else "first" for name in table.columns if name not in keys}
    how |= {"enhancing": "max"} if "enhancing" in table else {}
    return table.groupby(keys, sort=False, as_index=False).agg(how)


def summarise(patients: pd.DataFrame) -> pd.DataFrame:
    """One row per trial or rival: trial, label, model, loss, rival, patients and `<column>_mean`, `_sd`, `_n`.

    `patients` is the long table of one row per trial and scan; scans of one patient are averaged first. SDs are sample
    SDs (n - 1); an empty cell means that the region is empty in that patient and does not count. Trials come first,
    grouped by loss, rivals last.
    """
    missing = [column for column in ("trial", "label", "case_id", *COLUMNS) if column not in patients]
    if missing:
        raise ValueError(f"the per-patient table lacks the column(s) {', '.join(missing)}")
    if patients.empty:
        raise ValueError("the per-patient table is empty: no trial has been evaluated yet")
    repeated = patients.duplicated(["trial", "case_id"])
    if repeated.any():
        first = patients[repeated].iloc[0]
        raise ValueError(f"patient {first['case_id']} is in the per-patient table twice for trial {first['trial']}")
    rows = []
    for trial, group in per_patient(patients).groupby("trial", sort=False):
        first = group.iloc[0]
        row: dict[str, Any] = {
            "trial": trial,
            "label": str(first["label"]),
            "model": model_name(first.get("model")),
            "loss": first.get("loss"),
            "rival": is_rival(trial),
            "patients": len(group),
        }
        for column in COLUMNS:
            values = group[column].dropna().to_numpy(float)
            row[f"{column}_mean"] = values.mean() if values.size else np.nan
            row[f"{column}_sd"] = values.std(ddof=1) if values.size > 1 else np.nan
            row[f"{column}_n"] = values.size
        rows.append(row)
    table = pd.DataFrame(rows)
    losses = {loss: position for position, loss in enumerate(table.loc[~table["rival"], "loss"].unique())}
    order = table["loss"].map(losses).where(~table["rival"], len(losses))
    return table.assign(order=order).sort_values("order", kind="stable").drop(columns="order").reset_index(drop=True)


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
) -> PaperTable:
    """The table in the paper's shape, with the published rows where `comparison` (see `comparable`) shows them.

    `beside` names the trials that may have one (leave out those of a guided search, whose settings `comparison` does
    not describe); by default all. `sizes` maps trials to the paper's input size where that is not "full". The title
    carries the word phantom whenever `phantom` is true, and published figures are then never shown. With the table of
    seeds and folds, `spread`, a note says so.
    """
    if phantom and comparison.shown:
        raise ValueError("published figures must not stand beside a phantom's: pass comparable(phantom=True, ...)")
    rows = summarise(patients)
    paper: dict[Hashable, pd.DataFrame] = {}
    if comparison.shown and study in set(published()["study"]):
        wanted = rows["trial"].isin(list(rows["trial"] if beside is None else beside)) & ~rows["rival"]
        for row in rows[wanted].itertuples():
            size = (sizes or {}).get(row.trial, "full")
            found = published_row(study, int(row.model), str(row.loss), input_size=size)
            if found is not None:
                paper[row.trial] = found
    name = "phantom (simulated patients)" if phantom else dataset
    count = int(rows["patients"].max())
    title = f"{study}: {plural(count, f'{split} patient')}" + (f", {name}" if name else "")
    remarks = () if spread is None or spread.empty else (spread_remark(spread),)
    return PaperTable(title=title, rows=rows, published=paper, comparison=comparison, remarks=remarks)


def best(rows: pd.DataFrame, column: str) -> set[Hashable]:
    """Values of `trial` whose mean is the column's best to the digits shown (several when they tie)."""
    means = rows.set_index("trial")[f"{column}_mean"].dropna().round(_decimals(column))
    if means.empty:
        return set()
    goal = means.min() if lower_is_better(column) else means.max()
    return set(means.index[means == goal])


def first_of_group(rows: pd.DataFrame) -> list[bool]:
    """Which rows begin a group: a loss, or the rivals; losses with one row each are no groups."""
    losses = rows.loc[~rows["rival"], "loss"]
    group = rows["loss"].astype(str).where(losses.duplicated().any() & ~rows["rival"], rows["rival"].astype(str))
    return [bool(new) for new in group != group.shift()]


def region_count(rows: pd.DataFrame, region: str) -> str:
    """Number of patients behind a region's figures, as "43" or "42-43" where rows differ."""
    counts = rows[[f"{metric}_{region}_n" for metric in METRICS]].to_numpy()
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low}-{high}"


def cell(mean: float, sd: float, column: str) -> str:
    """A figure as "0.122 (0.017)"; "-" where there is none."""
    if not np.isfinite(mean):
        return "-"
    digits = _decimals(column)
    return f"{mean:.{digits}f} ({sd:.{digits}f})" if np.isfinite(sd) else f"{mean:.{digits}f} (-)"


def notes(table: PaperTable, mark: str) -> list[str]:
    """The sentences that belong under the table, in which the best figures carry a `mark` ("*", "bold")."""
    lines = [*table.remarks, SD_NOTE + "."]
    if table.comparable_rows:
        lines.append(f"{mark}: {BEST_NOTE}.")
    most = int(table.rows["patients"].max())
    for region in REGIONS:
        count = region_count(table.rows, region)
        if count != str(most):
            lines.append(f"{region}: n = {count} of {most} patients; it is empty or was not scored in the others.")
    return [*lines, table.comparison.sentence]


def as_numbers(table: PaperTable) -> pd.DataFrame:
    """All numbers of the table, unrounded, one row per trial or rival; published columns only where they are shown."""
    numbers = table.rows.copy()
    numbers.insert(0, "table", table.title)
    if table.published:
        for column in COLUMNS:
            for what in ("mean", "sd"):
                numbers[f"published_{column}_{what}"] = [
                    float(table.published[trial].loc[column, what]) if trial in table.published else np.nan
                    for trial in numbers["trial"]
                ]
        numbers["published_shown"] = table.comparison.verdict
    return numbers


def as_csv(table: PaperTable) -> str:
    """The numbers as CSV text."""
    return as_numbers(table).to_csv(index=False, float_format="%.6g")


def as_markdown(table: PaperTable) -> str:
    """The table as Markdown, best mean of each column in bold."""
    heads = [f"{metric.upper()} {region}" for region in REGIONS for metric in METRICS]
    lines = [f"**{table.title}**", "", "| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    counts = [f"n = {region_count(table.rows, region)}" for region in REGIONS for _ in METRICS]
    lines.append("| patients | " + " | ".join(counts) + " |")
    winners = table.winners()
    for _, row in table.rows.iterrows():
        cells = [cell(row[f"{column}_mean"], row[f"{column}_sd"], column) for column in COLUMNS]
        bold = [f"**{text}**" if row["trial"] in winners[column] else text for text, column in zip(cells, COLUMNS)]
        lines.append(f"| {plain_markdown(row['label'])} | " + " | ".join(bold) + " |")
        if row["trial"] in table.published:
            lines.append("| *published* | " + " | ".join(f"*{text}*" for text in _published_cells(table, row)) + " |")
    return "\n".join([*lines, "", *(f"- {plain_markdown(note)}" for note in notes(table, "bold")), ""])


def as_html(table: PaperTable) -> str:
    """The table as an HTML fragment: `<table class="paper">` in a `<div class="scroll">`, then the notes."""
    counts = {region: f"<small>n&nbsp;=&nbsp;{region_count(table.rows, region)}</small>" for region in REGIONS}
    top = "".join(f'<th colspan="3" scope="colgroup">{region} {count}</th>' for region, count in counts.items())
    heads = "".join(f'<th scope="col">{metric.upper()}</th>' for _ in REGIONS for metric in METRICS)
    winners = table.winners()
    body = []
    for (_, row), first in zip(table.rows.iterrows(), first_of_group(table.rows)):
        classes = (["rival"] if row["rival"] else []) + (["first"] if first else [])
        cells = "".join(
            f"<td{' class=best' if row['trial'] in winners[column] else ''}>"
            f"{_html_cell(cell(row[f'{column}_mean'], row[f'{column}_sd'], column))}</td>"
            for column in COLUMNS
        )
        body.append(f'<tr class="{" ".join(classes)}"><th scope="row">{escape(str(row["label"]))}</th>{cells}</tr>')
        if row["trial"] in table.published:
            cells = "".join(f"<td>{_html_cell(text)}</td>" for text in _published_cells(table, row))
            body.append(f'<tr class="published"><th scope="row">published</th>{cells}</tr>')
    texts = "".join(f"<li>{escape(note)}</li>" for note in notes(table, "bold"))
    return (
        f'<div class="scroll"><table class="paper"><caption><span>{escape(table.title)}</span></caption>'
        f"<thead><tr><td></td>{top}</tr><tr><td></td>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        f'<ul class="notes">{texts}</ul>'
    )


def _published_cells(table: PaperTable, row: pd.Series) -> list[str]:
    """Published figures as printed in the paper: three decimals."""
    found = table.published[row["trial"]]
    return [f"{found.loc[column, 'mean']:.3f} ({found.loc[column, 'sd']:.3f})" for column in COLUMNS]


def _html_cell(text: str) -> str:
    mean, _, sd = text.partition(" ")
    return f"{mean} <small>{sd}</small>" if sd else mean


def _decimals(column: str) -> int:
    return name_of(column).decimals


def plain_markdown(text: str) -> str:
    """Text that Markdown will not take for markup."""
    return text.replace("|", "\\|").replace("_", "\\_")
