"""MLflow kept in step with results on disk, also when its server or database is gone for a while.

Results are on disk before they are logged. What cannot be logged is tried again with growing pauses, and at last left
to `cspbench sync`.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from cspbench.errors import ConfigError, did_you_mean
from cspbench.store import Store, read_object, write_json
from cspbench.sweep.database import DatabaseError
from cspbench.sweep.tracking import Tracker, open_client
from cspbench.trials.outcome import Outcome
from cspbench.trials.records import TrialLog, read_result

SHORTEST, LONGEST = 1.0, 60.0
"""Seconds between two tries, doubled from one to the next."""

LAST_TRIES = 3
"""Tries at the end of a sweep."""


def describe(content: Any, tags: Mapping[str, str], params: Mapping[str, Any], files: Iterable[Path]) -> dict[str, Any]:
    """Return all that MLflow is told of a study as a whole, as JSON.

    Args:
        content: what the study stands for; the same content goes on in the same parent run.
        tags: of all its runs.
        params: of its parent run.
        files: artifacts of its parent run, by name in its folder.
    """
    return {
        "content": content,
        "tags": dict(tags),
        "params": dict(params),
        "files": [path.name for path in files],
        "end": None,
    }


class Logbook:
    """A study's log in MLflow that outlives absences of the server.

    Args:
        store: where trials lie.
        name: of the study.
        description: from `describe`; kept in the study's folder for `sync`.
        note: receives plain lines.
        server: address of an MLflow server; None for the database in the store.
        skip: tells which trials are logged by whoever ran them.
        alone: excludes other processes that log trials of the study, see `Tracker`.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        description: dict[str, Any],
        note: Callable[[str], None],
        server: str | None = None,
        skip: Callable[[str], bool] | None = None,
        alone: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._store, self._name, self._description = store, name, description
        self._note, self._server, self._skip, self._alone = note, server, skip, alone
        self._tracker: Tracker | None = None
        self._pending: dict[str, Outcome] = {}
        self._pause, self._next = SHORTEST, 0.0
        self._told = self._begun = False

    def begin(self) -> None:
        """Log the study as a whole.

        Raises:
            DatabaseError: MLflow's database in the store cannot be used as it is.
        """
        write_json(self._store.study(self._name).tracking, self._description)
        self._attempt(self._push)
        self._begun = True

    def log(self, outcome: Outcome) -> None:
        """Log how a trial ended, now or later."""
        if self._skip is None or not self._skip(outcome.spec.id):
            self._pending[outcome.spec.id] = outcome
            if self._skip is not None:
                self._tracker = None  # others log as well: their runs are looked up again
        if self._pending and time.monotonic() >= self._next:
            self._attempt(self._push)

    def log_now(self, outcome: Outcome) -> bool:
        """Log how a trial ended and return whether that succeeded; it is not tried again."""
        return self._try_last(lambda: self._log_one(outcome))

    def _log_one(self, outcome: Outcome) -> None:
        """Log a trial of a study that others log as well."""
        id = outcome.spec.id
        open_tracker(self._store, self._name, self._description, self._server, id, self._alone).log(outcome)

    def finish(self, status: str, metrics: Mapping[str, float] | None = None, files: Iterable[Path] = ()) -> None:
        """Close the parent run, see `Tracker.finish`; says what could not be logged."""
        end = {"status": status, "metrics": dict(metrics or {}), "files": [str(path) for path in files]}
        self._description = {**self._description, "end": end}
        write_json(self._store.study(self._name).tracking, self._description)

        def close() -> None:
            self._push()
            self._open().finish(status, metrics, files)

        if self._try_last(close):
            return
        count = len(self._pending)
        self._note(
            f"MLflow lacks {count} trial{'s' * (count != 1)} and the end of this run; "
            f"`{sync_command(self._store, self._name, self._server)}` logs them when it is back"
        )

    def _push(self) -> None:
        tracker = self._open()
        for id in list(self._pending):
            tracker.log(self._pending[id])
            del self._pending[id]

    def _open(self) -> Tracker:
        if self._tracker is None:
            self._tracker = open_tracker(self._store, self._name, self._description, self._server, alone=self._alone)
        return self._tracker

    def _try_last(self, action: Callable[[], None]) -> bool:
        """Attempt what is not tried again later, `LAST_TRIES` times; return whether it succeeded."""
        for attempt in range(LAST_TRIES):
            if attempt:
                time.sleep(self._pause)
            if self._attempt(action):
                return True
        return False

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Return whether an action on MLflow succeeded; if not, the next one comes after a pause."""
        from mlflow.exceptions import MlflowException

        try:
            action()
        except (MlflowException, SQLAlchemyError, OSError, DatabaseError) as error:
            if isinstance(error, DatabaseError) and not self._begun:
                raise
            self._tracker = None  # opened anew, it sees runs that were logged by half
            self._next = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST)
            if not self._told:
                reason = str(error).strip().splitlines()[0][:200]
                self._note(f"MLflow cannot be reached ({reason}); the work goes on, and results are kept")
                self._told = True
            return False
        self._pause, self._told = SHORTEST, False
        return True


def open_tracker(
    store: Store,
    name: str,
    description: Mapping[str, Any],
    server: str | None,
    only: str | None = None,
    alone: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Tracker:
    """Return the tracker of a study that `describe` described; see `Tracker` for `only` and `alone`."""
    client = open_client(store, server)
    tracker = Tracker(client, store, name, description["content"], description["tags"], only, alone)
    if only is not None:
        return tracker
    folder = store.study(name).path
    files = [folder / file for file in description["files"]]
    tracker.log_sweep(description["params"], [path for path in files if path.is_file()])
    return tracker


def sync_command(store: Store, name: str, server: str | None) -> str:
    """Return the line a person types to log what MLflow lacks of a study."""
    words = ["cspbench", "sync", name, "--root", str(store.root)]
    return shlex.join([*words, "--tracking-uri", server] if server is not None else words)


def sync(name: str, store: Store, server: str | None = None) -> int:
    """Log in MLflow what it lacks of a study: trials that ended, and the end of its last run.

    Args:
        name: of the study.
        store: holds it.
        server: address of an MLflow server; None for the database in the store.

    Returns:
        Number of trials that were logged.

    Raises:
        ConfigError: no such study, or one that was never to be logged.
    """
    folder = store.study(name)
    if not folder.tracking.is_file():
        raise ConfigError(f"{store.root} has nothing to log of '{name}'{did_you_mean(name, store.studies())}")
    description = read_object(folder.tracking, "content", "tags", "params", "files", "end")
    tracker = open_tracker(store, name, description, server)
    count = 0
    for record in TrialLog(folder.trials).records():
        trial = store.trial(record.trial_id)
        if trial.finished:
            count += tracker.log(Outcome(record.parse(), read_result(trial)))
        elif record.state == "failed":
            count += tracker.log(Outcome(record.parse(), error=record.error or "failed"))
        elif record.state == "stopped":
            count += tracker.log(Outcome(record.parse(), stopped="early"))
    if (end := description["end"]) is not None:
        files = [Path(path) for path in end["files"]]
        tracker.finish(end["status"], end["metrics"], [path for path in files if path.is_file()])
    return count
