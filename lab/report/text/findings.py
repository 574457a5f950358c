"""Findings of a study in a few sentences, limited to what the intervals and the corrected tests support."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd

from lab.evaluation.figures import FIGURES, TRUTHS, spec_of
from lab.io.files import plural
from lab.report.tables.paired_tests import MIN_PAIRS, asked
from lab.report.tables.patient_table import TRIVIAL, metric_name, summarise
from lab.report.tables.table import Column

TRUTH_NAMES = {"rule": "the paper's rule", "expert": "the expert label"}
LEADERS = {
    "contrast_concordance": "concordance of synthetic and true contrast in and near the tumour",
    "kappa": "kappa",
    "auc": "AUC (does the patient enhance?)",
}
"""Figures of the scorecard whose highest value is named."""


def findings(
    patients: pd.DataFrame,
    tests: pd.DataFrame | None,
    *,
    phantom: bool,
    best: Hashable | None = None,
    metric: str = "mae_brain",
    alpha: float = 0.05,
    split: str = "test",
    card: pd.DataFrame | None = None,
) -> list[str]:
    """The findings of a study on `metric` (one of the paper's nine), as a few points of plain text, the answer first.

    `patients` is the long per-patient table, `tests` the result of `paired_tests` with references, `best` the trial
    chosen on validation patients. A difference is named only where the Holm-corrected p is below `alpha`. With a `card`
    (`lab.report.tables.scorecard.pooled_scorecard`) sentences about enhancement follow.
    """
    rows = summarise(patients)
    rows = rows[rows[f"{metric}_n"] > 0]
    if rows.empty:
        return [f"{spec_of(metric).head} could be scored in no patient, so nothing is said about it."]
    people = plural(int(rows[f"{metric}_n"].max()), f"{'simulated ' * phantom}{split} patient")
    names = {str(trial): str(label) for trial, label in zip(rows["trial"], rows["label"])}
    points = [_answer(rows, best, metric=metric, who=people + " of the phantom" * phantom)]
    points.append(describe_tests(tests, metric, names, best=best, alpha=alpha))
    seen = "slices" if card is None else "scorecard and the slices"
    points.append(f"Image metrics hardly see enhancement; equal errors are not equal enhancement: look at the {seen}.")
    if card is not None:
        points += _enhancement(card[~card["rival"].astype(bool)], best)
        points.append(describe_tests(tests, "contrast_concordance", names, best=best, alpha=alpha))
    return [*points, "Nothing here can be carried over to real patients."] if phantom else points


def describe_tests(
    tests: pd.DataFrame | None, metric: str, names: dict[str, str], *, best: Hashable | None, alpha: float
) -> str:
    """A sentence on the paired tests on a metric: per reference, the number of rows that are better and worse.

    `tests` is the result of `paired_tests` with references, `names` maps its trials to labels.
    """
    chosen = pd.DataFrame() if tests is None or tests.empty else asked(tests, metric).dropna(subset=["p_holm"])
    if chosen.empty:
        why = f"it takes {MIN_PAIRS} patients and a reference"
        return f"No paired test on {metric_name(metric)} was made ({why}): the order of the means is no difference."
    clear = chosen[chosen["p_holm"] < alpha]
    text = (
        f"{len(clear)} of the {len(chosen)} paired Wilcoxon tests on {metric_name(metric)} (Holm within the tests "
        f"against one reference, {alpha:g}) find a difference"
    )
    if clear.empty:
        return f"{text}: the order of the means may be chance."
    parts = []
    for reference, family in chosen.groupby("against", sort=False):
        better, worse = (int((clear[clear["against"] == reference]["better"] == side).sum()) for side in (True, False))
        role = " (best on validation)" if reference == str(best) else ""
        counts = f"{better} better, {worse} worse, {len(family) - better - worse} without a difference"
        parts.append(f"against {names.get(str(reference), str(reference))}{role} {counts}")
    return f"{text}: {'; '.join(parts)}."


def _answer(rows: pd.DataFrame, best: Hashable | None, *, metric: str, who: str) -> str:
    """The network chosen on validation patients, the one that ranks first on these patients, and the baselines."""
    spec = spec_of(metric)
    column, words = Column.of(spec), spec.title.replace(", ", " of the ")

    def figure(row: pd.Series) -> str:
        return f"{column.show(row[f'{metric}_mean'])} ({column.show(row[f'{metric}_sd'])})"

    ranked = rows.sort_values(f"{metric}_mean", ascending=spec.direction == "lower", kind="stable")
    networks, baselines = ranked[~ranked["rival"]], ranked[ranked["trial"].isin(TRIVIAL)]
    parts = []
    if len(networks):
        first, chosen = networks.iloc[0], networks[networks["trial"] == best]
        leader = f"the {'lowest' if spec.direction == 'lower' else 'highest'} of {plural(len(networks), 'network')}"
        if chosen.empty:
            parts.append(f"On {who}, {leader} in {words} is {first['label']} with {figure(first)}.")
        else:
            own = "" if first["trial"] == best else f" is {first['label']} with {figure(first)}"
            text = f"Best on validation: {chosen.iloc[0]['label']}. On {who} its {words} is {figure(chosen.iloc[0])}"
            parts.append(f"{text}{'; ' if own else ', '}{leader}{own}.")
    if len(baselines):
        trivial = " and ".join(f"{row['label']} with {figure(row)}" for _, row in baselines.iterrows())
        parts.append(f"Trivial baselines: {trivial}.")
    return " ".join(parts)


def _enhancement(networks: pd.DataFrame, best: Hashable | None) -> list[str]:
    """The highest value of each of `LEADERS` by definition of truth, and the largest hallucinated volume."""
    points = []
    for truth in ("", *TRUTHS):
        by = f"By {TRUTH_NAMES[truth]}, the" if truth else "The"
        own = networks[(networks["definition"] == truth) & networks["value"].notna()]
        for figure, words in LEADERS.items():
            found = own[own["figure"] == figure].reset_index(drop=True)
            if len(found):
                top = found.loc[found["value"].idxmax()]
                text = f"{by} highest {words} of {plural(len(found), 'network')} is {_interval(top)}, {top['label']}"
                chosen = found[(found["trial"] == best) & (found["value"] < top["value"])]
                text += "".join(f"; best on validation: {_interval(row)}" for _, row in chosen.iterrows())
                chance = int((found["low"] <= 0.5).sum()) if figure == "auc" else 0
                points.append(text + (f"; {chance} of {len(found)} intervals hold 0.5, chance." if chance else "."))
        volume = own[own["figure"] == "hallucinated_ml"].reset_index(drop=True)
        if len(volume):
            worst = volume.loc[volume["value"].idxmax()]
            points.append(
                f"{by} networks hallucinate up to {_interval(worst)} ml in the {int(volume['n'].max())} patients who "
                f"do not enhance ({worst['label']})."
            )
    return points


def _interval(row: pd.Series) -> str:
    """A figure with its interval: "0.71 (0.52 to 0.86)"."""
    low, value, high = (FIGURES[row["figure"]].text(float(row[end])) for end in ("low", "value", "high"))
    return value if "-" in (low, high) else f"{value} ({low} to {high})"
