"""Networks of studies are measured on their own patients, and what was found is left with the model and its run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from lab.data.cohort import PARTS, Cohort, is_cohort, open_cohort
from lab.evaluation.conformal import NOMINAL
from lab.evaluation.measured_trust import REGIONS, doubt, held
from lab.inference.calibrate import MOST, Calibrated, calibrate
from lab.inference.load import open_networks
from lab.inference.tta import DEFAULT_LOOKS
from lab.io.case_file import write_atomically
from lab.io.output_folder import output_folder
from lab.io.sealed_json import seal
from lab.report.figures.interval_coverage import reliability_figure
from lab.report.figures.style import save
from lab.report.tables.patient_table import plural
from lab.synthesis.device import Arithmetic
from lab.tracking import runs
from lab.tracking.models.network import attach_calibration, attach_code
from lab.tracking.models.verify import seal_versions
from lab.tracking.store import connect, store_trouble

FOLDER = "calibration"
COVERAGE, STRANGERS, PICTURE = f"{FOLDER}/coverage.csv", f"{FOLDER}/strangers.csv", f"{FOLDER}/reliability.png"
SUMMARY = f"{FOLDER}/coverage_summary.csv"
DONE = "calibrated"
"""Tag of a run that has been measured: with how many looks."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured, and of what."""

    calibrated: Calibrated
    phantom: bool
    looks: int
    """The most that intervals were made for."""


def calibrate_models(
    uris: Sequence[str], arithmetic: Arithmetic, *, cohort: Path | None = None, looks: int = MOST
) -> Measured:
    """Measure a network, or those of an ensemble together, on the patients of their runs' splits.

    A patient whom one of them learned from is no validation or test patient. A single logged network takes what was
    found with it, and so does its run. Raises ValueError where the cohort is not on this machine any more, is another
    one, or no validation patient is left.
    """
    networks = open_networks(uris, arithmetic)
    sources = [
        _run_of(str(entry["run_id"]) if "run_id" in entry else "", str(entry["model"])) for entry in networks.about
    ]
    own = cohort_of(sources[0], cohort)
    for entry in networks.about:
        if entry["cohort_digest"] != own.digest:
            raise ValueError(
                f"{entry['model']} learned from a cohort with digest {entry['cohort_digest']}, and {own.path} has "
                f"{own.digest}; give the cohort that it learned from with --cohort"
            )
    parts = common_parts([runs.read_table(run.info.run_id, "split.csv") for run in sources])
    found = calibrate(networks, own, parts, arithmetic, looks=looks)
    measured = Measured(calibrated=found, phantom=networks.phantom, looks=looks)
    if len(sources) == 1:
        keep(sources[0], measured)
    return measured


def calibrate_study_run(
    run: Run,
    cohort: Cohort,
    parts: Mapping[str, Sequence[str]],
    arithmetic: Arithmetic,
    *,
    looks: int = MOST,
    beside: Calibrated | None = None,
) -> Calibrated | None:
    """Measure the network of a run that has just been tested; None where that was done already. See `calibrate`."""
    if run.data.tags.get(DONE) == str(looks):
        return None
    networks = open_networks([run.data.tags["model_uri"]], arithmetic)
    found = calibrate(networks, cohort, parts, arithmetic, looks=looks, beside=beside)
    keep(run, Measured(calibrated=found, phantom=networks.phantom, looks=looks))
    return found


def keep(run: Run, measured: Measured) -> None:
    """Leave a network's calibration in its package, and tables, picture and figures on its run."""
    run_id, found = run.info.run_id, measured.calibrated
    attach_calibration(run.data.tags["model_uri"], found.record)
    attach_code(run.data.tags["model_uri"])
    seal_versions(run.data.tags["model_uri"])
    runs.log_table(run_id, found.coverage, COVERAGE)
    runs.log_table(run_id, pd.DataFrame(found.record["coverage"]), SUMMARY)
    if not found.strangers.empty:
        runs.log_table(run_id, found.strangers, STRANGERS)
    if found.record["coverage"]:
        runs.log_file(run_id, PICTURE, lambda path: draw(measured, path))
    figures = {
        f"coverage/{row['region']}": float(row["value"])
        for row in found.record["coverage"]
        if row["looks"] == DEFAULT_LOOKS and row["level"] == NOMINAL and row["value"] is not None
    }
    if figures and not runs.logged_steps(run_id, next(iter(figures))):
        runs.log_metrics(run_id, figures)
    connect().set_tag(run_id, DONE, str(measured.looks))


def draw(measured: Measured, file: Path) -> None:
    """The reliability plot, where there are test patients."""
    summary = pd.DataFrame(measured.calibrated.record["coverage"])
    save(reliability_figure(summary, looks=DEFAULT_LOOKS, phantom=measured.phantom), file)


def write(measured: Measured, file: Path) -> None:
    """The calibration as a file for `python -m lab synthesize --calibration`, and the picture beside it."""
    with output_folder(file.parent, output=f"calibration {file.name}", last=file.name, say=None) as folder:
        write_atomically(folder / file.name, (json.dumps(seal(measured.calibrated.record), indent=2) + "\n").encode())
        if measured.calibrated.record["coverage"]:
            draw(measured, folder / file.with_suffix(".png").name)


def common_parts(splits: Sequence[pd.DataFrame]) -> dict[str, list[str]]:
    """Case ids of each part, for networks with these splits: who is in one of the trainings is in no other part.

    Raises ValueError where no validation case is left.
    """
    where = [dict(zip(split["case_id"].astype(str), split["split"])) for split in splits]
    cases = [case for case in where[0] if all(case in other for other in where)]
    found: dict[str, list[str]] = {part: [] for part in PARTS}
    for case in cases:
        own = {one[case] for one in where}
        part = "train" if "train" in own else "val" if "val" in own else "test"
        found[part].append(case)
    if not found["val"]:
        raise ValueError(
            f"{len(splits)} networks have no validation patient in common whom none of them was trained on; "
            "networks of one split with other seeds (--repeats) do"
        )
    return found


def cohort_of(run: Run, path: Path | None = None) -> Cohort:
    """The cohort that a run was trained on. Raises ValueError where it is not there any more."""
    known = run.inputs.dataset_inputs if run.inputs is not None else []
    places = [Path(entry.dataset.source) for entry in known] if path is None else [path]
    for place in places:
        if is_cohort(place):
            return open_cohort(place)
    where = str(places[0]) if places else "nowhere"
    raise ValueError(
        f"the cohort that run {run.info.run_id} learned from is not at {where}; say with --cohort where it is now"
    )


def summary_lines(measured: Measured) -> list[str]:
    """What a user is told."""
    record = measured.calibrated.record
    counts = record["patients"]
    tried = plural(counts["test"], "test patient")
    lines = [f"Fitted on {plural(counts['val'], 'validation patient')}, tried on {tried}"]
    for row in record["coverage"]:
        if row["looks"] == DEFAULT_LOOKS and row["level"] == NOMINAL:
            low, high = row["low"], row["high"]
            span = "" if low is None else f"{low:.0%} to {high:.0%}, "
            share = f"{row['value']:.0%} ({span}n = {row['n']})"
            lines.append(f"  {NOMINAL:.0%} intervals hold {share} of the voxels: {REGIONS[row['region']]}")
    if not record["coverage"]:
        lines.append(f"  {NOMINAL:.0%} intervals: {held(())}")
    chance = record["probability"]
    if "missing" in chance:
        lines.append(f"No probability that a tumour enhances: {chance['missing']}")
    elif "auc" in chance.get("test", {}):
        test = chance["test"]
        lines.append(
            f"Probability that a tumour enhances: AUC {test['auc']:.2f} ({test['auc_low']:.2f} to "
            f"{test['auc_high']:.2f}), Brier score {test['brier']:.2f} (of the prevalence alone: "
            f"{test['brier_prevalence']:.2f})"
        )
    if reason := doubt(chance):
        lines.append(f"No verdict whether a tumour enhances: {reason}")
    return lines


def _run_of(run_id: str, uri: str) -> Run:
    try:
        return connect().get_run(run_id)
    except MlflowException as error:
        if store_trouble(error):
            raise
        raise ValueError(f"{uri}: the run that trained it is not in this store, so nor is its split") from None
