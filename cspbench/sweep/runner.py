"""A sweep from its file to its report: `run_sweep`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout
from rich.console import Console

from cspbench.config import SweepConfig
from cspbench.errors import ConfigError, CspbenchError, InterruptedSweepError
from cspbench.spec import DenseSpec, TrialSpec, content_id
from cspbench.store import Store, StudyFolder, read_json, write_json
from cspbench.sweep.early import stopped_at
from cspbench.sweep.jobs import JobTable
from cspbench.sweep.on_ray import RayExecutor
from cspbench.sweep.plan import Plan, resolve
from cspbench.sweep.servers import LOCAL, PatientStorage, Servers, shown
from cspbench.sweep.shared import DatabaseExecutor
from cspbench.sweep.study import Proposal, Study, open_study
from cspbench.sweep.sync import Logbook, describe
from cspbench.training.events import Event
from cspbench.trials.executors import Executor, TrialProgress, make_executor
from cspbench.trials.outcome import Outcome
from cspbench.trials.progress import Display, label_of, make_display
from cspbench.trials.queue import Job, TrialQueue
from cspbench.trials.records import TrialLog, read_result


class SweepBusyError(CspbenchError):
    """Another process works on the same study."""


class TooManyFailuresError(CspbenchError):
    """As many trials failed as `max_failures` allows."""


@dataclass
class Summary:
    """Result of one run of a sweep.

    Attributes:
        name: of the study.
        ended: trials that ended, by id.
        unresolved: settings whose values did not fit together, in words.
        parent_seconds: time spent in Optuna, MLflow and the study's files.
    """

    name: str
    ended: dict[str, Outcome] = field(default_factory=dict)
    unresolved: list[str] = field(default_factory=list)
    parent_seconds: float = 0.0

    @property
    def failures(self) -> list[str]:
        """Each trial that failed, and why."""
        failed = [f"{label_of(o.spec)}: {o.error}" for o in self.ended.values() if o.state == "failed"]
        return [*failed, *self.unresolved]


def run_sweep(
    config: SweepConfig,
    root: Store | Path | str = "runs",
    display: Display | None = None,
    executor: Executor | None = None,
    servers: Servers = LOCAL,
) -> Summary:
    """Run what is left to do of a sweep.

    Args:
        config: the checked sweep file, from `load_config`.
        root: folder of all results.
        display: shows progress; by default on stderr.
        executor: runs the trials; by default `config.workers` processes on this machine.
        servers: shared servers. With a database the trials are run by `cspbench worker` processes, anywhere.

    Returns:
        How its trials ended; `load_results` gives them as a DataFrame.

    Raises:
        CspbenchError: the device is absent, the corpus is unusable, the study belongs to something else or is busy, or
            a person interrupted the work. A failing trial does not raise: see `Summary.failures`.
    """
    if display is None:
        with make_display(Console(stderr=True)) as bars:
            return run_sweep(config, root, bars, executor, servers)
    store = Store(root)
    if servers.storage is not None:
        return _run_shared(config, store, display, servers)
    progress = _Progress(display)
    executor = executor or _executor(config, store, progress)
    display.note(f"sweep {config.name}: corpus {config.corpus.name}")
    plan = resolve(config, store, display.note)
    with study_lock(store.study(config.name)):
        study = open_study(plan, store)
        logbook = Logbook(store, config.name, _description(plan, store), display.note, servers.tracking)
        logbook.begin()
        return _run(plan, store, study, logbook, display, executor, progress)


def _executor(config: SweepConfig, store: Store, progress: TrialProgress) -> Executor:
    """Executor that a sweep file asks for."""
    if config.executor == "ray":
        if config.early_stopping is not None:
            raise ConfigError(
                "early_stopping needs trials that can reach the study, and tasks of Ray cannot: leave it out, or "
                "`executor: ray`; workers with --storage have it"
            )
        return RayExecutor(
            store, config.device, progress, config.resources, config.trial_timeout, config.system_metrics
        )
    return make_executor(
        config.workers,
        store,
        config.device,
        progress,
        config.trial_timeout,
        config.trials_per_gpu,
        answers=config.early_stopping is not None,
        system_metrics=config.system_metrics,
    )


def _run_shared(config: SweepConfig, store: Store, display: Display, servers: Servers) -> Summary:
    """Run a sweep whose trials are run by workers that share a database with it."""
    database = servers.storage
    assert database is not None
    if config.executor == "ray":
        raise ConfigError("with --storage, `cspbench worker` runs the trials: leave it out, or `executor: ray`")
    display.note(f"sweep {config.name}: corpus {config.corpus.name}, jobs in {shown(database)}")
    plan = resolve(config, store, display.note)
    table = JobTable(database, config.name, servers.grace)
    executor = DatabaseExecutor(table, store, display.note)
    table.make_tables(lambda: PatientStorage(database))
    with study_lock(store.study(config.name)), table.claim():
        ours = {"identity": content_id("sweep", plan.identity()), "home": _home(store.study(config.name))}
        known = table.find()
        # A sweep that was started from here may have grown; what may grow, its study decides.
        if known is not None and all(known.content.get(name) != value for name, value in ours.items()):
            raise ConfigError(f"{shown(database)} holds another sweep named '{config.name}': rename this one")
        study = open_study(plan, store, database)
        description = _description(plan, store)
        skip = executor.logged if servers.tracking is not None else None
        logbook = Logbook(store, config.name, description, display.note, servers.tracking, skip, table.alone)
        logbook.begin()
        content = ours | {"config": config.model_dump(mode="json"), "tracking": description, "grace": table.grace}
        table.announce(content)
        try:
            summary = _run(plan, store, study, logbook, display, executor)
        except TooManyFailuresError:
            table.end()
            raise
        table.end()
    return summary


def _home(folder: StudyFolder) -> str:
    """Return the id of a study's folder, made at first."""
    if not folder.home.is_file():
        write_json(folder.home, uuid4().hex)
    return str(read_json(folder.home))


def _run(
    plan: Plan,
    store: Store,
    study: Study,
    logbook: Logbook,
    display: Display,
    executor: Executor,
    progress: _Progress | None = None,
) -> Summary:
    for note in study.notes:
        display.note(note)
    sweep = _Sweep(plan, store, study, logbook, display)
    if progress is not None:
        progress.judge = sweep.judge
    try:
        with executor as running:
            sweep.run(running)
    except KeyboardInterrupt:
        logbook.finish("KILLED")
        raise InterruptedSweepError from None
    except BaseException:
        logbook.finish("FAILED")
        raise
    close_study(plan.config.name, store, logbook, display, complete=not sweep.summary.failures)
    return sweep.summary


def close_study(name: str, store: Store, logbook: Logbook, display: Display, complete: bool) -> None:
    """Write the report of a study, and close its run in MLflow with it; `complete` if no trial failed."""
    from cspbench.report.results import count_states
    from cspbench.report.write import write_report

    counts = {f"trials_{state}": float(count) for state, count in count_states(name, store).items()}
    files: list[Path] = []
    if counts.get("trials_complete"):
        display.note("writing the report")
        files = write_report(name, store)
    logbook.finish("FINISHED" if complete else "FAILED", counts, files)


class _Progress:
    """Shows events, and has evaluations of trials judged once there is a study."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self.judge: TrialProgress = lambda work, event: None

    def __call__(self, work: TrialSpec | DenseSpec, event: Event) -> None:
        self._display.event(work, event)
        if event.evaluation:
            self.judge(work, event)


class _Sweep:
    """Makes trials of the proposals of the study, and tells study and MLflow how they ended."""

    def __init__(self, plan: Plan, store: Store, study: Study, logbook: Logbook, display: Display) -> None:
        self.summary = Summary(plan.config.name)
        self._plan, self._store, self._study = plan, store, study
        self._logbook, self._display = logbook, display
        self._log = TrialLog(store.study(self.summary.name).trials)
        self._open: dict[int, dict[str, TrialSpec]] = {}  # by id, which takes a while to compute
        self._outcomes: dict[str, Outcome] = {}
        # A finished study, perhaps one made before there were controls, is left as it is.
        self._controls = plan.control_specs() if study.remaining else []

    def run(self, executor: Executor) -> None:
        if self._study.finished:
            self._display.note(f"{self._study.finished} settings had finished before")
        queue = TrialQueue(executor, self._store, self._display)
        total = self._to_run()
        dense = self._plan.dense_specs() if total else []
        for outcome in queue.run(self._jobs(), self._log, dense=dense, total=total):
            self._outcomes[outcome.spec.id] = self.summary.ended[outcome.spec.id] = outcome
            self._logbook.log(outcome)
            self._tell_complete()
            self._check_failures()
        self.summary.parent_seconds = queue.overhead_seconds
        if self._study.distinct < self._study.asked:
            rest = ": the search space holds no others; done" if self._study.exhausted else "; done"
            self._display.note(f"{self._study.asked} settings, {self._study.distinct} distinct{rest}")

    def judge(self, work: TrialSpec | DenseSpec, event: Event) -> None:
        """Stop a trial early if the rule of its study says so.

        Raises:
            StoppedEarly: it does.
        """
        id = work.id
        number = next((n for n, specs in self._open.items() if id in specs), None)
        if number is not None and self._study.should_stop(number, event):
            raise stopped_at(event)

    def _check_failures(self) -> None:
        failures, limit = self.summary.failures, self._plan.config.max_failures
        if limit is not None and len(failures) >= limit:
            shown = "\n".join(f"  {failure}" for failure in failures)
            raise TooManyFailuresError(
                f"stopped after {len(failures)} failures (max_failures); the same command retries them:\n{shown}"
            )

    def _to_run(self) -> int:
        """Number of trials of this run, at most, those that ended included."""
        known = {spec.id for spec in self._controls}.union(*self._open.values())
        return len(self.summary.ended.keys() | known) + self._study.to_run * len(self._plan.config.seeds)

    def _jobs(self) -> Iterator[Job]:
        """Controls, then trials of the study, asked for one by one; a trial that several settings mean runs once."""
        yield from map(Job, self._controls)
        while self._study.remaining:
            proposal = self._propose()
            if proposal is None:
                continue
            under_way = set().union(*self._open.values())
            specs = {spec.id: spec for spec in self._plan.specs(proposal.setting)}
            self._open[proposal.number] = specs
            if proposal.repeated:
                self._recall(specs)
                self._display.revise(self._to_run())
            for id, spec in specs.items():
                if id not in under_way and id not in self._outcomes:
                    yield Job(spec, proposal.number)
            self._tell_complete()

    @cached_property
    def _stopped_before(self) -> set[str]:
        """Ids of trials that were stopped early in an earlier run."""
        return {record.trial_id for record in self._log.records() if record.state == "stopped"}

    def _recall(self, specs: Mapping[str, TrialSpec]) -> None:
        """Take the outcomes of trials that finished, or were stopped early, in an earlier run of this sweep."""
        for id, spec in specs.items():
            folder = self._store.trial(id)
            if id not in self._outcomes and folder.finished:
                self._outcomes[id] = Outcome(spec, read_result(folder))
            elif id not in self._outcomes and id in self._stopped_before:
                self._outcomes[id] = Outcome(spec, stopped="an earlier evaluation")

    def _propose(self) -> Proposal | None:
        try:
            return self._study.ask()
        except ValueError as error:
            self.summary.unresolved.append(f"a setting was refused: {error}")
            self._display.note(self.summary.unresolved[-1])
            return None

    def _tell_complete(self) -> None:
        """Tell the study of every setting whose trials have all ended."""
        for number, specs in list(self._open.items()):
            outcomes = [self._outcomes[id] for id in specs if id in self._outcomes]
            if len(outcomes) == len(specs):
                self._study.tell(number, outcomes)
                del self._open[number]


@contextmanager
def study_lock(folder: StudyFolder) -> Iterator[None]:
    """Lock a study against other processes: under the lock, trials marked as running belong to a dead process."""
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.path / ".lock", timeout=0):
            yield
    except Timeout:
        where = folder.path
        raise SweepBusyError(f"another process is at work on the sweep in {where}: wait for it, or stop it") from None


def _description(plan: Plan, store: Store) -> dict[str, Any]:
    """Everything that MLflow is told of the sweep as a whole."""
    tags = {"synthetic": str(plan.synthetic).lower(), "corpus": plan.corpus.name}
    described = plan.space.describe()
    params = {"corpus": plan.corpus.name, "seeds": list(plan.config.seeds), "sampler": plan.config.sampler.name}
    params |= {"sparsity": described["sparsity"], "methods": list(described["methods"])}
    return describe(plan.identity(), tags, params, [store.study(plan.config.name).sweep])
