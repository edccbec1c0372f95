"""A sweep from its file to its report: `run_sweep`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from cspbench.config import SweepConfig
from cspbench.errors import CspbenchError
from cspbench.spec import TrialSpec
from cspbench.store import Store
from cspbench.sweep.plan import Plan, resolve
from cspbench.sweep.study import Proposal, Study, open_study
from cspbench.sweep.tracking import Tracker, open_client
from cspbench.trials.executors import Executor, make_executor, run_all
from cspbench.trials.progress import Display, label_of
from cspbench.trials.records import TrialLog
from cspbench.trials.work import Outcome, train_dense_models


class SweepBusyError(CspbenchError):
    """Another process is at work on the same study."""


class InterruptedSweepError(CspbenchError):
    """A person stopped the work; nothing finished is lost."""

    exit_code = 130


@dataclass
class Summary:
    """What a sweep did in this run.

    Attributes:
        name: of the study.
        ended: trials that ended, by id.
        unresolved: settings whose values did not fit together, in words.
        parent_seconds: what Optuna, MLflow and the study's files took.
    """

    name: str
    ended: dict[str, Outcome] = field(default_factory=dict)
    unresolved: list[str] = field(default_factory=list)
    parent_seconds: float = 0.0

    @property
    def overhead_seconds(self) -> float | None:
        """Mean seconds a trial outside training, evaluation and latency measurement; None if nothing was run."""
        ran = [o.result for o in self.ended.values() if o.result is not None]
        if not ran:
            return None
        return (self.parent_seconds + sum(result.overhead_seconds for result in ran)) / len(ran)

    @property
    def failures(self) -> list[str]:
        """Each trial that failed, and why."""
        failed = [f"{label_of(o.spec)}: {o.error}" for o in self.ended.values() if o.result is None]
        return [*failed, *self.unresolved]


def run_sweep(config: SweepConfig, store: Store, display: Display, executor: Executor | None = None) -> Summary:
    """Run what is left to do of a sweep.

    Args:
        config: the checked sweep file.
        store: where everything goes.
        display: is told what happens.
        executor: runs the trials; by default as `config.workers` says.

    Raises:
        CspbenchError: the corpus is unusable, the study belongs to something else or is busy, or a person
            interrupted the work. A failing trial does not raise: see `Summary.failures`.
    """
    display.note(f"sweep {config.name}: corpus {config.corpus.name}")
    plan = resolve(config, store, display.note)
    with alone(store.study(config.name).path):
        study = open_study(plan, store)
        tracker = _open_tracker(plan, store)
        executor = executor or make_executor(
            config.workers, store, config.device, lambda spec, event: display.event(label_of(spec), event)
        )
        sweep = _Sweep(plan, store, study, tracker, display)
        try:
            train_dense_models(plan.dense_specs(), store, config.device, lambda e: display.event("dense model", e))
            with executor:
                sweep.run(executor)
        except KeyboardInterrupt:
            tracker.finish("KILLED")
            raise InterruptedSweepError("stopped; the same command goes on from here") from None
        except BaseException:
            tracker.finish("FAILED")
            raise
        close_study(config.name, store, tracker, display, complete=not sweep.summary.failures)
    return sweep.summary


def close_study(name: str, store: Store, tracker: Tracker, display: Display, complete: bool) -> None:
    """Write the report of a study, and close its run in MLflow with it; `complete` if no trial failed."""
    from cspbench.report.results import load_results
    from cspbench.report.write import write_report

    frame = load_results(name, store.root)
    counts = {f"trials_{state}": float(count) for state, count in frame["state"].value_counts().items()}
    files: list[Path] = []
    if counts.get("trials_complete"):
        display.note("writing the report")
        files = write_report(name, store)
    tracker.finish("FINISHED" if complete else "FAILED", counts, files)


class _Sweep:
    """Carries specs from the study to the executor, and outcomes back to study, log and MLflow."""

    def __init__(self, plan: Plan, store: Store, study: Study, tracker: Tracker, display: Display) -> None:
        self.summary = Summary(plan.config.name)
        self._plan, self._store, self._study = plan, store, study
        self._tracker, self._display = tracker, display
        self._log = TrialLog(store.study(plan.config.name).trials)
        self._open: dict[int, list[TrialSpec]] = {}
        self._cached: set[str] = set()

    def run(self, executor: Executor) -> None:
        if self._study.finished:
            self._display.note(f"{self._study.finished} settings had finished before")
        self._display.expect(self._study.remaining * len(self._plan.config.seeds))
        for outcome in run_all(self._specs(), executor):
            with self._overhead():
                self._settle(outcome)

    @contextmanager
    def _overhead(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.summary.parent_seconds += time.monotonic() - began

    def _specs(self) -> Iterator[TrialSpec]:
        """Trials to run, asked for one by one; a trial that several settings mean runs once."""
        while self._study.remaining:
            with self._overhead():
                proposal = self._propose()
            if proposal is None:
                continue
            under_way = {spec.id for specs in self._open.values() for spec in specs}
            specs = self._open[proposal.number] = self._plan.specs(proposal.setting)
            for spec in specs:
                if spec.id not in under_way and spec.id not in self.summary.ended:
                    self._begin(spec, proposal.number)
                    yield spec
            self._close_complete()

    def _propose(self) -> Proposal | None:
        try:
            return self._study.ask()
        except ValueError as error:
            self.summary.unresolved.append(f"a setting was refused: {error}")
            self._display.note(self.summary.unresolved[-1])
            return None

    def _begin(self, spec: TrialSpec, number: int) -> None:
        if self._store.trial(spec.id).finished:
            self._cached.add(spec.id)
        self._log.write(spec, "running", number=number)

    def _settle(self, outcome: Outcome) -> None:
        spec = outcome.spec
        number = next(n for n, specs in self._open.items() if any(s.id == spec.id for s in specs))
        self._log.write(spec, "failed" if outcome.result is None else "complete", outcome.error, number)
        self.summary.ended[spec.id] = outcome
        self._tracker.log(outcome)
        self._display.ended(outcome, cached=spec.id in self._cached)
        self._close_complete()

    def _close_complete(self) -> None:
        """Tell the study of every setting whose trials have all ended."""
        for number, specs in list(self._open.items()):
            outcomes = [self.summary.ended.get(spec.id) for spec in specs]
            results = [o.result for o in outcomes if o is not None and o.result is not None]
            if all(o is not None for o in outcomes):
                self._study.tell(number, results if len(results) == len(outcomes) else None)
                del self._open[number]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Have a study to oneself: what is marked as running in it then belongs to a dead process."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise SweepBusyError(f"another process is at work on the sweep in {folder}: wait for it, or stop it") from None


def _open_tracker(plan: Plan, store: Store) -> Tracker:
    name = plan.config.name
    tags = {"synthetic": str(plan.synthetic).lower(), "corpus": plan.corpus.name}
    tracker = Tracker(open_client(store), store, name, plan.identity(), tags)
    described = plan.space.describe()
    params = {"corpus": plan.corpus.name, "seeds": plan.config.seeds, "sampler": plan.config.sampler.name}
    tracker.log_sweep(
        params | {"sparsity": described["sparsity"], "methods": list(described["methods"])},
        [store.study(name).sweep],
    )
    return tracker
