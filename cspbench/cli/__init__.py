"""The command line: parse, call, print. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from cspbench import __version__
from cspbench.cli import (
    bench,
    compare,
    data,
    doctor,
    export,
    init,
    latency,
    pack,
    plugins,
    reproduce,
    results,
    show,
    sweep,
    transcribe,
    trials,
    ui,
    worker,
)
from cspbench.errors import CspbenchError, FileAccessError

app = typer.Typer(
    help="Puts pruning of speech recognisers to the test.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(init.init)
app.command()(sweep.sweep)
app.command()(sweep.retry)
app.command()(compare.compare)
app.add_typer(trials.app, name="trials")
app.command()(plugins.methods)
app.add_typer(data.app, name="data")
app.command("results")(results.results)
app.command()(show.show)
app.command()(show.compare_trials)
app.command()(reproduce.reproduce)
app.command()(results.report)
app.command()(ui.ui)
app.command()(ui.dashboard)
app.command()(worker.worker)
app.command()(worker.sync)
app.command()(latency.latency)
app.add_typer(bench.app, name="bench")
app.command()(pack.pack)
app.command()(export.export)
app.command()(transcribe.transcribe)
app.command()(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cspbench {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    from cspbench.store import Store

    if context.invoked_subcommand is not None:
        return
    if Store(sweep.RUNS).studies():
        results.print_studies(sweep.RUNS)
    else:
        typer.echo(context.get_help())


def main() -> None:
    """Entry point: an error a person can mend is one message and its exit code, all else a traceback."""
    try:
        app(prog_name="cspbench")  # also where it runs as `python -m cspbench`
    except CspbenchError as error:
        sys.exit(fail(error))
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(fail(FileAccessError.of(error)))


def fail(error: CspbenchError) -> int:
    """Print an error on stderr and return its exit code."""
    sys.stdout.flush()
    typer.echo(f"error: {error}", err=True)
    return error.exit_code
