"""All problems of a configuration in one message: where, what, what is allowed, and what was probably meant."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from cspbench.config.yamlfile import Location
from cspbench.errors import did_you_mean

PLAIN = {
    **dict.fromkeys(("tuple_type", "list_type"), "must be a list, such as [a, b]"),
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "must be a whole number"),
    "finite_number": "must be a finite number",
}
"""Kinds of pydantic's findings, in the words of a sweep file."""


LONGEST_MESSAGE = 1000
"""Characters of one problem that are shown."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong at one place."""

    at: Location
    message: str

    def __str__(self) -> str:
        message = self.message
        if len(message) > LONGEST_MESSAGE:  # it quotes a pasted text; what is wrong stands at the ends
            message = f"{message[: LONGEST_MESSAGE // 2]} ... {message[-LONGEST_MESSAGE // 2 :]}"
        return f"{'.'.join(map(str, self.at))}: {message}" if self.at else message


def from_validation(error: ValidationError, model: type[BaseModel], at: Location = ()) -> list[Problem]:
    """Translate pydantic's findings about `model`, which stands at location `at` of the file."""
    found: dict[Location, Problem] = {}
    for item in error.errors(include_url=False):
        location = tuple(item["loc"])
        if item["type"] == "too_short" and item["input"]:
            continue  # a list of one item, which is wrong and was reported by itself
        problem = Problem((*at, *location), _explain(dict(item), model, location))
        found.setdefault(problem.at, problem)
    return list(found.values())


def _explain(item: dict[str, Any], model: type[BaseModel], location: Location) -> str:
    kind, given, context = item["type"], item.get("input"), item.get("ctx", {})
    if kind == "extra_forbidden":
        known = _keys(model, location[:-1])
        return f"unknown key{did_you_mean(str(location[-1]), known)} (known: {', '.join(known)})"
    if kind == "missing":
        return "must be given"
    if kind == "literal_error":
        allowed = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
        return f"{given!r} is not allowed{did_you_mean(str(given), allowed)} (allowed: {', '.join(allowed)})"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"must be a mapping of keys to values, got {_short(given)}"
    if kind == "value_error":
        return str(context["error"])
    if kind in PLAIN:
        return f"{PLAIN[kind]}, got {_short(given)}"
    if kind == "too_short":
        return (
            "an empty list leaves nothing to choose from" if not given else f"must hold {context['min_length']} or more"
        )
    text = item["msg"].removeprefix("Input ")
    return f"{text}, got {_short(given)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys(model: type[BaseModel], location: Location) -> list[str]:
    """Keys of the model that stands at `location` inside `model`."""
    here: type[BaseModel] | None = model
    for part in location:
        if here is not None and part in here.model_fields:
            here = next(_models(here.model_fields[str(part)].annotation), None)
    return list(here.model_fields) if here is not None else []


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for inner in typing.get_args(annotation):
        yield from _models(inner)


def not_finite(value: Any, at: Location = ()) -> Iterator[Problem]:
    """Numbers that JSON, and so the identity of a trial, cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        yield Problem(at, f"must be a finite number, got {value}")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from not_finite(inner, (*at, key))
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from not_finite(inner, (*at, index))


def report(
    title: str, problems: Iterable[Problem], lines: Mapping[Location, int], origins: Mapping[Location, str]
) -> str:
    """The message: a heading, then a line a problem in the order of the file.

    Args:
        title: the file's name.
        problems: what was found.
        lines: line numbers by location; a problem without one of its own takes that of the nearest key around it.
        origins: where values came from that did not stand in the file, such as ``--set prune.epochs=0``.
    """
    rows = sorted((_line(p.at, lines), i, p) for i, p in enumerate(problems))
    body = []
    for line, _, problem in rows:
        origin = next((text for key, text in origins.items() if _same(problem.at[: len(key)], key)), None)
        body.append(f"  {origin or (f'line {line}' if line else 'file')}: {problem}")
    return "\n".join([f"{title}: {len(rows)} problem{'s' * (len(rows) != 1)}", *body])


def _line(at: Location, lines: Mapping[Location, int]) -> int:
    return next((lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in lines), 0)


def _same(one: Location, other: Location) -> bool:
    return [str(part) for part in one] == [str(part) for part in other]
