"""The search space of a sweep: sparsity, method, and each method's own hyperparameters, drawn only where they apply."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cspbench.config import Axis, Choice, MethodEntry, Range, SweepConfig
from cspbench.config.axes import edge_values
from cspbench.config.rules import method_axes
from cspbench.hyper import flatten, nest
from cspbench.pruning.registry import methods
from cspbench.spec import MethodSpec

if TYPE_CHECKING:
    import optuna

Point = dict[str, Any]
"""One setting in Optuna's names: ``sparsity``, ``method``, ``csp.damping``, ``magnitude.density.encoder``."""


@dataclass(frozen=True)
class Setting:
    """A sparsity and a method with its hyperparameters; run once for each seed of the sweep."""

    sparsity: float
    method: MethodSpec


@dataclass(frozen=True)
class MethodSpace:
    """One method: its hyperparameters that vary, and the values of those that do not; names may be dotted."""

    name: str
    axes: dict[str, Axis]
    fixed: dict[str, Any]

    def spec(self, drawn: dict[str, Any]) -> MethodSpec:
        """Return the method with every hyperparameter set, defaults included.

        Args:
            drawn: values of the hyperparameters that vary.

        Raises:
            pydantic.ValidationError: values that do not fit together.
        """
        params = methods.get(self.name).Params.model_validate(nest(self.fixed | drawn))
        return MethodSpec(name=self.name, params=params.model_dump(mode="json"))

    def describe(self) -> dict[str, Any]:
        """Return the space as JSON; fixed values include the defaults."""
        some = self.spec({name: edge_values(axis)[0] for name, axis in self.axes.items()})
        fixed = {name: value for name, value in flatten(some.params).items() if name not in self.axes}
        return {"axes": {name: _describe(axis) for name, axis in self.axes.items()}, "fixed": fixed}


@dataclass(frozen=True)
class Space:
    """All settings a sweep may try."""

    sparsity: Axis
    methods: tuple[MethodSpace, ...]

    def suggest(self, trial: optuna.Trial) -> Setting:
        """Let Optuna draw a setting; hyperparameters are drawn only for the method chosen (``csp.damping``)."""
        sparsity = _suggest(trial, "sparsity", self.sparsity)
        chosen = _suggest(trial, "method", Choice(tuple(space.name for space in self.methods)))
        space = next(space for space in self.methods if space.name == chosen)
        drawn = {name: _suggest(trial, f"{chosen}.{name}", axis) for name, axis in space.axes.items()}
        return Setting(sparsity, space.spec(drawn))

    def grid(self) -> list[Point]:
        """Return every combination of the listed values, by sparsity first so that methods can be compared early."""
        return [
            {"sparsity": sparsity, "method": space.name} | dict(zip(names, values, strict=True))
            for sparsity in _listed(self.sparsity)
            for space in self.methods
            for names in [[f"{space.name}.{name}" for name in space.axes]]
            for values in itertools.product(*([_label(v) for v in _listed(axis)] for axis in space.axes.values()))
        ]

    def size(self) -> int | None:
        """Return the number of different settings; None if a range makes them countless."""
        axes = [[self.sparsity, *space.axes.values()] for space in self.methods]
        if any(isinstance(axis, Range) for of_method in axes for axis in of_method):
            return None
        return sum(math.prod(len(_listed(axis)) for axis in of_method) for of_method in axes)

    def setting(self, point: Point) -> Setting:
        """Return the setting of a point of the grid."""
        space = next(space for space in self.methods if space.name == point["method"])
        labels = {name: {_label(v): v for v in _listed(axis)} for name, axis in space.axes.items()}
        return Setting(point["sparsity"], space.spec({n: labels[n][point[f"{space.name}.{n}"]] for n in space.axes}))

    def describe(self) -> dict[str, Any]:
        """Return the space as JSON, to be compared with that of a stored study."""
        return {
            "sparsity": _describe(self.sparsity),
            "methods": {space.name: space.describe() for space in self.methods},
        }


def space_of(config: SweepConfig) -> Space:
    """Return the space of a checked sweep file."""
    spans = config.sparsity
    if spans.values is not None:
        sparsity: Axis = Choice(spans.values)
    else:
        assert spans.low is not None  # the schema sees to it
        assert spans.high is not None
        sparsity = Range(spans.low, spans.high)
    return Space(sparsity, tuple(map(method_space, config.methods)))


def method_space(entry: MethodEntry) -> MethodSpace:
    """Return the space of a checked entry."""
    axes = method_axes(entry)
    fixed = {n: axis.values[0] for n, axis in axes.items() if isinstance(axis, Choice) and len(axis.values) == 1}
    return MethodSpace(entry.name, {n: axis for n, axis in axes.items() if n not in fixed}, fixed)


def _suggest(trial: optuna.Trial, name: str, axis: Axis) -> Any:
    if isinstance(axis, Choice):
        labels = {_label(value): value for value in axis.values}
        return labels[trial.suggest_categorical(name, list(labels))]
    if axis.integer:
        return trial.suggest_int(name, int(axis.low), int(axis.high), log=axis.log)
    return trial.suggest_float(name, axis.low, axis.high, log=axis.log)


def _label(value: Any) -> Any:
    """Return a value as Optuna can store it: lists and mappings as JSON text."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else json.dumps(value, sort_keys=True)


def _listed(axis: Axis) -> tuple[Any, ...]:
    assert isinstance(axis, Choice)  # the rules of a sweep file refuse ranges in a grid
    return axis.values


def _describe(axis: Axis) -> Any:
    if isinstance(axis, Choice):
        return list(axis.values)
    return {"low": axis.low, "high": axis.high, "log": axis.log, "integer": axis.integer}
