"""``cspbench sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cspbench.cli import completion
from cspbench.cli.options import (
    AsJson,
    Changes,
    OwnDevice,
    OwnTrialsPerGpu,
    OwnWorkers,
    Root,
    Storage,
    TrackingUri,
    messages,
    output,
    print_columns,
)
from cspbench.cli.stopping import stopped_by_signals
from cspbench.errors import CspbenchError

if TYPE_CHECKING:
    from cspbench.config import Override
    from cspbench.store import Store

RUNS = Path("runs")
NO_TRIALS = "no trial, or none for which the condition holds"


class TrialsError(CspbenchError):
    """The sweep ended, but some of its trials failed."""


def sweep(
    file: Annotated[Path, typer.Argument(help="The sweep file (YAML).")],
    trials: Annotated[int | None, typer.Option(help="Settings to run, instead of what the file says.")] = None,
    set_: Changes = None,
    max_failures: Annotated[int | None, typer.Option(help="Failed trials after which the sweep stops.")] = None,
    workers: OwnWorkers = None,
    trials_per_gpu: OwnTrialsPerGpu = None,
    device: OwnDevice = None,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    grace: Annotated[float, typer.Option(min=1, help="Seconds after which a silent worker counts as lost.")] = 60.0,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Train, prune and measure the trials of a sweep file; resumes an earlier run of it.

    Prints a table at the end, and where figures and MLflow are.

    Examples: `cspbench sweep sweeps/smoke.yaml`, `cspbench sweep my.yaml --trials 20 --workers 2`,
    `cspbench sweep sweeps/an4.yaml --set corpus.path=../shared/data/an4 --set name=mine`
    """
    from cspbench.config import load_config
    from cspbench.store import Store
    from cspbench.sweep.runner import run_sweep
    from cspbench.sweep.servers import Servers
    from cspbench.sweep.tracking import ui_command
    from cspbench.trials.progress import make_display

    place = {"workers": workers, "trials_per_gpu": trials_per_gpu, "device": device}
    config = load_config(file, overrides(set_ or [], trials=trials, max_failures=max_failures, **place))
    store, servers = Store(root), Servers.of(storage, tracking_uri, grace)
    with stopped_by_signals(), make_display(messages()) as display:
        summary = run_sweep(config, store, display, servers=servers)
    print_summary(config.name, store, as_json)
    console = messages() if as_json else output()
    console.print(f"look at all of it: {ui_command(store, config.name)}", soft_wrap=True)
    if summary.failures:
        lines = "\n".join(f"  {failure}" for failure in summary.failures)
        raise TrialsError(f"{len(summary.failures)} of this run's trials failed; start it again to retry:\n{lines}")


def retry(
    name: Annotated[str, typer.Argument(help="The sweep.", autocompletion=completion.studies)],
    only: Annotated[
        str, typer.Option(help="'failed' for all failed trials, or the id of a failed or stopped one.")
    ] = "failed",
    root: Root = RUNS,
) -> None:
    """Run failed trials of a sweep again, and nothing else of it.

    Examples: `cspbench retry smoke`, `cspbench retry smoke --only 0ea10ccbed4be471`
    """
    from cspbench.store import Store
    from cspbench.sweep.retry import retry as retry_trials
    from cspbench.trials.progress import label_of, make_display

    with stopped_by_signals(), make_display(messages()) as display:
        outcomes = retry_trials(name, Store(root), display, only)
    failures = [f"  {label_of(outcome.spec)}: {outcome.error}" for outcome in outcomes if outcome.result is None]
    finished = f"{len(outcomes) - len(failures)} of {len(outcomes)} trials finished"
    output().print(f"{finished}; `cspbench sweep` goes on with them", soft_wrap=True)
    if failures:
        raise TrialsError("\n".join([f"{len(failures)} trials failed again:", *failures]))


def overrides(texts: list[str], **options: int | str | None) -> list[Override]:
    """Return the values that the command line gives in place of the file's."""
    from cspbench.config import Override, parse_override

    given = [
        Override((key,), value, f"--{key.replace('_', '-')} {value}")
        for key, value in options.items()
        if value is not None
    ]
    return [*map(parse_override, texts), *given]


def print_summary(name: str, store: Store, as_json: bool = False, condition: str | None = None) -> None:
    """Print a study as a table of methods and sparsities, or all of its trials as JSON.

    Args:
        name: the study.
        store: where it lies.
        as_json: JSON instead of a table.
        condition: only trials for which it holds.
    """
    from cspbench.report.display import display_columns, display_notes
    from cspbench.report.results import load_results, where
    from cspbench.report.table import summary

    frame = load_results(name, store.root)
    if condition is not None:
        frame = where(frame, condition)
    if as_json:
        typer.echo(frame.to_json(orient="records", indent=2))
        return
    if frame.empty:
        output().print(NO_TRIALS)
        return
    synthetic = " (synthetic speech)" if frame["synthetic"].eq(True).any() else ""
    table = summary(frame)
    title = f"{name}{synthetic}: test WER with its 95 % interval"
    print_columns(display_columns(table), title, display_notes(table))
    folder = store.study(name).report
    if folder.is_dir():
        output().print(f"figures and tables: {folder}", soft_wrap=True)
