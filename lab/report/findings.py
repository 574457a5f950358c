"""One careful paragraph about a study: what was seen, and what the tests let one say."""

from __future__ import annotations

import pandas as pd

from lab.report.published import Comparison
from lab.report.tables import cell, lower_is_better, plural, summarise

NAMES = {"mae": "mean absolute error", "mse": "mean squared error", "ssim": "SSIM"}


def findings(
    patients: pd.DataFrame,
    tests: pd.DataFrame | None,
    *,
    comparison: Comparison,
    phantom: bool,
    metric: str = "mae_brain",
    alpha: float = 0.05,
    split: str = "test",
) -> str:
    """What the study shows on `metric`, in one paragraph of plain text.

    `patients` is the long per-patient table, `tests` the paired Wilcoxon tests with columns metric, a, b, n,
    median_difference (a - b), p, p_holm, where a and b are values of the column `trial` or `label`. A difference is
    named only where the Holm-corrected p is below `alpha`.
    """
    rows = summarise(patients)
    rows = rows[rows[f"{metric}_n"] > 0]
    word = _name(metric)
    if rows.empty:
        return f"The {word} could be scored in no patient, so nothing is said about it."
    low = lower_is_better(metric)
    ranked = rows.sort_values(f"{metric}_mean", ascending=low, kind="stable")
    trials, rivals = ranked[~ranked["rival"]], ranked[ranked["rival"]]
    count = int(rows[f"{metric}_n"].max())
    who = (
        plural(count, f"simulated {split} patient") + " of the phantom"
        if phantom
        else plural(count, f"{split} patient")
    )
    sentences = [f"On {who} the {word} was scored for {plural(len(trials), 'network')}."]
    direction = "lowest" if low else "highest"
    if len(trials):
        sentences.append(f"The {direction} mean among them is that of {_figure(trials.iloc[0], metric)}.")
    if len(rivals):
        trivial = " and ".join(_figure(row, metric) for _, row in rivals.iterrows())
        sentences.append(f"The trivial rivals reach: {trivial}.")
    sentences += _tested(rows, tests, metric=metric, alpha=alpha, low=low)
    sentences.append(
        "Image metrics of this kind hardly see enhancement: equal figures do not mean equal enhancement, so judge that "
        "on the slices and on the enhancement scorecard."
    )
    if phantom:
        sentences.append("Nothing here can be carried over to real patients.")
    return " ".join([*sentences, comparison.sentence])


def _tested(rows: pd.DataFrame, tests: pd.DataFrame | None, *, metric: str, alpha: float, low: bool) -> list[str]:
    """What the paired tests allow to be said."""
    chosen = None if tests is None or tests.empty else tests[(tests["metric"] == metric) & tests["p_holm"].notna()]
    if chosen is None or chosen.empty:
        count = int(rows[f"{metric}_n"].max())
        why = f" ({plural(count, 'patient')} cannot carry one)" if count < 6 else ""
        return [f"No paired test was made{why}, so the order of the means is not called a difference."]
    count = int(chosen["n"].max())
    smallest = 2.0 ** (1 - count)  # of an exact two-sided signed-rank test
    names = {str(row["trial"]): str(row["label"]) for _, row in rows.iterrows()}
    rivals = {str(row["label"]) for _, row in rows[rows["rival"]].iterrows()}
    pairs: list[tuple[float, str, str]] = []  # p, better, worse
    for _, test in chosen[chosen["p_holm"] < alpha].sort_values("p_holm", kind="stable").iterrows():
        a, b = (names.get(str(test[side]), str(test[side])) for side in ("a", "b"))
        a_better = (test["median_difference"] < 0) == low
        pairs.append((float(test["p_holm"]), a, b) if a_better else (float(test["p_holm"]), b, a))
    method = f"paired Wilcoxon tests on it (Holm-corrected, {alpha:g})"
    if not pairs:
        sentences = [f"None of the {len(chosen)} {method} finds a difference: the order of the means may be chance."]
        if smallest * len(chosen) >= alpha:
            sentences.append(
                f"With {count} patients the smallest p such a test gives is {smallest:.2g}, too large to survive the "
                f"correction for {len(chosen)} tests whatever the networks do; it takes more patients."
            )
        return sentences
    sentences = [f"{len(pairs)} of the {len(chosen)} {method} {'find' if len(pairs) > 1 else 'finds'} a difference."]
    for rival in sorted(rivals):
        better = sorted({a for _, a, b in pairs if b == rival and a not in rivals})
        worse = sorted({b for _, a, b in pairs if a == rival and b not in rivals})
        sentences.append(f"Against {rival}, {_count(better)} better and {_count(worse)} worse.")
    networks = list(rows[~rows["rival"]].sort_values(f"{metric}_mean", ascending=low, kind="stable")["label"])
    beaten = {b for _, a, b in pairs if networks and a == networks[0]}
    rest = [label for label in networks[1:] if label not in beaten]
    if len(networks) > 1 and not any(a in networks and b in networks for _, a, b in pairs):
        sentences.append("No two networks are told apart: their order may be chance.")
    elif len(networks) > 1:
        others = len(networks) - 1
        many = f"{others - len(rest)} of the {others} other networks" if rest else f"all {others} other networks"
        told = f"The first by its mean ({networks[0]}) is better than {many}"
        sentences.append(f"{told} and not told apart from {_listing(rest)}." if rest else f"{told}.")
    return sentences


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
    return f"{row['label']} with {cell(row[f'{metric}_mean'], row[f'{metric}_sd'], metric)}"


def _name(metric: str) -> str:
    kind, _, region = metric.partition("_")
    return f"{NAMES.get(kind, kind)} over the {'whole image' if region == 'image' else region}"
