"""Findings about a classifier in a few sentences, and the note on its run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lab.io.files import plural
from lab.radiomics.assess.assess import Assessment
from lab.radiomics.assess.outer_estimate import CHANCE
from lab.radiomics.baselines import SYNTHETIC, WORC
from lab.report.tables.performance import summary_table
from lab.report.tables.published import PUBLISHED_DATASET
from lab.report.tables.table import plain_markdown
from lab.report.text.verdict import p_text
from lab.stats.intervals import detectable, half_width

PUBLISHED_AUC = 0.79
"""Mean AUC of the paper's WORC model: EGD, grade IV against II and III."""
FEW = 20
"""Patients of the smaller class below which the sample size is the first finding."""


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
    points = [_answer(row, event=event, phantom=phantom, shuffled=shuffled), *warnings]
    sample = _sample(int(row["events"]), int(row["patients"]) - int(row["events"]), event)
    few = min(row["events"], row["patients"] - row["events"]) < FEW
    points += [sample] if few else []
    tests = assessment.comparisons[assessment.comparisons["reference"] == assessment.main]
    points += [*_baselines(tests, alpha), *_others(assessment, tests, alpha)]
    points += _calibrated(row)
    points += _decided(assessment)
    points += [] if few else [sample]
    if not phantom and label == "grade" and not shuffled:
        points.append(_published(row, dataset))
    if phantom:
        points.append("Every patient is simulated: nothing here can be carried over to real patients.")
    return points


def _answer(row: pd.Series, *, event: str, phantom: bool, shuffled: bool) -> str:
    count = int(row["patients"])
    people = f"{plural(count, 'simulated patient')} of the phantom" if phantom else plural(count, "patient")
    who = f"{people}, {int(row['events'])} {event}"
    name = str(row["method"])
    text = (
        f"{name[:1].upper()}{name[1:]}{', on shuffled labels,' * shuffled} has an AUC of {row['auc']:.2f} (95 % "
        f"interval {row['auc_low']:.2f} to {row['auc_high']:.2f}, {row['auc_interval']}; {who}): of one {event} and "
        f"one other patient it ranks the right one higher in {100 * row['auc']:.0f} of 100 such pairs."
    )
    if shuffled:
        fine = row["auc_low"] <= 0.5 <= row["auc_high"]
        text += (
            " The interval holds 0.5, as it must where the labels are chance."
            if fine
            else " The interval does not hold 0.5 although the labels are chance: it happens to 1 run in 20, or the "
            "labels leak; look before believing any other run."
        )
    elif row["auc_low"] > 0.5:
        text += f" The interval lies above 0.5 (permutation test {p_text(float(row['p']))}): better than chance."
    elif row["auc_high"] < 0.5:
        text += " The interval lies below 0.5, worse than chance: look for an error before anything else."
    else:
        text += " The interval holds 0.5: it is not shown to be better than chance."
    if np.isfinite(row["auc_splits"]):
        text += (
            f" Averaged over {int(row['splits'])} splits instead: {row['auc_splits']:.2f} ({row['auc_splits_low']:.2f} "
            f"to {row['auc_splits_high']:.2f}, Nadeau-Bengio)."
        )
    return text


def _baselines(tests: pd.DataFrame, alpha: float) -> list[str]:
    """DeLong's tests against the simple baselines, in a sentence."""
    tests = tests[(tests["method"] != WORC) & ~tests["method"].str.startswith(SYNTHETIC)]
    clear = tests["p_holm"] < alpha
    groups = {
        "better than": tests[clear & (tests["difference"] > 0)],
        "worse than": tests[clear & (tests["difference"] < 0)],
        "not told apart from": tests[~clear],
    }
    parts = [f"{words} {_listed(group)}" for words, group in groups.items() if len(group)]
    if not parts:
        return []
    text = f"Against the simple baselines (DeLong's tests, Holm, {alpha:g}) it is {'; '.join(parts)}."
    if not clear.all():
        text += " Not told apart is not equal: the intervals of the differences say what is still possible."
    return [text]


def _others(assessment: Assessment, tests: pd.DataFrame, alpha: float) -> list[str]:
    """WORC and the networks of the other arm, each with its AUC and the test against it."""
    points = []
    known = tests.set_index("method")
    for _, row in assessment.performance.iterrows():
        name, auc = str(row["method"]), _interval(row, "auc")
        chance = ", not shown to be better than chance" if row["auc_low"] <= CHANCE else ""
        if name == WORC and assessment.main != WORC:
            splits = f", over splits {_interval(row, 'auc_splits')}" if np.isfinite(row["auc_splits"]) else ""
            text, other = f"WORC has an AUC of {auc}{chance}{splits}", WORC
        elif name.startswith(SYNTHETIC) and np.isfinite(row["auc"]):
            tested, other = plural(int(row["patients"]), "test patient"), "it"
            text = f"The other arm, {name}, has an AUC of {auc} on its {tested}{chance}"
        else:
            continue
        points.append(f"{text}; {_verdict(known.loc[name], str(assessment.main), alpha, other)}.")
    return points


def _verdict(test: pd.Series, main: str, alpha: float, other: str) -> str:
    """The comparison of two methods on their common patients, as text."""
    count = plural(int(test["patients"]), "common patient")
    if not np.isfinite(test["p_holm"]):
        return f"no test on {count} ({test['note']})"
    figures = (
        f"difference {test['difference']:+.2f} ({test['low']:+.2f} to {test['high']:+.2f}), "
        f"{p_text(float(test['p_holm']))} after Holm"
    )
    if test["p_holm"] >= alpha:
        return f"on {count} the two are not told apart ({figures})"
    return f"on {count} {main} is {f'better than {other}' if test['difference'] > 0 else 'worse'} ({figures})"


def _calibrated(row: pd.Series) -> list[str]:
    if not np.isfinite(row["brier"]):
        return []
    words = []
    if np.isfinite(row["slope"]):
        low, high = row["slope_low"], row["slope_high"]
        shape = (
            "too extreme, as after overfitting"
            if high < 1
            else "not extreme enough"
            if low > 1
            else "neither too extreme nor too timid, as far as this shows"
        )
        words.append(f"the predictions are {shape} (slope {_interval(row, 'slope')}, ideal 1)")
    low, high = row["in_the_large_low"], row["in_the_large_high"]
    level = "too low on average" if low > 0 else "too high on average" if high < 0 else "right on average"
    words.append(
        f"{level if words else f'the predictions are {level}'} (in the large {_interval(row, 'in_the_large')}, ideal 0)"
    )
    gain = "better" if row["scaled_brier_low"] > 0 else "not shown to be better"
    words.append(f"and {gain} than giving everyone the prevalence (scaled Brier {_interval(row, 'scaled_brier')})")
    return [f"Taken as probabilities, {', '.join(words)}."]


def _decided(assessment: Assessment) -> list[str]:
    part = assessment.accuracy[assessment.accuracy["method"] == assessment.main].set_index("figure")
    if part.empty:
        return []
    figures = [
        f"{name} {part.loc[name, 'value']:.2f} ({part.loc[name, 'low']:.2f} to {part.loc[name, 'high']:.2f}, "
        f"{int(part.loc[name, 'hits'])} of {int(part.loc[name, 'n'])})"
        for name in ("sensitivity", "specificity")
    ]
    return [f"At the thresholds that were fixed in training: {' and '.join(figures)}."]


def _sample(events: int, others: int, event: str) -> str:
    smallest = detectable(events, others)
    told = (
        f"an AUC must be {smallest:.2f} or more to be told from 0.5 with 80 % power"
        if math.isfinite(smallest)
        else "no AUC at all is told from 0.5 with 80 % power"
    )
    text = (
        f"What {plural(events + others, 'patient')} can show ({events} {event}, {others} not): an AUC of 0.80 has an "
        f"interval of about ±{half_width(0.8, events, others):.2f} (Hanley & McNeil), and {told}."
    )
    if min(events, others) < FEW:
        text += (
            f" With {min(events, others)} in the smaller class one patient moves the figures visibly; rankings of "
            "methods, subgroups and calibration are beyond such a sample, and nothing here is evidence for use in "
            "patients."
        )
    return text


def _published(row: pd.Series, dataset: str) -> str:
    same = dataset.lower().startswith(PUBLISHED_DATASET.lower())
    whose = (
        f"a selection of {PUBLISHED_DATASET} that is not the same" if same else f"{dataset}, not {PUBLISHED_DATASET}"
    )
    return (
        f"The paper's WORC model has a mean AUC of {PUBLISHED_AUC} on {PUBLISHED_DATASET} (grade IV against the rest). "
        f"Here it is {row['auc']:.2f} on {whose}: the two stand side by side for orientation, and no test is made."
    )


def _interval(row: pd.Series, name: str) -> str:
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"


def _listed(tests: pd.DataFrame) -> str:
    names = [f"{test['method']} ({test['auc_method']:.2f})" for _, test in tests.iterrows()]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


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
