"""Synthesis for new patients by a logged or registered network, on the T1's own grid.

Each patient's folder is written completely or not at all and holds

    synthetic_t1gd.nii.gz   float32 in the T1's intensities, on its grid and affine, in its stored orientation
    interval_90.nii.gz      half of each voxel's 90 % interval, in the same intensities, by conformal calibration
    uncertainty.nii.gz      standard deviation over augmentations and networks, in the same intensities
    enhancement.nii.gz      1 where synthesis - T1 exceeds the paper's threshold, in the tumour and 3 mm round it
    enhancement_probability.nii.gz  each voxel's probability of enhancement, by a network that states one; the mask of
                            enhancement is then where it exceeds the threshold chosen on validation patients
    tumour.nii.gz           with `How(tumour="auto")`, of a patient without a mask: the tumour that the network states
    dicom/                  with `How(export="dicom")`: the synthesis as a derived series in the T1's study
    synthesis.png           three planes of all this
    report.json             model, contract, input hashes, millilitres, warnings, seconds
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lab.data.case import REFERENCE
from lab.data.contract import create_subject, hash_scans
from lab.data.layouts.subject import Subject
from lab.deploy.patient_folder import check_place, format_report, read_finished, write_patient
from lab.inference.load import Networks, check_states_tumour, open_networks
from lab.inference.settings import PHANTOM_WARNING, How
from lab.io.case_file import write_atomically
from lab.io.files import canonical, one_line, plural
from lab.io.output_folder import check_output, output_folder
from lab.synthesis.device import Arithmetic, choose
from lab.synthesis.networks import clinical_inputs
from lab.tracking.models.registered import described

if TYPE_CHECKING:
    from lab.deploy.classify import LoadedClassifier

PATIENTS, LEFT_OUT = TABLES = ("patients.csv", "left_out.csv")
"""Tables of the synthesized patients and of those left out, in the folder of all patients."""


@dataclass(frozen=True, kw_only=True)
class FolderSynthesis:
    """The syntheses of a list of patients."""

    reports: dict[str, dict[str, Any]]
    """Case id -> contents of its report.json."""
    folders: dict[str, Path]
    """Case id -> its folder."""
    left_out: dict[str, str]
    """Case id -> why there is no synthesis."""


class Models:
    """The networks and the classifier of a command, each opened once, and the settings of `how`."""

    def __init__(self, model: str | Sequence[str], how: How, say: Callable[[str], None]) -> None:
        self.how = how if how.classifier is None else replace(how, classifier=_pinned(how.classifier))
        self.arithmetic: Arithmetic = choose(how.device, how.precision)
        self.networks: Networks = open_networks([model] if isinstance(model, str) else list(model), self.arithmetic)
        if how.tumour == "auto":
            check_states_tumour(self.networks, "--tumour auto")
        self.classifier: LoadedClassifier | None = None
        if self.how.classifier is not None:
            from lab.deploy.classify import LoadedClassifier  # pyradiomics takes a second to import

            self.classifier = LoadedClassifier(self.how.classifier)
        if self.networks.phantom:
            say("*" * 40 + f"\n{PHANTOM_WARNING}\n" + "*" * 40)

    def write(self, subject: Subject, place: Path) -> tuple[dict[str, Any], bool]:
        """The report of one patient, and whether an earlier call had written it. Raises as `write_patient`."""
        hashes = hash_scans(subject, self.networks.contract)
        if done := read_finished(subject, self.networks, place, self.how, hashes):
            return done, True
        classifier = self.classifier
        report = write_patient(
            subject, self.networks, place, self.how, self.arithmetic, classifier=classifier, hashes=hashes
        )
        return report, False


def synthesize(
    model: str | Sequence[str],
    images: Mapping[str, Path | str],
    *,
    out: Path | str,
    mask: Path | str | None = None,
    clinical: Path | str | None = None,
    how: How | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Synthesize one patient, `{"T1": path, "T2": path, "FLAIR": path}`, to the folder `out`; returns its report.json.

    A path leads to a NIfTI file or to a folder with one DICOM series; both give the same voxels. Several models make an
    ensemble. `clinical` is a table with the patient's covariates, see `clinical_table.with_clinical`. Raises ValueError
    or an OSError, before anything is written, where the model is not from this lab or the images do not fit it.
    """
    how = how or How()
    check_place(Path(out), how)
    _check_export(how, [images])
    models = Models(model, how, say)
    contract = models.networks.contract
    paths = {name: Path(path) for name, path in images.items()}
    subject = create_subject("patient", paths, None if mask is None else Path(mask), like=contract)
    extra = sorted(set(subject.images) - {canonical(name) for name in contract.channels})
    if extra:
        raise ValueError(
            f"{', '.join(extra)} is given, but the model takes {', '.join(contract.channels)}; leave it out, or name "
            "the right model"
        )
    (subject,) = _with_clinical([subject], models.networks, clinical, say, single=True)
    report = write_patient(
        subject, models.networks, Path(out), models.how, models.arithmetic, classifier=models.classifier
    )
    say(format_report(report))
    return report


def synthesize_folder(
    model: str | Sequence[str],
    data: Path | str,
    *,
    out: Path | str,
    layout: str = "auto",
    labels: str = "auto",
    clinical: Path | str | None = None,
    how: How | None = None,
    say: Callable[[str], None] = print,
) -> FolderSynthesis:
    """Synthesize the patients of a folder in a known layout, or of a CSV of paths, to `out/<case id>`.

    A repeated call continues where the last one stopped. `patients.csv` has a row for each synthesized patient,
    `left_out.csv` the others with the reason. Raises as `synthesize`, and ValueError where nobody is left.
    """
    from lab.data.layouts.find import find_subjects

    how, place = how or How(), Path(out)
    if place.resolve() == Path(data).resolve():
        raise ValueError(f"{place} holds the scans; name another folder for what is made of them")
    check_output(place, *TABLES)
    subjects = find_subjects(Path(data), layout, labels=labels, say=say)
    _check_export(how, [subject.images for subject in subjects])
    models = Models(model, how, say)
    subjects = _with_clinical(subjects, models.networks, clinical, say)
    reports: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    warned = {PHANTOM_WARNING}  # each warning is printed once
    for number, subject in enumerate(subjects, start=1):
        case_id = subject.case_id
        try:
            if subject.fault is not None:  # its case id may be unusable as a folder name
                raise ValueError(subject.fault)
            _check_export(how, [subject.images])
            check_place(place / case_id, how)
            reports[case_id], done = models.write(subject, place / case_id)
            text = format_report(reports[case_id], warned) + " (there already)" * done
            warned.update(reports[case_id]["warnings"])
        except ValueError as error:
            left_out[case_id] = one_line(error)
            text = f"{case_id}: left out, {left_out[case_id]}"
        say(f"[{number}/{len(subjects)}] {text}")
    if not reports:
        raise ValueError(
            f"none of {plural(len(subjects), 'patient')} could be synthesized ({next(iter(left_out.values()))})"
        )
    tables = {
        PATIENTS: pd.DataFrame([_row(report) for report in reports.values()]),
        LEFT_OUT: pd.DataFrame(sorted(left_out.items()), columns=["case_id", "reason"]),
    }
    with output_folder(place, output="synthesis of a folder", last=PATIENTS, say=say) as folder:
        for name, table in tables.items():
            write_atomically(folder / name, table.to_csv(index=False).encode())
    return FolderSynthesis(reports=reports, folders={case: place / case for case in reports}, left_out=left_out)


def _with_clinical(
    subjects: list[Subject],
    networks: Networks,
    table: Path | str | None,
    say: Callable[[str], None],
    *,
    single: bool = False,
) -> list[Subject]:
    """The subjects with the values of `table`. Raises ValueError where no network takes any."""
    if table is None:
        return subjects
    if not clinical_inputs(networks.networks):
        raise ValueError(f"--clinical {table}: this model takes no clinical covariates; leave it out")
    from lab.deploy.clinical_table import with_clinical

    return with_clinical(subjects, Path(table), say=say, single=single)


def _check_export(how: How, patients: Sequence[Mapping[str, Path | str]]) -> None:
    """Raises ValueError where DICOM export is requested and no patient's T1 is a DICOM series."""
    if how.export != "dicom":
        return
    from lab.deploy.export.dicom import check_source

    refused = []
    for images in patients:
        try:
            check_source(next((path for name, path in images.items() if canonical(name) == REFERENCE), None))
            return
        except ValueError as error:
            refused.append(error)
    raise refused[0]


def _pinned(uri: str) -> str:
    """URI of a classifier by its version, which an alias does not change. Raises ValueError where there is none."""
    found = described(uri)
    if not found and not uri.startswith(("models:/m-", "runs:/")):
        raise ValueError(f"--classifier {uri}: there is no such model")
    return f"models:/{found['name']}/{found['version']}" if found else uri


def _row(report: dict[str, Any]) -> dict[str, Any]:
    """A row of `patients.csv`."""
    enhancement, measured = report["enhancement"], report["measured"]
    return {
        "case_id": report["case_id"],
        "synthetic": True,
        "enhancement_ml": enhancement["ml"],
        "probability": enhancement.get("probability"),
        "probability_by_classifier": (report.get("classifier") or {}).get("probability"),
        "region": enhancement["region"],
        "tumour_ml": measured["tumour_ml"],
        "tumour_by": report["tumour"]["by"],
        "uncertainty": report["uncertainty"].get("median_in_brain"),
        "warnings": "; ".join(report["warnings"]),
    }
