"""``cspbench methods``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cspbench.cli import completion
from cspbench.cli.options import AsJson, messages, output

if TYPE_CHECKING:
    from cspbench.pruning.catalogue import MethodInfo, OptionInfo

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...",
        help="Describe these methods with all their hyperparameters.",
        autocompletion=completion.methods,
    ),
]


def methods(names: Names = None, as_json: AsJson = False) -> None:
    """List the pruning methods, or describe some of them.

    Examples: `cspbench methods`, `cspbench methods csp magnitude`, `cspbench methods --json`
    """
    from cspbench.pruning import catalogue
    from cspbench.pruning.registry import methods as registry

    for name in names or ():
        registry.get(name)  # suggests the closest name
    found = [method for method in catalogue.describe_methods() if not names or method.name in names]
    if as_json:
        typer.echo(json.dumps([asdict(method) for method in found], indent=2))
        return
    console, width = output(), max(len(method.name) for method in found)
    if not names:
        for method in found:
            summary = textwrap.shorten(method.summary, console.width - width - 2, placeholder=" ...")
            console.print(f"{method.name:{width}}  {summary}", no_wrap=True, crop=False)
        messages().print("hyperparameters of one: cspbench methods NAME", soft_wrap=True)
        return
    for method in found:
        for line in _described(method):
            indent = " " * (len(line) - len(line.lstrip()) + 4)
            console.print(textwrap.fill(line, console.width, subsequent_indent=indent))


def _described(method: MethodInfo) -> Iterator[str]:
    """Lines about a method: what it does, its source, and two for each hyperparameter."""
    yield f"{method.name}: {method.summary}"
    yield f"source: {method.source}"
    for option in method.options:
        yield f"  {option.name}: {_values(option)}"
        yield f"      {option.description}"
    yield ""


def _values(option: OptionInfo) -> str:
    """Type, default, bounds and search range of a hyperparameter."""
    parts = [option.kind, f"default {option.default}"]
    parts += [f"one of {option.allowed}" if option.kind == "choice" else option.allowed] if option.allowed else []
    parts += [f"searched {option.search}"] if option.search else []
    return ", ".join(parts)
