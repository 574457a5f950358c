"""Comparison of all methods on the same patients: from cross-validated predictions to the tables of a report.

A patient counts once: scores of repeats are averaged first, because they are not independent.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lab.radiomics.baselines import OURS, WORC
from lab.stats.auc import MIN_CLASS, auc, bootstrap_auc, delong_interval, permutation_null, subgroup_auc
from lab.stats.bootstrap import RESAMPLES
from lab.stats.calibration import NOT_KNOWN, calibration
from lab.stats.decision_curve import at_threshold, youden_threshold
from lab.stats.intervals import Estimate, corrected_t
from lab.stats.multiple_tests import compare_all
from lab.stats.predictions import one_per_patient
from lab.stats.roc import precision_recall

COLUMNS = ("method", "repeat", "fold", "case_id", "patient_id", "label", "score", "threshold", "train", "test")
GROUPS = {"vendor": "{}", "field_strength_t": "{:g} T", "grade": "grade {:g}"}  # columns of subgroups -> their format
CALIBRATED = ("slope", "intercept", "in_the_large", "brier", "scaled_brier")
YOUDEN = "Youden's threshold"
"""Second operating point of WORC, whose own threshold is 0.5 whatever the prevalence."""
NO_PROBABILITY = "its score is no probability with a threshold: ROC only"
TEXTS = ("method", "reference", "patient_id", "group", "by", "note", "figure", "auc_interval")


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """Tables of a comparison of methods; the main method comes first in each."""

    performance: pd.DataFrame
    """One row per method: AUC over patients (`auc`, with DeLong's `_low`, `_high` and the bootstrap's `boot_`), mean
    over splits (`auc_splits`), average precision (`ap`), calibration, each with `_low` and `_high`, and the permutation
    test's `p`. Unknown values are NaN, and `note` gives the reason."""
    accuracy: pd.DataFrame  # method, figure (sensitivity, specificity, ppv, npv, accuracy), value, low, high, hits, n
    comparisons: pd.DataFrame  # DeLong's tests on common patients; see `lab.stats.multiple_tests`
    subgroups: pd.DataFrame  # method, by, group, n, events, auc, low, high, note
    patients: pd.DataFrame
    """method, patient_id, label, score (mean), margin (mean of score - threshold), called (1, 0 or unknown), splits."""

    @property
    def main(self) -> str:
        """The main method."""
        return str(self.performance["method"].iloc[0])

    @property
    def judged(self) -> tuple[str, ...]:
        """The methods that are not baselines: the main one, and WORC if it is there."""
        return tuple(dict.fromkeys((self.main, *(name for name in self.performance["method"] if name == WORC))))

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def write(self, folder: Path) -> list[Path]:
        """Write one CSV per table, named after it; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, table in self.tables().items():
            paths.append(folder / f"{name}.csv")
            table.to_csv(paths[-1], index=False)
        return paths


def read_assessment(folder: Path) -> Assessment:
    """The tables written by `Assessment.write`. Raises OSError if one is missing."""
    how: dict[str, Any] = {"dtype": dict.fromkeys(TEXTS, str), "keep_default_na": False, "na_values": [""]}
    tables = {field.name: pd.read_csv(folder / f"{field.name}.csv", **how) for field in fields(Assessment)}
    for table in tables.values():  # CSV reads an empty text as NaN
        table[[name for name in TEXTS if name in table]] = table[[name for name in TEXTS if name in table]].fillna("")
    return Assessment(**tables)


def assess(
    predictions: pd.DataFrame,
    *,
    main: str = OURS,
    seed: int = 0,
    resamples: int = RESAMPLES,
    permutations: int = 2000,
    groups: pd.DataFrame | None = None,
) -> Assessment:
    """Assess all methods of a table of predictions, one row per (method, repeat, fold, case), with columns `COLUMNS`.

    `main` is compared with all others, and so is WORC if it is there. A method may cover some patients only; without a
    probability and a threshold it gets a ROC alone. `groups` (index case_id, columns patient_id and any of `GROUPS`)
    defines subgroups. Raises ValueError for missing columns or `main`, and a case predicted twice in a split.
    """
    table = _checked(predictions, main)
    judged = [main] + ([WORC] if main != WORC and WORC in set(table["method"]) else [])
    methods = judged + [name for name in dict.fromkeys(table["method"]) if name not in judged]
    rows, accuracy, patients = [], [], []
    for number, method in enumerate(methods):
        part = table[table["method"] == method]
        one = _patients(part)
        rng = np.random.default_rng([seed, number])
        found = _performance(part, one, rng=rng, resamples=resamples, permutations=permutations)
        rows.append({"method": method, **found})
        if one["margin"].notna().all():
            accuracy.append(at_threshold(one["label"], one["margin"], 0.0).assign(method=method))
        if method == WORC and (chosen := with_training_thresholds(part)) is not None:
            other = _patients(chosen)
            accuracy.append(at_threshold(other["label"], other["margin"], 0.0).assign(method=f"{WORC}, {YOUDEN}"))
        patients.append(one.assign(method=method))
    everyone = pd.concat(patients, ignore_index=True)
    everyone = everyone[["method", "patient_id", "label", "score", "margin", "called", "splits"]]
    shares = ["method", "figure", "value", "low", "high", "hits", "n"]
    return Assessment(
        performance=pd.DataFrame(rows),
        accuracy=pd.concat(accuracy, ignore_index=True)[shares] if accuracy else pd.DataFrame(columns=shares),
        comparisons=compare_all(everyone, judged),
        subgroups=_subgroups(everyone, judged, groups),
        patients=everyone,
    )


def with_training_thresholds(part: pd.DataFrame) -> pd.DataFrame | None:
    """One method's predictions with a threshold for each split: Youden's on the scores of its training patients.

    Those are their scores in the other folds of the same repeat, by models that were not trained on them (but on this
    split's test patients). None with a single split, and where the training patients scored are of one class.
    """
    parts = []
    for _, repeat in part.groupby("repeat"):
        for fold, tested in repeat.groupby("fold"):
            others = repeat[(repeat["fold"] != fold) & ~repeat["patient_id"].isin(set(tested["patient_id"]))]
            if others["label"].nunique() < 2:
                return None
            known = one_per_patient(others["patient_id"], others["label"], others["score"])
            parts.append(tested.assign(threshold=youden_threshold(known["label"], known["score"])))
    return pd.concat(parts)


def split_scores(predictions: pd.DataFrame, method: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Labels and scores of each split's test patients, averaged over a patient's scans: input of `roc_of_splits`."""
    part = predictions[predictions["method"] == method]
    groups = (group for _, group in part.groupby(["repeat", "fold"], sort=True))
    means = (one_per_patient(group["patient_id"], group["label"], group["score"]) for group in groups)
    return [(one["label"].to_numpy(), one["score"].to_numpy()) for one in means]


def _checked(predictions: pd.DataFrame, main: str) -> pd.DataFrame:
    missing = [name for name in COLUMNS if name not in predictions]
    if missing:
        raise ValueError(f"the table of predictions lacks the column(s) {', '.join(missing)}")
    names = list(dict.fromkeys(predictions["method"]))
    if main not in names:
        raise ValueError(f"there are no predictions of {main!r}; the methods are: {', '.join(names) or 'none'}")
    twice = predictions.duplicated(["method", "repeat", "fold", "case_id"])
    if twice.any():
        row = predictions[twice].iloc[0]
        where = f"repeat {row['repeat']}, fold {row['fold']}"
        raise ValueError(f"{row['method']} predicts {row['case_id']} twice in {where}")
    return predictions.assign(patient_id=predictions["patient_id"].astype(str))


def _patients(part: pd.DataFrame) -> pd.DataFrame:
    """One row per patient of one method; the decision uses the mean distance to each split's own threshold."""
    one = one_per_patient(part["patient_id"], part["label"], part["score"])
    distance = (part["score"] - part["threshold"]).groupby(part["patient_id"]).mean()
    usable = part["threshold"].notna().all()
    margin = one["patient_id"].map(distance) if usable else pd.Series(np.nan, index=one.index)
    called = pd.Series((margin >= 0).astype(float)).where(margin.notna())
    tested = part.groupby("patient_id")[["repeat", "fold"]].apply(lambda rows: len(rows.drop_duplicates()))
    return one.assign(margin=margin, called=called, splits=one["patient_id"].map(tested))


def _performance(
    part: pd.DataFrame, one: pd.DataFrame, *, rng: np.random.Generator, resamples: int, permutations: int
) -> dict[str, Any]:
    labels, scores = one["label"], one["score"]
    splits = len(part.drop_duplicates(["repeat", "fold"]))
    row: dict[str, Any] = {"patients": len(one), "events": int(labels.sum()), "splits": splits}
    notes = []
    if min(row["events"], row["patients"] - row["events"]) < 2:
        return row | _nothing() | {"note": "fewer than two patients of a class: no figures"}
    exact, (over, why) = delong_interval(labels, scores), _over_splits(part)
    if exact.method != "DeLong":
        notes.append(f"interval of the AUC by {exact.method}, since DeLong's variance is 0")
    row |= _columns("auc", exact) | {"auc_interval": exact.method}
    boot = bootstrap_auc(labels, scores, rng=rng, resamples=resamples)
    row |= {"boot_low": boot.low, "boot_high": boot.high} | _columns("auc_splits", over)
    row |= _columns("ap", precision_recall(labels, scores, rng=rng, resamples=resamples).average)
    row["p"] = permutation_null(labels, scores, rng=rng, permutations=permutations).p
    found = calibration(labels, scores) if one["margin"].notna().all() and scores.between(0, 1).all() else None
    for name in CALIBRATED:
        row |= _columns(name, NOT_KNOWN if found is None else getattr(found, name))
    notes.append(NO_PROBABILITY if found is None else found.note)
    return row | {"note": "; ".join(note for note in (*notes, why) if note)}


def _over_splits(part: pd.DataFrame) -> tuple[Estimate, str]:
    """Mean AUC over splits with the corrected t interval, or the reason for its absence."""
    found = split_scores(part.assign(method=""), "")
    if len(found) < 2:
        return NOT_KNOWN, ""
    single = sum(len(set(labels)) < 2 for labels, _ in found)
    if single:
        return NOT_KNOWN, f"{single} of {len(found)} splits hold one class only: no mean over splits"
    sizes = part.groupby(["repeat", "fold"]).agg(train=("train", "first"), test=("patient_id", "nunique"))
    areas = [auc(labels, scores) for labels, scores in found]
    return corrected_t(areas, train=float(sizes["train"].mean()), test=float(sizes["test"].mean())), ""


def _subgroups(patients: pd.DataFrame, judged: list[str], groups: pd.DataFrame | None) -> pd.DataFrame:
    columns = ["method", "by", "group", "n", "events", "auc", "low", "high", "note"]
    tables = []
    for name, text in GROUPS.items():
        if groups is None or name not in groups or groups[name].isna().all():
            continue
        known = groups.dropna(subset=[name]).astype({"patient_id": str}).groupby("patient_id")[name].first()
        words = known.map(text.format)
        for method in judged:
            one = patients[patients["method"] == method]
            found = subgroup_auc(one["label"], one["score"], one["patient_id"].map(words), least=MIN_CLASS)
            tables.append(found.assign(method=method, by=name))
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _columns(name: str, found: Estimate) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _nothing() -> dict[str, Any]:
    names = ("auc", "boot", "auc_splits", "ap", *CALIBRATED)
    empty = {key: value for name in names for key, value in _columns(name, NOT_KNOWN).items() if key != "boot"}
    return empty | {"p": float("nan"), "auc_interval": ""}
