"""One function over many jobs: in this process, in several, or on a Ray cluster.

A job that kills its process, by a crash in compiled code or for want of memory, becomes a :class:`Failure` and takes no
other job with it. So does one that takes too long.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass

HARD = 1.5      # times the limit: what does not stop by itself is stopped with its process


class OutOfTime(BaseException):
    """A job that was stopped by its time limit; no Exception, so that no code takes it for a mistake of its own."""


@dataclass(frozen=True)
class Failure:
    """A job without a result.

    Attributes
    ----------
    reason : {"crashed", "out of time"}
    detail : str
    """

    reason: str
    detail: str


def run(function: Callable, jobs: Sequence, *, workers: int = 0, ray: str | None = None,
        limit: float | None = None) -> Iterator[tuple[int, object]]:
    """Results of ``function(job)``, in the order in which they come.

    Parameters
    ----------
    function : callable
        That a process started anew can import.
    jobs : sequence
    workers : int
        Processes; 0 works in this one, where a crash is not survived.
    ray : str, optional
        Address of a Ray cluster, ``auto`` for the one this machine belongs to, or ``local``, which starts one with
        ``workers`` CPUs on this machine. Its machines need this library and see the same files.
    limit : float, optional
        Seconds for a job.

    Yields
    ------
    number : int
        Of the job.
    result : object
        What the function returned, or a :class:`Failure`. What it raises is raised here.
    """
    if workers < 0:
        raise ValueError(f"workers is a number of processes, or 0 for none but this; got {workers}")
    if ray is not None:
        yield from _on_ray(function, jobs, ray, workers, limit)
    elif workers:
        yield from _in_processes(function, jobs, workers, limit)
    else:
        for number, job in enumerate(jobs):
            yield number, _timed(function, job, limit, watch=False)


def _in_processes(function, jobs, workers: int, limit: float | None) -> Iterator[tuple[int, object]]:
    """Processes are started anew, not forked: OpenGL and the threads of numerical libraries do not survive a fork.

    When one dies, the pool is gone with all that it held. These jobs go on one at a time, so that the next death has
    one possible cause.
    """
    context = multiprocessing.get_context("spawn")
    waiting, suspects = deque(range(len(jobs))), deque()
    while waiting or suspects:
        queue, width = (suspects, 1) if suspects else (waiting, workers)
        most = 1 if suspects else width + 1                     # one more, so that no process waits for this one
        running = {}
        with ProcessPoolExecutor(width, context, _start_worker) as pool:
            try:
                while queue or running:
                    while queue and len(running) < most:
                        running[pool.submit(_timed, function, jobs[queue[0]], limit)] = queue[0]
                        queue.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        yield running.pop(future), result
            except BrokenProcessPool:
                lost = sorted(running.values())
                if queue is suspects and lost:
                    yield lost[0], Failure("crashed", "its process died: a crash in compiled code, want of memory, or "
                                                      "the time limit")
                else:
                    suspects.extend(lost)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _start_worker() -> None:
    """Leave Ctrl-C to the process that leads, and end when that process ends in whatever way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _timed(function, job, limit: float | None, watch: bool = True):
    """Run a job; the clock is looked at by Python, and, for compiled code that does not return, by a watchdog."""
    try:
        with _alarm(limit), _watchdog(limit if watch else None):
            return function(job)
    except OutOfTime:
        return Failure("out of time", f"it took more than {limit:g} s")


@contextmanager
def _alarm(limit: float | None):
    if limit is None or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number, frame):
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _watchdog(limit: float | None):
    if limit is None:
        yield
        return
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(HARD * limit, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _on_ray(function, jobs, address: str, workers: int, limit: float | None) -> Iterator[tuple[int, object]]:
    try:
        import ray
        from ray.exceptions import OutOfMemoryError, RayTaskError, WorkerCrashedError
    except ImportError as error:
        raise ImportError("a cluster needs Ray: pip install ray, here and on its machines") from error
    started = not ray.is_initialized()
    if started:
        options = {"num_cpus": workers or None, "include_dashboard": False} if address == "local" else \
            {"address": address}
        ray.init(log_to_driver=False, **options)
    # One retry: a machine may leave the cluster. What an object does to its process, it does twice.
    task = ray.remote(max_retries=1)(_timed)
    shared = ray.put(function)
    most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting, running = deque(range(len(jobs))), {}
    try:
        while waiting or running:
            while waiting and len(running) < most:
                number = waiting.popleft()
                running[task.remote(shared, jobs[number], limit)] = number
            (ready, *_), _ = ray.wait(list(running))
            number = running.pop(ready)
            try:
                result = ray.get(ready)
            except (WorkerCrashedError, OutOfMemoryError) as error:
                result = Failure("crashed", f"its process died: {type(error).__name__}")
            except RayTaskError as error:
                raise error.as_instanceof_cause() from None
            yield number, result
    finally:
        if started:
            ray.shutdown()
