"""What do the paired tests allow one to say? A difference is named only where the corrected test finds it."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd

from lab.report.tables.paired_tests import MIN_PAIRS, asked
from lab.report.tables.patient_table import metric_name, plural


def words_of_tests(
    rows: pd.DataFrame,
    tests: pd.DataFrame | None,
    *,
    best: Hashable | None,
    metric: str,
    alpha: float,
    named: bool = False,
) -> str:
    """What the paired tests on a metric allow to be said; its name is in the sentence where it is `named`, which then
    follows the sentence on another metric.

    `rows` has the columns trial, label, rival and `<metric>_n`, `tests` is what `paired_tests` gives with references.
    """
    on = f" on {metric_name(metric)}" if named else ""
    chosen = None if tests is None or tests.empty else asked(tests, metric).dropna(subset=["p_holm"])
    if chosen is None or chosen.empty:
        count = int(rows[f"{metric}_n"].max())
        why = f" ({plural(count, 'patient')} cannot carry one)" if count < MIN_PAIRS else ""
        return f"No paired test{on} was made{why}, so the order of the means is not called a difference."
    names = {str(row["trial"]): str(row["label"]) for _, row in rows.iterrows()}
    networks = {str(trial) for trial in rows.loc[~rows["rival"], "trial"]}
    count, largest = int(chosen["n"].max()), int(chosen["against"].value_counts().max())
    how = "Holm, as above" if named else f"Holm within the tests against one reference, {alpha:g}"
    method = f"{len(chosen)} paired Wilcoxon tests{on} ({how})"
    clear = chosen[chosen["p_holm"] < alpha]
    if clear.empty:
        text = f"None of the {method} finds a difference: the order of the means may be chance."
        smallest = 2.0 ** (1 - count)  # of an exact two-sided signed-rank test
        if smallest * largest >= alpha:
            text += (
                f" With {count} patients the smallest p such a test gives is {smallest:.2g}, too large to survive the "
                f"correction for {largest} tests whatever the networks do; it takes more patients."
            )
        return text
    sentences = [f"{len(clear)} of the {method} {'find' if len(clear) > 1 else 'finds'} a difference."]
    for reference, family in chosen[chosen["row"].isin(networks)].groupby("against", sort=False):
        found = family[family["p_holm"] < alpha]
        better, worse = (
            [names.get(key, key) for key in found.loc[found["better"] == side, "row"]] for side in (True, False)
        )
        role = " (best on validation)" if reference == str(best) else ""
        name = names.get(str(reference), str(reference))
        if found.empty:
            sentences.append(f"Against {name}{role}, none of {len(family)} networks is told apart.")
            continue
        rest = len(family) - len(found)
        sentences.append(
            f"Against {name}{role}, {_count(better)} better and {_count(worse)} worse"
            + (f"; {rest} of {len(family)} not told apart." if rest else ".")
        )
    return " ".join(sentences)


def p_text(p: float) -> str:
    """A p value as "p = 0.03" or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _count(names: list[str]) -> str:
    return f"{_listing(names)} {'are' if len(names) > 1 else 'is'}" if names else "no network is"


def _listing(names: list[str]) -> str:
    """Up to four names in a row, more as a number."""
    if len(names) > 4:
        return f"{len(names)} networks"
    between = "; " if any("," in name for name in names) else ", "
    return " and ".join([between.join(names[:-1]), names[-1]] if len(names) > 1 else names)
