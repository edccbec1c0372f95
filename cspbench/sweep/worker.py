"""A worker of shared sweeps: takes trials from the job table, runs them here, and leaves when the sweep has ended."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from cspbench.config import SweepConfig
from cspbench.errors import ConfigError, CspbenchError
from cspbench.machine import stop
from cspbench.spec import DenseSpec, TrialSpec
from cspbench.store import Store
from cspbench.sweep.early import SharedJudge
from cspbench.sweep.jobs import JobTable, SharedSweep
from cspbench.sweep.servers import Servers
from cspbench.sweep.shared import read_records
from cspbench.sweep.sync import Logbook
from cspbench.training.events import Event
from cspbench.trials.executors import Executor, TrialProgress, make_executor
from cspbench.trials.outcome import Outcome
from cspbench.trials.progress import Display
from cspbench.trials.remote import moved

SHORTEST, LONGEST, GROWTH = 0.05, 1.0, 1.5
"""Seconds between two looks for a trial, and what they are multiplied by: after a trial the next one comes soon."""

PATIENCE = 600.0
"""Seconds a worker waits for a sweep to begin, or to be heard of again."""


class SweepLostError(CspbenchError):
    """The process of a sweep was not heard of for long."""


def work(
    name: str,
    store: Store,
    servers: Servers,
    display: Display,
    *,
    device: str = "auto",
    corpus_path: Path | None = None,
    patience: float = PATIENCE,
) -> list[Outcome]:
    """Run trials of a shared sweep until it has ended.

    Args:
        name: of the sweep.
        store: keeps the trials; a folder of this machine, or one that all workers share.
        servers: database of the sweep, and MLflow server if there is one.
        display: shows progress.
        device: as in a sweep file.
        corpus_path: where the audio lies on this machine, in place of what the sweep says.
        patience: seconds to wait for the sweep to begin, or to be heard of again.

    Returns:
        How the trials that were run here ended.

    Raises:
        ConfigError: no database.
        SweepLostError: no such sweep, or its process was not heard of for `patience` seconds.
        KeyboardInterrupt: a stop was requested; what was under way is given back, with its checkpoint kept here.
    """
    if servers.storage is None:
        raise ConfigError("a worker needs the database of the sweep: --storage postgresql://HOST/DATABASE")
    table = JobTable(servers.storage, name)
    sweep = _await(table, patience)
    table.grace = sweep.content["grace"]
    config = SweepConfig.model_validate(sweep.content["config"])
    worker = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
    logbook = _logbook(sweep, table, store, servers, display)
    outcomes: list[Outcome] = []
    early = config.early_stopping is not None
    progress = _judged(display, SharedJudge(config, servers.storage)) if early else display.event
    with (
        make_executor(
            1, store, device, progress, config.trial_timeout, answers=early, system_metrics=config.system_metrics
        ) as executor,
        _present(table, worker),
    ):
        for spec in _trials(table, worker, patience):
            outcome = _run(moved(spec, corpus_path) if corpus_path is not None else spec, executor)
            if not table.holds(worker, spec.id):
                display.note("a trial was taken over by another worker meanwhile")
                continue
            logged = logbook is not None and logbook.log_now(outcome)
            if table.finish(worker, spec.id, _describe(outcome, store, logged)):
                outcomes.append(outcome)
                display.revise(len(outcomes))
                display.ended(outcome, cached=False)
    table.close()
    return outcomes


def _judged(display: Display, judge: TrialProgress) -> TrialProgress:
    """Return a listener that shows events and has evaluations judged."""

    def tell(work: TrialSpec | DenseSpec, event: Event) -> None:
        display.event(work, event)
        judge(work, event)

    return tell


def _await(table: JobTable, patience: float) -> SharedSweep:
    """Return the sweep as soon as it has begun."""
    until = time.monotonic() + patience
    while (sweep := table.find()) is None:
        if time.monotonic() > until:
            raise SweepLostError(f"the database has no sweep '{table.sweep}': start it with `cspbench sweep --storage`")
        _pause(LONGEST)
    return sweep


def _trials(table: JobTable, worker: str, patience: float) -> Iterator[TrialSpec]:
    """Trials for this worker, until the sweep has ended."""
    pause = SHORTEST
    while True:
        stop.check()
        spec = table.take(worker)
        if spec is not None:
            yield spec
            pause = SHORTEST
            continue
        sweep = table.find()
        if sweep is None or not sweep.open:
            return
        if sweep.silent > patience:
            raise SweepLostError(
                f"the process of the sweep '{table.sweep}' was not heard of for {sweep.silent:.0f} seconds: "
                "start `cspbench sweep` again, then workers"
            )
        _pause(pause)
        pause = min(GROWTH * pause, LONGEST)


def _run(spec: TrialSpec, executor: Executor) -> Outcome:
    executor.submit(spec)
    return executor.wait()


def _describe(outcome: Outcome, store: Store, logged: bool) -> dict[str, Any]:
    return outcome.message() | {"records": read_records(store.trial(outcome.spec.id)), "logged": logged}


def _logbook(sweep: SharedSweep, table: JobTable, store: Store, servers: Servers, display: Display) -> Logbook | None:
    """Return the log of this worker's trials; None unless there is a server."""
    if servers.tracking is None:
        return None
    tracking = sweep.content["tracking"]
    return Logbook(store, table.sweep, tracking, display.note, servers.tracking, alone=table.alone)


@contextmanager
def _present(table: JobTable, worker: str) -> Iterator[None]:
    """Be on the list of workers, and keep what runs here from others."""
    over = threading.Event()
    table.beat(worker)
    thread = threading.Thread(
        target=_keep_beating, args=(lambda: table.beat(worker), table.grace / 6, over), daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        table.leave(worker)


def _keep_beating(beat: Callable[[], None], every: float, over: threading.Event) -> None:
    while not over.wait(every):
        try:
            beat()
        except (CspbenchError, KeyboardInterrupt):  # gone for long: the trial goes on, and is finished or lost later
            continue


def _pause(seconds: float) -> None:
    stop.check()
    select.select([stop.descriptor()], [], [], seconds)
