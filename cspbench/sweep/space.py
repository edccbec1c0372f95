"""The search space of a sweep: sparsity, method, and each method's own hyperparameters, drawn only where they apply."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    """One entry of a sweep file.

    Attributes:
        name: of the method.
        axes: hyperparameters that vary; names may be dotted.
        fixed: values of those that do not.
        label: name of the entry in Optuna, where a method is listed several times; that of the method if empty.
        sparsities: of this entry; None where all entries have those of the file.
    """

    name: str
    axes: dict[str, Axis]
    fixed: dict[str, Any]
    label: str = ""
    sparsities: tuple[float, ...] | None = None

    @property
    def key(self) -> str:
        """Name of the entry in Optuna."""
        return self.label or self.name

    def spec(self, drawn: dict[str, Any]) -> MethodSpec:
        """Return the method with every hyperparameter set, defaults included.

        Args:
            drawn: values of the hyperparameters that vary.

        Raises:
            pydantic.ValidationError: values that do not fit together.
        """
        params = methods.get(self.name).Params.model_validate(nest(self.fixed | drawn))
        return MethodSpec(name=self.name, params=params.model_dump(mode="json"))

    def constants(self) -> dict[str, Any]:
        """Return the hyperparameters that do not vary, defaults included."""
        some = self.spec({name: edge_values(axis)[0] for name, axis in self.axes.items()})
        return {name: value for name, value in flatten(some.params).items() if name not in self.axes}

    def point_of(self, params: Mapping[str, Any]) -> Point | None:
        """Return where hyperparameters, names dotted, lie on the axes; None if that is nowhere."""
        constants = self.constants()
        if params.keys() - constants.keys() - self.axes.keys():
            return None
        if any(_label(params.get(name, value)) != _label(value) for name, value in constants.items()):
            return None
        default = flatten(methods.get(self.name).Params().model_dump(mode="json"))
        values = {name: params.get(name, default.get(name)) for name in self.axes}
        if not all(_contains(axis, values[name]) for name, axis in self.axes.items()):
            return None
        return {f"{self.key}.{name}": _label(value) for name, value in values.items()}

    def describe(self) -> dict[str, Any]:
        """Return the space as JSON; fixed values include the defaults."""
        fixed = self.constants()
        own = {} if self.sparsities is None else {"sparsity": list(self.sparsities)}
        return {"axes": {name: _describe(axis) for name, axis in self.axes.items()}, "fixed": fixed} | own


@dataclass(frozen=True)
class Space:
    """All settings a sweep may try."""

    sparsity: Axis
    methods: tuple[MethodSpace, ...]

    def suggest(self, trial: optuna.Trial) -> Setting:
        """Let Optuna draw a setting; hyperparameters are drawn only for the method chosen (``csp.damping``)."""
        sparsity = _suggest(trial, "sparsity", self.sparsity)
        chosen = _suggest(trial, "method", Choice(tuple(space.key for space in self.methods)))
        space = next(space for space in self.methods if space.key == chosen)
        drawn = {name: _suggest(trial, f"{chosen}.{name}", axis) for name, axis in space.axes.items()}
        return Setting(sparsity, space.spec(drawn))

    def grid(self) -> list[Point]:
        """Return every combination of the listed values, by sparsity first so that methods can be compared early.

        Two entries of one method may hold the same setting: the first counts.
        """
        points = [
            {"sparsity": sparsity, "method": space.key} | dict(zip(names, values, strict=True))
            for sparsity in _listed(self.sparsity)
            for space in self.methods
            if sparsity in self._sparsities(space)
            for names in [[f"{space.key}.{name}" for name in space.axes]]
            for values in itertools.product(*([_label(v) for v in _listed(axis)] for axis in space.axes.values()))
        ]
        if len({space.name for space in self.methods}) == len(self.methods):
            return points
        first: dict[str, Point] = {}
        for point in points:
            setting = self.setting(point)
            first.setdefault(json.dumps([setting.sparsity, setting.method.model_dump(mode="json")]), point)
        return list(first.values())

    def _sparsities(self, space: MethodSpace) -> tuple[float, ...]:
        return _listed(self.sparsity) if space.sparsities is None else space.sparsities

    def cells(self) -> dict[str, Space]:
        """Return the parts of one method and one sparsity by name, such as ``csp/0.9``; by sparsity first."""
        return {
            f"{space.key}/{sparsity:g}": Space(Choice((sparsity,)), (space,))
            for sparsity in _listed(self.sparsity)
            for space in self.methods
        }

    def size(self) -> int | None:
        """Return the number of different points; None if a range makes them countless."""
        axes = [self.sparsity, *(axis for space in self.methods for axis in space.axes.values())]
        if any(isinstance(axis, Range) for axis in axes):
            return None
        return sum(
            len(self._sparsities(space)) * math.prod(len(_listed(axis)) for axis in space.axes.values())
            for space in self.methods
        )

    def setting(self, point: Point) -> Setting:
        """Return the setting of a point of the grid."""
        space = next(space for space in self.methods if space.key == point["method"])
        labels = {name: {_label(v): v for v in _listed(axis)} for name, axis in space.axes.items()}
        return Setting(point["sparsity"], space.spec({n: labels[n][point[f"{space.key}.{n}"]] for n in space.axes}))

    def point_of(self, method: str, sparsity: float, params: Mapping[str, Any]) -> Point | None:
        """Return the point of a setting; None if it lies outside.

        Args:
            method: its name.
            sparsity: fraction of zeros.
            params: all hyperparameters of the method, names dotted.
        """
        for space in self.methods:
            listed = space.sparsities is None or sparsity in space.sparsities
            if space.name == method and listed and _contains(self.sparsity, sparsity):
                point = space.point_of(params)
                if point is not None:
                    return {"sparsity": sparsity, "method": space.key} | point
        return None

    def distributions(self, point: Point) -> dict[str, optuna.distributions.BaseDistribution]:
        """Return what Optuna draws the values of a point from, by name."""
        space = next(space for space in self.methods if space.key == point["method"])
        axes = {"sparsity": self.sparsity, "method": Choice(tuple(space.key for space in self.methods))}
        axes |= {f"{space.key}.{name}": axis for name, axis in space.axes.items()}
        return {name: _distribution(axis) for name, axis in axes.items()}

    def describe(self) -> dict[str, Any]:
        """Return the space as JSON, to be compared with that of a stored study."""
        return {
            "sparsity": _describe(self.sparsity),
            "methods": {space.key: space.describe() for space in self.methods},
        }


def space_of(config: SweepConfig) -> Space:
    """Return the space of a checked sweep file."""
    spans = config.sparsity
    own = any(entry.sparsity is not None for entry in config.methods)
    if spans.values is not None:
        used = (value for entry in config.methods for value in entry.sparsity or spans.values)
        sparsity: Axis = Choice(tuple(dict.fromkeys(used)))
    else:
        assert spans.low is not None  # the schema sees to it
        assert spans.high is not None
        sparsity = Range(spans.low, spans.high)
    spaces: list[MethodSpace] = []
    for entry in config.methods:
        earlier = sum(space.name == entry.name for space in spaces)
        label = f"{entry.name} ({earlier + 1})" if earlier else ""
        spaces.append(
            replace(method_space(entry), label=label, sparsities=entry.sparsity or spans.values if own else None)
        )
    return Space(sparsity, tuple(spaces))


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


def _distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    """Return what `_suggest` lets Optuna draw from."""
    import optuna

    if isinstance(axis, Choice):
        return optuna.distributions.CategoricalDistribution([_label(value) for value in axis.values])
    if axis.integer:
        return optuna.distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)


def _contains(axis: Axis, value: Any) -> bool:
    if isinstance(axis, Choice):
        return _label(value) in [_label(listed) for listed in axis.values]
    return isinstance(value, (int, float)) and not isinstance(value, bool) and axis.low <= value <= axis.high


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
