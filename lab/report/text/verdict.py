"""Sentences on the paired tests; a difference is named only where the corrected test is significant."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd

from lab.io.files import plural
from lab.report.tables.paired_tests import MIN_PAIRS, asked
from lab.report.tables.patient_table import metric_name


def words_of_tests(
    rows: pd.DataFrame,
    tests: pd.DataFrame | None,
    *,
    best: Hashable | None,
    metric: str,
    alpha: float,
    named: bool = False,
) -> str:
    """A sentence on the paired tests on a metric, with the metric's name if `named`.

    `rows` has the columns trial, label, rival and `<metric>_n`, `tests` is the result of `paired_tests` with
    references.
    """
    on = f" on {metric_name(metric)}" if named else ""
    chosen = None if tests is None or tests.empty else asked(tests, metric).dropna(subset=["p_holm"])
    if chosen is None or chosen.empty:
        count = int(rows[f"{metric}_n"].max())
        why = f" ({plural(count, 'patient')} cannot carry one)" if count < MIN_PAIRS else ""
        return f"No paired test{on} was made{why}, so the order of the means is not called a difference."
    names = {str(row["trial"]): str(row["label"]) for _, row in rows.iterrows()}
    networks = {str(trial) for trial in rows.loc[~rows["rival"], "trial"]}
    method = f"{len(chosen)} paired Wilcoxon tests{on} (Holm within the tests against one reference, {alpha:g})"
    clear = chosen[chosen["p_holm"] < alpha]
    if clear.empty:
        text = f"None of the {method} finds a difference: the order of the means may be chance."
        largest, smallest = int(chosen["against"].value_counts().max()), 2.0 ** (1 - int(chosen["n"].max()))
        if smallest * largest >= alpha:  # of an exact two-sided signed-rank test
            text += f" The smallest p that so few patients can give, {smallest:.2g}, does not survive the correction."
        return text
    sentences = [f"{len(clear)} of the {method} {'find' if len(clear) > 1 else 'finds'} a difference."]
    for reference, family in chosen[chosen["row"].isin(networks)].groupby("against", sort=False):
        found = family[family["p_holm"] < alpha]
        sides = {
            word: [names.get(key, key) for key in found.loc[found["better"] == side, "row"]]
            for word, side in (("better", True), ("worse", False))
        }
        parts = [f"{word}: {listing(labels)}" for word, labels in sides.items() if labels]
        parts += [f"{len(family) - len(found)} of {len(family)} not told apart"] if len(found) < len(family) else []
        role = " (best on validation)" if reference == str(best) else ""
        sentences.append(f"Against {names.get(str(reference), str(reference))}{role}, {'; '.join(parts)}.")
    return " ".join(sentences)


def p_text(p: float) -> str:
    """A p value as "p = 0.03" or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def listing(names: list[str]) -> str:
    """Up to four names in a row, more as a number."""
    return f"{len(names)} networks" if len(names) > 4 else ", ".join(names)
