"""Stored studies whose search space has grown: their trials become trials of the new space.

Optuna refuses a choice with other values under a known name, so the study is written anew. A copy is complete before
the study itself is deleted: a process killed at any moment leaves one of both, and the next one goes on from it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from cspbench.errors import ConfigError
from cspbench.sweep.plan import Plan
from cspbench.sweep.search import REPLACES, SPACE
from cspbench.sweep.space import Point, Space
from cspbench.sweep.warm import WARM

COPY = " (copy to be merged)"
"""End of the name of a study's copy."""

COMPLETE = "complete"
"""User attribute of a copy that has all trials."""

SHOWN = 5
"""Settings outside the space that are listed."""


def merge(storage: optuna.storages.BaseStorage, plan: Plan, before: Mapping[str, Any] | None) -> int:
    """Rewrite the searches of a study whose sweep file has another space now.

    Args:
        storage: database of the studies.
        plan: of the sweep file.
        before: the space that the study was stored with, as `Space.describe` returns it; None if it is the same, which
            leaves only what a killed process left to do.

    Returns:
        Number of settings that had finished and are kept.

    Raises:
        ConfigError: the study has tried a setting that the new space does not hold; nothing is changed.
    """
    spaces = plan.searches()
    rewritten: dict[str, list[FrozenTrial]] = {}
    lost: list[str] = []
    for name in _stored(storage, plan.config.name):
        study = optuna.load_study(study_name=name, storage=storage)
        described, space = study.user_attrs.get(SPACE) or before, spaces.get(name)
        if described is not None and (space is None or described != plan.space.describe()):
            rewritten[name] = _rewritten(study, space, described, lost)
    if lost:
        raise ConfigError(_refusal(plan.config.name, lost))
    for name, trials in rewritten.items():
        _write_copy(storage, name, trials, plan.space.describe())
        _take_copy(storage, name)
    return sum(trial.state.is_finished() for trials in rewritten.values() for trial in trials)


def _stored(storage: optuna.storages.BaseStorage, name: str) -> list[str]:
    """Names of the Optuna studies of a sweep, once copies that a killed process left are in place or gone."""
    own = [found for found in optuna.get_all_study_names(storage) if found.removesuffix(COPY) == name]
    own += [found for found in optuna.get_all_study_names(storage) if found.startswith(f"{name}/")]
    for found in (found for found in own if found.endswith(COPY)):
        if optuna.load_study(study_name=found, storage=storage).user_attrs.get(COMPLETE):
            _take_copy(storage, found.removesuffix(COPY))
        else:
            optuna.delete_study(study_name=found, storage=storage)
    return list(dict.fromkeys(found.removesuffix(COPY) for found in own))


def _rewritten(
    study: optuna.Study, space: Space | None, before: Mapping[str, Any], lost: list[str]
) -> list[FrozenTrial]:
    """Trials at their points of the new space; adds to `lost`, in words, those that have none."""
    trials = study.get_trials()
    replaced = {trial.user_attrs.pop(REPLACES, None) for trial in trials}
    kept = []
    for trial in trials:
        values = trial.system_attrs.pop("fixed_params", {}) | trial.params
        if trial.number in replaced or trial.state == TrialState.WAITING:  # queued ones are queued again
            continue
        point = None if space is None else _point(values, space, before)
        if point is not None and space is not None:
            kept.append(_at(trial, point, space))
        elif trial.state != TrialState.RUNNING and WARM not in trial.user_attrs:
            lost.append(", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in values.items()))
    return kept


def _point(values: Mapping[str, Any], space: Space, before: Mapping[str, Any]) -> Point | None:
    """Point of a trial in the new space; hyperparameters that did not vary are in the description of the old one."""
    key = values.get("method", "")
    if key not in before["methods"] or "sparsity" not in values:
        return None
    own = {name.removeprefix(f"{key}."): value for name, value in values.items() if name.startswith(f"{key}.")}
    method = key.partition(" (")[0]  # without the number of a method that is listed several times
    return space.point_of(method, values["sparsity"], before["methods"][key]["fixed"] | own)


def _at(trial: FrozenTrial, point: Point, space: Space) -> FrozenTrial:
    moved = copy.copy(trial)
    if trial.state == TrialState.RUNNING:  # of a process that died: its values are drawn again, as they were
        moved.params, moved.distributions, moved.system_attrs = {}, {}, {"fixed_params": point}
    else:
        moved.params, moved.distributions = point, space.distributions(point)
    return moved


def _write_copy(
    storage: optuna.storages.BaseStorage, name: str, trials: list[FrozenTrial], described: Mapping[str, Any]
) -> None:
    directions = optuna.load_study(study_name=name, storage=storage).directions
    made = optuna.create_study(storage=storage, study_name=name + COPY, directions=directions)
    made.add_trials(trials)
    made.set_user_attr(SPACE, described)
    made.set_user_attr(COMPLETE, True)


def _take_copy(storage: optuna.storages.BaseStorage, name: str) -> None:
    """Put the complete copy of a study in its place."""
    made = optuna.load_study(study_name=name + COPY, storage=storage)
    if name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)
    study = optuna.create_study(storage=storage, study_name=name, directions=made.directions)
    study.add_trials(made.get_trials())
    study.set_user_attr(SPACE, made.user_attrs[SPACE])
    optuna.delete_study(study_name=name + COPY, storage=storage)


def _refusal(name: str, lost: list[str]) -> str:
    more = [f"and {len(lost) - SHOWN} more"] if len(lost) > SHOWN else []
    return (
        f"the study '{name}' has tried settings that its sweep file no longer allows:\n"
        + "\n".join(f"  {setting}" for setting in [*lost[:SHOWN], *more])
        + "\nMethods and values may be added, and ranges widened. For anything else give this sweep another name: "
        "finished trials are reused."
    )
