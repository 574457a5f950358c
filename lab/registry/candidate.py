"""A run that is to be promoted: its model, study and test patients, each read once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import pandas as pd

from lab.experiments.synthesis.record import find_study, study_facts
from lab.radiomics.assess.external import ExternalTest
from lab.registry.patients import Tested, read_tested
from lab.report.tables.model_figures import classifier_card_figures, network_figures
from lab.report.text.model_limits import classifier_caution
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.models.registered import CLASSIFIER, model_contract, model_kind
from lab.tracking.run import Run


class Candidate:
    """A finished run with a model."""

    def __init__(self, run: Run, name: str = "the candidate") -> None:
        """`name` identifies it in messages."""
        self.run, self.name = run, name

    @property
    def is_classifier(self) -> bool:
        """Whether its model is a classifier; otherwise a network."""
        return model_kind(self.run) == CLASSIFIER

    @cached_property
    def contract(self) -> dict[str, Any]:
        """Contract of the model. Raises ValueError where it was deleted or is not from this lab."""
        return model_contract(self.run)

    @cached_property
    def study(self) -> Run | None:
        """Run of its study: for a final classifier the parent run, for another classifier the run itself."""
        if self.is_classifier and self.run.tags.get(Tag.ROLE) != "final":
            return self.run
        return self.run.parent

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Facts recorded on the study's run; empty where that is gone."""
        return {} if self.study is None else study_facts(self.study)

    @cached_property
    def tested(self) -> Tested:
        """A network's test patients. Raises ValueError where there are none."""
        return read_tested(self.run, self.name)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A classifier's method, patient_id, label and score: the mean score of each patient over its tests.

        Raises ValueError where there are none.
        """
        file = artifacts.table("patients")
        if self.study is None or not self.study.has_file(file):
            raise ValueError(f"{self.name} (run {self.run.id}) was never scored on held-out patients: no {file}")
        return self.study.read_table(file)

    def held_out(self, method: str | None = None) -> pd.DataFrame:
        """patient_id, label and score of a method, by default of the study's main one.

        Raises ValueError where there are none.
        """
        chosen = method or self.facts["main"]
        found = self.scores.loc[self.scores["method"] == chosen, ["patient_id", "label", "score"]]
        if found.empty:
            raise ValueError(f"{self.name} (run {self.run.id}) has no scores of {chosen!r} on held-out patients")
        return found.reset_index(drop=True).assign(label=found["label"].astype(int).to_numpy())

    @cached_property
    def external(self) -> list[ExternalTest]:
        """A classifier's tests on other cohorts; none for a network."""
        if not self.is_classifier or self.study is None:
            return []
        from lab.experiments.radiomics.external_test import read_external  # for classifiers alone

        return read_external(self.study)

    @cached_property
    def figures(self) -> pd.DataFrame:
        """Figures by group of patients: group, figure, truth, value, low, high, n.

        Raises ValueError for a run without scores on test patients.
        """
        if not self.is_classifier:
            return network_figures(self.tested.patients)
        self.held_out()
        assert self.study is not None
        tables = [self.study.read_table(artifacts.table(name)) for name in ("performance", "subgroups")]
        external = {one.name: one.assessment.performance for one in self.external}
        performance, groups = (t[t["method"] == self.facts["main"]].reset_index(drop=True) for t in tables)
        return classifier_card_figures(performance, groups, external)

    @cached_property
    def caution(self) -> str:
        """Warning for a classifier that was not shown to discriminate, otherwise ""."""
        return classifier_caution(self.figures) if self.is_classifier else ""


def run_with_model(name: str) -> Run:
    """The run itself or, for a study, the run of its best network (first seed, first fold).

    Raises ValueError where there is no model, or the run was deleted or has not finished.
    """
    found = Run.find(name) or find_study(name)
    if Tag.MODEL not in found.tags and found.has_file(artifacts.STUDY):
        facts = found.read_json(artifacts.STUDY)
        best_id = facts["runs"][str(facts["best"])][0]
        best = Run.find(best_id)
        if best is None:
            raise ValueError(f"the best run of study {name}, {best_id}, was deleted for good; run the study again")
        found = best
    label = f"run {name} ({found.name})"
    if found.status == "DELETED":
        raise ValueError(f"{label} was deleted; mlflow.MlflowClient().restore_run brings it back")
    if found.status != "FINISHED":
        state = found.tags.get(Tag.STATE, found.status.lower())
        raise ValueError(f"{label} has not come to its end ({state}); run its study again, it goes on")
    if Tag.MODEL not in found.tags:
        raise ValueError(f"{label} has no model of this lab; name a finished trial, or a study")
    return found
