"""The loop that works through trials, shared by sweeps, comparisons and `cspbench trials run`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cspbench.machine import stop
from cspbench.spec import DenseSpec, TrialSpec
from cspbench.store import Store
from cspbench.trials.executors import Executor
from cspbench.trials.outcome import Outcome
from cspbench.trials.progress import Display
from cspbench.trials.records import TrialLog, read_result


@dataclass(frozen=True)
class Job:
    """A trial to run.

    Attributes:
        spec: the trial.
        number: of the setting it belongs to, for the log of its study.
    """

    spec: TrialSpec
    number: int | None = None


class TrialQueue:
    """Keeps an executor busy with trials, and logs and shows how each ends.

    Args:
        executor: runs the trials.
        store: keeps them; a trial that has a result there is not run again.
        display: shows progress.

    Attributes:
        overhead_seconds: time this process spent on anything but waiting for the executor.
    """

    def __init__(self, executor: Executor, store: Store, display: Display) -> None:
        self._executor, self._store, self._display = executor, store, display
        self._numbers: dict[str, int | None] = {}
        self.overhead_seconds = 0.0

    def run(self, jobs: Iterable[Job], log: TrialLog, *, dense: Iterable[DenseSpec], total: int) -> Iterator[Outcome]:
        """Run trials and yield how each ended, in the order in which they end.

        Args:
            jobs: asked for the next trial only when one can start, so that it may depend on earlier outcomes.
            log: receives a line when a trial starts and when it ends.
            dense: dense recognisers to train first, unless they are there.
            total: number of trials to announce.

        Raises:
            KeyboardInterrupt: a stop was requested; all trials under way have ended or stopped at a checkpoint.
        """
        self._executor.prepare(dense)
        self._display.expect(total)
        began, waited = time.monotonic(), 0.0
        waiting = iter(jobs)
        while True:
            while self._executor.free and not stop.requested() and (job := next(waiting, None)) is not None:
                self._numbers[job.spec.id] = job.number
                folder = self._store.trial(job.spec.id)
                if folder.finished:
                    yield self._settle(Outcome(job.spec, read_result(folder)), log, cached=True)
                else:
                    log.write(job.spec, "running", number=job.number)
                    self._executor.submit(job.spec)
            if not self._executor.busy:
                stop.check()
                break
            since = time.monotonic()
            outcome = self._executor.wait()
            waited += time.monotonic() - since
            yield self._settle(outcome, log, cached=False)
        self.overhead_seconds += time.monotonic() - began - waited

    def _settle(self, outcome: Outcome, log: TrialLog, cached: bool) -> Outcome:
        log.write(outcome.spec, outcome.state, outcome.error, self._numbers[outcome.spec.id])
        self._display.ended(outcome, cached)
        return outcome
