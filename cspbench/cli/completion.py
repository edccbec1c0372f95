"""What the shell completes: studies, trials, methods and corpora that are there. It stays silent about errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cspbench.store import Store

RUNS = Path("runs")


def studies(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the studies under --root."""
    return _starting(incomplete, _store(context).studies())


def trials(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of trials, and studies with their methods and sparsities: ``smoke``, ``smoke/csp``, ``smoke/csp@0.8``."""
    store = _store(context)
    ids = (path.name for path in store.root.glob("trials/*") if path.is_dir())
    study, _, rest = incomplete.partition("/")
    places = _settings(store, study, with_sparsity="@" in rest) if rest or "/" in incomplete else store.studies()
    return _starting(incomplete, [*places, *ids])


def methods(incomplete: str) -> list[str]:
    """Names of the pruning methods."""
    from cspbench.pruning.registry import methods as registry

    return _starting(incomplete, registry.names())


def corpora(incomplete: str) -> list[str]:
    """Names of the corpora."""
    from cspbench.corpora import corpora as registry

    return _starting(incomplete, registry.names())


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return sorted(name for name in set(names) if name.startswith(incomplete))


def _store(context: typer.Context) -> Store:
    from cspbench.store import Store

    return Store(context.params.get("root") or RUNS)


def _settings(store: Store, study: str, with_sparsity: bool) -> Iterator[str]:
    """Methods of a study, or its methods at their sparsities."""
    from cspbench.errors import CspbenchError
    from cspbench.trials.records import TrialLog

    with suppress(CspbenchError, OSError, KeyError):
        for record in TrialLog(store.study(study).trials).records():
            place = f"{study}/{record.spec['method']['name']}"
            yield f"{place}@{record.spec['sparsity']:g}" if with_sparsity else place
