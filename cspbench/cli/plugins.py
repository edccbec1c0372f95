"""``cspbench methods``."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from cspbench.cli.options import AsJson, output, print_rows


def methods(as_json: AsJson = False) -> None:
    """List the pruning methods: hyperparameters, defaults, ranges and source."""
    from cspbench.pruning.catalogue import describe_methods

    found = describe_methods()
    if as_json:
        typer.echo(json.dumps([asdict(method) for method in found], indent=2))
        return
    for method in found:
        output().print(f"\n[bold]{method.name}[/bold]: {method.summary}\n  {method.source}", soft_wrap=True)
        if method.options:
            print_rows([asdict(option) for option in method.options])
