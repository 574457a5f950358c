"""How far a patient's synthesis can be trusted, by what was measured of its networks (lab.inference.calibrate)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lab.evaluation.conformal import NOMINAL, Intervals
from lab.evaluation.measured_trust import coverage_at
from lab.inference.load import Networks
from lab.io.sealed_json import read_sealed
from lab.qc.ood import Likeness
from lab.report.tables.patient_table import plural
from lab.stats.platt import Line


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What is known of networks, for one number of looks."""

    intervals: Intervals | None = None
    """None where none were made for so many looks."""
    probability: Mapping[str, Any] = field(default_factory=dict)
    """Platt's line and how good it is; `missing` says why there is none."""
    likeness: Likeness | None = None
    coverage: tuple[Mapping[str, Any], ...] = ()
    """On test patients at `NOMINAL`: region, value, low, high, n."""
    warnings: tuple[str, ...] = ()

    def probability_of(self, level: float) -> float | None:
        """That a tumour enhances of which this level is drawn; None where that is not known."""
        if "slope" not in self.probability:
            return None
        line = Line(slope=float(self.probability["slope"]), intercept=float(self.probability["intercept"]))
        return float(line.probabilities(np.array([level]))[0])


def trust(networks: Networks, looks: int, file: Path | None = None) -> Trust:
    """What was measured of the networks, by their packages or, for an ensemble, by a file of `python -m lab calibrate`.

    Raises ValueError where the file is none of ours or of other networks.
    """
    record = read_record(file, networks) if file is not None else own_record(networks)
    uris = " ".join(str(entry["model"]) for entry in networks.about)
    command = f"python -m lab calibrate --model {uris}"
    if not record:
        what = "no intervals, no probability of enhancement"
        if len(networks.about) > 1:
            first = networks.calibrations[0] if networks.calibrations else {}
            said = f"these {len(networks.about)} networks were not calibrated together: {what} ({command} --out FILE)"
            return Trust(likeness=likeness_of(first), warnings=(said,))
        said = f"the model was not calibrated: {what}, and scans that are unlike its training patients' go unnoticed"
        return Trust(warnings=(f"{said} ({command})",))
    known = record["intervals"]
    intervals = Intervals.read(known[str(looks)]) if str(looks) in known else None
    warnings = []
    if intervals is None:
        warnings.append(f"no intervals: they were made for {', '.join(known)} looks, not for {looks}")
    elif not intervals.guaranteed:
        warnings.append(
            f"intervals rest on {plural(intervals.patients, 'validation patient')}, too few to promise that "
            f"{NOMINAL:.0%} of the voxels are inside"
        )
    return Trust(
        intervals=intervals,
        probability=record["probability"],
        likeness=likeness_of(record),
        coverage=tuple(coverage_at(record, looks)),
        warnings=tuple(warnings),
    )


def own_record(networks: Networks) -> Mapping[str, Any]:
    """What the package of a single network says, {} for an ensemble. Raises ValueError where it is of another one."""
    if len(networks.about) > 1 or not networks.calibrations or not networks.calibrations[0]:
        return {}
    (about,), (record,) = networks.about, networks.calibrations
    check(record, networks, f"the calibration of {about['model']}")
    return record


def read_record(file: Path, networks: Networks) -> Mapping[str, Any]:
    """A file of `python -m lab calibrate`. Raises ValueError where it is none, or of other networks."""
    try:
        record = read_sealed(file)
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise ValueError(
            f"{file}: is no calibration, or was changed since it was made; make one with python -m lab calibrate"
        ) from None
    check(record, networks, str(file))
    return record


def check(record: Mapping[str, Any], networks: Networks, name: str) -> None:
    """Raises ValueError where a record is not of these networks."""
    if not isinstance(record, Mapping) or not {"weights_sha256", "intervals", "probability", "likeness"} <= set(record):
        raise ValueError(f"{name}: is no calibration; make one with python -m lab calibrate")
    own = sorted(str(entry["weights_sha256"]) for entry in networks.about)
    if sorted(record["weights_sha256"]) != own:
        raise ValueError(f"{name}: was made for other networks; make it again with python -m lab calibrate")


def likeness_of(record: Mapping[str, Any]) -> Likeness | None:
    """What the training scans have in common, where that is known."""
    known = record.get("likeness")
    if not known:
        return None
    return Likeness.read(known)
