"""A comparison from its file to its tables: `run_comparison`.

A comparison is a list of trials and a folder of results. Each stage (tune, choose on dev, final, report) depends on
finished results alone, so it can be stopped anywhere, and run in parts or on several machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cspbench.comparison.config import ComparisonConfig
from cspbench.comparison.plan import ALL, ComparisonPlan, Subset, Task, resolve_comparison
from cspbench.comparison.selection import ComparisonRecords, Selection, chosen_settings, select_settings
from cspbench.comparison.tables import warnings, write_tables
from cspbench.errors import ConfigError, InterruptedSweepError
from cspbench.spec import TrialSpec
from cspbench.store import Store, write_json
from cspbench.sweep.runner import study_lock
from cspbench.sweep.sync import Logbook, describe
from cspbench.trials.executors import Executor, make_executor
from cspbench.trials.progress import Display, label_of
from cspbench.trials.queue import Job, TrialQueue
from cspbench.trials.records import TrialLog
from cspbench.trials.remote import take_in

if TYPE_CHECKING:
    from cspbench.comparison.report import Evaluation

Stage = Literal["tune", "final", "report"]
STAGES: tuple[Stage, ...] = ("tune", "final", "report")


@dataclass
class ComparisonSummary:
    """Result of one run of a comparison.

    Attributes:
        name: of the study.
        failures: each trial of this run that failed, and why.
        warnings: what a reader of the tables must know.
        files: tables written.
        comparison: what the finals say, once the report is written and one has finished.
    """

    name: str
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    comparison: Evaluation | None = None


def run_comparison(
    config: ComparisonConfig,
    store: Store,
    display: Display,
    executor: Executor | None = None,
    *,
    stages: Sequence[Stage] = STAGES,
    only: Subset = ALL,
    command: str = "",
    record: Path | None = None,
) -> ComparisonSummary:
    """Run what is left to do of a comparison.

    Args:
        config: the checked file.
        store: where everything goes.
        display: shows progress.
        executor: runs the trials; by default `config.workers` processes on this machine.
        stages: those to run, in their own order. Settings are chosen after tuning, whatever comes next.
        only: the part of the trials to run. The tables are of the whole comparison.
        command: the line that asked for it, for the summary.
        record: folder of a written comparison that supplies the finals which were not run here.

    Raises:
        ConfigError: finals are asked for whose settings cannot be chosen yet.
        CspbenchError: a corpus is unusable, the study is busy, or a person interrupted the work. A failing trial does
            not raise: see `ComparisonSummary.failures`.
    """
    executor = executor or make_executor(
        config.workers,
        store,
        config.device,
        display.event,
        config.trial_timeout,
        trials_per_gpu=config.trials_per_gpu,
    )
    plan = resolve_comparison(config, store, display.note)
    with study_lock(store.study(config.name)):
        write_json(store.study(config.name).comparison_file, config.model_dump(mode="json"))
        run = _Run(plan, store, display, command, record)
        try:
            with executor as running:
                run.stages(stages, only, TrialQueue(running, store, display))
        except KeyboardInterrupt:
            run.close("KILLED")
            raise InterruptedSweepError from None
        except BaseException:
            run.close("FAILED")
            raise
        run.close("FAILED" if run.summary.failures else "FINISHED")
    return run.summary


def missing_specs(
    config: ComparisonConfig, store: Store, display: Display, stages: Sequence[Stage] = STAGES, only: Subset = ALL
) -> list[TrialSpec]:
    """Return the trials left of the present stage: tuning until every trial of it has ended, then the finals.

    Asking for one stage by name lists its failed trials too.

    Raises:
        ConfigError: finals are asked for whose settings cannot be chosen yet.
    """
    plan, records = resolve_comparison(config, store, display.note), ComparisonRecords(store, config.name)
    tuning = plan.tuning_tasks(only)
    if "tune" in stages and ("final" not in stages or any(records.outcome(task) is None for task in tuning)):
        tasks = tuning
    else:
        choices = select_settings(plan, records)
        _refuse_undecided(plan, choices, only)
        tasks = plan.final_tasks(chosen_settings(choices), only)
    return [task.spec for task in _unfinished(tasks, records)]


def collect_comparison(config: ComparisonConfig, folder: Path, store: Store, display: Display) -> int:
    """Take trials that ran elsewhere into the store; what failed there is noted here. Returns how many belong to it.

    Raises:
        ConfigError: the folder holds no trials, or something that is none.
    """
    plan = resolve_comparison(config, store, display.note)
    with study_lock(store.study(config.name)):
        outcomes = {outcome.spec.id: outcome for outcome in take_in(folder, store)}
        records, known = ComparisonRecords(store, config.name), 0
        # Finals are known once settings are, and those may follow from what has just come in.
        for find in (plan.tuning_tasks, lambda: plan.final_tasks(chosen_settings(select_settings(plan, records)))):
            for task in find():
                outcome = outcomes.pop(task.spec.id, None)
                if outcome is not None:
                    known += 1
                    if records.result(task) is None or outcome.result is not None:
                        records.collect(task, outcome)
    if outcomes:
        display.note(
            f"{len(outcomes)} trials of {folder} are in the store now but belong to nothing in this comparison"
        )
    return known


class _Run:
    """Runs the stages of a comparison, and keeps its records and MLflow informed."""

    def __init__(self, plan: ComparisonPlan, store: Store, display: Display, command: str, record: Path | None) -> None:
        self.summary = ComparisonSummary(plan.config.name)
        self._plan, self._store, self._display = plan, store, display
        self._command, self._record = command, record
        self._records = ComparisonRecords(store, plan.config.name)
        self._logbook: Logbook | None = None

    def stages(self, stages: Sequence[Stage], only: Subset, queue: TrialQueue) -> None:
        if "tune" in stages:
            self._work("tuning", self._plan.tuning_tasks(only), queue, self._records.tuning)
        choices = select_settings(self._plan, self._records)
        if "final" in stages:
            _refuse_undecided(self._plan, choices, only)
            self._logbook = self._open_logbook()
            tasks = self._plan.final_tasks(chosen_settings(choices), only)
            self._work("finals", tasks, queue, self._records.finals)
        if "report" in stages:
            self._report(choices)

    def close(self, status: str) -> None:
        """Close the run of the comparison in MLflow, if one is open."""
        if self._logbook is not None:
            self._logbook.finish(status, files=self.summary.files)

    def _work(self, what: str, tasks: list[Task], queue: TrialQueue, log: TrialLog) -> None:
        """Run the tasks without a result; a trial that several tasks mean runs once."""
        self._records.adopt(tasks)
        left = {task.spec.id: task for task in _unfinished(tasks, self._records)}
        self._display.note(f"{what}: {len(tasks)} trials, {len(tasks) - len(left)} had finished before")
        jobs = [Job(task.spec, task.candidate) for task in left.values()]
        for outcome in queue.run(jobs, log, dense=[job.spec.dense for job in jobs], total=len(jobs)):
            self._records.note(outcome)
            if outcome.result is None:
                corpus = left[outcome.spec.id].corpus
                self.summary.failures.append(f"{corpus}: {label_of(outcome.spec)}: {outcome.error}")
            if self._logbook is not None:
                self._logbook.log(outcome)

    def _report(self, choices: list[Selection]) -> None:
        self._logbook = self._logbook or self._open_logbook()
        finals = self._plan.final_tasks(chosen_settings(choices))
        self._records.adopt(finals)
        for task in finals:
            outcome = self._records.outcome(task)
            if outcome is not None:  # logged already, unless it came from elsewhere or a kill came between
                self._logbook.log(outcome)
        self._display.note("writing the tables")
        self.summary.comparison, self.summary.files = write_tables(
            self._plan, choices, self._records, self._store, self._command, self._record
        )
        doubts = [*warnings(self._plan, choices, self._records)]
        if self._record is not None and self.summary.comparison is not None:
            from cspbench.comparison.record import differing_dense_models

            doubts += differing_dense_models(self.summary.comparison.finals)
        self.summary.warnings = list(dict.fromkeys(doubts))

    def _open_logbook(self) -> Logbook:
        plan, config = self._plan, self._plan.config
        corpora = [entry.key for entry in config.corpora]
        tags = {"synthetic": str(plan.synthetic).lower(), "corpus": ",".join(corpora)}
        content = config.model_dump(mode="json", exclude={"workers", "trials_per_gpu", "trial_timeout", "device"})
        params = {"corpora": corpora, "methods": [entry.key for entry in config.methods]}
        files = [self._store.study(config.name).comparison_file]
        logbook = Logbook(self._store, config.name, describe(content, tags, params, files), self._display.note)
        logbook.begin()
        return logbook


def _unfinished(tasks: list[Task], records: ComparisonRecords) -> list[Task]:
    """Return the tasks without a result, one for each trial."""
    return list({task.spec.id: task for task in tasks if records.result(task) is None}.values())


def _refuse_undecided(plan: ComparisonPlan, choices: list[Selection], only: Subset) -> None:
    """Finals wait for tuning: a setting must not depend on how far that happened to get."""
    wanted = plan.wanted_cells(only)
    undecided = [choice for choice in choices if choice.missing and choice.cell.key in wanted]
    if undecided:
        raise ConfigError(
            f"{sum(choice.missing for choice in undecided)} tuning trials have not ended, so nothing is chosen for "
            f"{', '.join(choice.cell.label for choice in undecided)}: run the stage `tune` first"
        )
