"""Which networks can be told apart? The paired tests as a table, coloured only where the correction lets it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lab.report.figures import FAINT, INK, SMALL, TEXT, headline, new_figure
from lab.report.tables import lower_is_better

BETTER, WORSE, EQUAL = "#0072B2", "#E69F00", "#eeeeee"


def pairs_table(
    tests: pd.DataFrame,
    *,
    phantom: bool,
    metric: str = "mae_brain",
    order: Sequence[str] | None = None,
    names: dict[str, str] | None = None,
    alpha: float = 0.05,
) -> Figure:
    """Holm-corrected p of each pair: rows against columns, blue where the row is better, orange where it is worse.

    `tests` has the columns metric, a, b, n, median_difference (a - b), p_holm. A cell has colour only where p_holm is
    below `alpha`. `order` puts the rows in order (values of a and b), `names` maps these values to labels.
    """
    chosen = tests[tests["metric"] == metric]
    if chosen.empty:
        raise ValueError(f"there is no paired test on {metric!r}")
    present = list(dict.fromkeys([*map(str, chosen["a"]), *map(str, chosen["b"])]))
    wanted = [key for key in map(str, order or present) if key in present]
    keys = wanted + [key for key in present if key not in wanted]
    text = {key: (names or {}).get(key, key) for key in keys}
    rank = {key: position for position, key in enumerate(keys)}
    cells: dict[tuple[int, int], tuple[float, bool]] = {}  # (row, column) -> p, is the row better?
    low = lower_is_better(metric)
    for test in chosen.itertuples():
        a, b = rank[str(test.a)], rank[str(test.b)]
        a_better = (float(test.median_difference) < 0) == low
        row, column, better = (a, b, a_better) if a > b else (b, a, not a_better)
        cells[row, column] = (float(test.p_holm), better)
    rows = [i for i in range(len(keys)) if any(row == i for row, _ in cells)]
    columns = [j for j in range(len(keys)) if any(column == j for _, column in cells)]
    size = 0.5
    figure = new_figure(max(8.0, size * len(columns) + 3.6), max(3.6, size * 0.72 * len(rows) + 3.4))
    axes = figure.add_subplot()
    for (row, column), (p, better) in cells.items():
        x, y = columns.index(column), rows.index(row)
        significant = np.isfinite(p) and p < alpha
        colour = (BETTER if better else WORSE) if significant else EQUAL
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
        ink = ("white" if better else INK) if significant else FAINT
        axes.text(x, y, _short(p), ha="center", va="center", fontsize=SMALL, color=ink)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [text[keys[i]] for i in rows], fontsize=TEXT, color=INK)
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(columns)), [text[keys[j]] for j in columns], fontsize=TEXT, color=INK, **slanted)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    word = "lower" if low else "higher"
    handles = [
        Patch(facecolor=BETTER, label=f"row is better ({word}) than column"),
        Patch(facecolor=WORSE, label="row is worse"),
        Patch(facecolor=EQUAL, label=f"no difference shown (p ≥ {alpha:g})"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
    kind, _, region = metric.partition("_")
    count = int(chosen["n"].max())
    found = sum(np.isfinite(p) and p < alpha for p, _ in cells.values())
    headline(
        figure,
        f"Paired tests: {kind.upper()}, {region}",
        phantom=phantom,
        note=f"Wilcoxon signed rank, {count} patients, Holm-corrected p; {found} of {len(cells)} pairs below {alpha:g}",
    )
    return figure


def _short(p: float) -> str:
    if not np.isfinite(p):
        return "-"
    if p < 0.001:
        return "<.001"
    return "1" if p >= 0.995 else f"{p:.2f}".lstrip("0") if p >= 0.0995 else f"{p:.3f}".lstrip("0")
