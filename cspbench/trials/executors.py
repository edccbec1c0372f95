"""Places where trials run: this process, or several on this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, Protocol, Self

from cspbench.errors import CspbenchError, FileAccessError
from cspbench.machine import stop
from cspbench.spec import DenseSpec, TrialSpec
from cspbench.store import Store, write_atomic
from cspbench.training.events import Event, Listener, StoppedEarly
from cspbench.trials.outcome import Outcome, reason_of
from cspbench.trials.usage import UsageLog

MAX_ATTEMPTS = 3
"""Attempts at a trial whose worker dies: the cause may be the machine, or the trial itself."""

EVENT_INTERVAL = 0.2
"""Seconds between the events a worker passes on."""

TrialProgress = Callable[[TrialSpec | DenseSpec, Event], None]
"""Called with the progress of a trial, or of the training of a dense recogniser.

At an evaluation of a trial it may raise `StoppedEarly`; in other processes only where the executor passes that on.
"""


class Executor(Protocol):
    """Runs trials, `workers` at a time; leaving it as a context manager ends whatever still runs."""

    workers: int

    def prepare(self, dense: Iterable[DenseSpec]) -> None:
        """Train the dense recognisers that trials start from, unless they are there; call while not `busy`."""

    @property
    def free(self) -> int:
        """Number of trials that can be submitted now."""

    @property
    def busy(self) -> bool:
        """True while an outcome is to come."""

    def submit(self, spec: TrialSpec) -> None:
        """Start a trial; only while `free`."""

    def wait(self) -> Outcome:
        """Block until a trial ends; only while `busy`.

        Raises:
            KeyboardInterrupt: a stop was requested, and all trials have stopped at a checkpoint.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def make_executor(
    workers: int,
    store: Store,
    device: str,
    progress: TrialProgress,
    timeout: float | None = None,
    trials_per_gpu: int | Literal["auto"] | None = None,
    answers: bool = False,
    system_metrics: float | None = None,
) -> Executor:
    """Return the executor for a number of workers.

    Args:
        workers: trials that run at the same time.
        store: keeps the trials.
        device: as in a sweep file.
        progress: called with events.
        timeout: seconds after which a trial is ended; None for no limit. Without a limit, a single worker needs no
            process of its own.
        answers: true if `progress` may stop trials early; workers then wait for it after each evaluation.
        trials_per_gpu: trials that share a GPU, in place of `workers` where there is one: see `worker_count`.
        system_metrics: seconds between samples of the machine, see `UsageLog`; None for none.

    Raises:
        CspbenchError: the device is not there; better said before any work.
    """
    from cspbench.trials.gpus import worker_count  # imports torch, which a process that only plans does without

    workers = worker_count(workers, trials_per_gpu, device)
    if workers == 1 and timeout is None:
        return InProcess(store, device, progress, system_metrics)
    return LocalProcesses(workers, store, device, progress, timeout, answers, system_metrics)


def attempt(
    spec: TrialSpec, store: Store, device: str, progress: Listener, system_metrics: float | None = None
) -> Outcome:
    """Run a trial and turn whatever it raises into an outcome; the traceback goes to ``error.txt`` in its folder.

    Args:
        spec: the trial.
        store: keeps it.
        device: as in a sweep file.
        progress: called with events.
        system_metrics: seconds between samples of the machine, see `UsageLog`; None for none.
    """
    from cspbench.trials import run

    report = store.trial(spec.id).error
    try:
        if system_metrics is not None:
            progress = UsageLog(store.trial(spec.id).usage, system_metrics, progress)
        result = run.run_trial(spec, store, device=device, progress=progress)
    except StoppedEarly as stopped:
        return Outcome(spec, stopped=str(stopped))
    except Exception as error:  # whatever it was, the other trials go on
        with suppress(OSError):  # on a full disk the reason is told, if not kept
            write_atomic(report, traceback.format_exc())
        reason = reason_of(error)
        if isinstance(error, CspbenchError):
            return Outcome(spec, error=str(error), reason=reason)
        if isinstance(error, OSError):
            return Outcome(spec, error=str(FileAccessError.of(error)), reason=reason)
        return Outcome(spec, error=f"{type(error).__name__}: {error} (see {report})", reason=reason)
    report.unlink(missing_ok=True)
    return Outcome(spec, result)


def train_dense_models(specs: Iterable[DenseSpec], store: Store, device: str, progress: TrialProgress) -> None:
    """Train dense recognisers one after the other in this process, unless they are there."""
    from cspbench.trials import run

    for spec in {spec.id: spec for spec in specs}.values():
        run.train_dense(spec, store, device=device, progress=partial(progress, spec))


class InProcess:
    """One trial at a time, in this process."""

    workers = 1

    def __init__(self, store: Store, device: str, progress: TrialProgress, system_metrics: float | None = None) -> None:
        self._store, self._device, self._progress = store, device, progress
        self._system_metrics = system_metrics
        self._submitted: deque[TrialSpec] = deque()

    def prepare(self, dense: Iterable[DenseSpec]) -> None:
        train_dense_models(dense, self._store, self._device, self._progress)

    @property
    def free(self) -> int:
        return 1 - len(self._submitted)

    @property
    def busy(self) -> bool:
        return bool(self._submitted)

    def submit(self, spec: TrialSpec) -> None:
        self._submitted.append(spec)

    def wait(self) -> Outcome:
        spec = self._submitted.popleft()
        return attempt(spec, self._store, self._device, partial(self._progress, spec), self._system_metrics)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._submitted.clear()


class LocalProcesses:
    """Spawned processes with one trial at a time each; the cores of the machine are divided among them.

    Not a `ProcessPoolExecutor`: there the death of one worker fails the trials of all. Here a new worker takes the
    place of a dead one and resumes its trial from the checkpoint, `MAX_ATTEMPTS` times at most. A trial that runs for
    longer than `timeout` seconds fails, and its worker is ended. Messages are JSON.
    """

    def __init__(
        self,
        workers: int,
        store: Store,
        device: str,
        progress: TrialProgress,
        timeout: float | None = None,
        answers: bool = False,
        system_metrics: float | None = None,
    ) -> None:
        self.workers, self._timeout, self._answers = workers, timeout, answers
        self._system_metrics = system_metrics
        self._store, self._device, self._progress = store, device, progress
        self._idle: list[_Worker] = []
        self._running: dict[Connection, _Worker] = {}
        self._attempts: dict[str, int] = {}
        self._stopping = False

    def prepare(self, dense: Iterable[DenseSpec]) -> None:
        from cspbench.trials.dense_ahead import train_ahead

        specs = list(dense)
        train_ahead(specs, self.workers, self._store, self._device, self._progress)
        # In this process: while no trial runs, the training may have all cores.
        train_dense_models(specs, self._store, self._device, self._progress)

    @property
    def free(self) -> int:
        return self.workers - len(self._running)

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def submit(self, spec: TrialSpec) -> None:
        worker = self._idle.pop() if self._idle else self._start()
        worker.begin(spec)
        self._running[worker.connection] = worker

    def wait(self) -> Outcome:
        while self._running:
            self._pass_on_stop()
            awaited: list[Connection | int] = [*self._running, *([] if self._stopping else [stop.descriptor()])]
            for ready in wait(awaited, self._seconds_left()):
                outcome = self._receive(self._running[ready]) if isinstance(ready, Connection) else None
                if outcome is not None:
                    return outcome
            for worker in self._running.values():
                if worker.deadline is not None and time.monotonic() > worker.deadline:
                    return self._expire(worker)
        raise KeyboardInterrupt

    def _pass_on_stop(self) -> None:
        """Ask the workers to stop at a checkpoint, once, if this process was asked to."""
        if stop.requested() and not self._stopping:
            self._stopping = True
            for worker in self._running.values():
                worker.request_stop()

    def _seconds_left(self) -> float | None:
        """Seconds until the first running trial has taken too long, None if none ever does."""
        deadlines = [worker.deadline for worker in self._running.values() if worker.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _expire(self, worker: _Worker) -> Outcome:
        assert worker.spec is not None
        del self._running[worker.connection]
        worker.stop()
        return Outcome(worker.spec, error=f"it took longer than {self._timeout:g} seconds", reason="timeout")

    def _receive(self, worker: _Worker) -> Outcome | None:
        assert worker.spec is not None
        try:
            message = json.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            return self._replace(worker)
        if "started" in message:
            worker.deadline = None if self._timeout is None else time.monotonic() + self._timeout
            return None
        if "event" in message:
            self._tell(worker, Event(**message["event"]))
            return None
        del self._running[worker.connection]
        self._idle.append(worker)
        worker.deadline = None
        return Outcome.of_message(worker.spec, message)

    def _tell(self, worker: _Worker, event: Event) -> None:
        """Pass an event on, and answer a worker that waits to hear whether its trial goes on."""
        assert worker.spec is not None
        stopped = None
        try:
            self._progress(worker.spec, event)
        except StoppedEarly as error:
            stopped = str(error)
        if self._answers and event.evaluation:
            with suppress(BrokenPipeError):  # died meanwhile: the next read from the pipe finds out
                _send(worker.connection, {"stopped": stopped})

    def _replace(self, worker: _Worker) -> Outcome | None:
        """Restart a dead worker and retry its trial, at most `MAX_ATTEMPTS` times."""
        spec = worker.spec
        assert spec is not None
        del self._running[worker.connection]
        code = worker.stop()
        if stop.requested():
            return None  # it stopped at a checkpoint, as it was asked to; if not, the next run goes on all the same
        self._attempts[spec.id] = self._attempts.get(spec.id, 0) + 1
        if self._attempts[spec.id] < MAX_ATTEMPTS:
            self._progress(spec, Event("worker", message=f"a worker died ({_cause(code)}); its trial starts again"))
            self.submit(spec)
            return None
        error = f"its worker died {MAX_ATTEMPTS} times, at last by {_cause(code)}"
        return Outcome(spec, error=error, reason="killed")

    def _start(self) -> _Worker:
        taken = {worker.index for worker in [*self._idle, *self._running.values()]}
        index = next(i for i in range(self.workers) if i not in taken)
        return _Worker(index, self.workers, self._store, self._device, self._answers, self._system_metrics)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in [*self._idle, *self._running.values()]:
            worker.stop()
        self._idle.clear()
        self._running.clear()


class _Worker:
    """A worker process, the pipe to it, the trial it runs, and the time by which that must have ended."""

    def __init__(
        self, index: int, workers: int, store: Store, device: str, answers: bool, system_metrics: float | None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.index = index
        self.spec: TrialSpec | None = None
        self.deadline: float | None = None
        self.connection, theirs = context.Pipe()
        arguments = (theirs, store.root, index, workers, device, answers, system_metrics)
        self._process = context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, spec: TrialSpec) -> None:
        self.spec = spec
        with suppress(BrokenPipeError):  # died while idle: the next read from the pipe finds out
            self.connection.send_bytes(spec.model_dump_json().encode())

    def request_stop(self) -> None:
        """Ask the process to end at the next checkpoint of its trial."""
        self._process.terminate()

    def stop(self) -> int | None:
        """End the process and return the exit code it had died with, negative for a signal; None if it was alive."""
        self.connection.close()
        self._process.join(timeout=0.2)
        died = self._process.exitcode
        self._process.kill()  # safe at any moment: files appear whole or not at all
        self._process.join()
        return died


def serve(
    connection: Connection,
    root: os.PathLike[str],
    index: int,
    workers: int,
    device: str,
    answers: bool,
    system_metrics: float | None,
) -> None:
    """Main function of a worker process: receive specs, send events and outcomes, until the parent is gone.

    Args:
        connection: pipe to the parent.
        root: of the store.
        index: number of this worker, from 0.
        workers: number of workers that divide the machine.
        device: as in a sweep file.
        answers: true if the parent answers each evaluation by whether the trial goes on.
        system_metrics: seconds between samples of the machine; None for none.
    """
    stop.obey_parent()  # Ctrl-C reaches the whole group, and so may the SIGTERM of a cluster
    from cspbench.trials.gpus import take_place

    place = take_place(index, workers, device)
    store = Store(os.fspath(root))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        while True:
            spec = TrialSpec.model_validate_json(connection.recv_bytes())
            _send(connection, {"started": True})
            outcome = attempt(spec, store, place, _Sender(connection, answers), system_metrics)
            _send(connection, outcome.message())


class _Sender:
    """Sends events to the parent: evaluations, changes of stage, messages, and steps every `EVENT_INTERVAL` seconds."""

    def __init__(self, connection: Connection, answers: bool) -> None:
        self._connection, self._answers = connection, answers
        self._last = ("", 0.0)

    def __call__(self, event: Event) -> None:
        stage, at = self._last
        now = time.monotonic()
        if event.stage != stage or event.message or event.evaluation or now - at >= EVENT_INTERVAL:
            self._last = (event.stage, now)
            stopped = self._send(event)
            if stopped is not None:
                raise StoppedEarly(stopped)

    def _send(self, event: Event) -> str | None:
        """Send an event; return where the parent stops the trial, if it does."""
        try:
            numbers = {
                kind: {name: float(value) for name, value in getattr(event, kind).items()}
                for kind in ("metrics", "evaluation")
            }
            _send(self._connection, {"event": {**vars(event), **numbers}})
            if self._answers and event.evaluation:
                return json.loads(self._connection.recv_bytes())["stopped"]
        except (OSError, EOFError):
            os._exit(1)  # the parent is gone: the next one resumes this trial from its checkpoint
        return None


def _cause(code: int | None) -> str:
    """Return an exit code in words."""
    if code == -signal.SIGKILL:
        return "SIGKILL, perhaps for lack of memory"
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _send(connection: Connection, message: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())
