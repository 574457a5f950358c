"""A few careful sentences about a study: what was seen, and what the tests let one say."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd

from lab.report.stats import MIN_PAIRS, asked
from lab.report.tables import cell, lower_is_better, plural, summarise

NAMES = {"mae": "mean absolute error", "mse": "mean squared error", "ssim": "SSIM"}


def findings(
    patients: pd.DataFrame,
    tests: pd.DataFrame | None,
    *,
    phantom: bool,
    best: Hashable | None = None,
    metric: str = "mae_brain",
    alpha: float = 0.05,
    split: str = "test",
) -> list[str]:
    """What the study shows on `metric`, as a few points of plain text, the answer first.

    `patients` is the long per-patient table, `tests` what `paired_tests` gives with references, `best` the trial that
    was chosen on validation patients. A difference is named only where the Holm-corrected p is below `alpha`.
    """
    rows = summarise(patients)
    rows = rows[rows[f"{metric}_n"] > 0]
    word = _name(metric)
    if rows.empty:
        return [f"The {word} could be scored in no patient, so nothing is said about it."]
    low = lower_is_better(metric)
    ranked = rows.sort_values(f"{metric}_mean", ascending=low, kind="stable")
    trials, rivals = ranked[~ranked["rival"]], ranked[ranked["rival"]]
    count = int(rows[f"{metric}_n"].max())
    who = (
        f"{plural(count, f'simulated {split} patient')} of the phantom"
        if phantom
        else plural(count, f"{split} patient")
    )
    points = _answer(trials, best, metric=metric, who=who, word=word, low=low)
    if len(rivals):
        trivial = " and ".join(_figure(row, metric) for _, row in rivals.iterrows())
        points = [" ".join([*points, f"Trivial rivals: {trivial}."])]
    points.append(_tested(rows, tests, best=best, metric=metric, alpha=alpha))
    points.append(
        "Metrics of this kind hardly see enhancement: equal figures do not mean equal enhancement; look at the slices."
    )
    if phantom:
        points.append("Nothing here can be carried over to real patients.")
    return points


def _answer(trials: pd.DataFrame, best: Hashable | None, *, metric: str, who: str, word: str, low: bool) -> list[str]:
    """The network that was chosen on validation patients, and the one that came out first on these."""
    if trials.empty:
        return []
    first = trials.iloc[0]
    leader = f"the {'lowest' if low else 'highest'} mean of {plural(len(trials), 'network')}"
    chosen = trials[trials["trial"] == best]
    if best is None or chosen.empty:
        return [f"On {who}, {leader} in {word} is that of {_figure(first, metric)}."]
    text = f"Best on validation: {chosen.iloc[0]['label']}. On {who} its {word} is {_cell(chosen.iloc[0], metric)}"
    if first["trial"] == best:
        return [f"{text}, {leader}." if len(trials) > 1 else f"{text}."]
    return [f"{text}; {leader} is that of {_figure(first, metric)}."]


def _tested(rows: pd.DataFrame, tests: pd.DataFrame | None, *, best: Hashable | None, metric: str, alpha: float) -> str:
    """What the paired tests allow to be said."""
    chosen = None if tests is None or tests.empty else asked(tests, metric).dropna(subset=["p_holm"])
    if chosen is None or chosen.empty:
        count = int(rows[f"{metric}_n"].max())
        why = f" ({plural(count, 'patient')} cannot carry one)" if count < MIN_PAIRS else ""
        return f"No paired test was made{why}, so the order of the means is not called a difference."
    names = {str(row["trial"]): str(row["label"]) for _, row in rows.iterrows()}
    networks = {str(trial) for trial in rows.loc[~rows["rival"], "trial"]}
    count, largest = int(chosen["n"].max()), int(chosen["against"].value_counts().max())
    method = f"{len(chosen)} paired Wilcoxon tests (Holm within the tests against one reference, {alpha:g})"
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
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _figure(row: pd.Series, metric: str) -> str:
    return f"{row['label']} with {_cell(row, metric)}"


def _cell(row: pd.Series, metric: str) -> str:
    return cell(row[f"{metric}_mean"], row[f"{metric}_sd"], metric)


def _name(metric: str) -> str:
    kind, _, region = metric.partition("_")
    return f"{NAMES.get(kind, kind)} over the {'whole image' if region == 'image' else region}"
