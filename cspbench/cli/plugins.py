"""``cspbench methods``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from cspbench.cli.options import AsJson, output, print_rows

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these methods.")]


def methods(names: Names = None, as_json: AsJson = False) -> None:
    """List the pruning methods: hyperparameters, defaults, ranges and source."""
    from cspbench.pruning import catalogue
    from cspbench.pruning.registry import methods as registry

    for name in names or ():
        registry.get(name)  # says what was probably meant
    found = [method for method in catalogue.describe_methods() if not names or method.name in names]
    if as_json:
        typer.echo(json.dumps([asdict(method) for method in found], indent=2))
        return
    for method in found:
        output().print(f"\n[bold]{method.name}[/bold]: {method.summary}\n  {method.source}", soft_wrap=True)
        if method.options:
            print_rows([asdict(option) for option in method.options])
    if len(found) > 1:
        output().print()
        print_rows([{"name": method.name, "summary": method.summary} for method in found])
