"""A WORC experiment on our cases and our splits: resumable, shown as it goes, and never a silent success.

Three routes end in the same result. `features` trains split by split, a process each, on features that are extracted
once; `network` gives the same features to WORC's whole fastr network, `images` the images and masks. A split that is
finished is kept, and not computed again; the network is kept as a whole.

WORC knows cases, not patients: its inner splits may part two scans of one patient; the tested ones never are.
"""

from __future__ import annotations

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
from lab.io.case_file import read_record, write_atomically
from lab.radiomics.dataset import Dataset
from lab.radiomics.splits import Split
from lab.radiomics.worc.inputs import Inputs, check, our_name, write_images, write_inputs
from lab.radiomics.worc.plan import Experiment, stem
from lab.radiomics.worc.process import WorcFailed, Workplace
from lab.radiomics.worc.results import (
    Record,
    WorcResult,
    check_record,
    chosen_table,
    disagreement,
    predictions_table,
    read_performance,
    read_posteriors,
    read_roc,
    split_auc,
    workflows_table,
)
from lab.radiomics.worc.settings import FULL, PERFORMANCE, QUICK, RANKED, ROC, WorcSettings

__all__ = ["FULL", "QUICK", "WorcFailed", "WorcResult", "WorcSettings", "run_worc"]

TOLERANCE = 1e-6
"""Between the posteriors of the splits and WORC's own table of them."""
LIFE_SIGN_S = 30.0
EVALUATION_S = 1800.0

Say = Callable[[str], None]


class _Stopped(Exception):
    """A split is given up because another one has failed, or the user has had enough."""


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
    """Train and test WORC on every split; all that it writes lies in `folder / settings.route`.

    `say` gets a line for each finished split. The images route needs the prepared `cohort` and the `sequences` that
    WORC shall extract features from. Raises ValueError where WORC cannot work with so few cases, WorcFailed (an
    OSError) with WORC's own reason where it ends without what it was started for.
    """
    check(dataset, splits)
    base = Path(folder).absolute() / settings.route
    experiment = Experiment(
        dataset=dataset, splits=tuple(splits), base=base, settings=settings, cohort=cohort, sequences=tuple(sequences)
    )
    if settings.route == "images" and (cohort is None or not sequences):
        raise ValueError("WORC needs the prepared cohort and the names of its sequences to extract features itself")
    inputs = write_inputs(dataset, base / "inputs")
    train = _train_splits if settings.route == "features" else _run_network
    records = train(experiment, inputs, say)
    _evaluate(experiment, inputs, records)
    return _result(experiment, inputs, records)


def _train_splits(experiment: Experiment, inputs: Inputs, say: Say) -> list[Record]:
    """The records of all splits, those of an earlier call included."""
    total, stop = len(experiment.splits), threading.Event()
    records: dict[Split, Record] = {}
    for split in experiment.splits:
        record = read_record(experiment.record_path(split))
        if record is not None and record.get("key") == experiment.key(split) and not check_record(record, split.test):
            records[split] = record
    waiting = [split for split in experiment.splits if split not in records]
    if records:
        say(f"WORC: {len(records)} of {total} splits were finished before")
    pool = ThreadPoolExecutor(experiment.settings.workers)
    try:
        futures = {pool.submit(_train, experiment, inputs, split, stop): split for split in waiting}
        for future in as_completed(futures):
            split = futures[future]
            try:
                record = records[split] = future.result()
            except _Stopped:
                continue  # another split has failed, and says why
            area = split_auc(experiment.dataset, split, record)
            say(f"WORC: {len(records)} of {total} splits ({split.name}: {record['seconds']:.0f} s, AUC {area:.3f})")
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return [records[split] for split in experiment.splits]


def _train(experiment: Experiment, inputs: Inputs, split: Split, stop: threading.Event) -> Record:
    """Train one split; its record is on disk before this returns. What goes wrong stops the other splits."""
    try:
        _until(stop)()
        return _train_one(experiment, inputs, split, _until(stop))
    except BaseException:
        stop.set()
        raise


def _train_one(experiment: Experiment, inputs: Inputs, split: Split, watch: Callable[[], None]) -> Record:
    began, place, settings = time.monotonic(), experiment.place(stem(split)), experiment.settings
    seed = int(np.random.SeedSequence([settings.seed, split.repeat, split.fold]).generate_state(1)[0])
    job = experiment.job(inputs, task="split", seed=seed, splits=str(inputs.splits(stem(split), [split])))
    record = _run(place, job, seed=seed, workers=1, timeout_s=settings.timeout_s, watch=watch)
    record = _ours(record, inputs, experiment.columns) | {"seconds": round(time.monotonic() - began, 3)}
    wrong = check_record(record, split.test)
    if wrong:
        raise place.failure(f"({split.name}) {wrong}")
    path = experiment.record_path(split)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"key": experiment.key(split), **record}).encode())
    return record


def _evaluate(experiment: Experiment, inputs: Inputs, records: Sequence[Record]) -> None:
    """WORC's own statistics over all splits, where those of an earlier call are not of the same."""
    results, codes = experiment.base / "results", inputs.codes
    mark, key = results / "key.json", experiment.key(*experiment.splits)
    complete = all((results / name).exists() for name in (PERFORMANCE, ROC, RANKED))
    if complete and (read_record(mark) or {}).get("key") == key:
        return
    mark.unlink(missing_ok=True)
    made = [
        {
            "train": [codes[case] for case in split.train],
            "posteriors": {codes[case]: record["posteriors"][case] for case in split.test},
        }
        for split, record in zip(experiment.splits, records)
    ]
    job = experiment.job(inputs, task="evaluate", seed=0, records=made, results=str(results))
    job |= {"y": dict(zip(codes.values(), inputs.labels))}
    _run(experiment.place("evaluate"), job, seed=0, workers=1, timeout_s=EVALUATION_S)
    write_atomically(mark, json.dumps({"key": key}).encode())


def _run_network(experiment: Experiment, inputs: Inputs, say: Say) -> list[Record]:
    """The records of all splits by WORC's whole network, or those of an earlier call."""
    settings, path = experiment.settings, experiment.base / "splits" / "network.json"
    key = experiment.key(*experiment.splits)
    kept = read_record(path)
    if kept is not None and kept.get("key") == key:
        say(f"WORC: {len(experiment.splits)} of {len(experiment.splits)} splits were finished before")
        return kept["records"]
    began, place, own = time.monotonic(), experiment.place("network"), experiment.base / "inputs" / "cases"
    shutil.rmtree(own, ignore_errors=True)  # WORC takes every case that it finds there
    own.mkdir(parents=True)
    if settings.route == "images":
        assert experiment.cohort is not None
        write_images(experiment.cohort, inputs.codes, experiment.sequences, own)
    job = experiment.job(
        inputs,
        task="network",
        name="experiment",
        seed=settings.seed,
        splits=str(inputs.splits("network", experiment.splits)),
        folder=str(own),
        sequences=list(experiment.sequences) if settings.route == "images" else [],
        coarse=settings.coarse,
        tmp=str(place.tmp / "network"),
        output=str(place.output),
    )
    watch = _life_signs(place, len(experiment.splits), say)
    found = _run(place, job, seed=settings.seed, workers=settings.workers, timeout_s=settings.timeout_s, watch=watch)
    seconds = round((time.monotonic() - began) / len(experiment.splits), 3)
    records = [_ours(record, inputs, experiment.columns) | {"seconds": seconds} for record in found]
    wrong = [check_record(record, split.test) for split, record in zip(experiment.splits, records)]
    if len(records) != len(experiment.splits) or any(wrong):
        raise place.failure(next(filter(None, wrong), f"trained {len(records)} of {len(experiment.splits)} splits"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"key": key, "records": records}).encode())
    shutil.rmtree(own)
    return records


def _run(place: Workplace, job: dict[str, Any], *, seed: int, workers: int, **how: Any) -> Any:
    """A job in a fresh workplace, which goes again whatever happens; a log of an earlier call goes too."""
    place.log.unlink(missing_ok=True)
    try:
        place.prepare(seed=seed, workers=workers)
        return place.run(job, **how)
    finally:
        place.remove()


def _ours(record: Record, inputs: Inputs, columns: Sequence[str]) -> Record:
    """A record by our names of cases and features."""
    cases = {code: case for case, code in inputs.codes.items()}
    posteriors = {cases.get(code, code): posterior for code, posterior in record["posteriors"].items()}
    used = {our_name(name, columns): share for name, share in record["used"].items()}
    return {**record, "posteriors": posteriors, "used": used}


def _result(experiment: Experiment, inputs: Inputs, records: Sequence[Record]) -> WorcResult:
    results, logs, splits = experiment.base / "results", experiment.base / "logs", experiment.splits
    predictions = predictions_table(experiment.dataset, splits, records)
    try:
        performance, roc = read_performance(results / PERFORMANCE), read_roc(results / ROC)
        posteriors = read_posteriors(results / RANKED)
    except ValueError as error:
        raise WorcFailed(f"WORC ended without its outputs: {error} (its logs: {logs})") from None
    apart = disagreement(posteriors, predictions, inputs.codes)
    if not apart <= TOLERANCE:
        raise WorcFailed(f"WORC's table of posteriors differs by {apart:g} from those of its splits (its logs: {logs})")
    times = [(split.repeat, split.fold, record["seconds"], record["failed"]) for split, record in zip(splits, records)]
    return WorcResult(
        predictions=predictions,
        chosen=chosen_table(records),
        workflows=workflows_table(splits, records),
        performance=performance,
        roc=roc,
        seconds=pd.DataFrame(times, columns=["repeat", "fold", "seconds", "failed"]),
        log=logs,
        outputs=results,
    )


def _until(stop: threading.Event) -> Callable[[], None]:
    def watch() -> None:
        if stop.is_set():
            raise _Stopped

    return watch


def _life_signs(place: Workplace, splits: int, say: Say) -> Callable[[], None]:
    """Says now and then how far fastr is: jobs ended, and splits trained, which its log and files tell."""
    last = time.monotonic()

    def watch() -> None:
        nonlocal last
        if time.monotonic() - last < LIFE_SIGN_S:
            return
        last = time.monotonic()
        jobs = place.log.read_text(encoding="utf-8", errors="replace").count("Finished job")
        trained = len(list(place.tmp.rglob("tempsave_*.pkl")))
        say(f"WORC: {jobs} jobs have ended, {trained} of {splits} splits are trained")

    return watch
