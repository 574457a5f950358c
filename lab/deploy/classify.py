"""Classification of new patients by a registered classifier, with its own preparation and feature settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from lab.data.case import check_as_cohort
from lab.data.cohort import TUMOUR
from lab.data.contract import Contract, hash_scans, open_patient
from lab.data.layouts.subject import Subject
from lab.io.case_file import write_atomically
from lab.io.files import canonical, one_line
from lab.io.output_folder import check_output, output_folder
from lab.radiomics.assess.outer_estimate import NOT_SHOWN
from lab.radiomics.dataset import SHAPE
from lab.radiomics.features.case_features import measure_part
from lab.radiomics.features.image_features import load_extractor
from lab.radiomics.pipeline.fitted import PERFORMANCE, Final
from lab.tracking.models.classifier import load_classifier, read_reference
from lab.tracking.models.registered import described

if TYPE_CHECKING:
    from lab.inference.calibration import PredictedTumour
    from lab.inference.patient import Patient

PREDICTIONS, LEFT_OUT, MODEL = FILES = ("predictions.csv", "left_out.csv", "model.json")
RESEARCH = "For research only, not for diagnosis."
QUALITY = (*PERFORMANCE, "calibration_slope_low", "calibration_slope_high", "auc_patients", "caution")
COLUMNS = ("probability", "low", "high", "positive", "novelty", "far", "strangest", "caution", *PERFORMANCE)
Features = tuple[dict[str, Any], list[str]]
"""A patient's features by name, and warnings about the scans."""


class LoadedClassifier:
    """A logged or registered classifier, loaded once for all patients."""

    def __init__(self, uri: str) -> None:
        """Raises ValueError for a model that is not from this lab or was changed."""
        self.uri = uri
        self.final: Final
        self.contract: Contract
        self.final, self.contract, self.parameters = load_classifier(uri)
        self.extractor = load_extractor(self.parameters)
        self.reference, self.unread = read_reference(self.parameters.parent)
        facts = self.final.facts.as_dict()
        self.about: dict[str, Any] = {"model": uri, **described(uri), **facts, "contract": self.contract.as_dict()}

    def features(
        self, subject: Subject, brain_mask: str | None, prepared: Patient | None = None, *, strangers: str = "refuse"
    ) -> Features:
        """The features of a patient that the classifier reads, and warnings about the scans.

        `prepared` is the same patient, prepared for a network and compared with its training scans; it is used where
        the classifier has the same preparation. Otherwise the scans are compared with those of the classifier's
        training, and `strangers` is as in `lab.inference.settings.How`. Raises ValueError with the reason where there
        are no features.
        """
        if prepared is not None and self._is_alike(prepared.contract, brain_mask):
            warnings = check_as_cohort(prepared.case, subject, prepared.contract.recipe(brain_mask))
            image, flags, channels = prepared.case.image, prepared.case.masks, prepared.contract.channels
        else:
            hashes = hash_scans(subject, self.contract)
            case, _, warnings = open_patient(
                subject, self.contract, brain_mask, strangers, hashes, self.reference, mask_needed=True
            )
            image, flags, channels = case.image, case.masks, self.contract.channels
        tumour, spacing_mm = (flags & TUMOUR) > 0, self.contract.spacing_mm
        names = [canonical(name) for name in channels]
        own = {canonical(name) for name in self.contract.channels}
        found: dict[str, Any] = {}
        for part in dict.fromkeys(name.partition("_")[0] for name in self.final.facts.features):
            if part == SHAPE:
                found |= measure_part(part, None, tumour, spacing_mm, self.extractor)
            elif canonical(part) in own:
                values = image[names.index(canonical(part))]
                found |= measure_part(part, values, tumour, spacing_mm, self.extractor)
        if combat := self.final.facts.combat:
            value = getattr(subject, combat)
            found[combat] = value if isinstance(value, str) or value is None else f"{value:g}"
        return found, warnings

    def predict(self, measured: dict[str, Features]) -> pd.DataFrame:
        """case_id, `COLUMNS` and warnings, a row per patient, from features by case id."""
        if not measured:
            return pd.DataFrame(columns=["case_id", *COLUMNS, "warnings"])
        features = {case_id: found for case_id, (found, _) in measured.items()}
        table = pd.DataFrame.from_dict(features, orient="index").rename_axis("case_id")
        found = self.final.predict(table, parameters=self.parameters, spacing_mm=self.contract.spacing_mm)
        warnings = ["; ".join([*warnings, *self.unread]) for _, warnings in measured.values()]
        return found[list(COLUMNS)].assign(warnings=warnings).reset_index()

    def report(self, subject: Subject, brain_mask: str | None, prepared: Patient) -> dict[str, Any]:
        """The classifier's part of a synthesis report: probability, interval, distance from the training data, AUC.

        `missing` says why there is none.
        """
        if subject.mask is None and (prepared.tumour_by is None or not prepared.tumour_by.ml):
            return {"model": self.uri, "missing": "a classifier needs the tumour's mask"}
        about = {"model": self.uri, "event": self.about["event"], "phantom": self.contract.phantom}
        drawn: list[str] = []
        try:
            with TemporaryDirectory(prefix="lab-tumour-") as scratch:
                if subject.mask is None:
                    from lab.deploy.drawn_mask import TESTED_WITH_GIVEN, subject_with_tumour

                    subject, drawn = subject_with_tumour(prepared, Path(scratch)), [TESTED_WITH_GIVEN]
                found_features, warnings = self.features(subject, brain_mask, prepared)
            row = self.predict({subject.case_id: (found_features, warnings)}).iloc[0]
        except (ValueError, OSError, MemoryError) as error:
            return {**about, "missing": one_line(error) or "too little memory"}
        found: dict[str, Any] = {name: round(float(row[name]), 4) for name in ("probability", "low", "high", "novelty")}
        found |= {"positive": None if row["caution"] else bool(row["positive"])}
        found |= {"far": bool(row["far"]), "strangest": row["strangest"], "warnings": [*drawn, *warnings]}
        return about | found | {name: self.about[name] for name in QUALITY} | {"performance": self.performance}

    @property
    def performance(self) -> str:
        """What was measured of the classifier, in words."""
        return self.final.facts.describe()

    def _is_alike(self, other: Contract, brain_mask: str | None) -> bool:
        """Whether another contract prepares scans the same way, channel by channel."""
        ours, theirs = (
            replace(one.recipe(brain_mask), channels=(), target="", enhancement_threshold=0.0, enhancing_ml=0.0)
            for one in (self.contract, other)
        )
        return ours == theirs and {*map(canonical, self.contract.channels)} <= {*map(canonical, other.channels)}


@dataclass(frozen=True, kw_only=True)
class Classified:
    """The predictions for a list of patients."""

    table: pd.DataFrame
    """case_id, `COLUMNS`, warnings, tumour_by ("mask" or a model's name), tumour_probability (mean inside, if it was
    predicted)."""
    left_out: dict[str, str]
    """Case id -> why there is no probability."""
    about: dict[str, Any]
    """The model and its training data."""


def classify(
    model_uri: str,
    patients: Callable[[Contract], Sequence[Subject]],
    *,
    brain_mask: Literal["nonzero", "mni152"] | None = None,
    strangers: Literal["refuse", "warn"] = "refuse",
    tumour_model: str | None = None,
    out: Path | None = None,
    say: Callable[[str], None] = print,
) -> Classified:
    """Probability of each patient, with interval and distance from the training patients.

    `patients` returns the patients for a model's contract. Patients that cannot be prepared or measured, or are refused
    as `strangers` says (see `lab.inference.settings.How`), are left out with the reason. A patient without a mask gets
    the tumour that the network `tumour_model` states. Raises ValueError for a model that is not from this lab or was
    changed, and where the `FILES` could not be written to the folder `out` later.
    """
    if out is not None:
        check_output(out, *FILES)
    model = LoadedClassifier(model_uri)
    if model.contract.phantom:
        say("This classifier was trained on phantoms: its probability means nothing for a patient.")
    say(f"{model_uri}: {model.performance}")
    if model.final.facts.caution:
        say(f"No verdict: {model.final.facts.caution}.")
    measured: dict[str, Features] = {}
    left_out: dict[str, str] = {}
    drawn: dict[str, PredictedTumour] = {}
    network = None
    if tumour_model is not None:
        from lab.deploy.drawn_mask import TumourNetwork, drawn_warnings  # torch
        from lab.inference.settings import How

        network, how = TumourNetwork(tumour_model), How(brain_mask=brain_mask, strangers=strangers)
    for subject in patients(model.contract):
        try:
            with TemporaryDirectory(prefix="lab-tumour-") as scratch:
                before: list[str] = []
                if network is not None and subject.mask is None:
                    patient, subject = network.draw(subject, Path(scratch), how)
                    assert patient.tumour_by is not None
                    drawn[subject.case_id], before = patient.tumour_by, drawn_warnings(patient)
                features, warnings = model.features(subject, brain_mask, strangers=strangers)
            measured[subject.case_id] = features, [*before, *(text for text in warnings if text not in before)]
        except (ValueError, OSError, MemoryError) as error:
            left_out[subject.case_id] = one_line(error) or "too little memory"
            say(f"  {subject.case_id}: left out, {left_out[subject.case_id]}")
    table = model.predict(measured)
    table["tumour_by"] = [drawn[case].model if case in drawn else "mask" for case in table["case_id"]]
    table["tumour_probability"] = [drawn[case].mean_probability if case in drawn else None for case in table["case_id"]]
    return Classified(table=table, left_out=left_out, about=model.about)


def format_prediction(row: Any, event: str) -> str:
    """One patient in a line, and one for the warnings about the scans.

    "EGD-0001: enhancing with probability 0.83 (0.61 to 0.94), ...: out of distribution".
    """
    decision = f"{'above' if row.positive else 'below'} the threshold"
    if row.caution:
        decision = f"no verdict: {NOT_SHOWN}"
    text = (
        f"{row.case_id}: {event} with probability {row.probability:.2f} ({row.low:.2f} to {row.high:.2f}), {decision}"
        f"; Mahalanobis distance above that of {100 * row.novelty:.0f} % of the training patients"
    )
    text += ": out of distribution" * bool(row.far)
    text += f" ({row.strangest})" if row.strangest else ""
    return text + (f"\n  warning: {row.warnings}" if row.warnings else "")


def write_predictions(classified: Classified, out: Path) -> None:
    """Write the `FILES` to a folder, which is created. Raises ValueError or an OSError as `check_output`."""
    left = pd.DataFrame(sorted(classified.left_out.items()), columns=["case_id", "reason"])
    with output_folder(out, output="classification", last=MODEL) as folder:
        for name, table in ((PREDICTIONS, classified.table), (LEFT_OUT, left)):
            write_atomically(folder / name, table.to_csv(index=False).encode())
        write_atomically(folder / MODEL, json.dumps(classified.about, indent=2, default=str).encode())
