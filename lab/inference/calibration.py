"""Calibration of networks (lab.inference.calibrate), looked up for a new patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy.special import expit

from lab.evaluation.calibration_text import coverage_at
from lab.evaluation.conformal import NOMINAL, Intervals
from lab.io.files import plural
from lab.io.sealed_json import read_sealed
from lab.qc.ood import OodReference

if TYPE_CHECKING:
    from lab.inference.load import Networks

NEEDED = {"weights_sha256", "intervals", "probability", "likeness"}


@dataclass(frozen=True, kw_only=True)
class NetworkCalibration:
    """Calibration of networks for one number of test-time augmentations."""

    intervals: Intervals | None = None
    """None where there are none for this number of augmentations."""
    probability: Mapping[str, Any] = field(default_factory=dict)
    """Platt's line and its quality; `missing` says why there is none."""
    threshold: float = 0.5
    """Above this stated probability a voxel enhances: chosen on validation patients, where the networks state one."""
    tumour: Mapping[str, Any] = field(default_factory=dict)
    """Dice of the tumour that the networks state: `dice`, `lowest_tenth`, `patients`, and `of` which part they are."""
    reference: OodReference | None = None
    """OOD reference of the training patients."""
    coverage: tuple[Mapping[str, Any], ...] = ()
    """Coverage on test patients at the nominal level: region, value, low, high, n."""
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: Mapping[str, Any], looks: int) -> NetworkCalibration:
        """From the contents of `calibration.json`, {} without a calibration."""
        if not record:
            return cls()
        known = record["intervals"]
        intervals = Intervals.read(known[str(looks)]) if str(looks) in known else None
        warnings = []
        if intervals is None:
            warnings.append(f"no intervals: they were made for --looks {', '.join(known)}, not for {looks}")
        elif not intervals.guaranteed:
            warnings.append(
                f"intervals rest on {plural(intervals.patients, 'validation patient')}, too few to promise that "
                f"{NOMINAL:.0%} of the voxels are inside"
            )
        reference, unread = _reference(record)
        return cls(
            intervals=intervals,
            probability=record["probability"],
            threshold=float(record.get("place", {}).get("threshold", cls.threshold)),
            tumour=record.get("tumour", {}),
            reference=reference,
            coverage=tuple(coverage_at(record, looks)),
            warnings=(*warnings, *unread),
        )

    def probability_of(self, level: float) -> float | None:
        """Probability that a tumour with this predicted level enhances; None without a calibration."""
        if "slope" not in self.probability:
            return None
        return float(expit(float(self.probability["intercept"]) + float(self.probability["slope"]) * level))


@dataclass(frozen=True, kw_only=True)
class PredictedTumour:
    """A tumour mask that networks predicted, and how sure of it they are."""

    model: str
    ml: float
    """Volume on the model's grid."""
    mean_probability: float
    """Mean of the stated probability inside; NaN for an empty mask."""
    tested: Mapping[str, Any]
    """Dice of such masks with the experts', of the networks' calibration; {} where it is not known."""

    def describe(self) -> str:
        """For warnings: "the tumour mask is predicted by sct1 v3: 34.2 ml, mean probability inside 0.93, ..."."""
        if not self.ml:
            return f"{self.model} finds no tumour, and no mask is given"
        sure = "Dice on other patients unknown"
        if self.tested:
            sure = (
                f"such masks had a mean Dice of {self.tested['dice']:.2f} with the given ones of "
                f"{self.tested['patients']} {self.tested['of']} patients, and of {self.tested['lowest_tenth']:.2f} or "
                "less in one of ten"
            )
        return (
            f"the tumour mask is predicted by {self.model}: {self.ml:.1f} ml, mean probability inside "
            f"{self.mean_probability:.2f}; {sure}"
        )


def calibration_for(networks: Networks, looks: int, file: Path | None = None) -> NetworkCalibration:
    """Calibration from a network's package or, for an ensemble, from a file of `python -m lab calibrate`.

    Raises ValueError for a file of another kind or of other networks.
    """
    own = networks.calibrations[0] if networks.calibrations else {}
    models = [str(entry["model"]) for entry in networks.about]
    if file is not None or (own and len(models) == 1):
        record = own if file is None else _read(file)
        _check(record, networks, f"the calibration of {models[0]}" if file is None else str(file))
        return NetworkCalibration.of(record, looks)
    text = "no intervals, no probability of enhancement"
    command = f"python -m lab calibrate --model {' '.join(models)}"
    if len(models) == 1:
        text = f"the model was not calibrated: {text}, no out-of-distribution detection ({command})"
        return NetworkCalibration(warnings=(text,))
    reference, unread = _reference(own)
    text = f"these {len(models)} networks were not calibrated together: {text} ({command} --out FILE)"
    return NetworkCalibration(reference=reference, warnings=(text, *unread))


def _reference(record: Mapping[str, Any]) -> tuple[OodReference | None, list[str]]:
    """OOD reference of the training patients; None with a warning where it is of another version."""
    if not record.get("likeness"):
        return None, []
    try:
        return OodReference.read(record["likeness"]), []
    except ValueError as error:
        return None, [f"no out-of-distribution detection: {error}"]


def _read(file: Path) -> Mapping[str, Any]:
    """Contents of a file of `python -m lab calibrate`. Raises ValueError for another file."""
    try:
        return read_sealed(file)
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise ValueError(
            f"{file}: is no calibration, or was changed since it was made; make one with python -m lab calibrate"
        ) from None


def _check(record: Mapping[str, Any], networks: Networks, name: str) -> None:
    """Raises ValueError where a record belongs to other networks."""
    if not isinstance(record, Mapping) or not set(record) >= NEEDED:
        raise ValueError(f"{name}: is no calibration; make one with python -m lab calibrate")
    if sorted(record["weights_sha256"]) != sorted(str(entry["weights_sha256"]) for entry in networks.about):
        raise ValueError(f"{name}: was made for other networks; make it again with python -m lab calibrate")
