"""Careful sentences about enhancement: what the scorecard shows, and what the tests let one say of it."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd

from lab.evaluation.figures import DEFINITIONS, POOLED
from lab.report.tables.card import own_pattern
from lab.report.tables.patient_table import is_rival, per_patient, plural
from lab.report.text.verdict import words_of_tests

CHANCE = 0.5
NOTABLE = 1.5
"""Times the true scans' checkerboard index from which on a network's is told."""
NAMES = {"rule": "the paper's rule", "expert": "the expert label"}


def about_enhancement(
    patients: pd.DataFrame,
    tests: pd.DataFrame | None,
    card: pd.DataFrame,
    *,
    best: Hashable | None = None,
    alpha: float = 0.05,
) -> list[str]:
    """A few sentences for each definition of truth, then on hallucination and on the look of the images.

    `patients` is the long per-patient table, `card` what `lab.report.tables.scorecard.scorecard` makes of it, `tests`
    what `paired_tests` gives with references. Orders are told with their intervals; only a test makes one a difference.
    """
    networks = card[~card["rival"].astype(bool)]
    points = _contrast(patients, tests, networks, best=best, alpha=alpha)
    for definition in DEFINITIONS:
        own = networks[networks["definition"] == definition]
        if own["value"].notna().any():
            points += _overlap(patients, tests, own, definition, best=best, alpha=alpha)
    points += _hallucinated(networks)
    return points + _look(networks, own_pattern(card))


def _overlap(
    patients: pd.DataFrame,
    tests: pd.DataFrame | None,
    own: pd.DataFrame,
    definition: str,
    *,
    best: Hashable | None,
    alpha: float,
) -> list[str]:
    """Who comes first in Dice and AUC against one definition of truth, and whether the tests tell anyone apart."""
    truth = f"Enhancement by {NAMES[definition]}"
    dice = _figure(own, "dice_pooled")
    if not len(dice):
        return [f"{truth}: no Dice can be given, since neither the patients nor the networks' images enhance."]
    sentences = []
    if (dice["value"] == 0).all():
        drawn = patients.loc[~patients["trial"].map(is_rival), "ml_predicted"].max() > 0
        where = " where there is any" if drawn else ""
        sentences.append(f"{truth}: no network drew enhancement{where}; every Dice is 0.")
    else:
        agreement = _figure(own, "kappa")  # not Dice, which painting everything has as well
        chosen = agreement[(agreement["trial"] == best) & (agreement["value"] < agreement["value"].max())]
        also = "".join(
            f"; {row['label']}, best on validation, has {_told(row, 'kappa')}" for _, row in chosen.iterrows()
        )
        if (agreement["low"] <= 0).all():
            also += "; no interval is clear of 0, which painting everything or nothing has"
        sentences.append(f"{truth}: {_first(agreement, 'kappa', 'kappa')}{also}.")
    area = _figure(own, "auc")
    if len(area):
        sentences.append(f"Does the patient enhance? {_capital(_first(area, 'auc', 'AUC'))}{_chance(area)}.")
    points = [" ".join(sentences)]
    if (dice["value"] > 0).any():
        points.append(_tested(patients, tests, f"dice_{definition}", best=best, alpha=alpha))
    return points


def _chance(area: pd.DataFrame) -> str:
    """How the AUCs stand to chance, as the end of a sentence."""
    holds = (area["low"] <= CHANCE) & (area["high"] >= CHANCE)
    if holds.all():
        return (
            "; every interval holds 0.5, so no network is told apart from chance"
            if len(area) > 1
            else ("; the interval holds 0.5, so it is not told apart from chance")
        )
    first = area["value"].idxmax()
    if holds.any():
        also = ", its own among them" if holds[first] else ""
        return f"; the intervals of {holds.sum()} of {len(area)} networks hold 0.5{also}"
    return ""


def _contrast(
    patients: pd.DataFrame, tests: pd.DataFrame | None, networks: pd.DataFrame, *, best: Hashable | None, alpha: float
) -> list[str]:
    """Whose contrast near the tumour is most like the true one, in place and amount, and what the tests say of it."""
    found = _figure(networks, "contrast_concordance")
    if not len(found):
        return []
    chosen = found[(found["trial"] == best) & (found["value"] < found["value"].max())]
    also = "".join(
        f"; {row['label']}, best on validation, has {_told(row, 'contrast_concordance')}"
        for _, row in chosen.iterrows()
    )
    word = "concordance of synthetic and true contrast in and near the tumour"
    points = [f"{_capital(_first(found, 'contrast_concordance', word))}{also}."]
    if "contrast_concordance" in patients:
        points.append(_tested(patients, tests, "contrast_concordance", best=best, alpha=alpha))
    return points


def _tested(
    patients: pd.DataFrame, tests: pd.DataFrame | None, metric: str, *, best: Hashable | None, alpha: float
) -> str:
    """What the paired tests on one figure let one say."""
    table = per_patient(patients)
    rows = table.drop_duplicates("trial")[["trial", "label"]]
    counts = table.groupby("trial")[metric].count() if metric in table else pd.Series(dtype=int)
    rows = rows.assign(rival=rows["trial"].map(is_rival), **{f"{metric}_n": rows["trial"].map(counts).fillna(0)})
    return words_of_tests(rows, tests, best=best, metric=metric, alpha=alpha, named=True)


def _hallucinated(networks: pd.DataFrame) -> list[str]:
    """Volume drawn in patients who do not enhance, by the expert's label where there is one, else by the rule."""
    for definition in ("expert", "rule"):
        found = _figure(networks[networks["definition"] == definition], "hallucinated_ml")
        if not len(found):
            continue
        count = int(found["n"].max())
        who = (
            f"In the {plural(count, 'patient')} who {'does' if count == 1 else 'do'} not enhance by {NAMES[definition]}"
        )
        if (found["value"] == 0).all():
            return [f"{who}, no network draws any enhancement."]
        worst = found.loc[found["value"].idxmax()]
        if len(found) == 1:
            return [f"{who}, {_told(worst, 'hallucinated_ml')} ml of enhancement are drawn on average."]
        least = POOLED["hallucinated_ml"].text(float(found["value"].min()))
        most = POOLED["hallucinated_ml"].text(float(worst["value"]))
        return [f"{who}, the networks draw {least} to {most} ml of enhancement on average; most is drawn by "
                f"{worst['label']}, {_told(worst, 'hallucinated_ml')} ml."]  # fmt: skip
    return []


def _look(networks: pd.DataFrame, truth: float) -> list[str]:
    """Blur and checkerboards, where the intervals stand clear of the true scan."""
    points = []
    sharp = _figure(networks, "sharpness")
    blurred = sharp[sharp["high"] < 1]
    if len(blurred):
        low, high = (POOLED["sharpness"].text(float(end)) for end in (blurred["value"].min(), blurred["value"].max()))
        span = low if low == high else f"{low} to {high}"
        points.append(f"Images of {_share(blurred, sharp)} are smoother than the true scan without its noise: "
                      f"sharpness {span}, where 1 is as sharp, and no interval reaches 1.")  # fmt: skip
    pattern = _figure(networks, "checkerboard")
    above = pattern[(pattern["low"] > truth) & (pattern["value"] >= NOTABLE * truth)]
    if len(above):
        worst = above.loc[above["value"].idxmax()]
        have, times = "has" if len(above) == 1 else "have", f"{NOTABLE:g} times"
        points.append(f"Checkerboards: {_share(above, pattern)} {have} at least {times} what the true scans have, "
                      f"{POOLED['checkerboard'].text(truth)} (normalised units), the interval clear of that; most has "
                      f"{worst['label']}, {_told(worst, 'checkerboard')}.")  # fmt: skip
    return points


def _figure(rows: pd.DataFrame, figure: str) -> pd.DataFrame:
    return rows[(rows["figure"] == figure) & rows["value"].notna()].reset_index(drop=True)


def _first(found: pd.DataFrame, figure: str, word: str) -> str:
    """Who comes first: "the highest AUC of 15 networks is that of X, 0.71 (0.52 to 0.86)"; ties are counted."""
    shown = [POOLED[figure].text(float(value)) for value in found["value"]]
    top = found.loc[found["value"].idxmax()]
    same = [label for label, text in zip(found["label"], shown) if text == POOLED[figure].text(float(top["value"]))]
    if len(found) == 1:
        return f"the {word} of {top['label']} is {_told(top, figure)}"
    if len(same) == len(found):
        return f"the {word} of all {len(found)} networks is {shown[0]}"
    who = str(top["label"]) + (f" (and {plural(len(same) - 1, 'other')})" if len(same) > 1 else "")
    return f"the highest {word} of {plural(len(found), 'network')} is that of {who}, {_told(top, figure)}"


def _told(row: pd.Series, figure: str) -> str:
    """A figure with its interval: "0.71 (0.52 to 0.86)"."""
    low, value, high = (POOLED[figure].text(float(row[end])) for end in ("low", "value", "high"))
    return value if "-" in (low, high) else f"{value} ({low} to {high})"


def _share(some: pd.DataFrame, found: pd.DataFrame) -> str:
    """How many: "all 15 networks" or "3 of 15 networks"."""
    return (
        f"all {plural(len(found), 'network')}" if len(some) == len(found) else f"{len(some)} of {len(found)} networks"
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
