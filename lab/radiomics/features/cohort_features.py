"""Radiomic features of a prepared cohort as a table: parallel, resumable, with a reason for every exclusion."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lab.data.cohort import Cohort, read_index
from lab.data.prepare import Progress
from lab.data.prepare_worker import CaseRecord
from lab.io.pool import run_all
from lab.qc.scan_checks import find_enhanced
from lab.radiomics.features.case_features import MeasureJob
from lab.radiomics.features.image_features import PARAMETERS, load_extractor

WITH_CONTRAST = {"T1GD", "T1CE", "T1C", "T1POST"}
SAMPLED, LEAST_CASES = 20, 5  # cases that are searched for contrast agent, and that are needed for a judgement
KILLED = "its process was killed three times, probably for lack of memory; run again with fewer --processes"


@dataclass(frozen=True)
class CohortFeatures:
    """Features of a cohort, and its excluded cases."""

    table: pd.DataFrame  # (cases, features) float64, indexed by `case_id`; columns `<sequence>_<pyradiomics name>`
    left_out: dict[str, str]  # case id -> reason, including the cases that the preparation excluded


def measure_cohort(
    cohort: Cohort,
    sequences: tuple[str, ...],
    cache: Path,
    *,
    parameters: Path = PARAMETERS,
    perturbation: str = "none",
    processes: int | None = None,
    progress: Progress | None = None,
) -> CohortFeatures:
    """Features of all cases; results for the same voxels and parameters are read from the folder `cache`.

    `perturbation` is a key of `PERTURBATIONS`; `processes` defaults to one per core. Raises ValueError for a sequence
    that the cohort lacks or that shows contrast agent, for a wrong parameter file, and if no case is usable.
    """
    refuse_contrast(sequences, str(cohort.manifest.get("target", "")))
    sequences = tuple(dict.fromkeys(cohort.channels[cohort.channel(sequence)] for sequence in sequences))
    extractor = load_extractor(parameters)
    cache.mkdir(parents=True, exist_ok=True)
    waiting, records = {}, {}
    for case_id in cohort.index.index:
        alone = dataclasses.replace(cohort, index=cohort.index.loc[[case_id]])
        job = MeasureJob(cohort=alone, sequences=sequences, extractor=extractor, perturbation=perturbation, cache=cache)
        record = job.finished()
        if record is None:
            waiting[case_id] = job
        else:
            records[case_id] = record

    def tell(done: int, record: CaseRecord) -> None:
        if progress:
            line = f"left out, {record['reason']}" if record["reason"] else "measured"
            progress(done, len(cohort.index), f"{record['case_id']}: {line}")

    for done, record in enumerate(records.values(), start=1):
        tell(done, record)
    for case_id, measured in run_all(waiting, processes):
        records[case_id] = measured or {"case_id": case_id, "reason": KILLED, "features": {}}
        tell(len(records), records[case_id])
    return _collect(cohort, records)


def refuse_contrast(sequences: tuple[str, ...], target: str) -> None:
    """Raises ValueError if no sequence is given, or if one shows contrast agent or is the `target`."""
    if not sequences:
        raise ValueError("no sequence to take features from; name one or more with --data.inputs")
    for sequence in sequences:
        if sequence.upper() in WITH_CONTRAST | {target.upper()}:
            raise ValueError(f"{sequence} shows contrast agent; features are taken from what is seen without it")


def refuse_enhanced(cohort: Cohort, sequences: tuple[str, ...], say: Callable[[str], None] | None = None) -> None:
    """Raises ValueError if a sequence looks, in most of `SAMPLED` cases, as if taken after contrast agent was given.

    With `say` it reports this instead. Fewer than `LEAST_CASES` cases are not judged.
    """
    chosen = np.unique(np.linspace(0, len(cohort.index) - 1, SAMPLED).astype(int))
    if len(chosen) < LEAST_CASES:
        return
    channels = [cohort.channel(sequence) for sequence in sequences]
    counts: Counter[str] = Counter()
    for case_id in cohort.index.index[chosen]:
        try:
            image, mask = cohort.load(case_id)
        except (ValueError, OSError):
            continue  # a damaged case is left out by the measurement, with the reason
        counts.update(find_enhanced(image[channels], mask, sequences, cohort.spacing_mm))
    for sequence, count in counts.items():
        if 2 * count > len(chosen):
            text = (
                f"{sequence} looks as if taken after contrast agent was given: its vessels or the tumour are bright in "
                f"{count} of {len(chosen)} cases"
            )
            if say is None:
                what = "features are taken from what is seen without it"
                raise ValueError(f"{text}; {what} (after a look at the scans, --radiomics.contrast warn goes on)")
            say(text)


def _collect(cohort: Cohort, records: dict[str, CaseRecord]) -> CohortFeatures:
    everyone = read_index(cohort.path / "index.csv").set_index("case_id")
    left_out = everyone.loc[everyone["status"] != "used", "reason"].to_dict()
    reasons = {case_id: record["reason"] for case_id, record in records.items() if record["reason"]}
    used = [case_id for case_id in cohort.index.index if case_id not in reasons]
    if not used:
        first = next(iter(reasons.items()), ("", "the cohort is empty"))
        raise ValueError(f"{cohort.path}: no case gives features (the first, {first[0]}: {first[1]})")
    rows = [records[case_id]["features"] for case_id in used]
    table = pd.DataFrame(rows, index=pd.Index(used, name="case_id"), dtype=np.float64)
    return CohortFeatures(table, {**left_out, **reasons})
