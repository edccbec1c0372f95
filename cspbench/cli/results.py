"""``cspbench results`` and ``cspbench report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cspbench.cli import completion
from cspbench.cli.options import AsJson, Root, Where, messages, output, print_columns
from cspbench.cli.sweep import NO_TRIALS, RUNS, print_summary
from cspbench.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from cspbench.report.links import RunLinks
    from cspbench.store import Store

Name = Annotated[
    str, typer.Argument(help="The study: the `name` of its sweep file.", autocompletion=completion.studies)
]
OptionalName = Annotated[
    str | None,
    typer.Argument(help="The study: the `name` of its sweep file; all if left out.", autocompletion=completion.studies),
]


def results(
    name: OptionalName = None,
    condition: Where = None,
    trials: Annotated[bool, typer.Option("--trials", help="List the trials, best on dev first.")] = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    root: Root = RUNS,
) -> None:
    """Print the results of a study: a table of methods and sparsities, or every trial as a list, JSON or CSV.

    Without a name, list the studies. --where takes the columns of --json.

    Examples: `cspbench results`, `cspbench results smoke`, `cspbench results smoke --csv > smoke.csv`,
    `cspbench results smoke --trials --where "size_bytes < 5e5"`
    """
    from cspbench.report.results import load_results, where
    from cspbench.store import Store

    if as_json and as_csv:
        raise ConfigError("--json and --csv exclude each other")
    if name is None and (as_csv or trials or condition):
        raise ConfigError("--csv, --trials and --where are for one study: give its name")
    if name is None:
        print_studies(root, as_json)
    elif as_csv or (trials and not as_json):
        frame = load_results(name, root) if condition is None else where(load_results(name, root), condition)
        if as_csv:
            typer.echo(frame.to_csv(index=False), nl=False)
        else:
            _print_trials(name, frame)
    else:
        print_summary(name, Store(root), as_json, condition)


def _print_trials(name: str, frame: pd.DataFrame) -> None:
    from cspbench.report.display import NOISY_NOTE, trial_columns

    if frame.empty:
        output().print(NO_TRIALS)
        return
    notes = [*([NOISY_NOTE] if frame["latency_conclusive"].eq(0).any() else []), "`cspbench show TRIAL` prints one"]
    print_columns(trial_columns(frame), f"{name}: {len(frame)} trials, best on dev first", notes)


def print_studies(root: Path, as_json: bool = False) -> None:
    """Print the studies of a results folder."""
    from cspbench.report.columns import Column
    from cspbench.store import Store
    from cspbench.trials.records import study_rows

    rows = study_rows(Store(root))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif rows:
        ranks = {"study": 0, "trials": 0, "finished": 1, "failed": 2, "methods": 3, "corpus": 4, "changed": 5}
        columns = [
            Column(name, tuple(str(row[name]) for row in rows), rank, right=isinstance(rows[0][name], int))
            for name, rank in ranks.items()
        ]
        notes = ["`cspbench results STUDY` prints one; `cspbench --help` lists all commands"]
        print_columns(columns, f"studies under {Store(root).root}", notes)
    else:
        output().print(f"no study under {Store(root).root} yet: run `cspbench sweep FILE`", soft_wrap=True)


def report(
    name: Name,
    mlflow: Annotated[
        str | None,
        typer.Option(
            "--mlflow",
            metavar="ADDRESS",
            help="MLflow server whose runs a click on the page opens: http://HOST:PORT; or MLFLOW_TRACKING_URI.",
        ),
    ] = None,
    root: Root = RUNS,
) -> None:
    """Write figures and tables of a study, and print their paths; the last is one HTML page with all of it.

    Examples: `cspbench report smoke`, `open "$(cspbench report smoke | tail -1)"`,
    `cspbench report smoke --mlflow http://127.0.0.1:5000`
    """
    from cspbench.report.write import write_report
    from cspbench.store import Store

    store = Store(root)
    links = _links(name, store, mlflow)
    with messages().status("drawing"):
        paths = write_report(name, store, links)
    for path in paths:
        output().print(str(path), soft_wrap=True)


def _links(name: str, store: Store, option: str | None) -> RunLinks | None:
    """Look up the MLflow runs of a study; a server that nobody asked for by the option may be gone."""
    from cspbench.report.links import run_links
    from cspbench.sweep.servers import linked_server
    from cspbench.sweep.tracking import open_client
    from cspbench.trials.records import ResultsError

    server = linked_server(option)
    if server is None:
        return None
    try:
        return run_links(open_client(store, server), name, server)
    except ResultsError as error:
        if option is not None:
            raise
        messages().print(f"the page gets no links to MLflow: {error}", markup=False, soft_wrap=True)
        return None
