"""Paired tests and effect sizes as HTML: one list a metric, opened by a click."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
import pandas as pd

from lab.evaluation.figures import name_of
from lab.report.tables.paired_tests import asked
from lab.report.tables.patient_table import metric_name
from lab.report.text.verdict import p_text

HEADS = (
    "",
    "reference",
    "n",
    "median difference",
    "p",
    "p (Holm)",
    "mean difference",
    "95 % interval",
    "rank-biserial",
)
METHOD = (
    "Wilcoxon signed-rank tests, paired by patient: each network against each reference, which are the network that "
    "was chosen on validation patients and the trivial rivals. Within one metric the tests against one reference are a "
    "family, corrected after Holm; a difference is claimed only below {alpha:g}. Differences are the first minus the "
    "reference, over patients. All pairs, uncorrected: tables/paired_tests.csv."
)
SIZES = (
    "Effect sizes: mean paired difference with its 95 % interval (bootstrap over patients, uncorrected), and the "
    "matched-pairs rank-biserial correlation (Kerby 2014): -1 where the first is lower in every patient, 1 if higher."
)


def comparisons_html(
    tests: pd.DataFrame | None, effects: pd.DataFrame | None, names: Mapping[str, str], *, alpha: float = 0.05
) -> str:
    """What was tested and how large the differences are, as an HTML fragment.

    `tests` is what `paired_tests` gives with references, `effects` what `lab.stats.effects.effects` gives, `names`
    maps the tests' trials to labels.
    """
    metrics = [] if tests is None or tests.empty else list(dict.fromkeys(tests["metric"]))
    families = {} if tests is None else {metric: asked(tests, metric) for metric in metrics}
    families = {metric: family for metric, family in families.items() if len(family)}
    if not families:
        return "<p>No paired test was made.</p>"
    sizes = {} if effects is None else {(row.metric, row.row, row.against): row for row in effects.itertuples()}
    sized = {metric for metric, *_ in sizes}
    families = dict(sorted(families.items(), key=lambda family: family[0] not in sized))  # those with sizes first
    parts = [f"<p>{METHOD.format(alpha=alpha)}</p>", f"<p>{SIZES}</p>" if sizes else ""]
    for metric, family in families.items():
        below = int((family["p_holm"] < alpha).sum())
        rows = []
        for test in family.itertuples():
            first, second = (escape(names.get(str(key), str(key))) for key in (test.row, test.against))
            marked = " class=small-p" if test.p_holm < alpha else ""
            cells = f"<td>{test.n}</td><td>{_signed(metric, test.difference)}</td><td>{escape(_p(test.p))}</td>"
            cells += f"<td{marked}>{escape(_p(test.p_holm))}</td>"
            if metric in sized:
                cells += _size(metric, sizes.get((metric, test.row, test.against)))
            rows.append(f'<tr><td class="text">{first}</td><td class="text">{second}</td>{cells}</tr>')
        heads = "".join(
            f'<th scope="col"{" class=text" if place < 2 else ""}>{name}</th>'
            for place, name in enumerate(HEADS if metric in sized else HEADS[:6])
        )
        parts.append(
            f"<details><summary>{escape(metric_name(metric))}: {below} of {len(family)} tests find a difference"
            f'</summary><div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody>'
            "</table></div></details>"
        )
    return "".join(parts)


def _size(metric: str, effect: object) -> str:
    if effect is None:
        return "<td>-</td>" * 3
    mean, low, high, ranks = (
        float(getattr(effect, name)) for name in ("mean_difference", "low", "high", "rank_biserial")
    )
    interval = f"{_signed(metric, low)} to {_signed(metric, high)}" if np.isfinite(low + high) else "-"
    shown = f"{ranks:+.2f}" if np.isfinite(ranks) else "-"
    return f"<td>{_signed(metric, mean)}</td><td>{interval}</td><td>{shown}</td>"


def _signed(metric: str, value: float) -> str:
    return f"{value:+.{name_of(metric).decimals + 1}f}" if np.isfinite(value) else "-"


def _p(value: float) -> str:
    return p_text(value).replace("p = ", "").replace("p < ", "< ") if np.isfinite(value) else "too few"
