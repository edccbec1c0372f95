"""SIMULATED trials that take time, run by the real workers of a sweep: the time between trials, and throughput.

Training is replaced in the processes that run the trials; nothing is trained or measured.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import pbkdf2_hmac
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import URL

from cspbench.bench.simulated_trials import simulated_result, write_trial
from cspbench.result import TrialResult
from cspbench.spec import TrialSpec
from cspbench.store import Store, read_json, write_json

TIMES = "times.json"
"""File of a timed trial in its folder, see `Times`."""

SPREAD = 0.2
"""Trials are shorter or longer by up to this fraction, so that workers do not march in step."""

CALIBRATION = 300_000
"""Rounds of work that are timed to find out how many make a second."""


@dataclass(frozen=True)
class Times:
    """When and where a timed trial ran.

    Attributes:
        worker: its process.
        begin: by the monotonic clock, in seconds.
        end: the same, of its work; its files are written after that.
        length: seconds that it takes where nothing else runs.
    """

    worker: int
    begin: float
    end: float
    length: float


@dataclass(frozen=True)
class TimedTrials:
    """Trials that take time.

    Attributes:
        seconds: of a trial, on average.
        rounds: of work that make a second of processor time, see `calibrate`; None for trials that sleep.
    """

    seconds: float
    rounds: int | None = None

    def length(self, spec: TrialSpec) -> float:
        """Return the seconds of a trial, the same for the same spec."""
        chance = random.Random(spec.id)  # noqa: S311 - no secret
        return self.seconds * chance.uniform(1 - SPREAD, 1 + SPREAD)

    def spend(self, seconds: float) -> None:
        """Sleep, or do as much work as takes so long where nothing else runs."""
        if self.rounds is None:
            time.sleep(seconds)
        else:
            _work(round(seconds * self.rounds))

    def run_trial(self, spec: TrialSpec, store: Store, **_: Any) -> TrialResult:
        """Spend the time of a trial, then write its files with invented results."""
        begin, length = time.monotonic(), self.length(spec)
        self.spend(length)
        times = Times(os.getpid(), begin, time.monotonic(), length)
        result = simulated_result(spec)
        write_trial(store, spec, result)
        write_json(store.trial(spec.id).path / TIMES, asdict(times))
        return result

    def install(self) -> None:
        """Replace training in this process and in its worker processes, for good."""
        from cspbench.trials import executors, run

        def run_trial(spec: TrialSpec, store: Store, **options: Any) -> TrialResult:
            return self.run_trial(spec, store, **options)  # looked up when it is called: its time may be measured

        vars(run).update(run_trial=run_trial, train_dense=lambda *_, **__: None)
        vars(executors).update(serve=partial(_serve, self))


def calibrate() -> int:
    """Return the rounds of work that take a second of processor time here."""
    _work(CALIBRATION)
    began = time.thread_time()
    _work(CALIBRATION)
    return round(CALIBRATION / (time.thread_time() - began))


def _work(rounds: int) -> None:
    """Keep one thread of the processor busy; a given number of rounds is always the same work."""
    pbkdf2_hmac("sha256", b"simulated", b"trial", max(1, rounds))


def _serve(trials: TimedTrials, *arguments: Any) -> None:
    """Main function of a worker process of a sweep on this machine."""
    from cspbench.trials import executors

    serve = executors.serve
    trials.install()
    serve(*arguments)


@contextmanager
def shared_workers(trials: TimedTrials, count: int, sweep: str, store: Store, storage: URL) -> Iterator[None]:
    """Run worker processes of a shared sweep until it has ended, or until left by an exception."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_join, args=(trials, sweep, store.root, storage)) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.kill()
            process.join()


def _join(trials: TimedTrials, sweep: str, root: Path, storage: URL) -> None:
    """Main function of a worker process of a shared sweep."""
    from rich.console import Console

    from cspbench.sweep.servers import Servers
    from cspbench.sweep.worker import work
    from cspbench.trials.progress import Lines

    trials.install()
    work(sweep, Store(root), Servers(storage), Lines(Console(quiet=True)), device="cpu")


def times_of(store: Store, ids: Iterable[str]) -> list[list[Times]]:
    """Return when timed trials ran: for each worker those of its trials, in order."""
    found: dict[int, list[Times]] = {}
    for id in ids:
        times = Times(**read_json(store.trial(id).path / TIMES))
        found.setdefault(times.worker, []).append(times)
    return [sorted(times, key=lambda one: one.begin) for times in found.values()]


def idle_seconds(workers: list[list[Times]]) -> float:
    """Return the median seconds from the end of a trial to the beginning of the next on the same worker.

    The first pause is longer, because modules are imported in it.
    """
    return median(after.begin - before.end for times in workers for before, after in pairwise(times))


def throughput(workers: list[list[Times]]) -> float:
    """Return the seconds of trials, as if nothing else ran, that all workers together get through in a second.

    Starts of processes do not count: each worker is looked at from its first trial to its last.
    """
    busy = [times for times in workers if len(times) > 1]
    return sum(sum(one.length for one in times[:-1]) / (times[-1].begin - times[0].begin) for times in busy)


def bare_throughput(trials: TimedTrials, processes: int) -> float:
    """Return `throughput` of processes that do the same work at the same time without any sweep: the most it can be."""
    context = multiprocessing.get_context("spawn")
    barrier, pipes = context.Barrier(processes), [context.Pipe() for _ in range(processes)]
    started = [context.Process(target=_spend, args=(trials, barrier, theirs)) for _, theirs in pipes]
    for process, (_, theirs) in zip(started, pipes, strict=True):
        process.start()
        theirs.close()
    seconds = [float(ours.recv_bytes()) for ours, _ in pipes]
    for process in started:
        process.join()
    return sum(trials.seconds / taken for taken in seconds)


def _spend(trials: TimedTrials, barrier: Barrier, connection: Connection) -> None:
    """Main function of a process without a sweep."""
    barrier.wait()
    began = time.monotonic()
    trials.spend(trials.seconds)
    connection.send_bytes(str(time.monotonic() - began).encode())
