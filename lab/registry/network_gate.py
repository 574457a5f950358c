"""The gate for networks: better at enhancement than champion and baselines, and not worse at brain MAE and
hallucination.

Enhancement is read from a model as `python -m lab synthesize` reads it: from its stated probability, or from the rise
of its image over T1. Two models that state none are compared by the rule's threshold. If one of two states a
probability, both are compared at the thresholds that they chose on their validation patients: the one by its
probability, the other by its contrast. A model that states a probability must also be better than the strongest
baseline of its study.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import pandas as pd

from lab.config import GateSettings
from lab.evaluation.figures import spec_of, split_truth
from lab.evaluation.pooled import compare_means, compare_scores
from lab.registry.candidate import Candidate
from lab.registry.patients import common_patients
from lab.report.tables.gate import Check, Verdict
from lab.report.tables.patient_table import TRIVIAL
from lab.report.tables.strongest import as_read, score_read
from lab.tracking import artifacts

Table: TypeAlias = pd.DataFrame
COUNTERPARTS = {
    "contrast_concordance": "contrast_kappa",
    "kappa": "contrast_kappa",
    "concordance": "contrast_volume_concordance",
    "auc": "auc",
}
"""Score of the gate -> the figure at chosen thresholds that stands for it where a probability is stated."""
STATED = (
    "{} a probability of enhancement: enhancement is compared at thresholds chosen on validation patients, by the "
    "probability where it is stated, else by the contrast."
)
LEAST_SILENT = 5
"""With fewer non-enhancing patients than this, hallucinated volume is measured in all patients."""


def judge_network(candidate: Candidate, champion: Candidate | None, settings: GateSettings) -> Verdict:
    """Run the tests. The verdict's `trouble` names what cannot be compared."""
    against = champion.name if champion is not None else "no champion yet"
    try:
        own = candidate.tested
        baselines = read_baselines(candidate, settings.least_patients)
        checks = [score_check(own.patients, table, name, settings) for name, table in baselines.items()]
        stating = [candidate.name] if states_probability(own.patients) else []
        if champion is None:
            best = max(reversed(baselines), key=lambda name: next(c.other for c in checks if c.against == name))
            checks += harm_checks(own.patients, baselines[best], f"{best}, the better baseline", settings)
            return Verdict(against=against, checks=tuple(checks), notes=(*own.notes, *about_stated(stating)))
        ours, theirs, notes = common_patients(own, champion.tested, least=settings.least_patients)
        name = f"champion, {champion.name}"
        checks = [score_check(ours, theirs, name, settings), *harm_checks(ours, theirs, name, settings), *checks]
        stating += [champion.name] if states_probability(theirs) else []
        return Verdict(against=against, checks=tuple(checks), notes=(*notes, *about_stated(stating)))
    except ValueError as error:
        return Verdict(against=against, trouble=str(error))


def read_baselines(candidate: Candidate, least: int) -> dict[str, Table]:
    """The baselines' tables on the candidate's test cases, the strongest for one that states a probability.

    Raises ValueError where they are missing.
    """
    study, file, patients = candidate.study, artifacts.BASELINES["test"], candidate.tested.patients
    if study is None or not study.has_file(file):
        raise ValueError(f"the study of run {candidate.run.id} holds no {file}: let the study come to its end")
    table = study.read_table(file)
    cases, count = set(patients["case_id"]), patients["patient_id"].nunique()
    if count < least:
        raise ValueError(f"the candidate was tested on {count} patients, and at least {least} are needed")
    found = {}
    strongest = (candidate.facts.get("strongest") or {}).get("baseline") if states_probability(patients) else None
    for name in dict.fromkeys([*TRIVIAL, *([strongest] if strongest else [])]):
        found[name] = table[(table["trial"] == name) & table["case_id"].isin(cases)]
        if set(found[name]["case_id"]) != cases:
            raise ValueError(f"{file} of run {study.id} lacks {name!r} for some of the candidate's test cases")
    return found


def score_check(ours: Table, theirs: Table, against: str, settings: GateSettings) -> Check:
    """Whether the score, or its counterpart where a probability is stated, is better, clear of zero."""
    score = settings.score
    if states_probability(ours, theirs):
        figure, truth = split_truth(score)
        ours, theirs = at_chosen_thresholds(ours, theirs, against)
        score = f"{COUNTERPARTS[figure]}_{truth or truth_of(ours, theirs)}"
    found = compare_scores(ours, theirs, score, resamples=settings.resamples, seed=settings.seed)
    return Check.of(spec_of(score).title, against, found, limit=0.0, above=True, n=found.n)


def states_probability(*tables: Table) -> bool:
    """Whether one of these test tables is that of a model that states a probability of enhancement."""
    return any(score_read(table) == "probability" for table in tables)


def about_stated(names: Sequence[str]) -> tuple[str, ...]:
    """A note where these models state a probability; () where none does."""
    verb = "state" if len(names) > 1 else "states"
    text = STATED.format(f"{' and '.join(names)} {verb}")
    return (text[0].upper() + text[1:],) if names else ()


def at_chosen_thresholds(ours: Table, theirs: Table, against: str) -> tuple[Table, Table]:
    """Both tables with the figures of what is read from each model under the names of the contrast's.

    Raises ValueError where one was tested by a version that chose no thresholds.
    """
    for name, table in (("the candidate", ours), (against, theirs)):
        if "contrast_counts_rule" not in table:
            raise ValueError(
                f"one of both states a probability of enhancement, and the test of {name} chose no threshold on "
                "validation patients, as versions up to 0.4.0 did not: run its study again with this version"
            )
    return as_read(ours), as_read(theirs)


def truth_of(*tables: Table) -> str:
    """The expert's label where all patients have it, otherwise the paper's rule."""
    return "expert" if all(table["ml_expert"].notna().all() for table in tables) else "rule"


def harm_checks(ours: Table, theirs: Table, against: str, settings: GateSettings) -> list[Check]:
    """Whether brain MAE and hallucinated volume are worse by no more than their margins.

    The volume is that in non-enhancing patients; with fewer than `LEAST_SILENT` of them, it is the predicted volume
    outside the true enhancement of all patients. Truth is the expert's label where all have it, otherwise the paper's
    rule.
    """
    truth = truth_of(ours, theirs)
    volume, predicted, overlap = f"hallucinated_ml_{truth}", "ml_predicted", f"overlap_ml_{truth}"
    if states_probability(ours, theirs):
        ours, theirs = at_chosen_thresholds(ours, theirs, against)
        volume, predicted, overlap = (
            f"contrast_{name}_{truth}" for name in ("hallucinated_ml", "predicted_ml", "overlap_ml")
        )
    silent = ours.loc[ours[volume].notna(), "patient_id"].nunique()
    title, note = spec_of(volume).head, ""
    if silent < LEAST_SILENT:
        ours, theirs = (table.assign(outside_ml=table[predicted] - table[overlap]) for table in (ours, theirs))
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
