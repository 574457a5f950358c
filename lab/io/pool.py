"""Process pool: a killed worker costs one job. Workers are spawned, since a fork of a process with threads can hang."""

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
    """A job: anything picklable with a method `run`."""

    def run(self) -> R:
        """Do the job; an exception ends the whole run."""
        ...


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(jobs: Mapping[K, Work[R]], processes: int | None = None) -> Iterator[tuple[K, R | None]]:
    """Key and result of each job, in order of completion; the result is `None` where the job killed its worker.

    By default there is one process per core. A dying worker (usually out of memory) breaks its pool: unfinished jobs
    are retried in a second pool, then one by one, so that only the job that kills its worker is lost, also the very
    first. Where no process can be started, the jobs run in this one.
    """
    waiting, processes = dict(jobs), max(1, processes or count_cores())
    if processes > 1 and len(jobs) > 1:
        for _ in range(2):
            for key, result in _run_pool(dict(waiting), processes):
                del waiting[key]
                yield key, result
        if len(waiting) < len(jobs) or _can_start():
            for key, job in waiting.items():
                alone = list(_run_pool({key: job}, 1))
                yield alone[0] if alone else (key, None)
            return
    yield from ((key, job.run()) for key, job in waiting.items())


class _Nothing:
    """A job without work."""

    def run(self) -> bool:
        return True


def _can_start() -> bool:
    """Whether processes can be started here; a script without the guard of its main module starts none."""
    return any(_run_pool({"nothing": _Nothing()}, 1))


def end_with_parent() -> None:
    """Let this process end as soon as its parent has ended, for whatever reason."""

    def follow() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def background(jobs: Mapping[K, Work[R]]) -> Iterator[dict[K, Callable[[], R]]]:
    """Run jobs in one background process, or here if it is killed; calling an entry waits for its result."""
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
            process.terminate()  # a job can take minutes; unfinished ones are run again
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Limit the worker to one thread, leave Ctrl-C to the parent, and end with a killed parent."""
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
    end_with_parent()
