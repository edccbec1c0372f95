"""``cspbench trials``: the same work on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cspbench.cli.options import AsJson, Changes, Device, Root, Workers, messages, output
from cspbench.cli.stopping import stopped_by_signals
from cspbench.cli.sweep import RUNS, TrialsError, overrides, print_summary
from cspbench.errors import ConfigError

app = typer.Typer(help="Run trials on another machine: export here, run there, collect here.", no_args_is_help=True)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="The sweep file (YAML) of a grid.")],
    set_: Changes = None,
    root: Root = RUNS,
) -> None:
    """Print the trials of a grid as specs, one JSON object a line.

    Examples: `cspbench trials export sweeps/an4.yaml > specs.jsonl`
    """
    from cspbench.config import load_config
    from cspbench.store import Store
    from cspbench.sweep.plan import resolve

    config = load_config(file, overrides(set_ or []))
    if config.sampler.name != "grid":
        raise ConfigError(
            f"{file}: only a grid is known beforehand; '{config.sampler.name}' decides as results come in"
        )
    console = messages()
    for spec in resolve(config, Store(root), console.print).grid_specs():
        typer.echo(spec.model_dump_json())


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="Specs, one JSON object a line.")],
    out: Annotated[Path, typer.Option(help="Folder for results; give the same again to go on.", file_okay=False)],
    workers: Workers = 1,
    device: Device = "auto",
    trial_timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds after which a running trial fails.")
    ] = None,
    corpus_path: Annotated[Path | None, typer.Option(help="Where the audio lies on this machine.", exists=True)] = None,
) -> None:
    """Run specs where neither Optuna nor MLflow is installed.

    Examples: `cspbench trials run specs.jsonl --out results`,
    `cspbench trials run specs.jsonl --out results --device cuda --corpus-path /data/an4`
    """
    from cspbench.trials.progress import make_display
    from cspbench.trials.remote import read_specs, run_specs

    specs = read_specs(file, corpus_path)
    with stopped_by_signals(), make_display(messages()) as display:
        outcomes = run_specs(specs, out, workers, device, display, trial_timeout)
    failures = [outcome.error for outcome in outcomes if outcome.result is None]
    output().print(f"{len(outcomes) - len(failures)} of {len(outcomes)} trials finished in {out}", soft_wrap=True)
    if failures:
        raise TrialsError(
            f"{len(failures)} trials failed; run again to retry:\n" + "\n".join(f"  {e}" for e in failures)
        )


@app.command()
def collect(
    folder: Annotated[Path, typer.Argument(help="Folder `trials run` wrote to.", exists=True, file_okay=False)],
    name: Annotated[str, typer.Option(help="Study the trials join.")],
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Take results from another machine into the store, MLflow and the report.

    Examples: `cspbench trials collect results --name an4`
    """
    from cspbench.store import Store
    from cspbench.sweep.collect import collect as collect_trials
    from cspbench.sweep.tracking import ui_command
    from cspbench.trials.progress import make_display

    store = Store(root)
    with make_display(messages()) as display:
        outcomes = collect_trials(folder, name, store, display)
    print_summary(name, store, as_json)
    console = messages() if as_json else output()
    console.print(f"{len(outcomes)} trials collected; look at them: {ui_command(store, name)}", soft_wrap=True)
