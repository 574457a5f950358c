"""Every trial against the strongest baseline, paired by patient: where does the image enhance?

The strongest is the baseline with the highest kappa on validation patients, at the threshold chosen there; the one that
is given the true tumour mask does not count. A probability is read where a trial or baseline states one, else the
contrast of its image. A trial that states a core too is also compared with that: with painting its own predicted core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lab.evaluation.figures import FIGURES, pooling_of, truth_in_words
from lab.evaluation.place.voxel_counts import SCORES
from lab.evaluation.place.voxel_specs import LEVELS
from lab.evaluation.pooled import columns_of, compare, point
from lab.report.tables.patient_table import GIVEN_MASK, is_baseline
from lab.report.tables.table import Column, Row, Table

COMPARED = ("contrast_auc", "contrast_dice", "contrast_dice_pooled", "contrast_kappa")
"""Figures that are compared; those of the probability stand for them where one is stated."""
COLUMNS = ["trial", "label", "read", "against", "figure", "value", "reference", "difference", "low", "high", "n"]
OWN_CORE = "its own core"


def strongest_baseline(validated: pd.DataFrame) -> dict[str, Any] | None:
    """The strongest baseline of the validation patients: `baseline`, `kappa`, `truth`; None where no kappa is known.

    `validated` is the baselines' per-patient table with the figures at their chosen thresholds. The truth is the
    expert's label where the data set has one, else the paper's rule.
    """
    truth = best_truth(validated)
    found = {}
    for trial, table in validated.groupby("trial", sort=False):
        if trial not in GIVEN_MASK:
            kappa = point(as_read(table), truth, "contrast_kappa")
            if np.isfinite(kappa):
                found[str(trial)] = kappa
    if not found:
        return None
    name = max(found, key=lambda name: found[name])
    return {"baseline": name, "kappa": found[name], "truth": truth}


def best_truth(patients: pd.DataFrame) -> str:
    """The expert's label where the data set has one, else the paper's rule."""
    return "expert" if patients["ml_expert"].notna().any() else "rule"


def score_read(patients: pd.DataFrame) -> str:
    """The score that is read for one trial: "probability" where it states one, else "contrast"."""
    stated = patients.get("probability_counts_rule")  # missing in tables of versions up to 0.4.0
    return "contrast" if stated is None or stated.isna().all() else "probability"


def as_read(patients: pd.DataFrame, score: str | None = None) -> pd.DataFrame:
    """One trial's table with a score's figures (None: the one that is read) under the names of the contrast's."""
    score = score_read(patients) if score is None else score
    if score == "contrast":
        return patients
    left = (LEVELS["contrast"], *(f"{name}_" for name in SCORES))
    kept = [name for name in patients if not str(name).startswith(left)]
    read = patients.filter(regex=f"^{score}_").rename(columns={LEVELS["probability"]: LEVELS["contrast"]})
    return patients[kept].join(read.rename(columns=lambda name: name.replace(score, "contrast", 1)))


def differences(patients: pd.DataFrame, strongest: Mapping[str, Any], *, seed: int = 0) -> pd.DataFrame:
    """Every trial and baseline but the strongest itself: each figure of `COMPARED` beside it, with `COLUMNS`.

    `against` names the strongest, or is `OWN_CORE` in further rows of trials that state a core.

    `patients` is the long per-patient table of the test patients. The interval is that of the difference, over
    patients.
    """
    name = strongest["baseline"]
    reference = as_read(patients[patients["trial"].astype(str) == name])
    rows = []
    for trial, table in patients.groupby("trial", sort=False):
        rivals = {} if str(trial) == name else {name: reference}
        if "core_counts_rule" in table and table["core_counts_rule"].notna().any():  # not in older studies
            rivals[OWN_CORE] = as_read(table, "core")
        for against, rival in rivals.items():
            for figure in COMPARED:
                pooling = pooling_of(figure)
                columns = columns_of(pooling, strongest["truth"])
                try:
                    found = compare(as_read(table), rival, columns, pooling.function, seed=seed)
                except ValueError:  # no patient has it
                    continue
                values = (found.first, found.second, found.difference, found.low, found.high, found.n)
                rows.append((trial, table["label"].iloc[0], score_read(table), against, figure, *values))
    return pd.DataFrame(rows, columns=COLUMNS)


def strongest_table(compared: pd.DataFrame, strongest: Mapping[str, Any], *, phantom: bool) -> Table:
    """The differences as a table: a row for each trial, networks first."""
    figures = [name for name in COMPARED if name in set(compared["figure"])]
    specs = [FIGURES[name] for name in figures]
    columns = [Column(title=""), Column(title="read")]
    columns += [Column.of(spec, signed=True, decimals=spec.decimals + 1) for spec in specs]
    rows, previous = [], False
    found = {(row.trial, row.against, row.figure): row for row in compared.itertuples()}
    trials = compared.drop_duplicates(["trial", "against"])
    for row in sorted(trials.itertuples(), key=lambda row: is_baseline(row.trial)):
        baseline = is_baseline(row.trial)
        kind = " ".join(["baseline"] * baseline + ["first"] * (baseline != previous))
        previous = baseline
        cells = []
        for column, figure in zip(columns[2:], figures):
            one = found.get((row.trial, row.against, figure))
            clear = one is not None and (one.low > 0 or one.high < 0)
            cells.append(None if one is None else column.interval(one.difference, one.low, one.high, strong=clear))
        label = f"{row.label}, to {OWN_CORE}" if row.against == OWN_CORE else str(row.label)
        rows.append(Row(cells=[label, row.read, *cells], kind=kind))
    name = strongest["baseline"]
    reference = compared[compared["against"] == name].drop_duplicates("figure")
    own = ", ".join(
        f"{FIGURES[row.figure].title} {FIGURES[row.figure].text(row.reference)}" for row in reference.itertuples()
    )
    return Table(
        columns=columns,
        rows=rows,
        title=f"Differences to the strongest baseline, {name}" + (" (phantom: simulated patients)" if phantom else ""),
        notes=[
            f"{name} has the highest kappa on validation patients ({strongest['kappa']:.2f}) of the baselines that are "
            f"given no mask. On the test patients: {own}.",
            "Paired by patient, 95 % interval (bootstrap over patients) of the difference; {best}: it is clear of 0. "
            f"Truth: {truth_in_words(strongest['truth'])}.",
            *[
                "To its own core: the probability less the core that the same network predicts, painted at a threshold "
                "chosen for it in the same way."
            ]
            * (OWN_CORE in set(compared["against"])),
            "Read is the stated probability where there is one, else the contrast, at a threshold chosen on validation "
            "patients.",
        ],
        stacked=True,
    )
