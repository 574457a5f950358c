"""Findings about a classifier in a few sentences, and the note on its run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lab.io.files import plural
from lab.radiomics.assess.assess import YOUDEN, Assessment
from lab.radiomics.baselines import STATED, SYNTHETIC, WORC, with_drawn
from lab.report.tables.paired_tests import p_text
from lab.report.tables.performance import summary_table
from lab.report.tables.published import PUBLISHED_DATASET
from lab.report.tables.table import plain_markdown
from lab.stats.intervals import detectable, half_width

PUBLISHED_AUC = 0.79
"""Mean AUC of the paper's WORC model: EGD, grade IV against II and III."""
FEW = 20
"""Patients of the smaller class below which the sample is named as too small."""


def classifier_findings(
    assessment: Assessment,
    *,
    event: str,
    dataset: str,
    phantom: bool,
    label: str = "",
    shuffled: bool = False,
    warnings: Sequence[str] = (),
    alpha: float = 0.05,
) -> list[str]:
    """The findings of the predictions, as a few points of plain text, the answer first.

    `label` is the setting ("grade", "enhancement" ...); the paper's AUC is given for the grade of real patients only.
    `shuffled` says that the labels were shuffled. `warnings`, such as a suspected leak, come second. A method is called
    better only where DeLong's test, corrected after Holm, is below `alpha`.
    """
    row = assessment.performance.iloc[0]
    if not np.isfinite(row["auc"]):
        return [f"Nothing can be said about {row['method']}: {row['note']}."]
    events, others = int(row["events"]), int(row["patients"] - row["events"])
    points = [_answer(row, event=event, phantom=phantom, shuffled=shuffled), *warnings, _sample(events, others, event)]
    points += _comparisons(assessment, alpha) + _probabilities(row) + _thresholds(assessment)
    if not phantom and label == "grade" and not shuffled:
        same = dataset.lower().startswith(PUBLISHED_DATASET.lower())
        points.append(
            f"The paper's WORC model has a mean AUC of {PUBLISHED_AUC} on {PUBLISHED_DATASET} (grade IV against the "
            f"rest), here {row['method']} has {row['auc']:.2f} on {'other patients of ' * same}{dataset}: no test is "
            "made between the two."
        )
    if phantom:
        points.append("Every patient is simulated: nothing here can be carried over to real patients.")
    return points


def _answer(row: pd.Series, *, event: str, phantom: bool, shuffled: bool) -> str:
    people = plural(int(row["patients"]), f"{'simulated ' * phantom}patient") + " of the phantom" * phantom
    name, inside = str(row["method"]), row["auc_low"] <= 0.5 <= row["auc_high"]
    if shuffled:
        verdict = "as it must where the labels are chance" if inside else "a case of 1 in 20, or the labels leak"
    elif row["auc_low"] > 0.5:
        verdict = f"better than chance (permutation test {p_text(float(row['p']))})"
    else:
        verdict = "not shown to be better than chance" if inside else "worse than chance: look for an error"
    text = (
        f"{name[:1].upper()}{name[1:]}{', on shuffled labels,' * shuffled} has an AUC of {row['auc']:.2f} (95 % "
        f"interval {row['auc_low']:.2f} to {row['auc_high']:.2f}, {row['auc_interval']}; {people}, "
        f"{int(row['events'])} {event}). The interval {'holds' if inside else 'does not hold'} 0.5: {verdict}."
    )
    if np.isfinite(row["auc_splits"]):
        text += f" Mean over {int(row['splits'])} splits: {_interval(row, 'auc_splits')} (Nadeau-Bengio)."
    return text


def _sample(events: int, others: int, event: str) -> str:
    """What a sample of this size can show (Hanley & McNeil)."""
    smallest = detectable(events, others)
    shown = f"the smallest AUC that differs from 0.5 with 80 % power is {smallest:.2f}"
    text = (
        f"{plural(events + others, 'patient')} ({events} {event}, {others} not): an AUC of 0.80 has an interval of "
        f"about ±{half_width(0.8, events, others):.2f}, and "
        f"{shown if math.isfinite(smallest) else 'no AUC differs from 0.5 with 80 % power'}."
    )
    few = f" With {min(events, others)} in the smaller class, rankings, subgroups and calibration are unreliable."
    return text + few * (min(events, others) < FEW)


def _comparisons(assessment: Assessment, alpha: float) -> list[str]:
    """DeLong's tests: one sentence for the simple baselines, one each for WORC and all that networks have a part in."""
    tests = assessment.comparisons[assessment.comparisons["reference"] == assessment.main]
    alone = tests["method"].str.startswith((WORC, SYNTHETIC, STATED, with_drawn("")))
    groups: dict[str, list[str]] = {}
    for _, test in tests[~alone].iterrows():
        groups.setdefault(_verdict(test, alpha), []).append(f"{test['method']} ({test['auc_method']:.2f})")
    parts = [f"{verdict} {', '.join(names)}" for verdict, names in groups.items()]
    points = [f"Against the baselines (DeLong's tests, Holm, {alpha:g}): {'; '.join(parts)}."] if parts else []
    known = assessment.performance.set_index("method")
    for _, test in tests[alone].iterrows():
        row = known.loc[test["method"]]
        text = f"{test['method']}: AUC {_interval(row, 'auc')} in {plural(int(row['patients']), 'patient')}"
        if not np.isfinite(test["p_holm"]):
            points.append(f"{text}; no test ({test['note']}).")
            continue
        figures = f"difference {test['difference']:+.2f} ({test['low']:+.2f} to {test['high']:+.2f})"
        count = plural(int(test["patients"]), "common patient")
        verdict = f"{assessment.main} is {_verdict(test, alpha)} it"
        points.append(f"{text}; on {count} {verdict} ({figures}, {p_text(float(test['p_holm']))} after Holm).")
    return points


def _verdict(test: pd.Series, alpha: float) -> str:
    """The first method compared with the other of a test: better, worse or without a difference shown."""
    if not test["p_holm"] < alpha:
        return "not shown to differ from"
    return "better than" if test["difference"] > 0 else "worse than"


def _probabilities(row: pd.Series) -> list[str]:
    if not np.isfinite(row["brier"]):
        return []
    ideal = {"slope": 1, "in_the_large": 0, "scaled_brier": 1}
    names = {"slope": "slope", "in_the_large": "in the large", "scaled_brier": "scaled Brier score"}
    parts = [
        f"{names[key]} {_interval(row, key)}, ideal {best}" for key, best in ideal.items() if np.isfinite(row[key])
    ]
    extreme = "; the predictions are too extreme, as after overfitting" * bool(row["slope_high"] < 1)
    return [f"Calibration: {'; '.join(parts)}{extreme}."]


def _thresholds(assessment: Assessment) -> list[str]:
    main, points = assessment.main, []
    where = {main: "the thresholds that were fixed in training"}
    if main == WORC:
        where = {main: f"{WORC}'s own threshold of 0.5", f"{WORC}, {YOUDEN}": "thresholds chosen in training (Youden)"}
    for method, threshold in where.items():
        part = assessment.accuracy[assessment.accuracy["method"] == method].set_index("figure")
        figures = [
            f"{name} {part.loc[name, 'value']:.2f} ({part.loc[name, 'low']:.2f} to {part.loc[name, 'high']:.2f}, "
            f"{int(part.loc[name, 'hits'])} of {int(part.loc[name, 'n'])})"
            for name in ("sensitivity", "specificity")
            if len(part)
        ]
        points += [f"At {threshold}: {' and '.join(figures)}."] if figures else []
    return points


def _interval(row: pd.Series, name: str) -> str:
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"


def classifier_note(
    question: str, findings: Sequence[str], assessment: Assessment, *, phantom: bool, picture: str = ""
) -> str:
    """The note on a classifier's MLflow run, as Markdown: answer, question, ROC, a short table, the other findings.

    The answer comes first, since MLflow folds a note after four lines. `picture` is the address of the ROC figure.
    """
    name = "**Phantom: simulated patients, no evidence about real ones.** " if phantom else ""
    lines = [f"{name}{plain_markdown(findings[0])}", ""]
    lines += [f"![ROC]({picture})", ""] if picture else []
    lines += [f"*{plain_markdown(question)}*", ""]
    lines += [summary_table(assessment.performance, assessment.comparisons).markdown(spaced=True, titled=False), "", ""]
    lines += [f"- {plain_markdown(point)}" for point in findings[1:]]
    lines += ["", "Under Artifacts: `report.html` (all of it on one page), `figures`, `tables`, `checklists`."]
    return "\n".join(lines)
