"""Executor of a sweep whose trials are run by `cspbench worker` processes, on any machines."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from cspbench.machine import stop
from cspbench.spec import DenseSpec, TrialSpec
from cspbench.store import Store, TrialFolder, write_atomic
from cspbench.sweep.jobs import JobTable
from cspbench.trials.outcome import Outcome

POLL = 0.2
"""Seconds between two looks at the jobs."""

LONELY = 10.0
"""Seconds without any worker after which a person is told how to start one."""


class DatabaseExecutor:
    """Submits trials to a job table and collects how they ended; each worker has one trial at a time.

    The records of a trial come with its outcome, so that no disk needs to be shared: all files but the weights.

    Args:
        table: of the sweep.
        store: receives the records.
        note: receives plain lines.
    """

    def __init__(self, table: JobTable, store: Store, note: Callable[[str], None]) -> None:
        self._table, self._store, self._note = table, store, note
        self._open: dict[str, TrialSpec] = {}
        self._ended: list[Outcome] = []
        self._logged: set[str] = set()
        self.workers = 1

    def prepare(self, dense: Iterable[DenseSpec]) -> None:
        """Do nothing: every worker trains the dense recognisers that it does not have."""

    @property
    def free(self) -> int:
        return max(self.workers, 1) - len(self._open)

    @property
    def busy(self) -> bool:
        return bool(self._open or self._ended)  # several may end between two looks

    def submit(self, spec: TrialSpec) -> None:
        self._table.submit(spec)
        self._open[spec.id] = spec

    def logged(self, trial: str) -> bool:
        """Return whether the worker of a trial has logged it in MLflow."""
        return trial in self._logged

    def wait(self) -> Outcome:
        alone_since, told = time.monotonic(), False
        while not self._ended:
            stop.check()
            for id, found in self._table.ended(self._open).items():
                self._ended.append(self._collect(self._open.pop(id), found))
            self.workers = self._table.alive()
            if self.workers:
                alone_since, told = time.monotonic(), False
            elif not told and time.monotonic() - alone_since > LONELY:
                self._note(f"no worker is there: start some with `cspbench worker {self._table.sweep}`")
                told = True
            if not self._ended:
                select.select([stop.descriptor()], [], [], POLL)
        return self._ended.pop(0)

    def _collect(self, spec: TrialSpec, found: dict[str, Any]) -> Outcome:
        if found.get("logged"):
            self._logged.add(spec.id)
        keep_records(self._store.trial(spec.id), found.get("records", {}))
        return Outcome.of_message(spec, found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def read_records(folder: TrialFolder) -> dict[str, str]:
    """Return the records of a trial: the text of all its files but those of the model, by name."""
    return {path.name: path.read_text(encoding="utf-8") for path in _records(folder) if path.is_file()}


def keep_records(folder: TrialFolder, records: dict[str, str]) -> None:
    """Write the records of a trial unless its result is there; the result is written last."""
    if not folder.finished:
        for path in _records(folder):  # by our own names, whatever others the records have
            if path.name in records:
                write_atomic(path, records[path.name])


def _records(folder: TrialFolder) -> list[Path]:
    files = [folder.spec, folder.environment, folder.curve, folder.hypotheses, folder.training, folder.evaluation]
    return [*files, folder.size, folder.latency, folder.error, folder.result]
