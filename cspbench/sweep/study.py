"""The study of a sweep: one search over everything, or one in each cell of method and sparsity.

Only the process of the sweep uses it: workers run trials and know no study.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from sqlalchemy import URL, make_url

from cspbench.store import Store
from cspbench.sweep.changes import claim, write_claim
from cspbench.sweep.database import create_database, other_schema, sqlite_url
from cspbench.sweep.merge import merge
from cspbench.sweep.plan import Plan
from cspbench.sweep.search import Search, open_search
from cspbench.sweep.servers import PatientStorage
from cspbench.sweep.space import Setting
from cspbench.sweep.warm import known_settings
from cspbench.training.events import Event
from cspbench.trials.outcome import Outcome


@dataclass(frozen=True)
class Proposal:
    """A setting to run.

    Attributes:
        number: of the setting in the study.
        setting: the setting.
        repeated: true if the study has had the same one.
    """

    number: int
    setting: Setting
    repeated: bool = False


class Study:
    """The searches of a sweep, opened by `open_study`.

    Attributes:
        notes: lines about opening it that a person should see.
        finished: settings that had finished before it was opened.
    """

    def __init__(self, searches: Sequence[Search], notes: Sequence[str] = ()) -> None:
        self._searches, self.notes = searches, notes
        self.finished = sum(search.finished for search in searches)

    @property
    def asked(self) -> int:
        """Number of settings proposed in all, repeated ones included."""
        return sum(search.asked for search in self._searches)

    @property
    def distinct(self) -> int:
        """Number of different settings proposed."""
        return sum(search.distinct for search in self._searches)

    @property
    def exhausted(self) -> bool:
        """True once every setting of a finite space has been proposed."""
        return all(search.exhausted for search in self._searches)

    @property
    def remaining(self) -> int:
        """Number of settings still to be proposed."""
        return sum(search.remaining for search in self._searches)

    @property
    def to_run(self) -> int:
        """Number of settings still to be run, at most."""
        return sum(search.to_run for search in self._searches)

    def ask(self) -> Proposal:
        """Propose the next setting; the search that has had the fewest comes first.

        Raises:
            pydantic.ValidationError: the values drawn do not fit together; the study has been told.
        """
        open_ones = [index for index, search in enumerate(self._searches) if search.remaining]
        index = min(open_ones, key=lambda index: self._searches[index].asked)
        number, setting, repeated = self._searches[index].ask()
        return Proposal(number * len(self._searches) + index, setting, repeated)

    def should_stop(self, number: int, event: Event) -> bool:
        """Report the evaluation at the end of an epoch of a trial; return whether it is to be stopped early."""
        inner, index = divmod(number, len(self._searches))
        return self._searches[index].should_stop(inner, event)

    def tell(self, number: int, outcomes: Sequence[Outcome]) -> None:
        """Report how the trials of a setting ended, one a seed; if any failed, the setting has, for the same reason."""
        inner, index = divmod(number, len(self._searches))
        self._searches[index].tell(inner, outcomes)


def open_study(plan: Plan, store: Store, database: URL | None = None) -> Study:
    """Create or resume the study of a plan.

    Args:
        plan: of the sweep.
        store: keeps what belongs to it.
        database: shared database of the study; None for one in its folder.

    Raises:
        ConfigError: the folder holds a study of something else.
        DatabaseError: the database was made by another version of Optuna, stays locked, or its disk is full.
    """
    folder = store.study(plan.config.name)
    before = claim(folder, plan)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = _open_storage(folder.optuna) if database is None else PatientStorage(database)
    notes = []
    kept = merge(storage, plan, before)
    if before is not None:
        write_claim(folder, plan)
        notes.append(f"the search space has changed: {kept} settings that had finished are part of it")
    searches = [open_search(storage, name, space, plan.config) for name, space in plan.searches().items()]
    return Study(searches, [*notes, *_warm_up(searches, plan.config.warm_start, store)])


def _warm_up(searches: Sequence[Search], source: str | None, store: Store) -> Iterator[str]:
    if source is not None and sum(search.asked for search in searches) == 0:
        known = known_settings(source, store)
        told = sum(search.warm_up(source, known) for search in searches)
        yield f"warm start from {source}: the sampler is told {told} of its {len(known)} settings; the rest do not fit"


def _open_storage(path: Path) -> optuna.storages.RDBStorage:
    create_database(path, lambda address: PatientStorage(make_url(address)))
    try:
        return PatientStorage(make_url(sqlite_url(path)))
    except RuntimeError as error:  # what Optuna raises for the schema of another version
        raise other_schema(path, "Optuna", "optuna storage upgrade --storage") from error
