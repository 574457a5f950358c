"""What a MONAI bundle of a network runs: it travels in it, with `lab.data` and `lab.synthesis` and nothing else.

MONAI reads the configuration, makes the data set and infers; what decides about voxels is the lab's own: the frozen
preparation, the arithmetic, and the way back to the T1's own grid. The image is that of `python -m lab synthesize`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.special import expit
from torch import Tensor, nn

from lab.data.case import PreparedCase
from lab.data.cohort import BRAIN
from lab.data.contract import one_patient
from lab.data.contract_check import checked_contract
from lab.data.layouts.find import Subject
from lab.data.native import image_on_scan, mask_on_scan, spread_on_scan, write_like
from lab.data.new_scans import open_patient
from lab.evaluation.conformal import NOMINAL, Intervals
from lab.evaluation.enhancement import is_enhancing, millilitres
from lab.evaluation.measured_trust import coverage_at, doubt, held, verdict
from lab.inference.summary import drawn_level, enhancing, half_widths
from lab.inference.tta import predict_with_tta
from lab.io.case_file import file_sha256, write_atomically
from lab.io.files import canonical
from lab.io.output_folder import check_output, output_folder
from lab.io.sealed_json import read_sealed
from lab.qc.image_quality import measure
from lab.qc.ood import Likeness
from lab.synthesis.device import Arithmetic, choose
from lab.synthesis.networks.paper import BACKGROUND

WEIGHTS, SETTINGS, CALIBRATION = "weights.safetensors", "network.json", "calibration.json"
REPORT = "report.json"
WHAT = "SYNTHETIC image, drawn by a neural network from scans without contrast agent. Research only, not for diagnosis."


def known(folder: str) -> dict[str, Any]:
    """What a bundle's folder `models` says of its network and how images are prepared for it."""
    return read_sealed(Path(folder) / SETTINGS)


def calibrated(folder: str) -> dict[str, Any]:
    """What was measured of the network on its own patients; empty where nothing was."""
    file = Path(folder) / CALIBRATION
    return read_sealed(file) if file.is_file() else {}


class Weighted(nn.Module):
    """A network with the bundle's weights on a device: inputs (B, C, X, Y, Z) -> float32 images (B, 1, X, Y, Z)."""

    def __init__(self, network: nn.Module, folder: str, device: torch.device, precision: str = "auto") -> None:
        """`folder` is the bundle's `models`. Raises ValueError where its weights are not those that were exported."""
        super().__init__()
        weights = Path(folder) / WEIGHTS
        if file_sha256(weights) != known(folder)["weights_sha256"]:
            raise ValueError(f"{weights}: the weights were changed after the network was logged; export it again")
        network.load_state_dict(load_file(weights))
        self.arithmetic: Arithmetic = choose(str(device), precision)
        self.network = self.arithmetic.place(network.eval())

    def forward(self, x: Tensor) -> Tensor:
        """The images."""
        return self.arithmetic.run(self.network, x)


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One patient, prepared."""

    subject: Subject
    case: PreparedCase
    inputs: Tensor
    """(1, C, X, Y, Z) float32 in [-1, 1]."""
    brain: Tensor
    """(1, 1, X, Y, Z) bool."""
    warnings: tuple[str, ...]


class Prepare:
    """Paths of a patient's scans, by sequence in small letters, and `mask` -> `Patient`, as the contract says."""

    def __init__(self, folder: str, brain_mask: str | None = None, strangers: str = "refuse") -> None:
        """`strangers`: whether scans that are certainly unlike those of training are refused, or only warned of."""
        self.contract = checked_contract(known(folder))
        self.brain_mask, self.strangers = brain_mask, strangers
        record = calibrated(folder)
        self.likeness = Likeness.read(record["likeness"]) if record.get("likeness") else None

    def __call__(self, data: Mapping[str, Any]) -> Patient:
        """Raises ValueError where the scans do not fit the network."""
        paths = {canonical(name): Path(str(path)) for name, path in data.items() if path not in (None, "")}
        mask = paths.pop("MASK", None)
        contract = self.contract
        names = [canonical(name) for name in contract.channels]
        missing = [f"--{name.lower()}" for name in names if name not in paths]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing: the network takes {', '.join(contract.channels)}")
        subject = one_patient("patient", paths, mask, like=contract)
        case, warnings = open_patient(subject, contract, self.brain_mask, self.strangers)
        picked = [case.image[names.index(canonical(name))] for name in contract.inputs]
        return Patient(
            subject=subject,
            case=case,
            inputs=torch.from_numpy(np.stack(picked).astype(np.float32))[None],
            brain=torch.from_numpy((case.masks & BRAIN) > 0)[None, None],
            warnings=(*self._unlike(case, tuple(names)), *warnings),
        )

    def _unlike(self, case: PreparedCase, names: tuple[str, ...]) -> Sequence[str]:
        if self.likeness is None:
            return ("scans that are unlike those of training go unnoticed: the network was not calibrated",)
        found = self.likeness.judge(measure(case.image, case.masks, names, self.contract.spacing_mm))
        if found.level == "refused" and self.strangers == "refuse":
            raise ValueError(f"{'; '.join(found.reasons)} (--strangers warn draws it all the same)")
        return found.reasons


class Synthesise:
    """The bundle's evaluator: every patient of a data set through the network, and into a folder of files."""

    def __init__(
        self,
        dataset: Sequence[Patient],
        network: Weighted,
        inferer: Callable[[Tensor, nn.Module], Tensor],
        postprocessing: Callable[[dict[str, Any]], Any],
        looks: int = 1,
    ) -> None:
        """More than one look (`lab.inference.tta.AUGMENTATIONS`) gives an uncertainty map; the image is the same."""
        self.dataset, self.network, self.inferer = dataset, network, inferer
        self.postprocessing, self.looks = postprocessing, looks

    @torch.no_grad()
    def run(self) -> None:
        """All patients. Raises ValueError where one does not fit."""
        device = self.network.arithmetic.device
        for number in range(len(self.dataset)):
            patient = self.dataset[number]
            looked = predict_with_tta([self._drawn], patient.inputs.to(device), patient.brain.to(device), self.looks)
            spread = None if looked.spread is None else looked.spread[0, 0].cpu().numpy()
            image = looked.image[0, 0].cpu().numpy()
            self.postprocessing({"patient": patient, "image": image, "spread": spread, "looks": self.looks})

    def _drawn(self, inputs: Tensor, brain: Tensor) -> Tensor:
        return torch.where(brain, self.inferer(inputs, self.network), BACKGROUND)


class Save:
    """The image on the T1's grid in the T1's intensities, where it enhances, how sure it is, and a report."""

    def __init__(self, folder: str, output_dir: str, about: Mapping[str, Any]) -> None:
        """`about` is the bundle's metadata. Raises ValueError where `output_dir` holds files of someone else."""
        self.contract, self.calibration = checked_contract(known(folder)), calibrated(folder)
        self.place, self.about = Path(output_dir), about
        check_output(self.place, REPORT, alone=True)

    def __call__(self, made: Mapping[str, Any]) -> Path:
        """`patient`, `image` (X, Y, Z) in [-1, 1], its `spread` or None and the number of `looks` -> the folder."""
        patient, image, spread = made["patient"], made["image"], made["spread"]
        case, how = patient.case, self.contract.preparation
        t1 = case.image[[canonical(name) for name in self.contract.channels].index("T1")]
        on: dict[str, Any] = {"t1": t1, "masks": case.masks, "spacing_mm": self.contract.spacing_mm}
        enhances, _ = enhancing(image, **on, threshold=float(how["enhancement_threshold"]))
        level = drawn_level(image, **on, enhancing_ml=float(how["enhancing_ml"]))
        line = self.calibration.get("probability", {})
        known = level is not None and "slope" in line
        probability = round(float(expit(line["intercept"] + line["slope"] * level)), 4) if known else None
        enough = is_enhancing(millilitres(enhances, self.contract.spacing_mm), float(how["enhancing_ml"]))
        verdicts, no_verdict = verdict(line, probability, drawn=enough)
        rows = coverage_at(self.calibration, made["looks"])
        measured = held(rows, tumour_known=level is not None)
        marked = mask_on_scan(case, enhances)
        volumes = {
            "synthetic_t1gd": (image_on_scan(case, image), f"SYNTHETIC {self.contract.target}"),
            "enhancement": (marked, "SYNTHETIC mask"),
        }
        if spread is not None:
            volumes["uncertainty"] = (spread_on_scan(case, spread), "SD of SYNTHETIC")
        intervals = self.calibration.get("intervals", {}).get(str(made["looks"]))
        if intervals is not None:
            widths = half_widths(Intervals.read(intervals), spread, case.masks, spacing_mm=self.contract.spacing_mm)
            volumes[f"interval_{100 * NOMINAL:.0f}"] = (
                spread_on_scan(case, widths),
                "half of interval of SYNTHETIC",
            )
        warnings = [*self.about["warnings"], *patient.warnings]
        warnings += [] if level is None else [no_verdict] * bool(no_verdict)
        report = {
            "what": WHAT,
            "synthetic": True,
            "phantom": self.contract.phantom,
            "warnings": warnings,
            "enhancement_ml": round(np.count_nonzero(marked) * case.t1.voxel_ml, 4),
            "probability": probability,
            "probability_doubt": doubt(line),
            "enhances": verdicts,
            "enhances_missing": no_verdict,
            "interval": None if intervals is None else {"level": NOMINAL, "coverage_on_test": rows, "held": measured},
            "model": self.about["model"],
            "weights_sha256": self.about["weights_sha256"],
            "inputs": {name: str(path) for name, path in patient.subject.images.items()},
            "files": [f"{name}.nii.gz" for name in volumes],
        }
        source = f"{'PHANTOM-trained: no meaning, ' * self.contract.phantom}{self.about['name']}"
        with output_folder(self.place, output="synthesis", last=REPORT, alone=True) as folder:
            for name, (volume, about) in volumes.items():
                note, scan = f"{about}, research only; {source}", patient.subject.images["T1"]
                write_like(folder / f"{name}.nii.gz", volume, scan, purpose="SYNTHETIC", note=note)
            write_atomically(folder / REPORT, (json.dumps(report, indent=2) + "\n").encode())
        promised = "" if intervals is None else f"; {NOMINAL:.0%} intervals: {measured}"
        print(f"{report['enhancement_ml']:.2f} ml drawn as enhancing{promised}; written to {self.place}")
        print("".join(f"  warning: {warning}\n" for warning in warnings) + WHAT)
        return self.place
