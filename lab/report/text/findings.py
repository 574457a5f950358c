"""A few careful sentences about a study: what was seen, and what the tests let one say."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd

from lab.report.tables.patient_table import cell, lower_is_better, plural, summarise
from lab.report.text.enhancement import about_enhancement
from lab.report.text.verdict import words_of_tests

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
    card: pd.DataFrame | None = None,
) -> list[str]:
    """What the study shows on `metric`, as a few points of plain text, the answer first.

    `patients` is the long per-patient table, `tests` what `paired_tests` gives with references, `best` the trial that
    was chosen on validation patients. A difference is named only where the Holm-corrected p is below `alpha`. With a
    `card` (`lab.report.tables.scorecard.scorecard`) sentences about enhancement follow.
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
    points.append(words_of_tests(rows, tests, best=best, metric=metric, alpha=alpha))
    points.append(
        "Metrics of this kind hardly see enhancement: equal figures do not mean equal enhancement; look at the "
        + ("slices." if card is None else "scorecard and the slices.")
    )
    if card is not None:
        points += about_enhancement(patients, tests, card, best=best, alpha=alpha)
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


def _figure(row: pd.Series, metric: str) -> str:
    return f"{row['label']} with {_cell(row, metric)}"


def _cell(row: pd.Series, metric: str) -> str:
    return cell(row[f"{metric}_mean"], row[f"{metric}_sd"], metric)


def _name(metric: str) -> str:
    kind, _, region = metric.partition("_")
    return f"{NAMES.get(kind, kind)} over the {'whole image' if region == 'image' else region}"
