"""The Optuna study of a sweep: proposes settings, is told their results, and survives a kill.

Only the process of the sweep uses it: workers run trials and know no study.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import TrialState

from cspbench.config import SweepConfig
from cspbench.constraints import Constraint
from cspbench.errors import ConfigError
from cspbench.hyper import flatten
from cspbench.result import TrialResult
from cspbench.store import Store, StudyFolder, read_json, write_json
from cspbench.sweep.database import create_database, other_schema, sqlite_url
from cspbench.sweep.plan import Plan
from cspbench.sweep.space import Setting
from cspbench.trials.outcome import FailureReason, Outcome

REPLACES = "replaces"
"""User attribute of a trial that repeats one that was killed or failed: the number of that."""

LONGEST_ERROR = 1000
"""Characters of an error that are kept with a failed trial: the whole is in the list of trials."""

SHOWN = 8
"""Differences listed when a sweep file has changed."""


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
    """A study on disk, opened by `open_study`.

    Attributes:
        finished: settings that had finished before it was opened.
        asked: settings proposed in all, repeated ones included.
    """

    def __init__(self, plan: Plan, study: optuna.Study) -> None:
        self._plan, self._study = plan, study
        trials = study.get_trials(deepcopy=False)
        replaced = {trial.user_attrs.get(REPLACES) for trial in trials}
        finished = [trial for trial in trials if trial.state.is_finished() and trial.number not in replaced]
        self.finished = self.asked = len(finished)
        self._seen = {_values(trial.params) for trial in finished}
        self._size = plan.space.size()
        self._asked: dict[int, optuna.Trial] = {}
        self._unfinished = deque(study.get_trials(deepcopy=False, states=[TrialState.RUNNING]))

    @property
    def distinct(self) -> int:
        """Number of different settings proposed."""
        return len(self._seen)

    @property
    def exhausted(self) -> bool:
        """True once every setting of a finite space has been proposed."""
        return self.distinct == self._size

    @property
    def remaining(self) -> int:
        """Number of settings still to be proposed; once the space is exhausted, those that a dead process left."""
        return len(self._unfinished) if self.exhausted else max(0, _target(self._plan) - self.asked)

    @property
    def to_run(self) -> int:
        """Number of settings still to be run, at most: in a finite space some of `remaining` are sure to repeat."""
        return self.remaining if self._size is None else min(self.remaining, self._size - self.distinct)

    def ask(self) -> Proposal:
        """Propose the next setting.

        Raises:
            pydantic.ValidationError: the values drawn do not fit together; the study has been told.
        """
        self.asked += 1
        if self._unfinished:
            # Taken over rather than queued again, so that it keeps its place and its values.
            trial = optuna.trial.Trial(self._study, self._unfinished.popleft()._trial_id)
        else:
            trial = self._study.ask()
        try:
            setting = self._plan.space.suggest(trial)
        except ValueError as error:
            self._fail(trial, "refused", str(error))
            raise
        finally:
            values = _values(trial.params)
            repeated = values in self._seen
            self._seen.add(values)
        self._asked[trial.number] = trial
        return Proposal(trial.number, setting, repeated)

    def tell(self, number: int, outcomes: Sequence[Outcome]) -> None:
        """Report how the trials of a setting ended, one a seed; if any failed, the setting has, for the same reason."""
        trial = self._asked.pop(number)
        results = [outcome.result for outcome in outcomes if outcome.result is not None]
        if len(results) == len(outcomes):
            for name, violation in _violations(results, self._plan.config.bounds()).items():
                trial.set_constraint(name, violation)
            self._study.tell(trial, [_mean(results, name) for name in self._plan.config.objectives])
            return
        first = next(outcome for outcome in outcomes if outcome.result is None)
        self._fail(trial, first.reason, first.error)

    def _fail(self, trial: optuna.Trial, reason: FailureReason | None, error: str | None) -> None:
        trial.set_user_attr("failure", reason)
        trial.set_user_attr("error", (error or "")[:LONGEST_ERROR])
        self._study.tell(trial, state=TrialState.FAIL)


def objective(result: TrialResult, name: str) -> float:
    """Return a quantity to minimise: dev WER (never test), median latency, or bytes of the smallest packed file."""
    if name == "latency":
        assert result.latency is not None  # trials of a sweep measure it
        return result.latency.packed.median_ms
    return result.dev.wer if name == "wer" else float(result.size_bytes)


def open_study(plan: Plan, store: Store) -> Study:
    """Create or resume the study of a plan.

    Settings that ran when the last process died come first, then those that failed.

    Raises:
        ConfigError: the folder holds a study of something else.
        DatabaseError: the database was made by another version of Optuna.
    """
    folder = store.study(plan.config.name)
    _claim(folder, plan)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=_open_storage(folder.optuna),
        study_name=plan.config.name,
        directions=["minimize"] * len(plan.config.objectives),
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # qmc and nsga3 have been so for years
        study.sampler = _sampler(plan.config, len(study.get_trials(deepcopy=False)))
    if plan.config.sampler.name == "grid":
        _enqueue_grid(study, plan)
    _reopen_failed(study)
    return Study(plan, study)


def _open_storage(path: Path) -> optuna.storages.RDBStorage:
    def connect(address: str) -> optuna.storages.RDBStorage:
        return optuna.storages.RDBStorage(address, engine_kwargs={"connect_args": {"timeout": 60}})

    create_database(path, connect)
    try:
        return connect(sqlite_url(path))
    except RuntimeError as error:  # what Optuna raises for the schema of another version
        raise other_schema(path, "Optuna", "optuna storage upgrade --storage") from error


def _claim(folder: StudyFolder, plan: Plan) -> None:
    path = folder.sweep
    if path.exists():
        changes = _changes(read_json(path), plan)
        if changes:
            more = [f"and {len(changes) - SHOWN} more"] if len(changes) > SHOWN else []
            raise ConfigError(
                f"{folder.path} holds a study named '{plan.config.name}' of something else:\n"
                + "\n".join(f"  {change}" for change in [*changes[:SHOWN], *more])
                + "\nGive this sweep another name, or delete that folder: finished trials lie elsewhere and are reused."
            )
    described = {"identity": plan.identity(), "version": plan.version, "config": plan.config.model_dump(mode="json")}
    write_json(path, described)


def _changes(known: Mapping[str, Any], plan: Plan) -> list[str]:
    """Differences between a study on disk and a plan.

    A study of an earlier schema version is compared as that version would have described the plan; hyperparameters that
    the file leaves to their defaults may have other defaults since, and belong to the trials that are still to run.
    """
    version = known.get("version", 1)
    changes = list(_differences(known["identity"], plan.identity(version)))
    if version == plan.version:
        return changes
    written = {(entry.name, name) for entry in plan.config.methods for name in flatten(entry.params)}
    added = [f"{name}: new" for name in plan.newer_fields(version)]
    return added + [change for change in changes if not change.endswith(": new") and not _of_default(change, written)]


def _of_default(change: str, written: Collection[tuple[str, str]]) -> bool:
    """True for a fixed hyperparameter that the sweep file leaves to its default; `written` are those it sets."""
    found = re.match(r"space\.methods\.([^.]+)\.fixed\.([^:]+): ", change)
    return found is not None and found.groups() not in written


def _differences(old: Any, new: Any, at: str = "") -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            inner = f"{at}.{key}" if at else key
            if key not in old or key not in new:
                yield f"{inner}: {'new' if key in new else 'gone'}"
            else:
                yield from _differences(old[key], new[key], inner)
    elif old != new:
        yield f"{at}: was {old}, is {new}"


def _target(plan: Plan) -> int:
    config = plan.config
    if config.sampler.name != "grid":
        assert config.trials is not None  # the rules of a sweep file see to it
        return config.trials
    size = len(plan.space.grid())
    return size if config.trials is None else min(size, config.trials)


def _sampler(config: SweepConfig, asked: int) -> optuna.samplers.BaseSampler:
    """Sampler seeded by how many trials there are: a resumed study must not draw its first settings again."""
    seed = int.from_bytes(hashlib.sha256(f"{config.sampler.seed}/{asked}".encode()).digest()[:4], "big")
    random = optuna.samplers.RandomSampler(seed=seed)
    match config.sampler.name:
        case "tpe":
            return optuna.samplers.TPESampler(seed=seed)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed)
        case "nsga3":
            return optuna.samplers.NSGAIIISampler(seed=seed)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed, independent_sampler=random, warn_independent_sampling=False)
        case "qmc":  # the study counts how much of the sequence it has had: its seed must not change
            return optuna.samplers.QMCSampler(
                scramble=True, seed=config.sampler.seed, independent_sampler=random, warn_independent_sampling=False
            )
    return random  # also for a grid, whose points are queued


def _enqueue_grid(study: optuna.Study, plan: Plan) -> None:
    """Queue the whole grid, once; a process killed while doing so left off somewhere."""
    if not study.user_attrs.get("enqueued"):
        fresh = not study.get_trials(deepcopy=False)
        for point in plan.space.grid():
            study.enqueue_trial(point, skip_if_exists=not fresh)
        study.set_user_attr("enqueued", True)


def _reopen_failed(study: optuna.Study) -> None:
    """Give every setting that failed a running trial in its place, with the same values."""
    trials = study.get_trials(deepcopy=False)
    replaced = {trial.user_attrs.get(REPLACES) for trial in trials}
    for trial in trials:
        if trial.state == TrialState.FAIL and trial.number not in replaced:
            asked = trial.system_attrs.get("fixed_params", {}) | trial.params
            again = optuna.trial.create_trial(
                state=TrialState.RUNNING,
                system_attrs={"fixed_params": asked},
                user_attrs={REPLACES: trial.number},
            )
            study.add_trial(again)


def _values(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return the values of a setting, to be compared with those of another."""
    return tuple(sorted(params.items()))


def _violations(results: Sequence[TrialResult], bounds: Sequence[Constraint]) -> dict[str, float]:
    """Violation of each constraint by the mean over seeds; 0 or less where it is met."""
    metrics = [result.metrics() for result in results] if bounds else []
    found = {}
    for bound in bounds:
        values = [of_seed[bound.metric] for of_seed in metrics if bound.metric in of_seed]
        found[bound.identity()] = bound.violation(fmean(values) if values else None)
    return found


def _mean(results: Sequence[TrialResult], name: str) -> float:
    return sum(objective(result, name) for result in results) / len(results)
