"""The gate for classifiers: better than champion, tumour volume and chance on patients that were held out."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from mlflow.entities import Run

from lab.evaluation.paired import compare_means
from lab.radiomics.baselines import VOLUME
from lab.registry.settings import GateSettings
from lab.registry.shared_patients import holds
from lab.report.tables.gate import Check, Verdict, check
from lab.report.tables.patient_table import plural
from lab.stats.auc import delong_interval, delong_test
from lab.tracking import runs

PATIENTS, FACTS, KNOWN = "tables/patients.csv", "classifier.json", "patients.csv"
"""Mean held-out score of each patient and method; what the study is; what is known of each case."""
SAME_VOLUME = 0.25
"""The tumour of one patient, measured on two grids, differs by less than this share."""


def judge_classifier(candidate: Run, champion: Run | None, champion_name: str, settings: GateSettings) -> Verdict:
    """Hold the tests on the patients' held-out scores. What cannot be compared is the verdict's `trouble`."""
    against = champion_name if champion is not None else "no champion yet"
    try:
        own = held_out(candidate, "the candidate")
        rival = held_out(candidate, "the candidate", VOLUME)
        ours, volume, _ = common(own, rival, least=settings.least_patients)
        checks = [above_chance(ours), better(ours, volume, VOLUME)]
        if champion is None:
            checks.append(no_worse(ours, volume, VOLUME, settings))
            return Verdict(against=against, checks=tuple(checks))
        same_question(candidate, champion, champion_name)
        theirs = held_out(champion, champion_name)
        ours, theirs, notes = common(own, theirs, least=settings.least_patients)
        same_patients(candidate, champion, champion_name, set(ours["patient_id"]))
        name = f"champion, {champion_name}"
        checks = [better(ours, theirs, name), no_worse(ours, theirs, name, settings), *checks]
        return Verdict(against=against, checks=tuple(checks), notes=tuple(notes))
    except ValueError as error:
        return Verdict(against=against, trouble=str(error))


def study_of(run: Run) -> str:
    """Id of the study's run, which holds the tables: of the run with the final model that is the one above it."""
    return str(run.data.tags[runs.PARENT]) if run.data.tags.get("role") == "final" else str(run.info.run_id)


def held_out(run: Run, name: str, method: str | None = None) -> pd.DataFrame:
    """patient_id, label, score: the mean score of each patient over the splits in which it was tested.

    `method` is by default the one that the study judges. Raises ValueError where there is none.
    """
    study = study_of(run)
    if not holds(study, PATIENTS):
        raise ValueError(f"{name} (run {run.info.run_id}) was never scored on held-out patients: no {PATIENTS}")
    chosen = method or json.loads(runs.read_text(study, FACTS))["main"]
    table = runs.read_table(study, PATIENTS)
    found = table.loc[table["method"] == chosen, ["patient_id", "label", "score"]].reset_index(drop=True)
    if found.empty:
        raise ValueError(f"{name} (run {run.info.run_id}) has no scores of {chosen!r} on held-out patients")
    return found.assign(label=found["label"].astype(int))


def common(ours: pd.DataFrame, theirs: pd.DataFrame, *, least: int) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Both tables on the patients that both have, in one order. Raises ValueError where they are too few.

    Every score is of a patient whom the classifier that gave it had not seen, so nobody is flattered.
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
            f"the two studies label {len(differ)} of {len(both)} patients differently, such as {differ.iloc[0]}"
        )
    other = both[["patient_id", "label"]].assign(score=both["score_other"])
    return (
        both[["patient_id", "label", "score"]],
        other,
        [f"Compared on {plural(len(both), 'held-out patient')} of both."],
    )


def same_question(candidate: Run, champion: Run, champion_name: str) -> None:
    """Raises ValueError where the two do not predict the same event."""
    events = [run.data.tags.get("event", "unknown") for run in (candidate, champion)]
    if events[0] != events[1]:
        raise ValueError(f"the candidate predicts {events[0]!r}, {champion_name} {events[1]!r}: give it another name")


def same_patients(candidate: Run, champion: Run, champion_name: str, patients: set[str]) -> None:
    """Raises ValueError where two cohorts call different patients by one id: their tumours differ in size."""
    digests = [run.data.tags.get("cohort_digest", "unknown") for run in (candidate, champion)]
    if digests[0] == digests[1]:
        return
    volumes = [
        runs.read_table(study_of(run), KNOWN).groupby("patient_id")["tumour_ml"].mean() for run in (candidate, champion)
    ]
    sizes = pd.concat(volumes, axis=1, keys=("first", "second")).loc[sorted(patients)]
    apart = np.abs(np.log(sizes["first"] / sizes["second"])) > np.log(1 + SAME_VOLUME)
    if apart.any():
        raise ValueError(
            f"the candidate and {champion_name} come from cohorts {digests[0][:12]} and {digests[1][:12]}, in which "
            f"{int(apart.sum())} of {len(sizes)} patients of one id have tumours of different size, such as "
            f"{apart.index[apart][0]}: they are not the same patients"
        )


def above_chance(ours: pd.DataFrame) -> Check:
    """Whether the interval of the AUC lies above one half."""
    found = delong_interval(ours["label"], ours["score"])
    return Check(
        figure="AUC",
        against="chance",
        model=found.value,
        other=0.5,
        difference=found.value - 0.5,
        low=found.low - 0.5,
        high=found.high - 0.5,
        limit=0.0,
        above=True,
        n=len(ours),
    )


def better(ours: pd.DataFrame, theirs: pd.DataFrame, against: str) -> Check:
    """DeLong's test: whether the AUC is better, its interval clear of zero."""
    found = delong_test(ours["label"], ours["score"], theirs["score"])
    note = "DeLong's variance is 0: no test" if np.isnan(found.p) else ""
    return check("AUC", against, found, limit=0.0, above=True, n=len(ours), note=note)


def no_worse(ours: pd.DataFrame, theirs: pd.DataFrame, against: str, settings: GateSettings) -> Check:
    """Whether the Brier score is not worse by more than its margin. Raises ValueError for scores outside [0, 1]."""
    first, second = squares(ours, against), squares(theirs, against)
    found = compare_means(first, second, "square", resamples=settings.resamples, seed=settings.seed)
    return check("Brier score", against, found, limit=settings.brier_margin, above=False, n=found.n)


def squares(table: pd.DataFrame, against: str) -> pd.DataFrame:
    """Squared errors of probabilities, a row a patient. Raises ValueError for scores outside [0, 1]."""
    if not table["score"].between(0, 1).all():
        raise ValueError(f"the scores of {against} or of the candidate are no probabilities: no Brier score")
    error = (table["score"] - table["label"]) ** 2
    return pd.DataFrame({"case_id": table["patient_id"], "patient_id": table["patient_id"], "square": error})
