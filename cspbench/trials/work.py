"""One attempt at a trial, wherever it runs: a result or the reason why there is none."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from cspbench.errors import CspbenchError
from cspbench.result import TrialResult
from cspbench.spec import DenseSpec, TrialSpec
from cspbench.store import Store, write_atomic
from cspbench.training.events import Event, Listener

Listening = Callable[[TrialSpec, Event], None]
"""Receives the progress of a trial."""


class RunTrial(Protocol):
    """Signature of `cspbench.trials.run.run_trial`."""

    def __call__(self, spec: TrialSpec, store: Store, *, device: str, progress: Listener) -> TrialResult:
        """Return the result of a trial, which is on disk from then on."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: with a `result`, or with an `error` in words."""

    spec: TrialSpec
    result: TrialResult | None = None
    error: str | None = None


def attempt(spec: TrialSpec, store: Store, device: str, progress: Listener, run: RunTrial | None = None) -> Outcome:
    """Run a trial and turn whatever it raises into an outcome; the full story of a crash goes to ``error.txt``.

    Args:
        spec: what to run.
        store: where its folder lies.
        device: as in a sweep file.
        progress: receives events.
        run: stands in for `run_trial`.
    """
    story = store.trial(spec.id).error
    try:
        result = (run or _run_trial())(spec, store, device=device, progress=progress)
    except Exception as error:  # whatever it was, the other trials go on
        write_atomic(story, traceback.format_exc())
        if isinstance(error, CspbenchError):
            return Outcome(spec, error=str(error))
        return Outcome(spec, error=f"{type(error).__name__}: {error} (see {story})")
    story.unlink(missing_ok=True)
    return Outcome(spec, result)


def _run_trial() -> RunTrial:
    from cspbench.trials.run import run_trial

    return run_trial


def train_dense_models(specs: Iterable[DenseSpec], store: Store, device: str, progress: Listener) -> None:
    """Train what is not there yet of the dense recognisers that trials start from."""
    from cspbench.trials.run import train_dense

    for spec in {spec.id: spec for spec in specs}.values():
        train_dense(spec, store, device=device, progress=progress)
