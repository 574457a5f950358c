"""WORC experiments on our cases and splits: resumable, with progress lines, and with an error for every failure.

Two routes give the same kind of result. `features` trains each split in its own process on features extracted once;
finished splits are kept. `images` gives images and masks to WORC's whole fastr network; its result is kept as a whole.

WORC knows cases, not patients: its inner splits may separate two scans of one patient; the outer splits never do.
"""

import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lab.data.cohort import Cohort
from lab.io.case_file import read_case_record, write_atomically
from lab.radiomics.dataset import Dataset
from lab.radiomics.splits import Split
from lab.radiomics.worc import results
from lab.radiomics.worc.inputs import Inputs, WorcPlan, check_cases, our_name, stem, write_images, write_inputs
from lab.radiomics.worc.process import WorcFailed, Workplace
from lab.radiomics.worc.results import Record, WorcResult
from lab.radiomics.worc.settings import FULL, QUICK, WorcSettings

__all__ = ["FULL", "QUICK", "WorcFailed", "WorcResult", "WorcSettings", "run_worc"]

LIFE_SIGN_S = 30.0

Say = Callable[[str], None]


class _Stopped(Exception):  # another split has failed, or the user has interrupted
    pass


def run_worc(
    dataset: Dataset,
    splits: Sequence[Split],
    folder: Path,
    settings: WorcSettings = QUICK,
    *,
    cohort: Cohort | None = None,
    sequences: Sequence[str] = (),
    say: Say = lambda line: None,
) -> WorcResult:
    """Train and test WORC on every split; all its files are in `folder / settings.route`.

    The images route needs the prepared `cohort` and the `sequences` to extract features from. Raises ValueError if WORC
    cannot work with so few cases, and WorcFailed (an OSError) with WORC's own reason if it ends without its result.
    """
    check_cases(dataset, splits)
    base = Path(folder).absolute() / settings.route
    if settings.route == "images" and (cohort is None or not sequences):
        raise ValueError("WORC needs the prepared cohort and the names of its sequences to extract features itself")
    plan = WorcPlan(
        dataset=dataset, splits=tuple(splits), base=base, settings=settings, cohort=cohort, sequences=tuple(sequences)
    )
    inputs = write_inputs(dataset, base / "inputs")
    train = _train_splits if settings.route == "features" else _run_network
    records = train(plan, inputs, say)
    times = [(split.repeat, split.fold, record["seconds"], record["failed"]) for split, record in zip(splits, records)]
    return WorcResult(
        predictions=results.worc_predictions(dataset, splits, records),
        chosen=results.chosen_table(records),
        workflows=results.workflows_table(splits, records),
        seconds=pd.DataFrame(times, columns=["repeat", "fold", "seconds", "failed"]),
        log=base / "logs",
    )


def _train_splits(plan: WorcPlan, inputs: Inputs, say: Say) -> list[Record]:
    """The records of all splits, including those of an earlier call."""
    total, stop = len(plan.splits), threading.Event()
    records: dict[Split, Record] = {}
    for split in plan.splits:
        record = read_case_record(plan.record_path(split))
        if record is not None and record.get("key") == plan.key(split) and not results.check_record(record, split.test):
            records[split] = record
    waiting = [split for split in plan.splits if split not in records]
    if records:
        say(f"WORC: {len(records)} of {total} splits were finished before")
    pool = ThreadPoolExecutor(plan.settings.workers)
    try:
        futures = {pool.submit(_train, plan, inputs, split, stop): split for split in waiting}
        for future in as_completed(futures):
            split = futures[future]
            try:
                record = records[split] = future.result()
            except _Stopped:
                continue  # the split that failed raises the error
            area = results.split_auc(plan.dataset, split, record)
            say(f"WORC: {len(records)} of {total} splits ({split.name}: {record['seconds']:.0f} s, AUC {area:.3f})")
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return [records[split] for split in plan.splits]


def _train(plan: WorcPlan, inputs: Inputs, split: Split, stop: threading.Event) -> Record:
    """Train one split; its record is on disk before this returns. An error stops the other splits."""

    def watch() -> None:
        if stop.is_set():
            raise _Stopped

    try:
        watch()
        began, place, settings = time.monotonic(), plan.place(stem(split)), plan.settings
        seed = int(np.random.SeedSequence([settings.seed, split.repeat, split.fold]).generate_state(1)[0])
        job = plan.job(inputs, task="split", seed=seed, splits=str(inputs.splits(stem(split), [split])))
        record = _run(place, job, workers=1, timeout_s=settings.timeout_s, watch=watch)
        record = _ours(record, inputs, plan.columns) | {"seconds": round(time.monotonic() - began, 3)}
        wrong = results.check_record(record, split.test)
        if wrong:
            raise place.failure(f"({split.name}) {wrong}")
        _keep(plan.record_path(split), {"key": plan.key(split), **record})
        return record
    except BaseException:
        stop.set()
        raise


def _run_network(plan: WorcPlan, inputs: Inputs, say: Say) -> list[Record]:
    """The records of all splits by WORC's whole network on images, from an earlier call if possible."""
    settings, splits = plan.settings, plan.splits
    path, key = plan.base / "splits" / "network.json", plan.key(*splits)
    kept = read_case_record(path)
    if kept is not None and kept.get("key") == key:
        say(f"WORC: {len(splits)} of {len(splits)} splits were finished before")
        return kept["records"]
    assert plan.cohort is not None
    began, place, images = time.monotonic(), plan.place("network"), plan.base / "inputs" / "cases"
    shutil.rmtree(images, ignore_errors=True)  # WORC uses every case in this folder
    write_images(plan.cohort, inputs.codes, plan.sequences, images)
    paths = {"folder": str(images), "tmp": str(place.tmp / "network"), "output": str(place.output)}
    paths["splits"] = str(inputs.splits("network", splits))
    own = {"name": "experiment", "sequences": list(plan.sequences), "coarse": settings.coarse}
    job = plan.job(inputs, task="network", seed=settings.seed, **paths, **own)
    watch = _life_signs(place, len(splits), say)
    found = _run(place, job, workers=settings.workers, timeout_s=settings.timeout_s, watch=watch)
    seconds = round((time.monotonic() - began) / len(splits), 3)
    records = [_ours(record, inputs, plan.columns) | {"seconds": seconds} for record in found]
    wrong = [results.check_record(record, split.test) for split, record in zip(splits, records)]
    if len(records) != len(splits) or any(wrong):
        raise place.failure(next(filter(None, wrong), f"trained {len(records)} of {len(splits)} splits"))
    _keep(path, {"key": key, "records": records})
    shutil.rmtree(images)
    return records


def _run(place: Workplace, job: dict[str, Any], *, workers: int, **how: Any) -> Any:
    """Run a job in a fresh workplace, which is always removed; an old log is deleted first."""
    place.log.unlink(missing_ok=True)
    try:
        place.prepare(seed=job["seed"], workers=workers)
        return place.run(job, **how)
    finally:
        place.remove()


def _keep(path: Path, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(record).encode())


def _ours(record: Record, inputs: Inputs, columns: Sequence[str]) -> Record:
    """A record with our names of cases and features."""
    cases = {code: case for case, code in inputs.codes.items()}
    posteriors = {cases.get(code, code): posterior for code, posterior in record["posteriors"].items()}
    used = {our_name(name, columns): share for name, share in record["used"].items()}
    return {**record, "posteriors": posteriors, "used": used}


def _life_signs(place: Workplace, splits: int, say: Say) -> Callable[[], None]:
    """A function that reports fastr's progress from time to time: finished jobs in its log, and trained splits."""
    last = time.monotonic()

    def watch() -> None:
        nonlocal last
        if time.monotonic() - last >= LIFE_SIGN_S:
            last = time.monotonic()
            jobs = place.log.read_text(encoding="utf-8", errors="replace").count("Finished job")
            trained = len(list(place.tmp.rglob("tempsave_*.pkl")))
            say(f"WORC: {jobs} jobs have ended, {trained} of {splits} splits are trained")

    return watch
