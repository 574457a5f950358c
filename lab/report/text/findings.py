"""Findings of a study in a few sentences, limited to what the intervals and the corrected tests support."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd

from lab.evaluation.figures import FIGURES, TRUTHS, spec_of
from lab.io.files import plural
from lab.report.tables.patient_table import is_baseline, per_patient, summarise
from lab.report.tables.scorecard import true_pattern
from lab.report.tables.table import Column
from lab.report.text.verdict import words_of_tests

CHANCE = 0.5
NOTABLE = 1.5
"""A network's checkerboards are named from this multiple of the true scans' index."""
TRUTH_NAMES = {"rule": "the paper's rule", "expert": "the expert label"}


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
    (`lab.report.tables.scorecard.scorecard`) sentences about enhancement follow.
    """
    rows = summarise(patients)
    rows = rows[rows[f"{metric}_n"] > 0]
    if rows.empty:
        return [f"{spec_of(metric).head} could be scored in no patient, so nothing is said about it."]
    points = [_answer(rows, best, metric=metric, who=_who(int(rows[f"{metric}_n"].max()), split, phantom))]
    points.append(words_of_tests(rows, tests, best=best, metric=metric, alpha=alpha))
    points.append(
        "Metrics of this kind hardly see enhancement: equal figures do not mean equal enhancement; look at the "
        + ("slices." if card is None else "scorecard and the slices.")
    )
    if card is not None:
        points += about_enhancement(patients, tests, card, best=best, alpha=alpha)
    return [*points, "Nothing here can be carried over to real patients."] if phantom else points


def about_enhancement(
    patients: pd.DataFrame,
    tests: pd.DataFrame | None,
    card: pd.DataFrame,
    *,
    best: Hashable | None = None,
    alpha: float = 0.05,
) -> list[str]:
    """The contrast, then each definition of truth, then hallucination and the appearance of the images.

    `patients` is the long per-patient table, `card` its `lab.report.tables.scorecard.scorecard`, `tests` the result of
    `paired_tests` with references. Only a significant test makes a ranking a difference.
    """
    networks = card[~card["rival"].astype(bool)]

    def tested(metric: str) -> list[str]:
        if metric not in patients:
            return []
        table = per_patient(patients)
        rows = table.drop_duplicates("trial")[["trial", "label"]]
        rows = rows.assign(rival=rows["trial"].map(is_baseline))
        rows[f"{metric}_n"] = rows["trial"].map(table.groupby("trial")[metric].count()).fillna(0)
        return [words_of_tests(rows, tests, best=best, metric=metric, alpha=alpha, named=True)]

    points = []
    contrast = _rows(networks, "contrast_concordance")
    if len(contrast):
        words = "concordance of synthetic and true contrast in and near the tumour"
        points = [f"{_leader(contrast, words, best)}.", *tested("contrast_concordance")]
    for truth in TRUTHS:
        own = networks[networks["definition"] == truth]
        if own["value"].notna().any():
            points.append(f"Enhancement by {TRUTH_NAMES[truth]}: {_overlap(own, best)}")
            if (_rows(own, "dice_pooled")["value"] > 0).any():
                points += tested(f"dice_{truth}")
    return [*points, *_hallucination(networks), *_appearance(networks, true_pattern(card))]


def _answer(rows: pd.DataFrame, best: Hashable | None, *, metric: str, who: str) -> str:
    """The network chosen on validation patients, the one that ranks first on these patients, and the baselines."""
    spec = spec_of(metric)
    column, words = Column.of(spec), spec.title.replace(", ", " of the ")

    def figure(row: pd.Series) -> str:
        return f"{column.show(row[f'{metric}_mean'])} ({column.show(row[f'{metric}_sd'])})"

    ranked = rows.sort_values(f"{metric}_mean", ascending=spec.direction == "lower", kind="stable")
    networks, baselines = ranked[~ranked["rival"]], ranked[ranked["rival"]]
    parts = []
    if len(networks):
        first, chosen = networks.iloc[0], networks[networks["trial"] == best]
        leader = f"the {'lowest' if spec.direction == 'lower' else 'highest'} of {plural(len(networks), 'network')}"
        if chosen.empty:
            parts.append(f"On {who}, {leader} in {words} is {first['label']} with {figure(first)}.")
        else:
            own = chosen.iloc[0]
            text = f"Best on validation: {own['label']}. On {who} its {words} is {figure(own)}"
            parts.append(
                f"{text}, {leader}."
                if first["trial"] == best
                else f"{text}; {leader} is {first['label']} with {figure(first)}."
            )
    if len(baselines):
        trivial = " and ".join(f"{row['label']} with {figure(row)}" for _, row in baselines.iterrows())
        parts.append(f"Trivial baselines: {trivial}.")
    return " ".join(parts)


def _who(count: int, split: str, phantom: bool) -> str:
    return (
        f"{plural(count, f'simulated {split} patient')} of the phantom"
        if phantom
        else plural(count, f"{split} patient")
    )


def _overlap(own: pd.DataFrame, best: Hashable | None) -> str:
    """Kappa (an image that enhances everywhere also has a Dice) and AUC for one definition of truth."""
    dice, area = _rows(own, "dice_pooled"), _rows(own, "auc")
    if dice.empty:
        return "no Dice can be given, since neither the patients nor the networks' images enhance."
    if (dice["value"] == 0).all():
        text = "every Dice is 0: no network shows enhancement where there is any."
    else:
        text = f"{_leader(_rows(own, 'kappa'), 'kappa', best)}."
    if area.empty:
        return text
    unsure = int((area["low"] <= CHANCE).sum())
    chance = f"; {unsure} of {plural(len(area), 'interval')} hold 0.5, which is chance" if unsure else ""
    return f"{text} Does the patient enhance? {_leader(area, 'AUC', None)}{chance}."


def _hallucination(networks: pd.DataFrame) -> list[str]:
    """Volume predicted in patients who do not enhance, by the expert label where there is one, else by the rule."""
    for truth in ("expert", "rule"):
        found = _rows(networks[networks["definition"] == truth], "hallucinated_ml")
        if len(found):
            who = f"In patients who do not enhance by {TRUTH_NAMES[truth]} ({int(found['n'].max())})"
            if (found["value"] == 0).all():
                return [f"{who}, no network predicts any enhancement."]
            worst = found.loc[found["value"].idxmax()]
            least = FIGURES["hallucinated_ml"].text(float(found["value"].min()))
            return [
                f"{who}, the networks hallucinate {least} ml or more on average, {worst['label']} most: "
                f"{_with_interval(worst)} ml."
            ]
    return []


def _appearance(networks: pd.DataFrame, truth: float) -> list[str]:
    """Blur and checkerboards, where the intervals exclude the value of the true scan."""
    points = []
    sharp, pattern = _rows(networks, "sharpness"), _rows(networks, "checkerboard")
    blurred = sharp[sharp["high"] < 1]
    if len(blurred):
        points.append(
            f"Images of {len(blurred)} of {plural(len(sharp), 'network')} are smoother than the true scan without its "
            f"noise: sharpness from {FIGURES['sharpness'].text(float(blurred['value'].min()))}, where 1 is as sharp, "
            "and no interval reaches 1."
        )
    above = pattern[(pattern["low"] > truth) & (pattern["value"] >= NOTABLE * truth)]
    if len(above):
        worst = above.loc[above["value"].idxmax()]
        points.append(
            f"Checkerboards: {len(above)} of {plural(len(pattern), 'network')} have at least {NOTABLE:g} times what "
            f"the true scans have, {FIGURES['checkerboard'].text(truth)}, the interval clear of that; {worst['label']} "
            f"has most: {_with_interval(worst)}."
        )
    return points


def _rows(networks: pd.DataFrame, figure: str) -> pd.DataFrame:
    return networks[(networks["figure"] == figure) & networks["value"].notna()].reset_index(drop=True)


def _leader(found: pd.DataFrame, words: str, best: Hashable | None) -> str:
    """The first in rank with its interval, and the figure of the network chosen on validation, where it is another."""
    top = found.loc[found["value"].idxmax()]
    text = f"The highest {words} of {plural(len(found), 'network')} is that of {top['label']}, {_with_interval(top)}"
    chosen = found[(found["trial"] == best) & (found["value"] < top["value"])]
    return text + "".join(
        f"; {row['label']}, best on validation, has {_with_interval(row)}" for _, row in chosen.iterrows()
    )


def _with_interval(row: pd.Series) -> str:
    """A figure with its interval: "0.71 (0.52 to 0.86)"."""
    low, value, high = (FIGURES[row["figure"]].text(float(row[end])) for end in ("low", "value", "high"))
    return value if "-" in (low, high) else f"{value} ({low} to {high})"
