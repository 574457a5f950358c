"""Tables of paired tests and effect sizes, one per metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lab.evaluation.figures import spec_of
from lab.report.tables.paired_tests import asked, p_value
from lab.report.tables.table import Cell, Column, Row, Table

METHOD = (
    "Wilcoxon signed-rank tests, paired by patient: each network against each reference, which are the network that "
    "was chosen on validation patients and the trivial baselines. Within one metric the tests against one reference "
    "are a family, corrected after Holm; a difference is claimed only below {alpha:g}. Differences are the first minus "
    "the reference, over patients. All pairs, uncorrected: tables/paired_tests.csv."
)
SIZES = (
    "Effect sizes: mean paired difference with its 95 % interval (bootstrap over patients, uncorrected), and the "
    "matched-pairs rank-biserial correlation (Kerby 2014): -1 where the first is lower in every patient, 1 if higher."
)


def paired_test_tables(
    tests: pd.DataFrame | None, effects: pd.DataFrame | None, names: Mapping[str, str], *, alpha: float = 0.05
) -> list[Table]:
    """Tests and effect sizes, folded, one table per metric, those with effect sizes first.

    `tests` is the result of `paired_tests` with references, `effects` that of `lab.stats.effects.effects`, `names` maps
    the tests' trials to labels. Empty where no test was made.
    """
    metrics = [] if tests is None or tests.empty else list(dict.fromkeys(tests["metric"]))
    families = {metric: asked(tests, metric) for metric in metrics}
    sizes = {} if effects is None else {(row.metric, row.row, row.against): row for row in effects.itertuples()}
    sized = {metric for metric, *_ in sizes}
    order = sorted((metric for metric in families if len(families[metric])), key=lambda metric: metric not in sized)
    return [_table(metric, families[metric], sizes if metric in sized else None, names, alpha) for metric in order]


def methods(effects: pd.DataFrame | None, *, alpha: float = 0.05) -> list[str]:
    """Sentences on the tests and the effect sizes."""
    return [METHOD.format(alpha=alpha), *([] if effects is None or effects.empty else [SIZES])]


def _table(metric: str, family: pd.DataFrame, sizes: dict | None, names: Mapping[str, str], alpha: float) -> Table:
    spec = spec_of(metric)
    signed: dict[str, Any] = {"decimals": spec.decimals + 1, "signed": True}
    columns = [Column(title=""), Column(title="reference"), Column(title="n", decimals=0)]
    columns += [Column(title="median difference", **signed), Column(title="p"), Column(title="p (Holm)")]
    if sizes is not None:
        columns.append(Column(title="mean difference (95 % interval)", **signed))
        columns.append(Column(title="rank-biserial", decimals=2, signed=True))
    rows = []
    for test in family.itertuples():
        first, second = (names.get(str(key), str(key)) for key in (test.row, test.against))
        corrected = Cell(_p(test.p_holm), strong=test.p_holm < alpha)
        cells = [first, second, test.n, test.difference, _p(test.p), corrected]
        if sizes is not None:
            size = sizes.get((metric, test.row, test.against))
            own = size and [columns[6].interval(size.mean_difference, size.low, size.high), size.rank_biserial]
            cells += own or [None, None]
        rows.append(Row(cells=cells))
    below = int((family["p_holm"] < alpha).sum())
    found = f"{spec.head}: {below} of {len(family)} tests find a difference"
    return Table(columns=columns, rows=rows, folded=found)


def _p(value: float) -> str:
    return p_value(value) if np.isfinite(value) else "too few"
