"""Calibration of the networks of studies on their own patients; the result goes into the model and onto its run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from lab.data.cohort import PARTS, Cohort, is_cohort, open_cohort
from lab.evaluation.calibration_text import REGIONS, describe_auc, describe_coverage, describe_doubt, format_share
from lab.evaluation.conformal import NOMINAL
from lab.evaluation.fault_injection import Ood
from lab.inference.calibrate import MOST, Calibrated, calibrate_networks
from lab.inference.load import from_packages, open_networks
from lab.inference.tta import DEFAULT_LOOKS
from lab.io.case_file import write_atomically
from lab.io.files import plural
from lab.io.output_folder import output_folder
from lab.io.sealed_json import seal
from lab.report.figures.interval_coverage import reliability_figure
from lab.report.figures.style import Figure, save
from lab.synthesis.device import Arithmetic
from lab.tracking.artifacts import COVERAGE, COVERAGE_SUMMARY, OOD_PATIENTS, RELIABILITY, SPLIT, Tag
from lab.tracking.models.network import Package, attach_calibration, attach_code
from lab.tracking.models.verify import seal_versions
from lab.tracking.run import Run


def calibrate_models(
    uris: Sequence[str], arithmetic: Arithmetic, *, cohort: Path | None = None, looks: int = MOST
) -> Calibrated:
    """Calibrate a network, or the networks of an ensemble together, on the patients of their runs' splits.

    A patient that one of them was trained on counts as neither validation nor test patient. A single logged network and
    its run keep the result. Raises ValueError where the cohort is missing on this machine or has changed, and where no
    validation patient is left.
    """
    networks = open_networks(uris, arithmetic)
    runs = [_run_of(str(entry.get("run_id", "")), str(entry["model"])) for entry in networks.about]
    own = cohort_of(runs[0], cohort)
    for entry in networks.about:
        if entry["cohort_digest"] != own.digest:
            raise ValueError(
                f"{entry['model']} learned from a cohort with digest {entry['cohort_digest']}, and {own.path} has "
                f"{own.digest}; give the cohort that it learned from with --cohort"
            )
    parts = common_parts([run.read_table(SPLIT) for run in runs])
    found = calibrate_networks(networks, own, parts, arithmetic, looks=looks)
    if len(runs) == 1:
        log_calibration(runs[0], found)
    return found


def calibrate_study_run(
    run: Run,
    package: Package,
    cohort: Cohort,
    parts: Mapping[str, Sequence[str]],
    arithmetic: Arithmetic,
    *,
    looks: int = MOST,
    ood: Callable[[], Ood] | None = None,
) -> None:
    """Calibrate a tested network of a run, its `package`, unless that was done already.

    Raises as `calibrate`.
    """
    if run.tags.get(Tag.CALIBRATED) != str(looks):
        networks = from_packages([(package, {"model": run.tags[Tag.MODEL], "run_id": run.id})], arithmetic)
        log_calibration(run, calibrate_networks(networks, cohort, parts, arithmetic, looks=looks, ood=ood))


def log_calibration(run: Run, found: Calibrated) -> None:
    """Write a network's calibration to its package, and tables, picture and figures to its run."""
    model, coverage = run.tags[Tag.MODEL], found.record["coverage"]
    attach_calibration(model, found.record)
    attach_code(model)
    seal_versions(model)
    run.log_table(found.coverage, COVERAGE)
    run.log_table(pd.DataFrame(coverage), COVERAGE_SUMMARY)
    if not found.ood_rates.empty:
        run.log_table(found.ood_rates, OOD_PATIENTS)
    if coverage:
        run.log_figure(coverage_plot(found), RELIABILITY)
    figures = {
        f"coverage/{row['region']}": float(row["value"])
        for row in coverage
        if row["looks"] == DEFAULT_LOOKS and row["level"] == NOMINAL and row["value"] is not None
    }
    if figures:
        run.log_metrics_once(figures, known_by=next(iter(figures)))
    run.set_tags({Tag.CALIBRATED: found.looks})


def coverage_plot(found: Calibrated) -> Figure:
    """The reliability plot, where there are test patients."""
    return reliability_figure(pd.DataFrame(found.record["coverage"]), looks=DEFAULT_LOOKS, phantom=found.phantom)


def write_calibration(found: Calibrated, file: Path) -> None:
    """Write the calibration to a file for `python -m lab synthesize --calibration`, with the reliability plot beside
    it."""
    with output_folder(file.parent, output=f"calibration {file.name}", last=file.name, say=None) as folder:
        write_atomically(folder / file.name, (json.dumps(seal(found.record), indent=2) + "\n").encode())
        if found.record["coverage"]:
            save(coverage_plot(found), folder / file.with_suffix(".png").name)


def common_parts(splits: Sequence[pd.DataFrame]) -> dict[str, list[str]]:
    """Case ids of each part for networks with these splits; a training case of any network is in no other part.

    Raises ValueError where no validation case is left.
    """
    where = [dict(zip(split["case_id"].astype(str), split["split"])) for split in splits]
    found: dict[str, list[str]] = {part: [] for part in PARTS}
    for case in where[0]:
        if all(case in other for other in where):
            own = {one[case] for one in where}
            found["train" if "train" in own else "val" if "val" in own else "test"].append(case)
    if not found["val"]:
        raise ValueError(
            f"{len(splits)} networks have no validation patient in common whom none of them was trained on; "
            "networks of one split with other seeds (--repeats) do"
        )
    return found


def cohort_of(run: Run, path: Path | None = None) -> Cohort:
    """Cohort that a run was trained on. Raises ValueError where it is gone."""
    places = run.cohorts if path is None else [path]
    for place in places:
        if is_cohort(place):
            return open_cohort(place)
    where = str(places[0]) if places else "nowhere"
    raise ValueError(f"the cohort that run {run.id} learned from is not at {where}; say with --cohort where it is now")


def summary_lines(found: Calibrated) -> list[str]:
    """Summary of the calibration for the screen."""
    record = found.record
    counts, probability = record["patients"], record["probability"]
    tested = plural(counts["test"], "test patient")
    lines = [f"Fitted on {plural(counts['val'], 'validation patient')}, tried on {tested}"]
    for row in record["coverage"]:
        if row["looks"] == DEFAULT_LOOKS and row["level"] == NOMINAL:
            lines.append(f"  {NOMINAL:.0%} intervals hold {format_share(row)} of the voxels: {REGIONS[row['region']]}")
    if not record["coverage"]:
        lines.append(f"  {NOMINAL:.0%} intervals: {describe_coverage(())}")
    missing = f"none, {probability['missing']}" if "missing" in probability else ""
    lines.append(f"Probability that a tumour enhances: {missing or describe_auc(probability)}")
    if doubt := describe_doubt(probability):
        lines.append(f"No verdict whether a tumour enhances: {doubt}")
    return lines


def _run_of(run_id: str, uri: str) -> Run:
    found = Run.find(run_id)
    if found is None:
        raise ValueError(f"{uri}: the run that trained it is not in this store, so nor is its split")
    return found
