"""Trials of a sweep run again: those that failed, or a single one."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from cspbench.config import SweepConfig
from cspbench.errors import ConfigError, did_you_mean
from cspbench.store import Store, read_object
from cspbench.sweep.runner import study_lock
from cspbench.trials.executors import Executor, make_executor
from cspbench.trials.outcome import Outcome
from cspbench.trials.progress import Display
from cspbench.trials.queue import Job, TrialQueue
from cspbench.trials.records import TrialLog

FAILED = "failed"


def retry(
    name: str, store: Store, display: Display, only: str = FAILED, executor: Executor | None = None
) -> list[Outcome]:
    """Run failed trials of a sweep again, and nothing else of it.

    The next run of the sweep tells their results to the study and to MLflow.

    Args:
        name: of the sweep.
        store: holds it.
        display: shows progress.
        only: ``failed`` for all trials that failed, or the id of one of them, or of one that was stopped early.
        executor: runs the trials; by default as many workers as the sweep has.

    Returns:
        How the trials ended.

    Raises:
        ConfigError: no such sweep, or no such trial that failed or was stopped.
    """
    folder = store.study(name)
    if not folder.sweep.is_file():
        raise ConfigError(f"{store.root} holds no sweep named '{name}'{did_you_mean(name, store.studies())}")
    config = _config(folder.sweep)
    with study_lock(folder):
        log = TrialLog(folder.trials)
        wanted = (FAILED,) if only == FAILED else (FAILED, "stopped")
        jobs = [Job(record.parse(), record.number) for record in log.records() if record.state in wanted]
        if only != FAILED:
            jobs = [job for job in jobs if job.spec.id == only]
            if not jobs:
                raise ConfigError(
                    f"sweep '{name}' has no failed or stopped trial '{only}'; see `cspbench results {name}`"
                )
        with executor or make_executor(
            config.workers,
            store,
            config.device,
            display.event,
            config.trial_timeout,
            config.trials_per_gpu,
            system_metrics=config.system_metrics,
        ) as running:
            queue = TrialQueue(running, store, display)
            return list(queue.run(jobs, log, dense=[job.spec.dense for job in jobs], total=len(jobs)))


def _config(path: Path) -> SweepConfig:
    """The sweep file of a study as it was resolved."""
    try:
        return SweepConfig.model_validate(read_object(path, "config")["config"])
    except ValidationError as error:
        raise ConfigError(f"{path} is no sweep that this cspbench can read: {error}") from error
