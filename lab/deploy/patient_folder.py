"""One patient's folder: volumes, a picture and a report, written completely or not at all."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.data.case import REFERENCE
from lab.data.contract import hash_scans
from lab.data.layouts.subject import Subject
from lab.data.native import image_on_scan, write_like
from lab.evaluation.calibration_text import describe_coverage, describe_doubt
from lab.evaluation.conformal import NOMINAL
from lab.evaluation.enhancement import millilitres
from lab.inference.load import Networks
from lab.inference.patient import Hashes, Synthesis, synthesize_patient
from lab.inference.settings import (
    ENHANCEMENT,
    INTERVAL,
    PROBABILITY,
    SYNTHESIS,
    TUMOUR_MASK,
    UNCERTAINTY,
    WHAT,
    How,
)
from lab.io.case_file import file_sha256, write_atomically
from lab.io.output_folder import check_output, output_folder
from lab.io.sealed_json import fingerprint
from lab.synthesis.device import Arithmetic, peak_memory_mb, reset_peak_memory
from lab.synthesis.networks import clinical_inputs

if TYPE_CHECKING:
    from lab.deploy.classify import LoadedClassifier

PICTURE, REPORT, DICOM = "synthesis.png", "report.json", "dicom"
NOT_SHOWN = ", not shown to classify better than chance"
MEASURED = ("tumour_ml", "brain_ml", "brain_outside_ml")
SOFTWARE = ("gadfree", "torch", "numpy", "scipy", "nibabel", "pydicom", "mlflow", "monai")


def write_patient(
    subject: Subject,
    networks: Networks,
    place: Path,
    how: How,
    arithmetic: Arithmetic,
    *,
    classifier: LoadedClassifier | None = None,
    hashes: Hashes | None = None,
) -> dict[str, Any]:
    """Write one patient's folder; returns its report.

    `classifier` is that of `how`, `hashes` those of `hash_scans` where already computed. Raises ValueError where the
    scans do not fit the model.
    """
    started = time.monotonic()
    reset_peak_memory(arithmetic.device)
    hashes = hashes or hash_scans(subject, networks.contract)
    made = synthesize_patient(subject, networks, how, arithmetic, hashes)
    case, volumes = made.patient.case, made.volumes()
    predicted = None if classifier is None else classifier.report(subject, how.brain_mask, made.patient)
    warnings = list(made.warnings)
    if predicted is not None:
        warnings += [text for text in predicted.get("warnings", []) if text not in warnings]
        caution = predicted.get("caution")
        warnings += [f"the classifier's probability is no verdict: {caution}"] if caution else []
    report = {
        "what": WHAT,
        "synthetic": True,
        "phantom": networks.phantom,
        "case_id": subject.case_id,
        "warnings": warnings,
        "enhancement": _enhancement(made, int(np.count_nonzero(volumes[ENHANCEMENT][0]))),
        "tumour": _tumour(made),
        "classifier": predicted,
        "uncertainty": _uncertainty(made, how, networks),
        "likeness": None if made.patient.ood is None else made.patient.ood.as_dict(),
        "t1_span": round(2 * case.scale, 6),
        "measured": {name: case.measured[name] for name in MEASURED},
        "models": list(networks.about),
        "contract": networks.contract.as_dict(),
        "inputs": hashes,
        **({"clinical": known} if (known := _covariates(subject, networks)) else {}),
        "key": _key(hashes, subject, networks, how),
        "how": asdict(how),
        "arithmetic": arithmetic.name,
        "ways": [{"kind": way.kind, "tile": way.edge, "reason": way.reason} for way in made.ways],
        "largest_sd_of_tiles": made.seam,
        "files": [*volumes, PICTURE, *([DICOM] if how.export == "dicom" else [])],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    scan = subject.images[REFERENCE]
    source = f"research only; {'PHANTOM-trained: no meaning, ' * networks.phantom}{networks.name}"
    with output_folder(place, output="synthesis", last=REPORT, alone=True) as folder:
        with ThreadPoolExecutor() as pool:  # files are compressed while the picture is made
            writing = [
                pool.submit(write_like, folder / name, volume, scan, purpose="SYNTHETIC", note=f"{about}, {source}")
                for name, (volume, about) in volumes.items()
            ]
            _picture(folder / PICTURE, made, networks, report)
            if how.export == "dicom":
                report["dicom"] = _export(folder / DICOM, made, networks, str(report["key"]))
            for write in writing:
                write.result()
        total = time.monotonic() - started
        seconds = {**made.seconds, "rest": total - sum(made.seconds.values()), "total": total}
        report["seconds"] = {name: round(value, 2) for name, value in seconds.items()}
        report["peak_memory_mb"] = round(peak_memory_mb(arithmetic.device))
        write_atomically(folder / REPORT, (json.dumps(report, indent=2) + "\n").encode())
    return report


def check_place(place: Path, how: How) -> None:
    """Raises ValueError or an OSError, before the synthesis, where a patient's result cannot be written."""
    names = (SYNTHESIS, UNCERTAINTY, ENHANCEMENT, INTERVAL, PROBABILITY, TUMOUR_MASK, PICTURE, REPORT)
    check_output(place, *names, *([DICOM] if how.export == "dicom" else []), alone=True)


def read_finished(
    subject: Subject, networks: Networks, folder: Path, how: How, hashes: Hashes
) -> dict[str, Any] | None:
    """The report of an earlier call where nothing has changed since; otherwise None."""
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        same = report["key"] == _key(hashes, subject, networks, how)
        return report if same and all((folder / name).exists() for name in report["files"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def format_report(report: Mapping[str, Any], known: Collection[str] = ()) -> str:
    """A line for the patient, and one for each warning that is not `known` already."""
    enhancement = report["enhancement"]
    text = f"{report['case_id']}: {enhancement['ml']:.2f} ml predicted as enhancing ({enhancement['region']})"
    chance = enhancement.get("probability")
    if chance is not None:
        text += f", probability that the tumour enhances {chance:.2f}"
        text += NOT_SHOWN if enhancement.get("probability_doubt") else ""
    predicted = report.get("classifier") or {}
    if "probability" in predicted:
        text += f" (by the classifier {predicted['probability']:.2f}, {predicted['low']:.2f} to {predicted['high']:.2f}"
        text += ", out of distribution" * predicted["far"] + f"; {predicted.get('performance', 'AUC unknown')})"
    elif "missing" in predicted:
        text += f" (by the classifier: none, {predicted['missing']})"
    found, span = report["uncertainty"], f"of a T1 that spans {report['t1_span']:.3g}"
    if "median_half_width_in_brain" in found:
        half = f"{found['median_half_width_in_brain']:.3g}"
        text += f", {NOMINAL:.0%} intervals of +-{half} in the brain (median), {span}, {found['held']}"
    elif "median_in_brain" in found:
        text += f", median SD over augmentations {found['median_in_brain']:.3g}, {span}"
    return text + "".join(f"\n  warning: {warning}" for warning in report["warnings"] if warning not in known)


def _key(inputs: Hashes, subject: Subject, networks: Networks, how: How) -> str:
    """Key that is equal for equal scan hashes, weights, settings and version."""
    images = [entry["sha256"] for entry in inputs.values()]
    weights = [entry["package_sha256"] for entry in networks.about]
    meaning = [subject.skull_stripped, subject.cavity_label]  # they decide what counts as brain and tumour
    settings: list[Any] = [asdict(how), networks.contract.as_dict(), *meaning, networks.patches]
    settings += [known] if (known := _covariates(subject, networks)) else []
    settings += [] if how.calibration is None else [file_sha256(Path(how.calibration))]
    return fingerprint([images, weights, settings, version("gadfree")], length=32)


def _covariates(subject: Subject, networks: Networks) -> dict[str, Any]:
    """The patient's values of the clinical covariates that the networks take."""
    return {name: getattr(subject, name) for name in clinical_inputs(networks.networks)}


def _enhancement(made: Synthesis, voxels: int) -> dict[str, Any]:
    """Millilitres in the file and on the model's grid, the rule, and whether a known tumour enhances or why this is
    unknown."""
    contract, known = made.patient.contract, made.calibration.probability
    found: dict[str, Any] = {
        "ml": round(voxels * made.patient.case.t1.voxel_ml, 4),
        "ml_on_model_grid": round(millilitres(made.enhancement, contract.spacing_mm), 4),
        "threshold": made.threshold,
        "threshold_of": "T1GD - T1" if made.place is None else "probability",
        "region": made.region,
    }
    if made.probability is not None:
        about = {name: known[name] for name in ("patients", "events", "by", "test") if name in known}
        found |= {"probability": round(made.probability, 4), "probability_from": about}
        found |= {"probability_doubt": describe_doubt(known)}
    elif "missing" in known:
        found |= {"probability": None, "probability_missing": known["missing"]}
    return found | {"enhances": made.enhances, "enhances_missing": made.no_verdict}


def _tumour(made: Synthesis) -> dict[str, Any]:
    """Whose the tumour mask is (`by`: "mask", a model's name, or None) and, of a predicted one, how sure it is."""
    found = made.patient.tumour_by
    if found is None:
        return {"by": None if made.patient.subject.mask is None else "mask"}
    sure = None if not found.ml else round(found.mean_probability, 4)
    return {"by": found.model, "ml": round(found.ml, 4), "mean_probability": sure, "tested": dict(found.tested)}


def _uncertainty(made: Synthesis, how: How, networks: Networks) -> dict[str, Any]:
    """Number of predictions behind the uncertainty, and its size in the T1's intensities."""
    found: dict[str, Any] = {"looks": how.looks, "networks": len(networks.networks), "unit": "intensity of the T1"}
    scale, brain, tumour = made.patient.case.scale, made.patient.brain, made.patient.tumour
    coverage = made.calibration.coverage
    if made.half_width is not None:
        half = float(np.median(made.half_width[brain])) * scale
        found |= {"interval": NOMINAL, "median_half_width_in_brain": half, "coverage_on_test": list(coverage)}
        found |= {"held": describe_coverage(coverage, tumour_known=bool(tumour.any()))}
    if made.spread is not None:
        inside = made.spread[brain]
        found |= {"median_in_brain": float(np.median(inside)) * scale, "largest": float(inside.max()) * scale}
        found |= {"median_in_tumour": float(np.median(made.spread[tumour])) * scale} if tumour.any() else {}
    return found


def _export(folder: Path, made: Synthesis, networks: Networks, key: str) -> dict[str, Any]:
    """Write the synthesis as a DICOM series in the T1's study; returns its UID, class and number of files."""
    from lab.deploy.export.dicom import Made, write_series

    about = Made(
        target=networks.contract.target,
        model=networks.name,
        software=f"gadfree {version('gadfree')}",
        weights=", ".join(entry["weights_sha256"] for entry in networks.about),
        key=key,
        phantom=networks.phantom,
    )
    return write_series(folder, image_on_scan(made.patient.case, made.image), made.patient.subject.images, about)


def _picture(path: Path, made: Synthesis, networks: Networks, report: Mapping[str, Any]) -> None:
    from lab.report.figures.new_patient import SynthesisImages, synthesis_picture
    from lab.report.figures.style import save

    patient, interval = made.patient, made.half_width is not None
    shown = SynthesisImages(
        case_id=patient.subject.case_id,
        inputs={name: patient.channel(name) for name in patient.contract.channels},
        synthesis=made.image,
        spread=made.half_width if interval else made.spread,
        spread_name=f"half of {NOMINAL:.0%} interval" if interval else "SD over augmentations",
        spread_note=f"{NOMINAL:.0%} intervals: {report['uncertainty']['held']}" if interval else "",
        enhancement=made.enhancement,
        brain=patient.brain,
        tumour=patient.tumour,
        tumour_name="tumour mask" if patient.tumour_by is None else "predicted tumour",
        target=patient.contract.target,
    )
    summary = f"{report['enhancement']['ml']:.2f} ml predicted as enhancing {made.region}"
    if made.probability is not None:
        summary += f"; probability that the tumour enhances {made.probability:.2f}"
        summary += NOT_SHOWN if describe_doubt(made.calibration.probability) else ""
    unlike = patient.ood is not None and patient.ood.level in ("unlike", "refused")
    warning = "OUT OF DISTRIBUTION: unlike the training scans, see report.json" if unlike else ""
    figure = synthesis_picture(shown, model=networks.name, summary=summary, phantom=networks.phantom, warning=warning)
    save(figure, path)
