"""Early stopping: evaluations reported to Optuna, whose pruners say which trials do worse than others of their search.

On one machine the process of the sweep judges its trials (`Search.should_stop`). Workers on other machines judge their
own, in the shared database of the study (`SharedJudge`).
"""

from __future__ import annotations

import math

import optuna
from optuna.trial import TrialState
from sqlalchemy import URL

from cspbench.config import EarlyStopping, SweepConfig
from cspbench.hyper import flatten
from cspbench.spec import DenseSpec, TrialSpec
from cspbench.sweep.database import DatabaseError
from cspbench.sweep.plan import search_spaces
from cspbench.sweep.samplers import make_pruner
from cspbench.sweep.servers import PatientStorage
from cspbench.sweep.space import space_of
from cspbench.training.events import Event, StoppedEarly


def should_stop(trial: optuna.Trial, rule: EarlyStopping | None, event: Event) -> bool:
    """Report the evaluation at the end of an epoch; return whether the trial is to be stopped early.

    Args:
        trial: of a study that has the pruner of the rule.
        rule: of the sweep file.
        event: an evaluation; the one at the end of training stops nothing.
    """
    if rule is None or event.step >= event.total or rule.metric not in event.evaluation:
        return False
    epoch = math.ceil(event.evaluation["epoch"])
    if epoch not in trial.storage.get_trial(trial._trial_id).intermediate_values:  # by a process that died then
        trial.report(event.evaluation[rule.metric], epoch)
    return trial.should_prune()


def stopped_at(event: Event) -> StoppedEarly:
    """Return the exception that ends a trial at an evaluation."""
    shown = {name: event.evaluation[name] for name in ("dev_wer", "dev_loss") if name in event.evaluation}
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
    return StoppedEarly(f"step {event.step} of {event.total} ({metrics})")


class SharedJudge:
    """Stops trials of a worker early, by the rule of a sweep whose study lies in a shared database.

    The process of the sweep has proposed them: a trial is the one under way with the values of its spec.

    Args:
        config: the sweep file.
        database: of the study.
    """

    def __init__(self, config: SweepConfig, database: URL) -> None:
        self._rule, self._pruner = config.early_stopping, make_pruner(config.early_stopping, config.prune.epochs)
        self._spaces = search_spaces(config, space_of(config))
        self._storage = PatientStorage(database)
        self._found: dict[str, optuna.Trial | None] = {}

    def __call__(self, work: TrialSpec | DenseSpec, event: Event) -> None:
        """Judge a trial at an evaluation; while the database is gone for long, it goes on.

        Raises:
            StoppedEarly: the trial does worse than others.
        """
        if not event.evaluation or isinstance(work, DenseSpec):
            return
        try:
            if work.id not in self._found:
                self._found = {work.id: self._find(work)}
            trial = self._found[work.id]
            stop = trial is not None and should_stop(trial, self._rule, event)
        except DatabaseError:
            return
        if stop:
            raise stopped_at(event)

    def _find(self, spec: TrialSpec) -> optuna.Trial | None:
        """Return the Optuna trial of a spec; None if it is in no search, as the control is."""
        for name, space in self._spaces.items():
            point = space.point_of(spec.method.name, spec.sparsity, flatten(spec.method.params))
            if point is None:
                continue
            study = optuna.load_study(study_name=name, storage=self._storage, pruner=self._pruner)
            for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
                if trial.params == point:
                    return optuna.trial.Trial(study, trial._trial_id)
        return None
