"""Many pieces of work side by side, such that a worker that is killed costs one piece and not the whole.

Workers are spawned: a fork of a process that runs threads can hang. This module stays light, since every worker
imports it.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Hashable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

from threadpoolctl import threadpool_limits

from lab.io.processes import end_with_parent

K = TypeVar("K", bound=Hashable)
R = TypeVar("R", covariant=True)


class Work(Protocol[R]):
    """Anything with a method `run`, importable and picklable."""

    def run(self) -> R:
        """Do it; what it raises ends the whole."""
        ...


def run_all(jobs: Mapping[K, Work[R]], processes: int) -> Iterator[tuple[K, R | None]]:
    """Key and result of every piece of work, in the order in which they are finished; `None` of one that was killed.

    A worker that dies (out of memory, most often) takes its pool along: what is unfinished is tried again in a second
    pool, then one by one, so that only the piece that kills its worker is lost.
    """
    waiting = dict(jobs)
    if processes == 1 or len(jobs) == 1:
        yield from ((key, job.run()) for key, job in waiting.items())
        return
    for _ in range(2):
        for key, result in _run_pool(dict(waiting), processes):
            del waiting[key]
            yield key, result
    if len(waiting) == len(jobs):  # no pool ever delivered: processes cannot be started here
        yield from ((key, job.run()) for key, job in waiting.items())
        return
    for key, job in waiting.items():
        alone = list(_run_pool({key: job}, 1))
        yield alone[0] if alone else (key, None)


def _run_pool(jobs: dict[K, Work[R]], processes: int) -> Iterator[tuple[K, R]]:
    """Results until all are done or a worker dies."""
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=_start_worker)
    try:
        futures = {pool.submit(job.run): key for key, job in jobs.items()}
        for future in as_completed(futures):
            try:
                result = future.result()
            except BrokenProcessPool:
                return
            yield futures[future], result
    except KeyboardInterrupt:
        for process in list((pool._processes or {}).values()):
            process.terminate()  # a piece of work can take minutes; what is unfinished is done again
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """One thread of arithmetic per worker; Ctrl-C is the parent's, and a worker must not outlive a killed parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
    end_with_parent()
