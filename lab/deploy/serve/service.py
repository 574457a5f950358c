"""The network service behind `python -m lab serve` and `mlflow models serve`: patients in, synthetic images out.

The images equal those of `python -m lab synthesize`. A patient is an object with a scan per sequence, see
lab.deploy.serve.request. A client's fault is answered with status 400 and the reason, lack of memory with 503, a fault
of the service with 500. The service does not use the tracking store.
"""

from __future__ import annotations

import logging
import math
import tempfile
import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.data.contract import Contract
from lab.deploy.patient_folder import write_patient
from lab.deploy.serve.request import PATIENTS, VOLUMES, array, at_most, parse, read_volume
from lab.inference.load import Networks, from_packages
from lab.inference.settings import PHANTOM_WARNING, WHAT
from lab.synthesis.device import choose
from lab.synthesis.networks import Origin, clinical_inputs, warn_of_unknown
from lab.tracking.models.network import read_package
from lab.tracking.models.registered import downloaded
from lab.tracking.models.serving import Refused, Served, identity
from lab.tracking.models.verify import CLASSIFIER, fitting

PREPARED = "prepared"
"""Key of a prepared patient, (C, X, Y, Z) in [-1, 1], which goes through the network only."""
TOO_LITTLE_MEMORY = "the server has too little memory for this patient"
log = logging.getLogger(__name__)


class Service:
    """A logged network, ready to answer; one patient at a time, since each takes much of the memory."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the folder `artifacts` of a logged model. Raises ValueError as `read_package`."""
        self.package = read_package(folder)
        self.about = identity(folder.parent)
        self.arithmetic = choose()
        self.arithmetic.place(self.package.network)
        self.turn = threading.Lock()

    @cached_property
    def networks(self) -> Networks:
        """The network with its contract."""
        return from_packages([(fitting(self.package, self.about["model"]), self.about)], self.arithmetic)

    def answer(self, patients: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One answer for each patient. Raises Refused where one cannot be answered."""
        answers: list[dict[str, Any]] = []
        try:
            if not patients:
                raise ValueError("the request names no patient")
            if len(patients) > (most := at_most(PATIENTS)):
                raise ValueError(f"the request has {len(patients)} patients; at most {most} are answered at once")
            for patient in patients:
                prepared = isinstance(patient, Mapping) and PREPARED in patient
                with self.turn:
                    answers.append(self._predict_prepared(patient) if prepared else self._synthesize(patient))
            return answers
        except ValueError as error:
            if isinstance(error.__cause__, MemoryError | RuntimeError):
                raise Refused(503, TOO_LITTLE_MEMORY) from error
            where = f"patient {len(answers) + 1} of {len(patients)}: " if len(patients) > 1 else ""
            raise Refused(400, where + " ".join(str(error).split())) from None
        except MemoryError as error:
            raise Refused(503, TOO_LITTLE_MEMORY) from error
        except Exception as error:
            log.exception("a patient could not be answered")
            raise Refused(500, "the server failed; its log says why") from error

    def _synthesize(self, patient: Mapping[str, Any]) -> dict[str, Any]:
        """Answer from scans: the files of `python -m lab synthesize`, as values."""
        with tempfile.TemporaryDirectory(prefix="lab-serve-") as scratch:
            sent, made = Path(scratch) / "sent", Path(scratch) / "made"
            sent.mkdir()
            try:
                asked = parse(patient, self.networks.contract, sent, clinical_inputs([self.package.network]))
                report = write_patient(asked.subject, self.networks, made, asked.how, self.arithmetic)
            except ValueError as error:
                raise ValueError(_without_paths(str(error), sent)) from error.__cause__
            missing = [name for name in asked.volumes if not (made / VOLUMES[name]).is_file()]
            if missing:
                raise ValueError(f"volumes: this model has no {missing[0]} with looks = {asked.how.looks}")
            volumes = {name: read_volume(made / VOLUMES[name], as_array=asked.as_array) for name in asked.volumes}
        for entry in report["inputs"].values():
            entry.pop("path", None)
        return {
            "what": WHAT,
            "phantom": report["phantom"],
            "warnings": report["warnings"],
            "enhancement_ml": report["enhancement"]["ml"],
            "model": self.about,
            "volumes": volumes,
            "report": report,
        }

    def _predict_prepared(self, patient: Mapping[str, Any]) -> dict[str, Any]:
        """Answer from a prepared array: the network's image (X, Y, Z) in [-1, 1], with its raw background."""
        if set(patient) != {PREPARED}:
            raise ValueError(f"{PREPARED!r} goes alone; leave {', '.join(sorted(set(patient) - {PREPARED}))} out")
        known = self.package.known
        expected = f"an array (C, X, Y, Z) with the channels {', '.join(known['inputs'])}"
        values = array(PREPARED, patient[PREPARED], 4, expected)
        if len(values) != len(known["inputs"]):
            raise ValueError(f"{PREPARED} has {len(values)} channels; {expected} is needed")
        if not np.isfinite(values).all() or np.abs(values).max() > 1:
            raise ValueError(f"{PREPARED} holds NaN, or values outside of -1 to 1; prepare it as the contract says")
        origin: Origin = self.package.network.origin  # type: ignore[assignment]
        step = origin.spec.divisor(origin.settings)
        example = (2, 2, step + 1)  # MLflow's input example when the network is logged
        size, *allowed = (
            math.prod(-(-edge // step) * step for edge in shape)
            for shape in (values.shape[1:], known["shape"], example)
        )
        if size > max(allowed):
            shape = " x ".join(map(str, known["shape"]))
            raise ValueError(f"{PREPARED} is larger than the {shape} voxels that this model was made for")
        if "normalise" in known:
            values = Contract.read(known).normalised(values, known["inputs"])
        with torch.no_grad():
            try:
                image = self.arithmetic.run(self.package.network, torch.from_numpy(values)[None])
            except ValueError as error:  # instance normalisation of a single voxel
                raise ValueError(f"{PREPARED} has too few voxels for this network ({error})") from None
        phantom = bool(known.get("phantom"))
        return {
            "what": WHAT,
            "phantom": phantom,
            "warnings": [PHANTOM_WARNING] * phantom + warn_of_unknown([self.package.network], {}),
            "model": self.about,
            "volumes": {"synthetic": image[0, 0].cpu().numpy().tolist()},
        }


def open_served(uri: str) -> Served:
    """A registered or logged network or classifier, run by the installed code and not by the code in its package.

    Raises ValueError for a model that is not from this lab.
    """
    with downloaded(uri) as folder:
        if (folder / CLASSIFIER).is_dir():
            from lab.tracking.models.classifier import classifier_in

            return Served.of(folder, classifier_in(folder / CLASSIFIER, uri)[0])
        if not (folder / "artifacts" / "network.json").is_file():
            raise ValueError(f"{uri} is no model of this lab; name one that a study has logged")
        return Served.of(folder, Service(folder / "artifacts"), "answer")


def _without_paths(text: str, folder: Path) -> str:
    """An error message with the scans' names in place of file paths."""
    for file in sorted(folder.iterdir()):
        text = text.replace(str(file), file.name.removesuffix(".nii.gz"))
    return text.replace(f"{folder}/", "")
