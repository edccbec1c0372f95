"""Jobs of sweeps in a shared PostgreSQL database: trials that any worker may take, and how they ended.

The process of the sweep submits trials and collects their outcomes (`DatabaseExecutor`), workers take them. A job
belongs to the worker that took it until it has not been heard of for the sweep's grace period; then another takes it
over. Ownership is decided by single UPDATE statements, so that two workers never end the same job.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sqlalchemy import (
    URL,
    Column,
    Connection,
    CursorResult,
    Float,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    inspect,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from cspbench.errors import CspbenchError
from cspbench.machine import stop
from cspbench.spec import TrialSpec, content_id
from cspbench.sweep.servers import connect, patiently
from cspbench.trials.executors import MAX_ATTEMPTS

T = TypeVar("T")

KEEPALIVES = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}
"""Settings by which the server notices within half a minute that the holder of a lock is cut off."""

LINGER = 60.0
"""Seconds for which a claim is tried again after its connection was cut."""

SCHEMA_LOCK = 7_318_264_001
"""Key of the lock under which tables are made: processes that make them at the same time fail each other."""

WAITING, RUNNING, COMPLETE, FAILED = "waiting", "running", "complete", "failed"

_tables = MetaData()
_sweeps = Table(
    "cspbench_sweeps",
    _tables,
    Column("name", String, primary_key=True),
    Column("content", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("beat", Float, nullable=False),
)
_jobs = Table(
    "cspbench_jobs",
    _tables,
    Column("sweep", String, primary_key=True),
    Column("trial_id", String, primary_key=True),
    Column("place", Integer, Identity()),
    Column("spec", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("owner", String),
    Column("beat", Float),
    Column("attempts", Integer, nullable=False),
    Column("outcome", Text),
    Index("cspbench_jobs_by_state", "sweep", "state", "place"),  # what waits, and what runs, among all that has ended
)
_workers = Table(
    "cspbench_workers",
    _tables,
    Column("sweep", String, primary_key=True),
    Column("worker", String, primary_key=True),
    Column("beat", Float, nullable=False),
)
_now = func.extract("epoch", func.clock_timestamp())
"""The database's clock: those of the machines may differ."""


class StudyTakenError(CspbenchError):
    """Another process, perhaps on another machine, runs the same sweep."""


@dataclass(frozen=True)
class SharedSweep:
    """A sweep as workers see it.

    Attributes:
        content: what they need to know, as JSON.
        open: false once the sweep has ended.
        silent: seconds since its process was last heard of.
    """

    content: dict[str, Any]
    open: bool
    silent: float


class JobTable:
    """Jobs of one sweep.

    Args:
        url: of the database.
        sweep: its name.
        grace: seconds after which a silent worker counts as lost.
    """

    def __init__(self, url: URL, sweep: str, grace: float = 60.0) -> None:
        self.url, self.sweep, self.grace = url, sweep, grace
        self._engine = connect(url)
        self._claim: Connection | None = None

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the sweep against other processes that would run it; the claim goes when its holder dies.

        Raises:
            StudyTakenError: another process holds it.
        """
        try:
            patiently(self.url, self._take_claim)
            yield
        finally:
            self._drop_claim()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Exclude all others that do the same for this sweep, until left; the lock goes when its holder dies.

        Raises:
            SQLAlchemyError: the database cannot be reached.
        """
        with self._engine.begin() as connection:
            _notice_cuts(connection)
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _key("alone", self.sweep)})
            yield

    def _take_claim(self) -> None:
        self._drop_claim()
        self._claim = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        _notice_cuts(self._claim)
        if not self._claim.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _key("claim", self.sweep)}):
            raise StudyTakenError(f"another process runs the sweep '{self.sweep}': wait for it, or stop it")

    def _keep_claim(self) -> None:
        """Take the claim again if its connection was cut; the server may hold it for that a while longer."""
        if self._claim is None:
            return
        try:
            self._claim.scalar(text("SELECT 1"))
            return
        except DBAPIError:
            until = time.monotonic() + LINGER
        while True:
            try:
                return patiently(self.url, self._take_claim)
            except StudyTakenError:
                if time.monotonic() > until:
                    raise
            stop.check()
            time.sleep(1)

    def _drop_claim(self) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.invalidate()  # closes the connection, however it is, and so gives the claim back
            claim.close()

    def make_tables(self, more: Callable[[], object]) -> None:
        """Make the tables unless they are there, alone among all processes that share the database.

        Args:
            more: makes other tables in the same database.
        """

        def make(connection: Connection) -> None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})
            _tables.create_all(connection)
            more()

        self._do(make)

    def announce(self, content: dict[str, Any]) -> None:
        """Open the sweep for workers."""
        values = {"content": json.dumps(content), "state": "open", "beat": _now}
        statement = insert(_sweeps).values(name=self.sweep, **values)

        def write(connection: Connection) -> None:
            connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))

        self._do(write)

    def end(self) -> None:
        """Close the sweep: workers leave."""
        self._do(lambda c: c.execute(update(_sweeps).where(_sweeps.c.name == self.sweep).values(state="done")))

    def remove(self) -> None:
        """Remove the sweep, its jobs and its workers from the database."""

        def delete(connection: Connection) -> None:
            for table, name in ((_jobs, _jobs.c.sweep), (_workers, _workers.c.sweep), (_sweeps, _sweeps.c.name)):
                connection.execute(table.delete().where(name == self.sweep))

        self._do(delete)

    def submit(self, spec: TrialSpec) -> None:
        """Add a trial unless it is there; one that failed is to be run again."""
        values = {"spec": spec.model_dump_json(), "state": WAITING, "attempts": 0}
        statement = insert(_jobs).values(sweep=self.sweep, trial_id=spec.id, **values)
        again = update(_jobs).where(_jobs.c.sweep == self.sweep, _jobs.c.trial_id == spec.id, _jobs.c.state == FAILED)

        def write(connection: Connection) -> None:
            connection.execute(statement.on_conflict_do_nothing())
            connection.execute(again.values(state=WAITING, owner=None, attempts=0, outcome=None))

        self._do(write)

    def ended(self, trials: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the outcomes of those trials that have ended, by id; also shows workers that the sweep is alive.

        Raises:
            StudyTakenError: the claim was lost with its connection, and another process holds it now.
        """
        self._keep_claim()
        wanted = list(trials)

        def read(connection: Connection) -> dict[str, dict[str, Any]]:
            connection.execute(update(_sweeps).where(_sweeps.c.name == self.sweep).values(beat=_now))
            connection.execute(self._give_up())
            query = select(_jobs.c.trial_id, _jobs.c.outcome).where(
                _jobs.c.sweep == self.sweep, _jobs.c.state.in_([COMPLETE, FAILED]), _jobs.c.trial_id.in_(wanted)
            )
            return {id: json.loads(outcome) for id, outcome in connection.execute(query)}

        return self._do(read)

    def alive(self) -> int:
        """Return the number of workers."""
        query = select(func.count()).where(_workers.c.sweep == self.sweep, _workers.c.beat > _now - self.grace)
        return self._do(lambda connection: connection.scalar(query) or 0)

    def find(self) -> SharedSweep | None:
        """Return the sweep, or None where there is none of that name."""

        def read(connection: Connection) -> SharedSweep | None:
            if not inspect(connection).has_table(_sweeps.name):
                return None
            query = select(_sweeps.c.content, _sweeps.c.state, _now - _sweeps.c.beat)
            row = connection.execute(query.where(_sweeps.c.name == self.sweep)).first()
            return None if row is None else SharedSweep(json.loads(row[0]), row[1] == "open", float(row[2]))

        return self._do(read)

    def take(self, worker: str) -> TrialSpec | None:
        """Take a trial that waits, or one whose worker is lost; None if there is none.

        A worker runs one at a time: it gets the one that it holds already, if the answer to an earlier call was lost.
        """
        lost = (_jobs.c.state == RUNNING) & (_jobs.c.beat < _now - self.grace) & (_jobs.c.attempts < MAX_ATTEMPTS)
        free = select(_jobs.c.trial_id).where(_jobs.c.sweep == self.sweep, or_(_jobs.c.state == WAITING, lost))
        chosen = free.order_by(_jobs.c.place).limit(1).with_for_update(skip_locked=True).scalar_subquery()
        statement = (
            update(_jobs)
            .where(_jobs.c.sweep == self.sweep, _jobs.c.trial_id == chosen)
            .values(state=RUNNING, owner=worker, beat=_now, attempts=_jobs.c.attempts + 1)
            .returning(_jobs.c.spec)
        )
        held = select(_jobs.c.spec).where(*self._own(worker))
        spec = self._do(lambda connection: connection.scalar(held) or connection.scalar(statement))
        return None if spec is None else TrialSpec.model_validate_json(spec)

    def beat(self, worker: str) -> None:
        """Show that a worker, and what it runs, is alive."""
        values = {"beat": _now}
        row = insert(_workers).values(sweep=self.sweep, worker=worker, **values)

        def write(connection: Connection) -> None:
            connection.execute(row.on_conflict_do_update(index_elements=["sweep", "worker"], set_=values))
            connection.execute(update(_jobs).where(*self._own(worker)).values(**values))

        self._do(write)

    def holds(self, worker: str, trial: str) -> bool:
        """Return whether a trial still belongs to a worker."""
        query = select(func.count()).where(*self._own(worker), _jobs.c.trial_id == trial)
        return bool(self._do(lambda connection: connection.scalar(query)))

    def finish(self, worker: str, trial: str, outcome: dict[str, Any]) -> bool:
        """Record how a trial ended; returns False if it no longer belongs to the worker, and then records nothing.

        One that was stopped early is complete: it is not to be run again.
        """
        statement = update(_jobs).where(*self._own(worker), _jobs.c.trial_id == trial)
        state = FAILED if outcome["result"] is None and outcome.get("stopped") is None else COMPLETE
        statement = statement.values(state=state, outcome=json.dumps(outcome))
        return bool(self._do(lambda connection: cast(CursorResult[Any], connection.execute(statement)).rowcount))

    def leave(self, worker: str) -> None:
        """Give back what a worker has not finished, and take it off the list."""
        given_back = {"state": WAITING, "owner": None, "attempts": _jobs.c.attempts - 1}

        def write(connection: Connection) -> None:
            connection.execute(update(_jobs).where(*self._own(worker)).values(**given_back))
            connection.execute(_workers.delete().where(_workers.c.sweep == self.sweep, _workers.c.worker == worker))

        self._do(write)

    def _give_up(self) -> Any:
        """Statement that ends jobs whose workers were lost `MAX_ATTEMPTS` times."""
        outcome = {"result": None, "error": f"its worker was lost {MAX_ATTEMPTS} times", "reason": "killed"}
        hopeless = (_jobs.c.beat < _now - self.grace) & (_jobs.c.attempts >= MAX_ATTEMPTS)
        given_up = update(_jobs).where(_jobs.c.sweep == self.sweep, _jobs.c.state == RUNNING, hopeless)
        return given_up.values(state=FAILED, outcome=json.dumps(outcome))

    def _own(self, worker: str) -> tuple[Any, ...]:
        return _jobs.c.sweep == self.sweep, _jobs.c.owner == worker, _jobs.c.state == RUNNING

    def _do(self, transaction: Any) -> Any:
        def once() -> Any:
            with self._engine.begin() as connection:
                return transaction(connection)

        return patiently(self.url, once)


def _notice_cuts(connection: Connection) -> None:
    """Let the server notice within half a minute that the other end of a connection is cut off."""
    for setting, value in KEEPALIVES.items():
        connection.execute(text(f"SET {setting} = {value}"))


def _key(purpose: str, sweep: str) -> int:
    """Return the key of an advisory lock."""
    return int(content_id(purpose, sweep)[:15], 16)
