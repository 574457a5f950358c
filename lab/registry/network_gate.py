"""The gate for networks: better at enhancement than champion and baselines, and not worse at brain MAE and
hallucination."""

from __future__ import annotations

from typing import TypeAlias

import pandas as pd

from lab.config import GateSettings
from lab.evaluation.figures import spec_of
from lab.evaluation.pooled import compare_means, compare_scores
from lab.registry.candidate import Candidate
from lab.registry.patients import common_patients
from lab.report.tables.gate import Check, Verdict
from lab.report.tables.patient_table import TRIVIAL
from lab.tracking import artifacts

Table: TypeAlias = pd.DataFrame
LEAST_SILENT = 5
"""With fewer non-enhancing patients than this, hallucinated volume is measured in all patients."""


def judge_network(candidate: Candidate, champion: Candidate | None, settings: GateSettings) -> Verdict:
    """Run the tests. The verdict's `trouble` names what cannot be compared."""
    against = champion.name if champion is not None else "no champion yet"
    try:
        own = candidate.tested
        baselines = read_baselines(candidate, settings.least_patients)
        checks = [score_check(own.patients, table, name, settings) for name, table in baselines.items()]
        if champion is None:
            best = max(reversed(baselines), key=lambda name: next(c.other for c in checks if c.against == name))
            checks += harm_checks(own.patients, baselines[best], f"{best}, the better baseline", settings)
            return Verdict(against=against, checks=tuple(checks), notes=own.notes)
        ours, theirs, notes = common_patients(own, champion.tested, least=settings.least_patients)
        name = f"champion, {champion.name}"
        checks = [score_check(ours, theirs, name, settings), *harm_checks(ours, theirs, name, settings), *checks]
        return Verdict(against=against, checks=tuple(checks), notes=tuple(notes))
    except ValueError as error:
        return Verdict(against=against, trouble=str(error))


def read_baselines(candidate: Candidate, least: int) -> dict[str, Table]:
    """The baselines' tables on the candidate's test cases. Raises ValueError where they are missing."""
    study, file, patients = candidate.study, artifacts.BASELINES["test"], candidate.tested.patients
    if study is None or not study.has_file(file):
        raise ValueError(f"the study of run {candidate.run.id} holds no {file}: let the study come to its end")
    table = study.read_table(file)
    cases, count = set(patients["case_id"]), patients["patient_id"].nunique()
    if count < least:
        raise ValueError(f"the candidate was tested on {count} patients, and at least {least} are needed")
    found = {}
    for name in TRIVIAL:
        found[name] = table[(table["trial"] == name) & table["case_id"].isin(cases)]
        if set(found[name]["case_id"]) != cases:
            raise ValueError(f"{file} of run {study.id} lacks {name!r} for some of the candidate's test cases")
    return found


def score_check(ours: Table, theirs: Table, against: str, settings: GateSettings) -> Check:
    """Whether the score is better, with an interval clear of zero."""
    found = compare_scores(ours, theirs, settings.score, resamples=settings.resamples, seed=settings.seed)
    return Check.of(spec_of(settings.score).title, against, found, limit=0.0, above=True, n=found.n)


def harm_checks(ours: Table, theirs: Table, against: str, settings: GateSettings) -> list[Check]:
    """Whether brain MAE and hallucinated volume are worse by no more than their margins.

    The volume is that in non-enhancing patients; with fewer than `LEAST_SILENT` of them, it is the predicted volume
    outside the true enhancement of all patients. Truth is the expert's label where all have it, otherwise the paper's
    rule.
    """
    truth = "expert" if all(table["ml_expert"].notna().all() for table in (ours, theirs)) else "rule"
    volume = f"hallucinated_ml_{truth}"
    silent = ours.loc[ours[volume].notna(), "patient_id"].nunique()
    title, note = spec_of(volume).head, ""
    if silent < LEAST_SILENT:
        ours, theirs = (
            table.assign(outside_ml=table["ml_predicted"] - table[f"overlap_ml_{truth}"]) for table in (ours, theirs)
        )
        volume, title = "outside_ml", f"ml predicted outside of it ({truth})"
        note = f"in all patients, since only {silent} do not enhance"
    checks = []
    for column, name, margin, why in (
        ("mae_brain", spec_of("mae_brain").title, settings.mae_margin, ""),
        (volume, title, settings.hallucinated_margin_ml, note),
    ):
        found = compare_means(ours, theirs, column, resamples=settings.resamples, seed=settings.seed)
        checks.append(Check.of(name, against, found, limit=margin, above=False, n=found.n, note=why))
    return checks
