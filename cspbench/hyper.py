"""Hyperparameters that describe themselves: default, range to search and meaning live in one place.

A method or corpus declares a `Hyperparameters` subclass. The sweep reads the search ranges from it, the command line
prints them, and pydantic refuses values outside the bounds.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from cspbench.errors import did_you_mean


class Frozen(BaseModel):
    """Immutable value object; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


LARGEST = 2**31 - 1
"""Largest magnitude of a number that a person may set: beyond it, products of settings leave the range of 64 bits."""


class Settings(Frozen):
    """Values that people write, in files and on the command line.

    Numbers are finite and at most `LARGEST` in magnitude; a truth value is no number, and no text holds a null
    character, which no path may have. Fields narrow this further.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if _is_number(cls, str(info.field_name)) and any(isinstance(leaf, bool) for leaf in _leaves(value)):
            raise ValueError(f"must be a number, got {_written(value)}")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _in_range(cls, value: Any) -> Any:
        for leaf in _leaves(value):
            if isinstance(leaf, (int, float)) and not abs(leaf) <= LARGEST:  # NaN is not either
                raise ValueError(f"must be a number of at most {LARGEST}, got {leaf:g}")
            if isinstance(leaf, str) and "\0" in leaf:
                raise ValueError(f"must not hold a null character, got {leaf!r}")
        return value


def _leaves(value: Any) -> Iterator[Any]:
    """Values inside lists and mappings, keys included."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _leaves(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


@functools.cache
def _is_number(settings: type[BaseModel], name: str) -> bool:
    """Return whether a field takes numbers and no truth values."""
    kinds = set(_types(settings.model_fields[name].annotation))
    return bool(kinds & {int, float}) and bool not in kinds


def _types(annotation: Any) -> Iterator[Any]:
    """Plain types inside an annotation."""
    inner = typing.get_args(annotation)
    if not inner or typing.get_origin(annotation) is typing.Literal:
        yield annotation
    for part in inner if typing.get_origin(annotation) is not typing.Literal else ():
        yield from _types(part)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


@dataclass(frozen=True)
class Search:
    """Range a sweep searches by default: ``Annotated[float, Search(0.01, 1.0, log=True)]``.

    Either `choices`, or both `low` and `high`. Integer fields sample integers.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError(f"Search needs either choices or both low and high, got {self!r}")


@dataclass(frozen=True)
class Added:
    """Mark of a hyperparameter that its plug-in did not have at first: ``Annotated[bool, Added()] = False``.

    With its default the plug-in does what it did before, and the hyperparameter is left out when values are written:
    trials run before it existed keep their ids.
    """


class Hyperparameters(Settings):
    """Base of a plug-in's options. Fields annotated with `Search` are searched unless the user fixes them."""

    @model_serializer(mode="wrap")
    def _without_added_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = write(self)
        for name, field in type(self).model_fields.items():
            if any(isinstance(note, Added) for note in field.metadata) and getattr(self, name) == field.default:
                values.pop(name, None)
        return values

    @classmethod
    def search_space(cls) -> dict[str, Search]:
        """Field name -> default search range, for the fields that declare one."""
        space = {}
        for name, field in cls.model_fields.items():
            for note in field.metadata:
                if isinstance(note, Search):
                    space[name] = note
        return space


def explain(error: ValidationError, params: type[Hyperparameters]) -> str:
    """All problems that pydantic found with the values of `params`, in one line."""
    return "; ".join(_explain(dict(item), params) for item in error.errors(include_url=False))


def _explain(item: dict[str, Any], params: type[Hyperparameters]) -> str:
    name = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        known = list(params.model_fields)
        return f"there is no hyperparameter '{name}'{did_you_mean(name, known)} (known: {', '.join(known) or 'none'})"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{name}: {message}, got {item['input']!r}" if name else message


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of mappings under dotted names: ``{"density": {"joint": 2.0}}`` is ``{"density.joint": 2.0}``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, Mapping) else {name: value}
        )
    return flat


def flatten_all(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of mappings within mappings under dotted names, each behind `prefix`; an empty mapping is a value."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten_all(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten`; a name is split at its first dot, so that keys may hold dots of their own."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        outer, dot, inner = name.partition(".")
        if dot:
            nested.setdefault(outer, {})[inner] = value
        else:
            nested[name] = value
    return nested
