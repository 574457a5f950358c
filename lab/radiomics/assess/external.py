"""A finished classifier's test on a cohort that had no part in its training: what is kept of it, and what it shows."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lab.io.files import plural
from lab.radiomics.assess.assess import Assessment, read_assessment

FACTS, PREDICTIONS = "facts.json", "predictions.csv"
PREDICTED = ("low", "high", "novelty", "far", "strangest")
"""Columns of the classifier's answer that are kept beside those of a prediction."""
CHANCE = 0.5


@dataclass(frozen=True, kw_only=True)
class ExternalTest:
    """One external cohort: its predictions, one a case, their assessment, and how it compares with the training."""

    slug: str  # name in artifacts and metrics: the folder or file and the start of the data's digest
    name: str
    event: str
    digest: str
    source: str  # path of the cohort
    left_out: dict[str, str]  # case id -> reason, those of training among them
    shared: list[str]  # cases left out because the patient is one of the training cohort
    heads_compared: bool  # whether a patient of training would be found under another id and with other files
    training: str  # name of the training cohort
    training_patients: int
    training_events: int
    predictions: pd.DataFrame  # `COLUMNS` of `assess` and `PREDICTED`, a row per case
    assessment: Assessment

    @property
    def row(self) -> dict[str, Any]:
        """AUC, calibration and the others, each with its interval; the row of `Assessment.performance`."""
        return {str(name): value for name, value in self.assessment.performance.iloc[0].items()}

    @property
    def patients(self) -> int:
        """Number of patients tested."""
        return int(self.row["patients"])

    @property
    def events(self) -> int:
        """Patients with label 1."""
        return int(self.row["events"])

    @property
    def prevalence(self) -> float:
        """Share of the patients with label 1."""
        return self.events / self.patients

    @property
    def training_prevalence(self) -> float:
        """The same share in training."""
        return self.training_events / self.training_patients

    @property
    def far(self) -> int:
        """Patients whose features are out of distribution: farther from training than 97.5 % of its own patients."""
        found = self.predictions
        return int(found.loc[found["far"].astype(bool), "patient_id"].nunique())

    @property
    def above_chance(self) -> bool:
        """Whether the AUC's interval lies above 0.5."""
        return bool(self.row["auc_low"] > CHANCE)

    def inconclusive(self, held_out: float) -> bool:
        """Whether the AUC's interval holds both 0.5 and `held_out`, the AUC on held-out patients of the training."""
        return not self.above_chance and bool(self.row["auc_high"] >= max(held_out, CHANCE))

    def at_threshold(self, figure: str) -> dict[str, float]:
        """value, low, high, hits and n of sensitivity, specificity, ... at the threshold that training has chosen."""
        table = self.assessment.accuracy.set_index("figure")
        return {name: float(table.loc[figure, name]) for name in ("value", "low", "high", "hits", "n")}

    def metrics(self) -> dict[str, float]:
        """Figures by the name of the run's metric."""
        names = {"auc": "auc", "ap": "average_precision", "brier": "brier", "slope": "calibration_slope"}
        names |= {"intercept": "calibration_intercept", "in_the_large": "calibration_in_the_large"}
        row = self.row
        found = {f"{title}{end}": row[f"{name}{end}"] for name, title in names.items() for end in ("", "_low", "_high")}
        for figure in ("sensitivity", "specificity"):
            found |= {figure + end: self.at_threshold(figure)[end[1:] or "value"] for end in ("", "_low", "_high")}
        found |= {"prevalence": self.prevalence, "patients": self.patients, "out_of_distribution": self.far}
        return {f"external/{self.slug}/{name}": float(value) for name, value in found.items() if pd.notna(value)}

    def describe(self) -> str:
        """AUC, calibration slope and patients in a line, for a tag, a card and a terminal."""
        text = f"{self.name}: AUC {self.figure('auc')}, calibration slope {self.figure('slope')} in "
        return f"{text}{plural(self.patients, 'patient')}, {self.events} {self.event}"

    def figure(self, name: str) -> str:
        """A column of `Assessment.performance` with its interval: "0.71 (0.50 to 0.86)", or "not known"."""
        value, low, high = (float(self.row[f"{name}{end}"]) for end in ("", "_low", "_high"))
        return f"{value:.2f} ({low:.2f} to {high:.2f})" if value == value else "not known"

    def renamed(self, name: str) -> ExternalTest:
        """The test under another name, which its tables have as that of the method."""
        tables = {key: table.assign(method=name) for key, table in self.assessment.tables().items() if len(table)}
        found = dataclasses.replace(self.assessment, **tables)
        return dataclasses.replace(self, name=name, assessment=found, predictions=self.predictions.assign(method=name))

    @property
    def facts(self) -> dict[str, Any]:
        """All but the tables, as values that JSON can hold."""
        tables = ("predictions", "assessment")
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name not in tables}

    def write_tables(self, folder: Path) -> None:
        """Write the tables to a folder; together with the facts in the file `FACTS` they are the test."""
        self.assessment.write(folder)
        self.predictions.to_csv(folder / PREDICTIONS, index=False)

    @classmethod
    def read(cls, folder: Path) -> ExternalTest:
        """The test from its tables and facts. Raises OSError if a file is missing."""
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        predictions = pd.read_csv(folder / PREDICTIONS, dtype={"case_id": str, "patient_id": str, "method": str})
        return cls(**facts, predictions=predictions, assessment=read_assessment(folder))


def unlike_names(tests: list[ExternalTest]) -> list[ExternalTest]:
    """The tests with different names: cohorts of one name also get their slug."""
    names = [one.name for one in tests]
    return [one.renamed(f"{one.name}, {one.slug}") if names.count(one.name) > 1 else one for one in tests]
