"""The one process pool: a worker that is killed costs one piece of work and not the whole.

Workers are spawned, since a fork of a process that runs threads can hang.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing.connection import wait
from typing import Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
R = TypeVar("R", covariant=True)


class Work(Protocol[R]):
    """Anything with a method `run`, importable and picklable."""

    def run(self) -> R:
        """Do it; what it raises ends the whole."""
        ...


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(jobs: Mapping[K, Work[R]], processes: int | None = None) -> Iterator[tuple[K, R | None]]:
    """Key and result of every piece of work, in the order in which they are finished; `None` of one that was killed.

    By default there is a process for each core. A worker that dies (out of memory, most often) takes its pool along:
    what is unfinished is tried again in a second pool, then one by one, so that only the piece that kills its worker
    is lost. Where no process can be started, the work is done in this one.
    """
    waiting, processes = dict(jobs), max(1, processes or count_cores())
    if processes > 1 and len(jobs) > 1:
        for _ in range(2):
            for key, result in _run_pool(dict(waiting), processes):
                del waiting[key]
                yield key, result
        if len(waiting) < len(jobs):
            for key, job in waiting.items():
                alone = list(_run_pool({key: job}, 1))
                yield alone[0] if alone else (key, None)
            return
    yield from ((key, job.run()) for key, job in waiting.items())


def end_with_parent() -> None:
    """From now on this process ends as soon as its parent has ended, however that came."""

    def follow() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def background(jobs: Mapping[K, Work[R]]) -> Iterator[dict[K, Callable[[], R]]]:
    """Work in one process beside this one; each result is waited for where it is asked for.

    Where the worker was killed, this process does the work.
    """
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start_worker)
    futures = {key: pool.submit(job.run) for key, job in jobs.items()}

    def result(key: K) -> R:
        try:
            return futures[key].result()
        except BrokenProcessPool:
            return jobs[key].run()

    try:
        yield {key: cache(partial(result, key)) for key in jobs}
    finally:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


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
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
    end_with_parent()
