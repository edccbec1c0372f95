"""Descriptions of all registered methods and their options, read from the declarations, for `cspbench methods`."""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from cspbench.hyper import Search
from cspbench.pruning.registry import methods

_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


@dataclass(frozen=True)
class OptionInfo:
    """One hyperparameter.

    Attributes:
        name: as written in a sweep file.
        kind: type, e.g. ``float``, ``int or none``, ``mapping to float``.
        default: value where none is given.
        allowed: choices or bounds, e.g. ``hard, soft`` or ``>= 0, < 1``; empty where anything of its type will do.
        search: range searched by default, e.g. ``0.001 .. 0.1 (log)``, or ``all`` choices; empty where it has none.
        description: what it does.
    """

    name: str
    kind: str
    default: Any
    allowed: str
    search: str
    description: str


@dataclass(frozen=True)
class MethodInfo:
    """A registered method: name, one-line summary, source paper and options."""

    name: str
    summary: str
    source: str
    options: tuple[OptionInfo, ...]


def describe_methods() -> list[MethodInfo]:
    """All registered methods, sorted by name."""
    found = []
    for name in methods.names():
        method = methods.get(name)
        options = tuple(_option(key, field) for key, field in method.Params.model_fields.items())
        found.append(MethodInfo(name, method.summary, method.source, options))
    return found


def _option(name: str, field: FieldInfo) -> OptionInfo:
    search = next((note for note in field.metadata if isinstance(note, Search)), None)
    # The bounds of a mapping are those of its values.
    notes = [*field.metadata, *(note for part in get_args(field.annotation) for note in _notes(part))]
    bounds = [
        f"{sign} {getattr(note, bound)}"
        for note in notes
        for bound, sign in _BOUNDS.items()
        if getattr(note, bound, None) is not None
    ]
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return OptionInfo(
        name=name,
        kind=_kind(field.annotation),
        default=field.get_default(call_default_factory=False),
        allowed=", ".join(map(str, choices)) or ", ".join(bounds),
        search="all" if search is not None and search.choices == choices else _range(search),
        description=field.description or "",
    )


def _notes(annotation: Any) -> tuple[Any, ...]:
    """Notes beside a type in ``Annotated``; a field counts as its own notes."""
    notes = getattr(annotation, "__metadata__", ())
    return tuple(inner for note in notes for inner in (note.metadata if isinstance(note, FieldInfo) else (note,)))


def _kind(annotation: Any) -> str:
    if hasattr(annotation, "__metadata__"):
        return _kind(annotation.__origin__)
    if get_origin(annotation) is dict:
        return f"mapping to {_kind(get_args(annotation)[1])}"
    if get_origin(annotation) is Literal:
        return "choice"
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_kind(part) for part in get_args(annotation))
    return "none" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))


def _range(search: Search | None) -> str:
    if search is None:
        return ""
    if search.choices is not None:
        return ", ".join(map(str, search.choices))
    return f"{search.low} .. {search.high}" + (" (log)" if search.log else "")
