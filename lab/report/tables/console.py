"""The paper-shaped table as aligned text for a terminal of 120 columns."""

from __future__ import annotations

import textwrap

from lab.report.tables.patient_table import (
    COLUMNS,
    METRICS,
    REGIONS,
    PaperTable,
    cell,
    first_of_group,
    notes,
    region_count,
)

WIDTH = 120
NUMBER = 9  # characters of a figure, its mark included
GAP = 2  # between regions


def as_text(table: PaperTable) -> str:
    """The table as text: the mean, marked where it is the column's best, and the SD in brackets below it.

    Nine figures do not fit one line of 120 characters together with their SDs; hence two lines a row. No line is longer
    than `WIDTH`; labels that are too long are wrapped into the second line.
    """
    room = WIDTH - len(REGIONS) * (GAP + len(METRICS) * NUMBER)
    label_width = min(room, max(22, *(len(label) for label in table.rows["label"])))
    winners = table.winners()
    regions = [f"{region}, n = {region_count(table.rows, region)}" for region in REGIONS]
    rule = "-" * (label_width + len(REGIONS) * (GAP + len(METRICS) * NUMBER))
    lines = [table.title, rule]
    lines.append(
        " " * label_width + "".join(" " * GAP + f"{region:^{len(METRICS) * NUMBER}}" for region in regions).rstrip()
    )
    lines.append(_line("", [f"{metric.upper()} " for _ in REGIONS for metric in METRICS], label_width))
    for (_, row), first in zip(table.rows.iterrows(), first_of_group(table.rows)):
        if first:
            lines.append(rule)
        upper, lower = [], []
        for column in COLUMNS:
            mean, _, sd = cell(row[f"{column}_mean"], row[f"{column}_sd"], column).partition(" ")
            upper.append(mean + ("*" if row["trial"] in winners[column] else " "))
            lower.append(sd)
        name = textwrap.wrap(row["label"], label_width) or [""]
        second = " ".join(name[1:])
        if len(second) > label_width:
            second = second[: label_width - 1] + "…"
        lines.append(_line(name[0], upper, label_width))
        lines.append(_line(second, lower, label_width))
        if row["trial"] in table.published:
            found = table.published[row["trial"]]
            lines.append(_line("  published", [f"{found.loc[column, 'mean']:.3f} " for column in COLUMNS], label_width))
            lines.append(_line("", [f"({found.loc[column, 'sd']:.3f})" for column in COLUMNS], label_width))
    lines.append(rule)
    for note in notes(table, "*"):
        lines += textwrap.wrap(note, WIDTH)
    return "\n".join(lines)


def _line(label: str, figures: list[str], label_width: int) -> str:
    parts = [f"{label:<{label_width}}"]
    for start in range(0, len(figures), len(METRICS)):
        parts.append(" " * GAP + "".join(f"{figure:>{NUMBER}}" for figure in figures[start : start + len(METRICS)]))
    return "".join(parts).rstrip()
