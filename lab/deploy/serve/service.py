"""A network behind `python -m lab serve` or `mlflow models serve`: patients in, synthetic images out.

They are those of `python -m lab synthesize`.

A patient is an object with a scan per sequence, see lab.deploy.serve.request. What a user did wrong is answered with
status 400 and the reason, too little memory with 503, a fault of ours with 500. No tracking store is asked.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
import threading
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from lab.deploy.patient_folder import write_patient
from lab.deploy.serve.payload import array, returned
from lab.deploy.serve.request import PATIENTS, VOLUMES, at_most, read
from lab.inference.load import Networks, from_packages
from lab.inference.patient import PHANTOM_WARNING, WHAT
from lab.synthesis.device import choose
from lab.tracking.models.network import read_package
from lab.tracking.models.verify import fitting

PREPARED = "prepared"
"""Key of a patient that is prepared already: (C, X, Y, Z) in [-1, 1], through the network and nothing else."""
log = logging.getLogger(__name__)


class Refused(MlflowException):
    """What a client is told: our sentence alone, without the request that MLflow puts in front of it."""

    def __init__(self, said: str, error_code: int) -> None:
        super().__init__(said, error_code)
        self.said = said

    def serialize_as_json(self) -> str:
        """Body of the answer."""
        return json.dumps({"error_code": self.error_code, "message": self.said})


class Service:
    """A logged network, ready to answer; one patient at a time, for each takes much of the memory."""

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
        """One answer for each patient, or none and the reason. Raises MlflowException, see above."""
        answers: list[dict[str, Any]] = []
        try:
            if not patients:
                raise ValueError("the request names no patient")
            if len(patients) > at_most(PATIENTS):
                raise ValueError(
                    f"the request has {len(patients)} patients; at most {at_most(PATIENTS)} are answered at once"
                )
            for patient in patients:
                with self.turn:
                    answers.append(self._prepared(patient) if PREPARED in patient else self._drawn(patient))
            return answers
        except ValueError as error:
            said = " ".join(str(error).split())
            if isinstance(error.__cause__, MemoryError | RuntimeError):
                raise Refused("the server has too little memory for this patient", TEMPORARILY_UNAVAILABLE) from error
            where = f"patient {len(answers) + 1} of {len(patients)}: " if len(patients) > 1 else ""
            raise Refused(where + said, INVALID_PARAMETER_VALUE) from None
        except MemoryError as error:
            raise Refused("the server has too little memory for this patient", TEMPORARILY_UNAVAILABLE) from error
        except Exception as error:
            log.exception("a patient could not be answered")
            raise Refused("the server failed; its log says why", INTERNAL_ERROR) from error

    def _drawn(self, patient: Mapping[str, Any]) -> dict[str, Any]:
        """From scans: the files of `python -m lab synthesize`, as values."""
        with tempfile.TemporaryDirectory(prefix="lab-serve-") as scratch:
            sent, made = Path(scratch) / "sent", Path(scratch) / "made"
            sent.mkdir()
            try:
                asked = read(patient, self.networks.contract, sent)
                report = write_patient(asked.subject, self.networks, made, asked.how, self.arithmetic)
            except ValueError as error:
                raise ValueError(_without_paths(str(error), sent)) from error.__cause__
            missing = [name for name in asked.volumes if not (made / VOLUMES[name]).is_file()]
            if missing:
                raise ValueError(f"volumes: there is no {missing[0]} of {asked.how.looks} looks by this model")
            volumes = {name: returned(made / VOLUMES[name], as_array=asked.as_array) for name in asked.volumes}
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

    def _prepared(self, patient: Mapping[str, Any]) -> dict[str, Any]:
        """From an array that is prepared: the network's image (X, Y, Z) in [-1, 1], the background not cut away."""
        if set(patient) != {PREPARED}:
            raise ValueError(f"{PREPARED!r} goes alone; leave {', '.join(sorted(set(patient) - {PREPARED}))} out")
        channels = self.package.known["inputs"]
        expected = f"an array (C, X, Y, Z) with the channels {', '.join(channels)}"
        values = array(PREPARED, patient[PREPARED], 4, expected)
        if len(values) != len(channels):
            raise ValueError(f"{PREPARED} has {len(values)} channels; {expected} is needed")
        if not np.isfinite(values).all() or np.abs(values).max() > 1:
            raise ValueError(f"{PREPARED} holds NaN, or values outside of -1 to 1; prepare it as the contract says")
        step = 2 ** int(self.package.known["model"]["depth"])

        def padded(shape: Iterable[int]) -> int:
            return math.prod(-(-size // step) * step for size in shape)

        example = (2, 2, step + 1)  # what MLflow tries when the network is logged
        if padded(values.shape[1:]) > max(padded(self.package.known["shape"]), padded(example)):
            shape = " x ".join(map(str, self.package.known["shape"]))
            raise ValueError(f"{PREPARED} is larger than the {shape} voxels that this model was made for")
        inputs = torch.from_numpy(values)[None]
        with torch.no_grad():
            try:
                image = self.arithmetic.run(self.package.network, inputs)
            except ValueError as error:  # instance normalisation of a single voxel
                raise ValueError(f"{PREPARED} has too few voxels for this network ({error})") from None
        phantom = bool(self.package.known.get("phantom"))
        return {
            "what": WHAT,
            "phantom": phantom,
            "warnings": [PHANTOM_WARNING] if phantom else [],
            "model": self.about,
            "volumes": {"synthetic": image[0, 0].cpu().numpy().tolist()},
        }


def identity(folder: Path) -> dict[str, Any]:
    """What a logged model's folder says of itself: model, run_id, and name and version where it came by its name."""
    if not (folder / "MLmodel").is_file():
        return {"model": "not logged yet"}  # MLflow tries the example before it logs
    logged, named = Model.load(str(folder)), folder / "registered_model_meta"
    about: dict[str, Any] = {"model": f"models:/{logged.model_id}", "run_id": logged.run_id}
    found = yaml.safe_load(named.read_text()) if named.is_file() else {}
    if found.get("model_name"):
        name, version = str(found["model_name"]), str(found["model_version"])
        about |= {"model": f"models:/{name}/{version}", "name": name, "version": version}
    return about


def _without_paths(text: str, folder: Path) -> str:
    """An error with the scans' names in place of our files."""
    for file in sorted(folder.iterdir()):
        text = text.replace(str(file), file.name.removesuffix(".nii.gz"))
    return text.replace(f"{folder}/", "")
