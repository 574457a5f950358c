"""Grid of the paired tests of networks against references, coloured where the corrected test is significant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lab.io.files import plural
from lab.report.figures.style import FAINT, INK, SMALL, TEXT, headline, new_figure
from lab.report.tables.paired_tests import asked
from lab.report.tables.patient_table import lower_is_better, metric_name

BETTER, WORSE, EQUAL = "#0072B2", "#E69F00", "#eeeeee"
COLUMN, ROW = 2.6, 0.36  # inches


def pairs_table(
    tests: pd.DataFrame,
    *,
    phantom: bool,
    metric: str = "mae_brain",
    order: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    best: str | None = None,
    alpha: float = 0.05,
) -> Figure:
    """A row per network, a column per reference: median difference over patients and Holm-corrected p.

    `tests` is the result of `paired_tests` with references. A cell is blue where the row is better and orange where it
    is worse, with p_holm below `alpha`; else it is grey. `order` sorts rows and columns, `names` maps values of a and b
    to labels, `best` is the reference that was chosen on validation.
    """
    chosen = asked(tests, metric)
    if chosen.empty:
        raise ValueError(f"there is no paired test on {metric!r} against a reference")
    text = dict(names or {})
    present = list(dict.fromkeys([*chosen["row"], *chosen["against"]]))
    keys = [key for key in map(str, order or present) if key in present]
    rows = [key for key in keys if key in set(chosen["row"])]
    columns = list(dict.fromkeys(chosen["against"]))
    columns.sort(key=lambda key: (key != str(best), keys.index(key)))
    figure = new_figure(COLUMN * len(columns) + 3.2, ROW * len(rows) + 2.2)
    axes = figure.add_subplot()
    for test in chosen.itertuples():
        x, y = columns.index(test.against), rows.index(test.row)
        significant = np.isfinite(test.p_holm) and test.p_holm < alpha
        colour = (BETTER if test.better else WORSE) if significant else EQUAL
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white", linewidth=2))
        ink = ("white" if test.better else INK) if significant else FAINT
        shown = f"{test.difference:+.4f}" if np.isfinite(test.difference) else "-"
        axes.text(x - 0.05, y, shown, ha="right", va="center", fontsize=TEXT, color=ink)
        axes.text(x + 0.08, y, f"p {short_p(test.p_holm)}", ha="left", va="center", fontsize=TEXT, color=ink)
    for x, key in enumerate(columns):
        if key in rows and key == str(best):
            axes.text(x, rows.index(key), "reference", ha="center", va="center", fontsize=TEXT, color=FAINT)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [text.get(key, key) for key in rows], fontsize=TEXT, color=INK)
    heads = [f"against {text.get(key, key)}" + ("\n(best on validation)" if key == best else "") for key in columns]
    axes.set_xticks(range(len(columns)), heads, fontsize=TEXT, color=INK, fontweight="bold")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    word = "lower" if lower_is_better(metric) else "higher"
    handles = [
        Patch(facecolor=BETTER, label=f"row is better ({word})"),
        Patch(facecolor=WORSE, label="row is worse"),
        Patch(facecolor=EQUAL, label=f"no difference shown (p ≥ {alpha:g})"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
    headline(
        figure,
        f"Paired tests: {metric_name(metric)}",
        phantom=phantom,
        note=f"median difference over {plural(int(chosen['n'].max()), 'patient')} (row - reference); "
        "Wilcoxon signed rank, p after Holm within each column",
    )
    return figure


def short_p(p: float) -> str:
    """A p value in a table's cell: "1", ".42", ".031", "< .001"."""
    if not np.isfinite(p):
        return "-"
    if p < 0.001:
        return "< .001"
    return "1" if p >= 0.995 else f"{p:.2f}".lstrip("0") if p >= 0.0995 else f"{p:.3f}".lstrip("0")
