"""``cspbench results`` and ``cspbench report``."""

from __future__ import annotations

from typing import Annotated

import typer

from cspbench.cli.options import AsJson, Root, messages, output
from cspbench.cli.sweep import RUNS, print_summary
from cspbench.errors import ConfigError

Name = Annotated[str, typer.Argument(help="The study: the `name` of its sweep file.")]


def results(
    name: Name,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    root: Root = RUNS,
) -> None:
    """Print the results of a study: a table of methods and sparsities, or every trial as JSON or CSV."""
    from cspbench.report.results import load_results
    from cspbench.store import Store

    if as_json and as_csv:
        raise ConfigError("--json and --csv exclude each other")
    if as_json:
        typer.echo(load_results(name, root).to_json(orient="records", indent=2))
    elif as_csv:
        typer.echo(load_results(name, root).to_csv(index=False), nl=False)
    else:
        print_summary(name, Store(root))


def report(name: Name, root: Root = RUNS) -> None:
    """Write figures and tables of a study, and print where they are."""
    from cspbench.report.write import write_report
    from cspbench.store import Store

    with messages().status("drawing"):
        paths = write_report(name, Store(root))
    for path in paths:
        output().print(str(path), soft_wrap=True)
