"""One patient's folder: three volumes, a picture and a report, written whole or not at all."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from lab.config import fingerprint
from lab.data.case import REFERENCE
from lab.data.cohort import BRAIN, TUMOUR
from lab.data.layouts.find import Subject
from lab.data.native import image_on_scan, mask_on_scan, spread_on_scan, write_like
from lab.deploy.radiomics_prediction import second_opinion
from lab.evaluation.conformal import NOMINAL
from lab.evaluation.enhancement import millilitres
from lab.evaluation.measured_trust import doubt, held
from lab.inference.case import How, Synthesis, hashes, synthesise_patient
from lab.inference.load import Networks
from lab.io.case_file import file_sha256, write_atomically
from lab.io.output_folder import check_output, output_folder
from lab.synthesis.device import Arithmetic, peak_memory_mb, reset_peak_memory

SYNTHESIS, UNCERTAINTY, ENHANCEMENT = "synthetic_t1gd.nii.gz", "uncertainty.nii.gz", "enhancement.nii.gz"
INTERVAL = f"interval_{100 * NOMINAL:.0f}.nii.gz"
PICTURE, REPORT, DICOM = "synthesis.png", "report.json", "dicom"
WHAT = "SYNTHETIC image, drawn by a neural network from scans without contrast agent. Research only, not for diagnosis."
NOT_SHOWN = ", not shown to tell patients apart"
MEASURED = ("tumour_ml", "brain_ml", "brain_outside_ml")
SOFTWARE = ("gadfree", "torch", "numpy", "scipy", "nibabel", "pydicom", "mlflow", "monai")


def write_patient(
    subject: Subject,
    networks: Networks,
    place: Path,
    how: How,
    arithmetic: Arithmetic,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """One patient's folder; returns its report. Raises ValueError where the scans do not fit the model."""
    started = time.monotonic()
    reset_peak_memory(arithmetic.device)
    made = synthesise_patient(subject, networks, how, arithmetic)
    volumes, voxels = _volumes(made, networks)
    inputs = hashes(subject, made.contract)
    judged = None if how.classifier is None else second_opinion(how.classifier, subject, how.brain_mask)
    report = {
        "what": WHAT,
        "synthetic": True,
        "phantom": networks.phantom,
        "case_id": subject.case_id,
        "warnings": [*made.warnings, *_doubted(judged)],
        "enhancement": _enhancement(made, voxels),
        "classifier": judged,
        "uncertainty": _uncertainty(made, how, networks),
        "likeness": None if made.likeness is None else made.likeness.as_dict(),
        "t1_span": round(2 * made.case.scale, 6),
        "measured": {name: made.case.measured[name] for name in MEASURED},
        "models": list(networks.about),
        "contract": made.contract.as_dict(),
        "inputs": inputs,
        "key": _key(inputs, subject, networks, how),
        "how": asdict(how),
        "arithmetic": arithmetic.name,
        "ways": [{"kind": way.kind, "tile": way.edge, "reason": way.reason} for way in made.ways],
        "largest_sd_of_tiles": made.seam,
        "files": [*volumes, PICTURE, *([DICOM] if how.export == "dicom" else [])],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with output_folder(place, output="synthesis", last=REPORT, alone=True) as folder:
        with ThreadPoolExecutor() as pool:  # files are compressed while the picture is drawn
            writing = [pool.submit(write, folder / name) for name, write in volumes.items()]
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
    say(told(report))
    return report


def check_place(place: Path, how: How) -> None:
    """Raises ValueError or an OSError where a patient's result cannot be written: before the patient is synthesised."""
    names = (SYNTHESIS, UNCERTAINTY, ENHANCEMENT, INTERVAL, PICTURE, REPORT)
    check_output(place, *names, *([DICOM] if how.export == "dicom" else []), alone=True)


def told(report: Mapping[str, Any], known: Collection[str] = ()) -> str:
    """A patient in a line, and one for each warning that is not `known` already."""
    enhancement = report["enhancement"]
    text = f"{report['case_id']}: {enhancement['ml']:.2f} ml drawn as enhancing ({enhancement['region']})"
    chance = enhancement.get("probability")
    if chance is not None:
        text += f", probability that the tumour enhances {chance:.2f}"
        text += NOT_SHOWN if enhancement.get("probability_doubt") else ""
    judged = report.get("classifier") or {}
    if "probability" in judged:
        text += f" (by the classifier {judged['probability']:.2f}, {judged['low']:.2f} to {judged['high']:.2f}"
        text += ", far from what it has seen" * judged["far"] + NOT_SHOWN * bool(judged["caution"]) + ")"
    elif "missing" in judged:
        text += f" (by the classifier: none, {judged['missing']})"
    found, span = report["uncertainty"], f"of a T1 that spans {report['t1_span']:.3g}"
    if "median_half_width_in_brain" in found:
        text += (
            f", {NOMINAL:.0%} intervals of +-{found['median_half_width_in_brain']:.3g} in the brain (median), {span}"
        )
        text += f", {found['held']}"
    elif "median_in_brain" in found:
        text += f", median SD over looks {found['median_in_brain']:.3g}, {span}"
    return text + "".join(f"\n  warning: {warning}" for warning in report["warnings"] if warning not in known)


def _doubted(judged: Mapping[str, Any] | None) -> list[str]:
    """What is to be warned of where a classifier that stands beside the network was not shown to be worth anything."""
    caution = (judged or {}).get("caution")
    return [f"the classifier's probability is no verdict: {caution}"] if caution else []


def finished(subject: Subject, networks: Networks, folder: Path, how: How) -> dict[str, Any] | None:
    """The report of an earlier call where nothing has changed since."""
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        same = report["key"] == _key(hashes(subject, networks.contract), subject, networks, how)
        return report if same and all((folder / name).exists() for name in report["files"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _key(inputs: Mapping[str, Mapping[str, str]], subject: Subject, networks: Networks, how: How) -> str:
    """Equal for equal images, the `hashes` of the subject, and for equal weights, settings and version."""
    images = [entry["sha256"] for entry in inputs.values()]
    weights = [entry["package_sha256"] for entry in networks.about]
    meaning = [subject.skull_stripped, subject.cavity_label]  # what of the scans is brain and tumour
    settings: list[Any] = [asdict(how), networks.contract.as_dict(), *meaning, networks.patches]
    settings += [] if how.calibration is None else [file_sha256(Path(how.calibration))]
    return fingerprint([images, weights, settings, version("gadfree")], length=32)


def _volumes(made: Synthesis, networks: Networks) -> tuple[dict[str, Callable[[Path], None]], int]:
    """Name of each file and what writes it to a path; and the number of voxels that enhance on the T1's grid."""
    marked = mask_on_scan(made.case, made.enhancement)
    volumes = {SYNTHESIS: (image_on_scan(made.case, made.image), f"SYNTHETIC {made.contract.target}")}
    if made.spread is not None:
        volumes[UNCERTAINTY] = (spread_on_scan(made.case, made.spread), "SD of SYNTHETIC")
    if made.half_width is not None:
        volumes[INTERVAL] = (spread_on_scan(made.case, made.half_width), "half of interval of SYNTHETIC")
    volumes[ENHANCEMENT] = (marked, "SYNTHETIC mask")
    source = f"{'PHANTOM-trained: no meaning, ' * networks.phantom}{networks.name}"
    write = partial(write_like, scan=made.subject.images[REFERENCE], purpose="SYNTHETIC")
    writers: dict[str, Callable[[Path], None]] = {
        name: partial(write, data=volume, note=f"{about}, research only; {source}")
        for name, (volume, about) in volumes.items()
    }
    return writers, int(np.count_nonzero(marked))


def _export(folder: Path, made: Synthesis, networks: Networks, key: str) -> dict[str, Any]:
    """The synthesis as a DICOM series in the T1's study; its UID, class and number of files."""
    from lab.deploy.export.dicom import Made, write_series

    about = Made(
        target=made.contract.target,
        model=networks.name,
        software=f"gadfree {version('gadfree')}",
        weights=", ".join(entry["weights_sha256"] for entry in networks.about),
        key=key,
        phantom=networks.phantom,
    )
    return write_series(folder, image_on_scan(made.case, made.image), made.subject.images, about)


def _enhancement(made: Synthesis, voxels: int) -> dict[str, Any]:
    """Millilitres in the file and on the model's grid, by which rule, and whether a known tumour enhances, or why that
    is not said."""
    how = made.contract.preparation
    found: dict[str, Any] = {
        "ml": round(voxels * made.case.t1.voxel_ml, 4),
        "ml_on_model_grid": round(millilitres(made.enhancement, made.contract.spacing_mm), 4),
        "threshold": how["enhancement_threshold"],
        "region": made.region,
    }
    if made.probability is not None:
        kept = ("patients", "events", "by", "test")
        about = {name: made.trust.probability[name] for name in kept if name in made.trust.probability}
        found |= {"probability": round(made.probability, 4), "probability_from": about}
        found |= {"probability_doubt": doubt(made.trust.probability)}
    elif "missing" in made.trust.probability:
        found |= {"probability": None, "probability_missing": made.trust.probability["missing"]}
    return found | {"enhances": made.enhances, "enhances_missing": made.no_verdict}


def _uncertainty(made: Synthesis, how: How, networks: Networks) -> dict[str, Any]:
    """From how many looks it comes, and how large it is, in intensities of the T1."""
    found: dict[str, Any] = {"looks": how.looks, "networks": len(networks.networks), "unit": "intensity of the T1"}
    scale, flags = made.case.scale, made.case.masks
    if made.half_width is not None:
        half = float(np.median(made.half_width[(flags & BRAIN) > 0])) * scale
        found |= {
            "interval": NOMINAL,
            "median_half_width_in_brain": half,
            "coverage_on_test": list(made.trust.coverage),
        }
        found |= {"held": held(made.trust.coverage, tumour_known=bool((flags & TUMOUR).any()))}
    if made.spread is None:
        return found
    inside, tumour = (made.spread[(flags & part) > 0] for part in (BRAIN, TUMOUR))
    found |= {"median_in_brain": float(np.median(inside)) * scale, "largest": float(inside.max()) * scale}
    return found | ({"median_in_tumour": float(np.median(tumour)) * scale} if tumour.size else {})


def _picture(path: Path, made: Synthesis, networks: Networks, report: Mapping[str, Any]) -> None:
    from lab.report.figures.new_patient import Drawn, synthesis_picture
    from lab.report.figures.style import save

    patient = Drawn(
        case_id=made.subject.case_id,
        inputs={name: made.channel(name) for name in made.contract.channels},
        synthesis=made.image,
        spread=made.spread if made.half_width is None else made.half_width,
        spread_name="SD of looks" if made.half_width is None else f"half of {NOMINAL:.0%} interval",
        spread_note="" if made.half_width is None else f"{NOMINAL:.0%} intervals: {report['uncertainty']['held']}",
        enhancement=made.enhancement,
        brain=(made.case.masks & BRAIN) > 0,
        tumour=(made.case.masks & TUMOUR) > 0,
        target=made.contract.target,
    )
    said = f"{report['enhancement']['ml']:.2f} ml drawn as enhancing {made.region}"
    if made.probability is not None:
        said += f"; probability that the tumour enhances {made.probability:.2f}"
        said += NOT_SHOWN if doubt(made.trust.probability) else ""
    unlike = made.likeness is not None and made.likeness.level in ("unlike", "refused")
    warning = "UNLIKE the scans that the model learned from, see report.json" if unlike else ""
    save(synthesis_picture(patient, model=networks.name, said=said, phantom=networks.phantom, warning=warning), path)
