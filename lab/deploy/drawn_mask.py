"""The tumour mask of a patient without one, as a registered network finds it in T1, T2 and FLAIR, for a classifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lab.data.case import REFERENCE
from lab.data.contract import WITHOUT_MASK, hash_scans
from lab.data.layouts.subject import Subject
from lab.data.native import mask_on_scan, write_like
from lab.inference.load import Networks, check_states_tumour, open_networks
from lab.inference.patient import Patient, find_tumour
from lab.inference.settings import TUMOUR_MASK, How
from lab.synthesis.device import Arithmetic, choose

TESTED_WITH_GIVEN = "the classifier was trained and tested with given masks: its AUC with predicted ones is not known"


class TumourNetwork:
    """A registered network that states the tumour, opened once for all patients."""

    def __init__(self, uri: str) -> None:
        """Raises ValueError for a model that is not from this lab, and for a network that states no tumour."""
        self.arithmetic: Arithmetic = choose(How.device, How.precision)
        self.networks: Networks = open_networks([uri], self.arithmetic)
        check_states_tumour(self.networks, "--tumour-model")

    def draw(self, subject: Subject, folder: Path, how: How) -> tuple[Patient, Subject]:
        """A patient with the predicted tumour, and the subject with it as its mask, a file in `folder`.

        Raises ValueError where the scans do not fit the network, and where it finds no tumour.
        """
        hashes = hash_scans(subject, self.networks.contract)
        patient = find_tumour(subject, self.networks, how, self.arithmetic, hashes)
        return patient, subject_with_tumour(patient, folder)


def subject_with_tumour(patient: Patient, folder: Path) -> Subject:
    """The subject of a patient with a predicted tumour, which is written to `folder` as its mask on the T1's grid.

    Raises ValueError for an empty one.
    """
    found = patient.tumour_by
    assert found is not None
    if not found.ml:
        raise ValueError(found.describe())
    path = folder / TUMOUR_MASK
    mask = mask_on_scan(patient.case, patient.tumour)
    write_like(path, mask, patient.subject.images[REFERENCE], purpose="SYNTHETIC", note="SYNTHETIC tumour mask")
    return replace(
        patient.subject,
        mask=path,
        mask_fault=None,
        label_book=None,
        labels=None,
        enhancing_label=None,
        cavity_label=None,
    )


def drawn_warnings(patient: Patient) -> list[str]:
    """Who drew the mask and how sure it is, and the network's warnings about the scans."""
    return [*(text for text in patient.warnings if text != WITHOUT_MASK), TESTED_WITH_GIVEN]
