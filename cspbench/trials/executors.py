"""Where trials run: in this process, or in several on this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, Self

from cspbench.result import TrialResult
from cspbench.spec import TrialSpec
from cspbench.store import Store
from cspbench.training.events import Event
from cspbench.trials.work import Listening, Outcome, RunTrial, attempt

LIVES = 3
"""Attempts at a trial whose worker dies: the cause may be the machine, or the trial itself."""

EVENT_INTERVAL = 0.2
"""Seconds between the events a worker passes on."""


class Executor(Protocol):
    """Runs trials handed to it; as a context manager it leaves nothing running behind."""

    workers: int

    @property
    def free(self) -> int:
        """How many more trials it takes now."""

    @property
    def busy(self) -> bool:
        """Whether an outcome is still to come."""

    def submit(self, spec: TrialSpec) -> None:
        """Take a trial; only while `free`."""

    def wait(self) -> Outcome:
        """Block until a trial ends; only while `busy`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def run_all(specs: Iterator[TrialSpec], executor: Executor) -> Iterator[Outcome]:
    """Keep an executor busy: `specs` is asked for the next trial only when one can start."""
    exhausted = False
    while True:
        while executor.free and not exhausted:
            spec = next(specs, None)
            if spec is None:
                exhausted = True
            else:
                executor.submit(spec)
        if not executor.busy:
            return
        yield executor.wait()


def make_executor(workers: int, store: Store, device: str, listen: Listening) -> Executor:
    """The executor for a number of workers: one needs no other process."""
    if workers == 1:
        return InProcess(store, device, listen)
    return LocalProcesses(workers, store, device, listen)


class InProcess:
    """One trial at a time, here."""

    workers = 1

    def __init__(self, store: Store, device: str, listen: Listening, run: RunTrial | None = None) -> None:
        self._store, self._device, self._listen, self._run = store, device, listen, run
        self._waiting: deque[TrialSpec] = deque()

    @property
    def free(self) -> int:
        return 1 - len(self._waiting)

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    def submit(self, spec: TrialSpec) -> None:
        self._waiting.append(spec)

    def wait(self) -> Outcome:
        spec = self._waiting.popleft()
        return attempt(spec, self._store, self._device, lambda event: self._listen(spec, event), self._run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.clear()


class LocalProcesses:
    """Spawned processes, each with its share of the cores, one trial at a time each.

    Not a `ProcessPoolExecutor`: there the death of one worker fails the trials of all. Here it costs the trial it was
    running, which starts again from its checkpoint, `LIVES` times at most. Messages are JSON.
    """

    def __init__(self, workers: int, store: Store, device: str, listen: Listening, run: RunTrial | None = None) -> None:
        self.workers = workers
        self._store, self._device, self._listen, self._run = store, device, listen, run
        self._idle: list[_Worker] = []
        self._running: dict[Connection, _Worker] = {}
        self._deaths: dict[str, int] = {}

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
        while True:
            for ready in wait(list(self._running)):
                assert isinstance(ready, Connection)
                outcome = self._receive(self._running[ready])
                if outcome is not None:
                    return outcome

    def _receive(self, worker: _Worker) -> Outcome | None:
        assert worker.spec is not None
        try:
            message = json.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            return self._bury(worker)
        if "event" in message:
            self._listen(worker.spec, Event(**message["event"]))
            return None
        del self._running[worker.connection]
        self._idle.append(worker)
        result = message["result"] and TrialResult.model_validate(message["result"])
        return Outcome(worker.spec, result, message["error"])

    def _bury(self, worker: _Worker) -> Outcome | None:
        """Put another worker in the place of a dead one, and its trial in good hands while there is hope."""
        spec = worker.spec
        assert spec is not None
        del self._running[worker.connection]
        code = worker.stop()
        self._deaths[spec.id] = self._deaths.get(spec.id, 0) + 1
        if self._deaths[spec.id] < LIVES:
            self._listen(spec, Event("worker", message=f"a worker died ({_cause(code)}); its trial starts again"))
            self.submit(spec)
            return None
        return Outcome(spec, error=f"its worker died {LIVES} times, at last by {_cause(code)}")

    def _start(self) -> _Worker:
        taken = {worker.index for worker in [*self._idle, *self._running.values()]}
        index = next(i for i in range(self.workers) if i not in taken)
        return _Worker(index, self.workers, self._store, self._device, self._run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in [*self._idle, *self._running.values()]:
            worker.stop()
        self._idle.clear()
        self._running.clear()


class _Worker:
    """A process, the pipe to it, and the trial it is at."""

    def __init__(self, index: int, workers: int, store: Store, device: str, run: RunTrial | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.index = index
        self.spec: TrialSpec | None = None
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, store.root, index, workers, device, run), daemon=True
        )
        self._process.start()
        theirs.close()

    def begin(self, spec: TrialSpec) -> None:
        self.spec = spec
        with suppress(BrokenPipeError):  # died while idle: `wait` finds out and buries it
            self.connection.send_bytes(spec.model_dump_json().encode())

    def stop(self) -> int | None:
        """End it and return its exit code, negative for a signal."""
        self.connection.close()
        self._process.join(timeout=0.2)
        died = self._process.exitcode
        self._process.terminate()
        self._process.join(timeout=5)
        self._process.kill()
        self._process.join()
        return died


def _serve(
    connection: Connection, root: os.PathLike[str], index: int, workers: int, device: str, run: RunTrial | None
) -> None:
    """Body of a worker: trials in, events and outcomes out, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    _share_machine(workers)
    place = _place(index, device)
    store = Store(os.fspath(root))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            spec = TrialSpec.model_validate_json(connection.recv_bytes())
            outcome = attempt(spec, store, place, _Sender(connection), run)
            result = outcome.result and outcome.result.model_dump(mode="json")
            _send(connection, {"result": result, "error": outcome.error})


def _share_machine(workers: int) -> None:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // workers))


def _place(index: int, device: str) -> str:
    """Spread workers over the GPUs there are, unless the sweep names one."""
    import torch

    if device in ("auto", "cuda") and torch.cuda.device_count() > 1:
        return f"cuda:{index % torch.cuda.device_count()}"
    return device


class _Sender:
    """Passes on events: all changes of stage, and steps as often as people can read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last = ("", 0.0)

    def __call__(self, event: Event) -> None:
        stage, at = self._last
        now = time.monotonic()
        if event.stage != stage or event.message or now - at >= EVENT_INTERVAL:
            self._last = (event.stage, now)
            try:
                metrics = {name: float(value) for name, value in event.metrics.items()}
                _send(self._connection, {"event": {**vars(event), "metrics": metrics}})
            except OSError:
                os._exit(1)  # the parent is gone: its successor resumes this trial from the checkpoint


def _cause(code: int | None) -> str:
    """What an exit code means."""
    if code == -signal.SIGKILL:
        return "SIGKILL, perhaps for lack of memory"
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _send(connection: Connection, message: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())
