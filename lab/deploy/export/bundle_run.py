"""The code that runs inside a MONAI bundle of a network; the bundle contains it and its imports from `lab` alone.

MONAI reads the configuration, builds the data set and runs the inference. The lab's own code does all that determines
voxels: the frozen preparation, the arithmetic, the resampling to the T1's grid. The image equals that of `python -m lab
synthesize`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lab.data.case import REFERENCE
from lab.data.contract import create_subject, hash_scans, read_contract
from lab.data.native import write_like
from lab.evaluation.calibration_text import describe_coverage, describe_doubt
from lab.evaluation.conformal import NOMINAL
from lab.inference.calibration import NetworkCalibration
from lab.inference.patient import Patient, assess_prediction, prepare_patient
from lab.inference.settings import ENHANCEMENT, WHAT
from lab.inference.tiling import all_maps, clear_outside
from lab.inference.tta import predict_with_tta
from lab.io.case_file import file_sha256, write_atomically
from lab.io.files import canonical
from lab.io.output_folder import check_output, output_folder
from lab.io.sealed_json import read_sealed
from lab.synthesis.device import Arithmetic, choose

WEIGHTS, SETTINGS, CALIBRATION, REPORT = "weights.safetensors", "network.json", "calibration.json", "report.json"


def read_settings(folder: str) -> dict[str, Any]:
    """The network's record and contract from a bundle's folder `models`."""
    return read_sealed(Path(folder) / SETTINGS)


def read_calibration(folder: str, looks: int = 1) -> NetworkCalibration:
    """The network's calibration."""
    file = Path(folder) / CALIBRATION
    return NetworkCalibration.of(read_sealed(file) if file.is_file() else {}, looks)


class Weighted(nn.Module):
    """A network with the bundle's weights on a device: inputs (B, C, X, Y, Z) -> float32 maps, the image first."""

    def __init__(self, network: nn.Module, folder: str, device: torch.device, precision: str = "auto") -> None:
        """`folder` is the bundle's `models`. Raises ValueError where its weights are not those that were exported."""
        super().__init__()
        weights = Path(folder) / WEIGHTS
        if file_sha256(weights) != read_settings(folder)["weights_sha256"]:
            raise ValueError(f"{weights}: the weights were changed after the network was logged; export it again")
        network.load_state_dict(load_file(weights))
        self.arithmetic: Arithmetic = choose(str(device), precision)
        self.network = self.arithmetic.place(network.eval())

    def forward(self, x: Tensor) -> Tensor:
        """Synthetic images (B, 1, X, Y, Z), and any probabilities behind them."""
        return self.arithmetic.run(all_maps(self.network), x)


class PreparePatient:
    """Paths of a patient's scans, by sequence in lower case, and `mask` -> `Patient`, prepared by the contract."""

    def __init__(self, folder: str, brain_mask: str | None = None, strangers: str = "refuse") -> None:
        """`strangers`: "refuse" rejects scans that are certainly out of distribution, "warn" only warns."""
        self.contract = read_contract(read_settings(folder))
        self.brain_mask, self.strangers = brain_mask, strangers
        self.reference = read_calibration(folder).reference

    def __call__(self, data: Mapping[str, Any]) -> Patient:
        """Raises ValueError where the scans do not fit the network."""
        paths = {canonical(name): Path(str(path)) for name, path in data.items() if path not in (None, "")}
        mask, contract = paths.pop("MASK", None), self.contract
        missing = [f"--{canonical(name).lower()}" for name in contract.channels if canonical(name) not in paths]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing: the network takes {', '.join(contract.channels)}")
        subject = create_subject("patient", paths, mask, like=contract)
        hashes = hash_scans(subject, contract)
        return prepare_patient(subject, contract, self.reference, self.brain_mask, self.strangers, hashes)


class SynthesizePatients:
    """The bundle's evaluator: runs every patient of a data set through the network and writes the results."""

    def __init__(
        self,
        dataset: Sequence[Patient],
        network: Weighted,
        inferer: Callable[[Tensor, nn.Module], Tensor],
        postprocessing: Callable[[dict[str, Any]], Any],
        looks: int = 1,
    ) -> None:
        """More than one of `lab.inference.tta.AUGMENTATIONS` adds an uncertainty map; the image stays the same."""
        self.dataset, self.network, self.inferer = dataset, network, inferer
        self.postprocessing, self.looks = postprocessing, looks

    @torch.no_grad()
    def run(self) -> None:
        """Process all patients. Raises ValueError where one does not fit."""
        device = self.network.arithmetic.device
        for number in range(len(self.dataset)):
            patient = self.dataset[number]
            inputs = torch.from_numpy(patient.contract.network_inputs(patient.case.image)).to(device)
            brain = torch.from_numpy(patient.brain)[None, None].to(device)
            found = predict_with_tta([self._predict], inputs, brain, self.looks)
            maps = {"image": found.image, "spread": found.spread, "place": found.probability}
            arrays = {name: None if one is None else one[0, 0].cpu().numpy() for name, one in maps.items()}
            self.postprocessing({"patient": patient, "looks": self.looks, **arrays})

    def _predict(self, inputs: Tensor, brain: Tensor) -> Tensor:
        return clear_outside(brain, self.inferer(inputs, self.network))


class Save:
    """Writes the image on the T1's grid in the T1's intensities, enhancement, uncertainty and a report."""

    def __init__(self, folder: str, output_dir: str, about: Mapping[str, Any]) -> None:
        """`about` is the bundle's metadata. Raises ValueError where `output_dir` holds foreign files."""
        self.folder, self.place, self.about = folder, Path(output_dir), about
        check_output(self.place, REPORT, alone=True)

    def __call__(self, predicted: Mapping[str, Any]) -> Path:
        """`patient`, `image` (X, Y, Z) in [-1, 1], its `spread` and `place` or None, and `looks` -> the folder."""
        patient, calibration = predicted["patient"], read_calibration(self.folder, predicted["looks"])
        before = [*self.about["warnings"]]
        if not calibration.probability:
            before.append("no out-of-distribution detection: the network was not calibrated")
        made = assess_prediction(
            patient, predicted["image"], predicted["spread"], calibration, place=predicted["place"], before=before
        )
        volumes, phantom = made.volumes(), patient.contract.phantom
        measured = describe_coverage(calibration.coverage, tumour_known=bool(patient.tumour.any()))
        interval = {"level": NOMINAL, "coverage_on_test": list(calibration.coverage), "held": measured}
        report = {
            "what": WHAT,
            "synthetic": True,
            "phantom": phantom,
            "warnings": made.warnings,
            "enhancement_ml": round(np.count_nonzero(volumes[ENHANCEMENT][0]) * patient.case.t1.voxel_ml, 4),
            "probability": None if made.probability is None else round(made.probability, 4),
            "probability_doubt": describe_doubt(calibration.probability),
            "enhances": made.enhances,
            "enhances_missing": made.no_verdict,
            "interval": interval if made.half_width is not None else None,
            "model": self.about["model"],
            "weights_sha256": self.about["weights_sha256"],
            "inputs": {name: str(path) for name, path in patient.subject.images.items()},
            "files": list(volumes),
        }
        source = f"{'PHANTOM-trained: no meaning, ' * phantom}{self.about['name']}"
        with output_folder(self.place, output="synthesis", last=REPORT, alone=True) as folder:
            for name, (volume, about) in volumes.items():
                note, scan = f"{about}, research only; {source}", patient.subject.images[REFERENCE]
                write_like(folder / name, volume, scan, purpose="SYNTHETIC", note=note)
            write_atomically(folder / REPORT, (json.dumps(report, indent=2) + "\n").encode())
        promised = f"; {NOMINAL:.0%} intervals: {measured}" if made.half_width is not None else ""
        print(f"{report['enhancement_ml']:.2f} ml predicted as enhancing{promised}; written to {self.place}")
        print("".join(f"  warning: {warning}\n" for warning in made.warnings) + WHAT)
        return self.place
