"""The enhancement scorecard: pooled figures of every trial and baseline, in tables for each definition of truth."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
import pandas as pd

from lab.evaluation.figures import FIGURES, TRUTHS, group_figures, truth_in_words
from lab.evaluation.place.voxel_specs import ENDINGS
from lab.evaluation.pooled import pooled
from lab.io.files import plural
from lab.report.tables.patient_table import is_baseline, summarise
from lab.report.tables.table import Cell, Column, Row, Table

COLUMNS = ["trial", "label", "rival", "definition", "figure", "value", "low", "high", "n"]
CEILING = "true scan"
"""Row of the true scan itself, scored by the rule like a synthetic image: the score of a perfect one."""


def pooled_scorecard(
    patients: pd.DataFrame, *, ceiling: pd.DataFrame | None = None, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """The pooled figures of every trial and baseline, one row per figure: the columns `COLUMNS`.

    `patients` is the long per-patient table; definition is "rule", "expert" or "" (figures that need no definition of
    truth, among them the checkerboard index of the true scans, "checkerboard_true"); low and high are the 95 %
    interval over patients. Rows follow the paper's table: trials grouped by loss, baselines last. `ceiling` is the
    per-patient table of the true scans scored as synthetic images; they get a row against the expert label, which even
    they do not match.
    """
    parts = []
    for row in summarise(patients).itertuples():
        own = patients[patients["trial"] == row.trial]
        levels = []
        if "checkerboard_true" in own:
            truth = own["checkerboard_true"].dropna()
            levels.append({"definition": "", "figure": "checkerboard_true", "value": truth.mean(), "n": len(truth)})
        for definition in TRUTHS:
            if np.isfinite(painted := dice_painted(own, definition)):
                known = {"figure": "dice_painted", "value": painted, "n": len(own)}
                levels.append({"definition": definition} | known)
        figures = pooled(own, resamples=resamples, seed=seed)
        figures = pd.concat([figures, pd.DataFrame(levels)], ignore_index=True) if levels else figures
        parts.append(figures.assign(trial=row.trial, label=row.label, rival=is_baseline(row.trial)))
    if ceiling is not None and len(ceiling):
        figures = pooled(ceiling, resamples=resamples, seed=seed)
        figures = figures[figures["definition"] == "expert"]
        parts.append(figures.assign(trial=CEILING, label=CEILING, rival=True))
    return pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)


def dice_painted(patients: pd.DataFrame, definition: str) -> float:
    """The pooled Dice of an image that enhances everywhere in and near every tumour; NaN where it is not known."""
    if not {"ml_near", f"ml_{definition}"} <= set(patients):
        return float("nan")
    known = patients.dropna(subset=[f"ml_{definition}"])
    true, near = float(known[f"ml_{definition}"].sum()), float(known["ml_near"].sum())
    return 2 * true / (near + true) if near + true > 0 else float("nan")


def scorecard_tables(
    card: pd.DataFrame, *, phantom: bool, floor: float | None = None, threshold: float = 0.3
) -> list[Table]:
    """The card's tables: one for each definition of truth that has data, then the figures that need none.

    `floor` is the noise floor of the MAE, `threshold` that of enhancement.
    """
    tables = []
    for definition in (*TRUTHS, ""):
        part = card[card["definition"] == definition]
        figures = _known(part, group_figures("card", truths=bool(definition)))
        if figures:
            tables.append(_table(part, definition, figures, card, phantom=phantom, floor=floor, threshold=threshold))
    tables[-1:-1] = place_tables(card, phantom=phantom, threshold=threshold)
    return tables


def place_tables(card: pd.DataFrame, *, phantom: bool, threshold: float) -> list[Table]:
    """Where the images enhance, against the best definition of truth there is: by contrast, by stated probability."""
    tables = []
    for score, read in SCORES_READ.items():
        known = {truth: card[card["definition"] == truth] for truth in ("expert", "rule")}
        names = [name for name in group_figures("place", truths=True) if name.startswith(score)]
        truth = next((truth for truth, part in known.items() if _known(part, names)), None)
        if truth is not None:
            part = known[truth]
            stated = part.loc[part["figure"].isin(names) & part["value"].notna(), "trial"]
            part = part[part["trial"].isin(set(stated))]
            names = _known(part, names)
            beside = [name for name in ("dice_pooled", "kappa") if score == "contrast" and _known(part, [name])]
            heading = f"Where it enhances, by {read}. Truth: {truth_in_words(truth, threshold=threshold)}"
            notes = [INTERVAL_NOTE, PLACE_NOTE]
            notes += [BESIDE_NOTE.format(threshold=threshold)] if beside else []
            notes += [CEILING_NOTE] if CEILING in set(part["trial"]) else []
            tables.append(_rows_table(part, [*names, *beside], heading, notes, phantom=phantom))
    return tables


def _known(part: pd.DataFrame, figures: Iterable[str]) -> list[str]:
    return [name for name in figures if part.loc[part["figure"] == name, "value"].notna().any()]


def meanings(card: pd.DataFrame) -> list[tuple[str, str]]:
    """Title of every column of the card and its meaning."""
    known = set(card.loc[card["value"].notna(), "figure"])
    shown = dict.fromkeys(name for place in ("card", "place") for name in group_figures(place, truths=True))
    shown |= dict.fromkeys(group_figures("card", truths=False))
    specs = [FIGURES[name] for name in shown if name in known]
    texts = [(spec.head, "; ".join(part for part in (spec.meaning, spec.hint) if part)) for spec in specs]
    return [(head, text) for head, text in texts if text]


def true_pattern(card: pd.DataFrame) -> float:
    """The checkerboard index of the true scans themselves; NaN where it was not measured."""
    found = card.loc[card["figure"] == "checkerboard_true", "value"].dropna()
    return float(found.iloc[0]) if len(found) else float("nan")


def _table(
    part: pd.DataFrame,
    definition: str,
    figures: list[str],
    card: pd.DataFrame,
    *,
    phantom: bool,
    floor: float | None,
    threshold: float,
) -> Table:
    heading = (
        f"Truth: {truth_in_words(definition, threshold=threshold)}"
        if definition
        else "The contrast, the midline, and how the images look"
    )
    counts = {name: _count(part.loc[part["figure"] == name, "n"]) for name in figures}
    trials = set(part["trial"])
    notes = _truth_notes(definition, card, counts, trials) if definition else _other_notes(card, floor)
    return _rows_table(part, figures, heading, notes, phantom=phantom)


def _rows_table(part: pd.DataFrame, figures: list[str], heading: str, notes: list[str], *, phantom: bool) -> Table:
    """A table of some figures: a row for each trial, baselines last."""
    found = {(row.trial, row.figure): row for row in part.itertuples()}
    counts = {name: _count(part.loc[part["figure"] == name, "n"]) for name in figures}
    titles = {name: FIGURES[name].title.removesuffix(ENDINGS.get(name.partition("_")[0], "")) for name in figures}
    columns = [Column.of(FIGURES[name], count=counts[name], title=titles[name]) for name in figures]
    rows = part[["trial", "label", "rival"]].drop_duplicates("trial").to_dict("records")
    best = []
    for column, name in zip(columns, figures):
        known = [found.get((row["trial"], name)) for row in rows if row["trial"] != CEILING]
        marks = column.best([np.nan if one is None else float(one.value) for one in known])
        best.append(dict(zip((row["trial"] for row in rows if row["trial"] != CEILING), marks)))
    body, previous = [], None
    for row in rows:
        kind = " ".join(["baseline"] * bool(row["rival"]) + ["first"] * (row["rival"] != previous))
        previous = row["rival"]
        cells: list[Cell | str | None] = [str(row["label"])]
        for column, name, marked in zip(columns, figures, best):
            one, strong = found.get((row["trial"], name)), marked.get(row["trial"], False)
            cells.append(None if one is None else column.interval(one.value, one.low, one.high, strong=strong))
        body.append(Row(cells=cells, kind=kind))
    return Table(
        columns=[Column(title=""), *columns],
        rows=body,
        title=heading + " (phantom: simulated patients)" * phantom,
        notes=notes,
        stacked=True,
    )


def _count(counts: pd.Series) -> str:
    """Number of patients behind a column: "30", or "12-15" where rows differ."""
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low}-{high}"


INTERVAL_NOTE = (
    "95 % interval (bootstrap over patients) with each figure; {best}: best of its column; whether it differs from "
    "others is for the paired tests to say."
)


CEILING_NOTE = "True scan: T1GD itself, judged by the rule as a synthetic image is; what a perfect one has."
PLACE_NOTE = (
    "Thresholds are those of the highest kappa on validation patients, chosen for each row. Patients in whom all or "
    "none of the voxels enhance have no voxel AUC."
)
BESIDE_NOTE = "The last columns are the same at the rule's {threshold:g}."
SCORES_READ = {
    "contrast": "the contrast, image - T1",
    "probability": "the stated probability",
    "core": "the core that the network itself predicts, painted: a rival of its probability",
}


def _truth_notes(definition: str, card: pd.DataFrame, counts: dict[str, str], trials: set[Hashable]) -> list[str]:
    """Notes on how to read the cells, the patients counted, and bounds of the figures."""
    everyone, silent, enhancing = (counts.get(name, "") for name in ("bias_ml", "hallucinated_ml", "contrast"))
    who = [f"n = {plural(int(everyone), 'patient')}" if everyone.isdigit() else f"n = {everyone} patients"]
    who += [f"hallucinated volume: the {silent} who do not enhance"] if silent else []
    who += [f"contrast shown: the {enhancing} who enhance"] if enhancing else []
    lines = [INTERVAL_NOTE, "; ".join(who) + "."]
    if {"hallucinated_ml", "lesions_false"} & set(counts):
        lines.append("An image that shows no enhancement hallucinates none: read these columns beside sensitivity.")
    painted = card.loc[(card["figure"] == "dice_painted") & (card["definition"] == definition), "value"]
    if len(painted):
        lines.append(
            f"Painting all of every tumour and its surroundings bright would have a Dice of {painted.max():.2f}."
        )
    if CEILING in trials:
        lines.append(CEILING_NOTE)
    return lines


def _other_notes(card: pd.DataFrame, floor: float | None) -> list[str]:
    lines, own = [INTERVAL_NOTE], true_pattern(card)
    if own == own:
        text = FIGURES["checkerboard_true"].text(own)
        lines.append(f"The true scans themselves have a checkerboard index of {text}; a model's is read against that.")
    if floor is not None:
        lines.append(
            f"No model can have an MAE below {floor:.3f} over brain tissue: the noise of T1GD, mean over patients."
        )
    return lines
