"""One search: an Optuna study over a space, which proposes settings and is told their results."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from cspbench.config import SweepConfig
from cspbench.sweep.early import should_stop
from cspbench.sweep.samplers import make_pruner, make_sampler
from cspbench.sweep.space import Point, Setting, Space
from cspbench.sweep.warm import OBJECTIVES, WARM, KnownSetting, warm_trial
from cspbench.training.events import Event
from cspbench.trials.outcome import FailureReason, Outcome

REPLACES = "replaces"
"""User attribute of a trial that repeats one that was killed or failed: the number of that."""

SPACE = "space"
"""User attribute of a study that is being merged: the space for which its trials were written."""

LONGEST_ERROR = 1000
"""Characters of an error that are kept with a failed trial: the whole is in the list of trials."""


class Search:
    """An Optuna study over a space, opened by `open_search`; survives a kill.

    Attributes:
        finished: settings that had finished before it was opened.
        asked: settings proposed in all, repeated ones included.
    """

    def __init__(self, study: optuna.Study, space: Space, config: SweepConfig) -> None:
        self._study, self._space, self._config = study, space, config
        trials = study.get_trials(deepcopy=False)
        replaced = {trial.user_attrs.get(REPLACES) for trial in trials}
        own = [trial for trial in trials if WARM not in trial.user_attrs]
        finished = [trial for trial in own if trial.state.is_finished() and trial.number not in replaced]
        self.finished = self.asked = len(finished)
        self._seen = {_values(trial.params) for trial in finished}
        self._size, self._target = space.size(), _target(space, config)
        self._asked: dict[int, optuna.Trial] = {}
        self._unfinished = deque(trial for trial in trials if trial.state == TrialState.RUNNING)
        self._waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        self._points = deque(_new_points(space, own) if config.sampler.name == "grid" else ())

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
        return len(self._unfinished) if self.exhausted else max(0, self._target - self.asked)

    @property
    def to_run(self) -> int:
        """Number of settings still to be run, at most: in a finite space some of `remaining` are sure to repeat."""
        return self.remaining if self._size is None else min(self.remaining, self._size - self.distinct)

    def ask(self) -> tuple[int, Setting, bool]:
        """Propose the next setting.

        Returns:
            The number of the setting, the setting, and whether the search has had the same one.

        Raises:
            pydantic.ValidationError: the values drawn do not fit together; the study has been told.
        """
        self.asked += 1
        if self._unfinished:
            # Taken over rather than queued again, so that it keeps its place and its values.
            trial = optuna.trial.Trial(self._study, self._unfinished.popleft()._trial_id)
        else:
            self._queue_point()
            trial = self._study.ask()
        try:
            setting = self._space.suggest(trial)
        except ValueError as error:
            self._fail(trial, "refused", str(error))
            raise
        finally:
            values = _values(trial.params)
            repeated = values in self._seen
            self._seen.add(values)
        self._asked[trial.number] = trial
        return trial.number, setting, repeated

    def _queue_point(self) -> None:
        """Queue the next point of a grid: one at a time, because Optuna reads all that are queued at every proposal."""
        if self._waiting:  # of a process that died, or one that queued the whole grid
            self._waiting -= 1
        elif self._points:
            self._study.enqueue_trial(self._points.popleft())

    def should_stop(self, number: int, event: Event) -> bool:
        """Report the evaluation at the end of an epoch; return whether the trial is to be stopped early."""
        return should_stop(self._asked[number], self._config.early_stopping, event)

    def tell(self, number: int, outcomes: Sequence[Outcome]) -> None:
        """Report how the trials of a setting ended, one a seed; if any failed, the setting has, for the same reason."""
        trial = self._asked.pop(number)
        results = [outcome.result for outcome in outcomes if outcome.result is not None]
        if len(results) == len(outcomes):
            metrics = [result.metrics() for result in results]
            for bound in self._config.bounds():
                trial.set_constraint(bound.identity(), bound.violation(_mean(metrics, bound.metric)))
            names = [OBJECTIVES[name] for name in self._config.objectives]
            self._study.tell(trial, [fmean(of_seed[name] for of_seed in metrics) for name in names])
            return
        first = next((outcome for outcome in outcomes if outcome.state == "failed"), None)
        if first is None:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._fail(trial, first.reason, first.error)

    def _fail(self, trial: optuna.Trial, reason: FailureReason | None, error: str | None) -> None:
        trial.set_user_attr("failure", reason)
        trial.set_user_attr("error", (error or "")[:LONGEST_ERROR])
        self._study.tell(trial, state=TrialState.FAIL)

    def warm_up(self, source: str, known: Iterable[KnownSetting]) -> int:
        """Tell the sampler the settings of a source that lie in the space, once.

        Args:
            source: name of a study or path of a file.
            known: its settings.

        Returns:
            How many lie in the space.
        """
        told = self._study.get_trials(deepcopy=False)
        before = {_values(trial.params) for trial in told if trial.user_attrs.get(WARM) == source}
        warm = [trial for one in known if (trial := warm_trial(one, self._space, self._config, source)) is not None]
        self._study.add_trials([trial for trial in warm if _values(trial.params) not in before])
        return len(warm)


def open_search(storage: optuna.storages.BaseStorage, name: str, space: Space, config: SweepConfig) -> Search:
    """Create or resume a search.

    Settings that ran when the last process died come first, then those that failed.

    Args:
        storage: database of the studies.
        name: of the Optuna study.
        space: settings to search.
        config: the sweep file: sampler, rule of early stopping, objectives and number of trials.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=["minimize"] * len(config.objectives),
        load_if_exists=True,
        pruner=make_pruner(config.early_stopping, config.prune.epochs),
    )
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        study.set_metric_names([OBJECTIVES[name] for name in config.objectives])  # for Optuna's own pages
    if study.user_attrs.get(SPACE) is not None:  # the merge is over once the study is opened
        study.set_user_attr(SPACE, None)
    study.sampler = make_sampler(config.sampler, len(study.get_trials(deepcopy=False)))
    _reopen_failed(study)
    return Search(study, space, config)


def _target(space: Space, config: SweepConfig) -> int:
    if config.sampler.name != "grid":
        assert config.trials is not None  # the rules of a sweep file see to it
        return config.trials
    size = len(space.grid())
    return size if config.trials is None else min(size, config.trials)


def _new_points(space: Space, trials: Iterable[FrozenTrial]) -> Iterator[Point]:
    """Points of a grid that no trial has or is queued with."""
    known = {_values(trial.system_attrs.get("fixed_params", {}) | trial.params) for trial in trials}
    return (point for point in space.grid() if _values(point) not in known)


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


def _mean(metrics: Sequence[Mapping[str, float]], name: str) -> float | None:
    """Mean over the seeds whose results hold a metric; None if none does."""
    values = [of_seed[name] for of_seed in metrics if name in of_seed]
    return fmean(values) if values else None
