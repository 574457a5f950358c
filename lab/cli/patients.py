"""`python -m lab synthesize` and `classify`: a registered model on new patients."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from lab.config import LabelBook, LayoutName
from lab.inference.settings import WHAT, How

if TYPE_CHECKING:
    from lab.data.contract import Contract
    from lab.data.layouts.subject import Subject

AUTO = Path("auto")
"""In place of a mask: a network finds the tumour."""


@dataclass(frozen=True, kw_only=True)
class NewPatients:
    """New patients: one by paths, or a folder of them."""

    t1: Path | None = None
    """T1 of one patient, a NIfTI file or a folder with one DICOM series; a synthetic image has its grid."""
    t2: Path | None = None
    """T2 of one patient, likewise."""
    flair: Path | None = None
    """FLAIR of one patient, likewise."""
    mask: Path | None = None
    """Tumour mask of one patient. A classifier needs it, or `auto`: the tumour of patients without a mask is that which
    --tumour-model finds. For a network, enhancement is searched in and around it."""
    data: Path | None = None
    """Folder of patients in a known layout, or a CSV of paths; no scan with contrast agent is needed."""
    layout: LayoutName = "auto"
    """Layout of DATA; `auto` detects it."""
    labels: LabelBook = "auto"
    """Meaning of the values of DATA's tumour masks, which tells tumour from other labels; `auto` infers it from names
    and values."""
    brain_mask: Literal["nonzero", "mni152"] | None = None
    """`nonzero` for skull-stripped scans, `mni152` for scans in MNI152 space; by default that of the layout, or of
    training for a patient given by paths."""

    def images(self, also: str) -> dict[str, Path]:
        """The scans of one patient, {} with --data. Raises ValueError where both or neither are given."""
        one = {name: path for name, path in (("T1", self.t1), ("T2", self.t2), ("FLAIR", self.flair)) if path}
        if (self.data is None) == (not one) or (self.data is not None and self.mask not in (None, AUTO)):
            raise ValueError(f"name either --data, or the images of one patient: --t1 --t2 --flair{also}")
        return one


@dataclass(frozen=True, kw_only=True)
class SynthesizeNewPatients(How, NewPatients):
    """Synthesize the post-contrast T1 of new patients with a registered or logged network."""

    model: tuple[str, ...]
    """The model, such as models:/sct1@champion; several make an ensemble."""
    out: Path
    """Folder for the images, a picture and report.json; with --data it has a folder per patient."""
    clinical: Annotated[Path | None, tyro.conf.arg(metavar="TABLE")] = None
    """CSV for a model that takes clinical covariates: a row for each case, with case_id (not needed for one patient)
    and any of age, sex, grade, idh, codeletion. Empty is unknown."""

    def run(self) -> None:
        """Synthesize every patient."""
        one = self.images(", and --mask if known")
        if self.mask == AUTO:
            raise ValueError("--mask auto is for classify; --tumour auto takes the tumour that the network states")
        from lab.deploy.new_patients import synthesize, synthesize_folder
        from lab.io.files import plural
        from lab.tracking.store import clear_errors

        how = How(**{item.name: getattr(self, item.name) for item in fields(How)})
        with clear_errors():
            if self.data is None:
                synthesize(self.model, one, out=self.out, mask=self.mask, clinical=self.clinical, how=how)
            else:
                folder: dict[str, Any] = {"layout": self.layout, "labels": self.labels, "clinical": self.clinical}
                done = synthesize_folder(self.model, self.data, out=self.out, how=how, **folder)
                left = f", {len(done.left_out)} left out ({self.out / 'left_out.csv'})" if done.left_out else ""
                print(f"{plural(len(done.reports), 'patient')} synthesized{left}")
        print(f"Written to {self.out}\n{WHAT}")


@dataclass(frozen=True, kw_only=True)
class Classify(NewPatients):
    """Classify new patients with a registered classifier: probability, interval, distance from training patients."""

    model: str
    """The model, such as models:/will-it-enhance@champion."""
    tumour_model: str | None = None
    """With --mask auto: the network that finds the tumour, of place-and-draw, such as models:/places@champion."""
    strangers: Literal["refuse", "warn"] = "refuse"
    """What to do with scans that are certainly out of distribution (swapped, not stripped, half missing) or a T1 after
    contrast agent: `refuse` leaves the patient out with the reason."""
    out: Path | None = None
    """Folder for predictions.csv, left_out.csv and model.json."""

    def run(self) -> None:
        """Classify every patient."""
        one = self.images(" --mask")
        if one and self.mask is None:
            raise ValueError(
                "--mask is needed: the features are those of the tumour; --mask auto lets --tumour-model find it"
            )
        if (self.mask == AUTO) != (self.tumour_model is not None):
            raise ValueError(
                "--mask auto and --tumour-model go together: name a network that states the tumour, as those of "
                "place-and-draw do, such as --mask auto --tumour-model models:/places@champion"
            )
        mask = None if self.mask == AUTO else self.mask
        from lab.data.contract import create_subject
        from lab.data.layouts.find import find_subjects
        from lab.deploy.classify import RESEARCH, classify, format_prediction, write_predictions
        from lab.io.files import plural
        from lab.tracking.store import clear_errors

        def patients(contract: Contract) -> list[Subject]:
            if self.data is not None:
                return find_subjects(self.data, self.layout, labels=self.labels)
            return [create_subject("patient", one, mask, like=contract)]

        with clear_errors():
            found = classify(
                self.model,
                patients,
                brain_mask=self.brain_mask,
                strangers=self.strangers,
                tumour_model=self.tumour_model,
                out=self.out,
            )
        for row in found.table.itertuples():
            print(format_prediction(row, found.about["event"]))
        if self.out is not None:
            write_predictions(found, self.out)
            print(f"Written to {self.out}")
        print(RESEARCH)
        if found.table.empty:
            raise ValueError(f"none of {plural(len(found.left_out), 'patient')} could be judged")
