"""The gate for classifiers: better than champion, tumour volume and chance on held-out patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lab.config import GateSettings
from lab.evaluation.pooled import compare_means
from lab.io.files import plural
from lab.radiomics.assess.external import ExternalTest
from lab.radiomics.baselines import VOLUME
from lab.registry.candidate import Candidate
from lab.report.tables.gate import Check, Verdict
from lab.report.text.external_findings import external_findings
from lab.stats.auc import delong_interval, delong_test
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag

SAME_VOLUME = 0.25
"""Largest relative difference of one patient's tumour volume between two grids."""


def judge_classifier(candidate: Candidate, champion: Candidate | None, settings: GateSettings) -> Verdict:
    """Run the tests on the patients' held-out scores. The verdict's `trouble` names what cannot be compared."""
    against = champion.name if champion is not None else "no champion yet"
    try:
        own, other = candidate.held_out(), candidate.held_out(VOLUME)
        ours, volume, _ = common(own, other, least=settings.least_patients)
        checks = [above_chance(ours), auc_check(ours, volume, VOLUME)]
        elsewhere, remarks = external_checks(candidate.external, checks[0].model)
        if champion is None:
            checks += [brier_check(ours, volume, VOLUME, settings), *elsewhere]
            return Verdict(against=against, checks=tuple(checks), notes=tuple(remarks))
        same_question(candidate, champion)
        ours, theirs, notes = common(own, champion.held_out(), least=settings.least_patients)
        same_patients(candidate, champion, set(ours["patient_id"]))
        name = f"champion, {champion.name}"
        checks = [auc_check(ours, theirs, name), brier_check(ours, theirs, name, settings), *checks, *elsewhere]
        return Verdict(against=against, checks=tuple(checks), notes=(*notes, *remarks))
    except ValueError as error:
        return Verdict(against=against, trouble=str(error))


def common(ours: pd.DataFrame, theirs: pd.DataFrame, *, least: int) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Both tables on their common patients, in one order. Raises ValueError where they are too few.

    Each score comes from a classifier that was not trained on the patient, so neither side has an advantage.
    """
    both = ours.merge(theirs, on="patient_id", suffixes=("", "_other"))
    events = int(both["label"].sum())
    if len(both) < least or min(events, len(both) - events) < 2:
        raise ValueError(
            f"{len(both) or 'no'} held-out patients in common, {events} of them with the event: at least {least} are "
            "needed, and two of either class"
        )
    differ = both.loc[both["label"] != both["label_other"], "patient_id"]
    if len(differ):
        raise ValueError(
            f"the two studies label {len(differ)} of {len(both)} patients differently, as {differ.iloc[0]}"
        )
    own = both[["patient_id", "label", "score"]]
    return own, own.assign(score=both["score_other"]), [f"Compared on {plural(len(both), 'held-out patient')} of both."]


def same_question(candidate: Candidate, champion: Candidate) -> None:
    """Raises ValueError where the two predict different events."""
    events = [one.run.tags.get(Tag.EVENT, "unknown") for one in (candidate, champion)]
    if events[0] != events[1]:
        raise ValueError(f"the candidate predicts {events[0]!r}, {champion.name} {events[1]!r}: give it another name")


def same_patients(candidate: Candidate, champion: Candidate, patients: set[str]) -> None:
    """Raises ValueError where two cohorts use one id for different patients: their tumours differ in size."""
    digests = [one.run.tags.get(Tag.COHORT, "unknown") for one in (candidate, champion)]
    if digests[0] == digests[1]:
        return
    tables = [one.study.read_table(artifacts.PATIENTS) for one in (candidate, champion) if one.study is not None]
    volumes = [table.groupby("patient_id")["tumour_ml"].mean() for table in tables]
    sizes = pd.concat(volumes, axis=1, keys=("first", "second")).loc[sorted(patients)]
    apart = np.abs(np.log(sizes["first"] / sizes["second"])) > np.log(1 + SAME_VOLUME)
    if apart.any():
        raise ValueError(
            f"the candidate and {champion.name} come from cohorts {digests[0][:12]} and {digests[1][:12]}, in which "
            f"{int(apart.sum())} of {len(sizes)} patients of one id have tumours of different size, such as "
            f"{apart.index[apart][0]}: they are not the same patients"
        )


def external_checks(tests: Sequence[ExternalTest], held_out: float) -> tuple[list[Check], list[str]]:
    """Whether the AUC is above chance on each external cohort, and a remark on each that has too few patients to tell.

    Too few are those whose interval holds both 0.5 and `held_out`, the AUC in training: a small test must not be worse
    than none.
    """
    told = [test for test in tests if not test.inconclusive(held_out)]
    checks = [above_chance(test.assessment.patients, f"chance, on {test.name}") for test in told]
    return checks, [external_findings(test, held_out)[0] for test in tests if test not in told]


def above_chance(ours: pd.DataFrame, against: str = "chance") -> Check:
    """Whether the interval of the AUC lies above one half."""
    found = delong_interval(ours["label"], ours["score"])
    own: dict[str, Any] = {"model": found.value, "other": 0.5, "limit": 0.0, "above": True, "n": len(ours)}
    difference: dict[str, Any] = {"difference": found.value - 0.5, "low": found.low - 0.5, "high": found.high - 0.5}
    return Check(figure="AUC", against=against, **own, **difference)


def auc_check(ours: pd.DataFrame, theirs: pd.DataFrame, against: str) -> Check:
    """Whether the AUC is better by DeLong's test, with an interval clear of zero."""
    found = delong_test(ours["label"], ours["score"], theirs["score"])
    note = "DeLong's variance is 0: no test" if np.isnan(found.p) else ""
    return Check.of("AUC", against, found, limit=0.0, above=True, n=len(ours), note=note)


def brier_check(ours: pd.DataFrame, theirs: pd.DataFrame, against: str, settings: GateSettings) -> Check:
    """Whether the Brier score is worse by no more than its margin. Raises ValueError for scores outside [0, 1]."""
    errors = []
    for table in (ours, theirs):
        if not table["score"].between(0, 1).all():
            raise ValueError(f"the scores of {against} or of the candidate are no probabilities: no Brier score")
        square = (table["score"] - table["label"]) ** 2
        errors.append(table[["patient_id"]].assign(case_id=table["patient_id"], square=square))
    first, second = errors
    found = compare_means(first, second, "square", resamples=settings.resamples, seed=settings.seed)
    return Check.of("Brier score", against, found, limit=settings.brier_margin, above=False, n=found.n)
