"""One dimension of a search space: a handful of values, or a range of numbers."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any

from cspbench.hyper import Hyperparameters, Search, flatten


@dataclass(frozen=True)
class Choice:
    """One of `values`, in the order given."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included; `log` draws evenly in its logarithm."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range must start above 0, got {self.low}")


Axis = Choice | Range


def read_axis(written: Any, integer: bool) -> Axis:
    """Axis for what a file says: a list holds choices, ``{low, high, log}`` is a range, all else is one fixed value.

    Raises:
        ValueError: an empty list, or a range that is none.
    """
    if isinstance(written, list):
        if not written:
            raise ValueError("an empty list leaves nothing to choose from")
        return Choice(tuple(written))
    if isinstance(written, dict) and {"low", "high"} <= set(written) <= {"low", "high", "log"}:
        low, high, log = written["low"], written["high"], written.get("log", False)
        if not all(isinstance(bound, (int, float)) and not isinstance(bound, bool) for bound in (low, high)):
            raise ValueError(f"low and high must be numbers, got {low!r} and {high!r}")
        if not isinstance(log, bool):
            raise ValueError(f"log must be true or false, got {log!r}")
        return Range(low, high, log, integer)
    return Choice((written,))


def declared_axis(search: Search, integer: bool) -> Axis:
    """Axis for the range a hyperparameter declares itself."""
    if search.choices is not None:
        return Choice(search.choices)
    assert search.low is not None  # Search sees to it
    assert search.high is not None
    return Range(search.low, search.high, search.log, integer)


def written_axes(params: type[Hyperparameters], name: str, written: Any) -> dict[str, Any]:
    """Axes of one hyperparameter, as a file gives them.

    The entries of a hyperparameter that is a mapping are axes of their own, with dotted names: ``density.encoder``.
    """
    is_mapping = typing.get_origin(params.model_fields[name].annotation) is dict
    return flatten({name: written}) if is_mapping and isinstance(written, dict) and written else {name: written}


def is_integer(params: type[Hyperparameters], name: str) -> bool:
    """Return whether a hyperparameter, or each entry of one that is a mapping, takes integers only."""
    annotation = params.model_fields[name].annotation
    kinds = set(typing.get_args(annotation)) or {annotation}
    return int in kinds and float not in kinds


def edge_values(axis: Axis) -> tuple[Any, ...]:
    """The values that must be allowed for the whole axis to be."""
    return axis.values if isinstance(axis, Choice) else (axis.low, axis.high)
